"""The component shows the job's token to Jobgate alone: real curl and wgets, over real TLS."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.certificates import CertificateAuthority, ServerCertificate
from tests.support.component_image import CONFIG, TOKEN, run
from tests.support.https_server import HTTPSServer, https_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.component_image import Image


def test_token_travels_once_and_is_in_no_argument_list_log_or_file(
    any_image: Image, server: HTTPSServer
) -> None:
    _, said = run(any_image, server)
    bodies = [asked.body.decode() for asked in server.asked if asked.method == "POST"]
    assert bodies == [f"token={TOKEN}"]
    assert all(TOKEN not in asked.target for asked in server.asked)
    assert TOKEN not in any_image.arguments.read_text() + said
    left = [path for path in any_image.runner.folder.rglob("*") if path.is_file()]
    assert all(TOKEN not in path.read_text(errors="replace") for path in left)


def test_token_is_in_no_process_list_while_the_answer_is_awaited(
    any_image: Image, server: HTTPSServer
) -> None:
    seen: list[bytes] = []

    def look_then_answer(handler: BaseHTTPRequestHandler) -> None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.append(process.read_bytes())
        answer(handler)

    answer = server._answers["/kubeconfig"]
    server._answers["/kubeconfig"] = look_then_answer
    assert run(any_image, server)[0] == 0
    assert any(b"/kubeconfig" in command for command in seen)
    assert not [command for command in seen if TOKEN.encode() in command]


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[HTTPSServer]:
    """A server whose certificate nobody trusts; it would take any token."""
    (tmp_path / "stranger").mkdir()
    stranger = CertificateAuthority.create(tmp_path / "stranger" / "ca")
    certificate = stranger.issue("jobgate", tmp_path / "stranger")
    with https_server(certificate, stranger.certificate) as running:
        running.answer("/kubeconfig", CONFIG)
        running.answer("/.well-known/jwks.json", {"keys": []})
        yield running


def test_server_with_a_wrong_certificate_gets_no_byte_of_the_token(
    any_image: Image, impostor: HTTPSServer
) -> None:
    code, said = run(any_image, impostor)
    assert code != 0
    assert "jobgate: " in said
    assert not [asked for asked in impostor.asked if asked.body]


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[HTTPSServer]:
    """A server with a certificate of its own making, of the kind that busybox's own TLS can do."""
    files = ServerCertificate(tmp_path / "self.crt", tmp_path / "self.key")
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost")
    out = ("-keyout", str(files.key), "-out", str(files.certificate))
    subprocess.run([*made, *out], check=True, capture_output=True)
    with https_server(files, files.certificate, ciphers="ALL:@SECLEVEL=0") as running:
        running.answer("/kubeconfig", CONFIG)
        running.answer("/.well-known/jwks.json", {"keys": []})
        yield running


@pytest.mark.parametrize("keys", ["served", "cut off"])
def test_wget_that_does_not_verify_is_told_and_sends_nothing(
    image: Image, busybox: Path, self_signed: HTTPSServer, keys: str
) -> None:
    takes_any = [busybox, "wget", "-q", "-O", "/dev/null", f"{self_signed.url}/kubeconfig"]
    subprocess.run(takes_any, env={"PATH": "/nowhere"}, check=True, capture_output=True)
    if keys == "cut off":
        # Who is on the way may let whatever goes before fail, and take what follows.
        self_signed.answer_raw("/.well-known/jwks.json", b"")
    code, said = run(image.with_busybox(busybox), self_signed)
    assert (code, "wget isn't known to verify certificates, so the" in said) == (1, True)
    assert not [asked for asked in self_signed.asked if asked.body]


def test_wget2_is_not_taken_for_gnu_wget(image: Image, server: HTTPSServer) -> None:
    # Its 1.99 follows redirects whatever it is told, and ends well with a refusal.
    wget = image.runner.folder / "wget2"
    wget.write_text("#!/bin/sh\necho GNU Wget2 1.99.1 - multithreaded downloader\n")
    wget.chmod(0o755)
    code, said = run(image.with_tools().add("wget", wget), server)
    assert (code, "wget isn't known to verify certificates" in said) == (1, True)


@pytest.mark.parametrize(
    "words", ["", "-verify 100 -verify_return_error", "-verify 100 -verify_hostname localhost"]
)
def test_wget_that_leaves_out_a_word_to_openssl_is_not_trusted(
    image: Image, server: HTTPSServer, words: str
) -> None:
    wget = image.runner.folder / "other-wget"
    wget.write_text(f"#!/bin/sh\nexec openssl s_client -quiet -connect localhost:443 {words}\n")
    wget.chmod(0o755)
    code, said = run(image.with_tools().add("openssl").add("wget", wget), server)
    assert (code, "wget isn't known to verify certificates" in said) == (1, True)
    assert server.asked == []


def test_openssl_that_takes_any_certificate_is_told_and_sends_nothing(
    image: Image, busybox: Path, server: HTTPSServer
) -> None:
    careless = image.runner.folder / "careless"
    openssl = shutil.which("openssl")
    careless.write_text(f'#!/bin/sh\nexec {openssl} s_client -quiet -connect "$4"\n')
    careless.chmod(0o755)
    # Nor does a proxy's refusal count as the server's.
    image.runner.environment["http_proxy"] = "http://127.0.0.1:9"
    code, said = run(image.with_busybox(busybox).add("openssl", careless), server)
    assert (code, "openssl doesn't verify certificates" in said) == (1, True)
    assert not [asked for asked in server.asked if asked.body]


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """An HTTP proxy's address, and the bodies that it was sent in clear."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bodies.append(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            self.send_error(502)

        do_POST = do_CONNECT = do_GET  # noqa: N815  the base's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
            pass

    listener = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}", bodies
    listener.shutdown()
    listener.server_close()
    thread.join()


def test_proxy_gets_no_token_in_clear(
    any_image: Image, server: HTTPSServer, proxy: tuple[str, list[bytes]]
) -> None:
    address, bodies = proxy
    any_image.runner.environment |= dict.fromkeys(("http_proxy", "HTTP_PROXY"), address)
    assert run(any_image, server)[0] == 0
    any_image.runner.environment["https_proxy"] = address
    run(any_image, server)
    assert not [body for body in bodies if body]


@pytest.mark.parametrize("client", ["curl", "wget"])
def test_files_of_the_user_do_not_turn_verification_off(
    image: Image, impostor: HTTPSServer, client: str
) -> None:
    (image.runner.folder / ".curlrc").write_text("insecure\n")
    (image.runner.folder / ".wgetrc").write_text("check_certificate = off\n")
    code, said = run(image.with_tools().add(client), impostor)
    assert (code, "no kubeconfig" in said) == (1, True)
    assert not [asked for asked in impostor.asked if asked.body]


def test_plain_http_is_refused(image: Image, server: HTTPSServer) -> None:
    image.with_tools().add("curl")
    code, said = run(image, server, url="http://127.0.0.1:9")
    assert (code, "must begin with https" in said) == (1, True)


@pytest.mark.parametrize("client", ["curl", "wget"])
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_traced_script_shows_no_token(
    image: Image, server: HTTPSServer, client: str, shell: str
) -> None:
    image.runner.shell = (shutil.which(shell) or "",)
    text = """
deploy:
  extends: .kubernetes-access
  before_script: [set -x, !reference [.kubernetes-access, before_script]]
  script: [echo traced]
"""
    code, said = run(image.with_tools().add(client), server, text)
    assert (code, "+ echo traced" in said, TOKEN in said) == (0, True, False)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("client", ["curl", "wget"])
def test_redirect_is_not_followed(
    image: Image, server: HTTPSServer, client: str, status: int
) -> None:
    elsewhere = {"Location": f"{server.url}/elsewhere"}
    server.answer("/kubeconfig", status=status, headers=elsewhere)
    server.answer("/elsewhere", CONFIG)
    code, said = run(image.with_tools().add(client), server)
    assert (code, "no kubeconfig" in said, server.count("/elsewhere")) == (1, True, 0)
