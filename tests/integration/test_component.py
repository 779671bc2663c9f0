"""The CI/CD component: its script lines in real shells, with real curl and wgets, over real TLS."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from local.certificates import CertificateAuthority, ServerCertificate
from local.kubernetes.cache import cache_root
from local.kubernetes.clients import clients
from local.kubernetes.progress import TerminalProgress
from tests.support.https_server import HTTPSServer, https_server
from tests.support.pipeline import InputError, component, job, jobs
from tests.support.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "templates" / "kubernetes-access" / "template.yml"
PLAIN = ROOT / "docs" / "examples" / "kubernetes-access.yml"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.canary-of-a-token.signature"
CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [],
    "users": [],
    "contexts": [],
    "current-context": "acme/agents:production",
}
TOOLS = ("sh", "sed", "cat", "mkdir", "rm", "mv", "chmod", "dirname", "stat")
DEPLOY = """
deploy:
  extends: .kubernetes-access
  script: ['cat "$KUBECONFIG"']
  after_script: ['cat "$KUBECONFIG"']
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def server(authority: CertificateAuthority, tmp_path: Path) -> Iterator[HTTPSServer]:
    certificate = authority.issue("jobgate", tmp_path)
    with https_server(certificate, authority.certificate) as running:
        running.answer("/kubeconfig", CONFIG)
        running.answer("/.well-known/jwks.json", {"keys": []})
        yield running


@pytest.fixture(scope="module")
def busybox() -> Path:
    """Debian's busybox, unpacked aside where none is installed."""
    found = shutil.which("busybox")
    if found is not None:
        return Path(found)
    folder = cache_root(os.environ) / "busybox"  # noqa: TID251  as the other caches
    program = folder / "bin" / "busybox"
    if not program.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            pytest.skip("no busybox here, and no Debian to take it from")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", "busybox"], cwd=folder, check=True, capture_output=True
        )
        (package,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return program


class Image:
    """A job's image: a PATH with these programs alone, each of which tells its arguments."""

    def __init__(self, folder: Path, authority: CertificateAuthority) -> None:
        self.folder = folder / "image"
        self.folder.mkdir()
        self.arguments = folder / "arguments"
        self.arguments.touch()
        self.runner = Runner(folder, shell=(str(self.folder / "sh"),))
        self.runner.environment = {
            "PATH": str(self.folder),
            "HOME": str(folder),
            "JOBGATE_ID_TOKEN": TOKEN,
            "CURL_CA_BUNDLE": str(authority.certificate),
        }

    def add(self, name: str, program: str | Path | None = None, *first: str) -> Image:
        """A program of this machine's, or another by this name."""
        real = program or shutil.which(name)
        assert real is not None, name
        wrapper = self.folder / name
        called = " ".join((f"'{real}'", *first))
        wrapper.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>"{self.arguments}"\nexec {called} "$@"\n'
        )
        wrapper.chmod(0o755)
        return self

    def with_tools(self) -> Image:
        for name in TOOLS:
            self.add(name)
        return self

    def with_busybox(self, program: Path, *, wget: bool = True) -> Image:
        for name in (*TOOLS, *(("wget",) if wget else ())):
            self.add(name, program, name)
        return self


@pytest.fixture
def image(tmp_path: Path, authority: CertificateAuthority) -> Image:
    return Image(tmp_path, authority)


def included(server: HTTPSServer, **inputs: Any) -> dict[str, Any]:
    # By name, since busybox asks openssl about an address with its port.
    url = server.url.replace("127.0.0.1", "localhost")
    return component(TEMPLATE, {"url": url, "audience": "https://jobgate.test", **inputs})


def run(image: Image, server: HTTPSServer, text: str = DEPLOY, **inputs: Any) -> tuple[int, str]:
    return image.runner.run(job(included(server, **inputs), text))


@pytest.fixture(params=["curl", "gnu-wget", "busybox-wget-with-openssl"])
def any_image(request: pytest.FixtureRequest, image: Image) -> Image:
    match request.param:
        case "curl":
            return image.with_tools().add("curl")
        case "gnu-wget":
            return image.with_tools().add("wget")
        case _:
            busybox: Path = request.getfixturevalue("busybox")
            return image.with_busybox(busybox).add("openssl")


def test_job_has_its_kubeconfig_in_script_and_after_script(
    any_image: Image, server: HTTPSServer
) -> None:
    found = job(included(server), DEPLOY)
    code, said = any_image.runner.run(found)
    assert (code, json.loads(said)) == (0, CONFIG)
    assert json.loads(any_image.runner.run(found, part="after_script")[1]) == CONFIG


def test_no_choice_among_contexts_is_a_context_that_is_not_there(
    any_image: Image, server: HTTPSServer
) -> None:
    # kubectl and helm would take the identity of the pod that they run in, the runner's.
    names = ("acme/agents:production", "acme/agents:staging")
    several = {**CONFIG, "contexts": [{"name": name, "context": {}} for name in names]}
    del several["current-context"]
    server.answer("/kubeconfig", several)
    code, said = run(any_image, server)
    written = json.loads(said)
    assert code == 0
    assert written.pop("current-context") == "none, so name one by the component's input context"
    assert written == several


@pytest.fixture(scope="module")
def kubectl() -> Path:
    environ = os.environ  # noqa: TID251  the user's cache folder
    return clients(environ=environ, progress=TerminalProgress(sys.stderr)).kubectl


@pytest.mark.parametrize("chosen", ["", "theirs"])
def test_merged_kubeconfig_has_a_current_context_too(
    image: Image, server: HTTPSServer, kubectl: Path, chosen: str
) -> None:
    names = ("acme/agents:production", "acme/agents:staging")
    several = {**CONFIG, "contexts": [{"name": name, "context": {}} for name in names]}
    del several["current-context"]
    server.answer("/kubeconfig", several)
    theirs = {**CONFIG, "contexts": [{"name": "theirs", "context": {}}], "current-context": chosen}
    image.runner.files["KUBECONFIG"] = json.dumps(theirs)
    image.with_tools().add("curl").add("kubectl", kubectl)
    code, said = run(image, server, merge=True)
    merged = yaml.safe_load(said)
    assert code == 0
    assert {entry["name"] for entry in merged["contexts"]} == {*names, "theirs"}
    none = "none, so name one by the component's input context"
    assert merged["current-context"] == (chosen or none)


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


def test_kubeconfig_is_private_and_outside_of_the_project(
    any_image: Image, server: HTTPSServer
) -> None:
    run(any_image, server)
    builds = any_image.runner.folder / "builds"
    (file,) = builds.rglob("kubeconfig")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not file.is_relative_to(builds / "project")
    assert list((builds / "project").iterdir()) == []


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


def test_refusal_with_a_good_status_is_a_refusal(any_image: Image, server: HTTPSServer) -> None:
    server.answer("/kubeconfig", {"error_description": "No agent names this project."})
    code, said = run(any_image, server)
    assert (code, "No agent names this project." in said) == (1, True)


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


@pytest.mark.parametrize("client", ["curl", "wget"])
def test_refusal_is_said_in_the_answers_words(
    image: Image, server: HTTPSServer, client: str
) -> None:
    refusal = {"error": "access_denied", "error_description": "No agent names this project."}
    server.answer("/kubeconfig", refusal, status=403)
    code, said = run(image.with_tools().add(client), server)
    assert code == 1
    assert "No agent names this project." in said
    assert "jobgate: no kubeconfig" in said


def test_page_that_is_no_kubeconfig_is_refused(any_image: Image, server: HTTPSServer) -> None:
    server.answer("/kubeconfig", b"<html>captive portal</html>")
    code, said = run(any_image, server)
    assert (code, "the answer isn't one" in said) == (1, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"JOBGATE_ID_TOKEN": ""}, "has no JOBGATE_ID_TOKEN"),
        ({"PATH": "{tools}"}, "needs curl or wget"),
    ],
)
def test_what_is_missing_is_named(
    image: Image, server: HTTPSServer, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    image.with_tools()
    if "PATH" not in changes:
        image.add("curl")
    image.runner.environment |= {k: v for k, v in changes.items() if k != "PATH"}
    code, output = run(image, server)
    assert (code, said in output) == (1, True), output
    assert server.asked == []


def test_plain_http_is_refused(image: Image, server: HTTPSServer) -> None:
    image.with_tools().add("curl")
    code, said = run(image, server, url="http://127.0.0.1:9")
    assert (code, "must begin with https" in said) == (1, True)


@pytest.mark.parametrize(
    ("inputs", "target"),
    [
        ({}, "/kubeconfig?format=exec"),
        ({"form": "token"}, "/kubeconfig"),
        (
            {"agent": "acme/agents:production"},
            "/kubeconfig?agent=acme%2Fagents%3Aproduction&format=exec",
        ),
    ],
)
def test_curl_takes_the_exec_form_and_an_agent(
    image: Image, server: HTTPSServer, inputs: dict[str, str], target: str
) -> None:
    run(image.with_tools().add("curl"), server, **inputs)
    assert [asked.target for asked in server.asked] == [target]


def test_old_curl_takes_the_token_form(image: Image, server: HTTPSServer, tmp_path: Path) -> None:
    old = tmp_path / "old-curl"
    old.write_text(
        f'#!/bin/sh\ntest "$1" != --fail-with-body || exit 2\nexec {shutil.which("curl")} "$@"\n'
    )
    old.chmod(0o755)
    assert run(image.with_tools().add("curl", old), server)[0] == 0
    assert server.asked[-1].target == "/kubeconfig"


def test_wget_takes_the_token_form_and_can_not_take_the_other(
    image: Image, server: HTTPSServer
) -> None:
    image.with_tools().add("wget")
    assert run(image, server)[0] == 0
    assert server.asked[-1].target == "/kubeconfig"
    code, said = run(image, server, form="exec")
    assert (code, "needs curl 7.76" in said) == (1, True)


def test_jobs_own_before_script_keeps_it_by_reference(image: Image, server: HTTPSServer) -> None:
    text = """
deploy:
  extends: .kubernetes-access
  before_script:
    - echo first
    - !reference [.kubernetes-access, before_script]
    - echo last
  script: ['cat "$KUBECONFIG"']
"""
    code, said = run(image.with_tools().add("curl"), server, text)
    assert code == 0
    assert said.splitlines()[:2] == ["first", "last"]
    assert json.loads(said.split("last\n")[1]) == CONFIG


def test_variables_of_the_job_stay_and_its_shells_mask_too(
    image: Image, server: HTTPSServer
) -> None:
    text = """
deploy:
  extends: .kubernetes-access
  variables: {MINE: kept}
  script: ['echo "$MINE"; umask']
"""
    code, said = run(image.with_tools().add("curl"), server, text)
    assert (code, said.split()) == (0, ["kept", "0022"])


SHELLS = {
    "dash": ("dash",),
    "dash -u": ("dash", "-u"),
    "bash": ("bash",),
    "bash as sh": ("bash", "--posix"),
    "bash as the runner has it": ("bash", "-o", "pipefail"),
    "bash with everything": ("bash", "-u", "-C", "-o", "pipefail"),
    "ash": ("busybox", "ash"),
    "ash with pipefail": ("busybox", "ash", "-o", "pipefail"),
}


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_every_common_shell_runs_it_and_stops_at_a_refusal(
    image: Image, server: HTTPSServer, busybox: Path, shell: tuple[str, ...], *, refused: bool
) -> None:
    if refused:
        server.answer("/kubeconfig", {"error_description": "No."}, status=403)
    program = busybox if shell[0] == "busybox" else Path(shutil.which(shell[0]) or "")
    image.runner.shell = (str(program), *shell[1:])
    code, said = run(image.with_tools().add("curl"), server)
    if refused:
        assert (code, "No." in said) == (1, True)
    else:
        assert (code, json.loads(said)) == (0, CONFIG)


@pytest.mark.parametrize("failing", ["answer", "kubectl"])
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_shell_that_goes_on_after_failures_stops_all_the_same(
    image: Image, server: HTTPSServer, shell: str, failing: str
) -> None:
    if failing == "answer":
        server.answer("/kubeconfig", {"error_description": "No."}, status=403)
    image.with_tools().add("curl").add("kubectl", shutil.which("false"))
    image.runner.shell = (shutil.which(shell) or "",)
    text = """
deploy:
  extends: .kubernetes-access
  before_script: [set +e, !reference [.kubernetes-access, before_script]]
  script: [echo went on]
"""
    code, said = run(image, server, text, context="acme/agents:production")
    assert (code, "went on" in said) == (1, False)


def test_what_an_earlier_job_left_is_neither_used_nor_written_into(
    any_image: Image, server: HTTPSServer
) -> None:
    folder = any_image.runner.project.with_name("project.tmp") / "jobgate-42"
    folder.mkdir(parents=True)
    kept = any_image.runner.folder / "kept"
    kept.touch(0o666)
    for name in ("kubeconfig", "kubeconfig.answer", "kubeconfig.new", "kubeconfig.form"):
        (folder / name).symlink_to(kept)
    assert run(any_image, server)[0] == 0
    made = folder / "kubeconfig"
    assert (made.is_symlink(), stat.S_IMODE(made.stat().st_mode)) == (False, 0o600)
    server.answer("/kubeconfig", {"error_description": "No."}, status=403)
    assert run(any_image, server)[0] == 1
    assert (list(folder.iterdir()), kept.read_text()) == ([], "")


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


def test_stored_kubeconfig_of_the_project_is_not_used_in_the_place_of_ours(
    image: Image, server: HTTPSServer, tmp_path: Path
) -> None:
    # A CI/CD variable of the project's page stands above a job's own.
    stored = tmp_path / "stored"
    stored.write_text("{}")
    image.runner.settings["KUBECONFIG"] = str(stored)
    code, said = run(image.with_tools().add("curl"), server)
    assert (code, "another KUBECONFIG hides this one" in said) == (1, True)
    assert (server.asked, stored.read_text()) == ([], "{}")


def test_paths_may_have_blanks(any_image: Image, server: HTTPSServer) -> None:
    any_image.runner.name = "my project"
    assert json.loads(run(any_image, server)[1]) == CONFIG


def test_only_the_kubeconfig_is_replaced_where_somebody_else_chose_its_place(
    image: Image, server: HTTPSServer
) -> None:
    place = image.runner.project / "config"
    image.runner.project.mkdir(parents=True)
    place.write_text("old")
    place.chmod(0o644)
    (image.runner.project / "source.py").touch()
    image.runner.settings |= {"KUBECONFIG": str(place), "JOBGATE_KUBECONFIG": str(place)}
    assert json.loads(run(image.with_tools().add("curl"), server)[1]) == CONFIG
    assert sorted(path.name for path in place.parent.iterdir()) == ["config", "source.py"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_id_token_may_have_a_name_of_its_own(image: Image, server: HTTPSServer) -> None:
    text = """
deploy:
  extends: .kubernetes-access
  id_tokens: {GITLAB_OIDC_TOKEN: {aud: https://jobgate.test}}
  variables: {JOBGATE_ID_TOKEN: $GITLAB_OIDC_TOKEN}
  script: ['cat "$KUBECONFIG"']
"""
    image.runner.environment["GITLAB_OIDC_TOKEN"] = "another.canary.token"
    assert json.loads(run(image.with_tools().add("curl"), server, text)[1]) == CONFIG
    assert [asked.body for asked in server.asked] == [b"token=another.canary.token"]


def test_two_deployments_are_two_includes_with_two_jobs(
    image: Image, server: HTTPSServer, authority: CertificateAuthority, tmp_path: Path
) -> None:
    image.with_tools().add("curl")
    (tmp_path / "second").mkdir()
    certificate = authority.issue("second", tmp_path / "second")
    with https_server(certificate, authority.certificate) as second:
        second.answer("/kubeconfig", CONFIG)
        both = {
            **included(server),
            **included(second, job=".second-access"),
            "first": {"extends": ".kubernetes-access", "script": ["true"]},
            "second": {"extends": ".second-access", "script": ["true"]},
        }
        found = jobs(both)
        assert [image.runner.run(found[name])[0] for name in ("first", "second")] == [0, 0]
        assert (server.count("/kubeconfig"), second.count("/kubeconfig")) == (1, 1)


def test_default_before_script_is_replaced_by_ours_and_kept_by_reference(
    image: Image, server: HTTPSServer
) -> None:
    image.with_tools().add("curl")
    kept = [["default", "before_script"], [".kubernetes-access", "before_script"]]
    references = ", ".join(f"!reference [{', '.join(path)}]" for path in kept)
    text = (
        f"deploy: {{extends: .kubernetes-access, before_script: [{references}], script: ['true']}}"
    )
    below = {**included(server), "default": {"before_script": ["echo the default"]}}
    assert image.runner.run(job(below, text)) == (0, "the default\n")
    assert image.runner.run(job(below, DEPLOY))[1].startswith("{")


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


@pytest.mark.parametrize(
    "inputs", [{"url": None}, {"form": "other"}, {"merge": "yes"}, {"contxt": "x"}]
)
def test_inputs_that_gitlab_refuses(server: HTTPSServer, inputs: dict[str, Any]) -> None:
    given = {"url": server.url, "audience": "a", **inputs}
    with pytest.raises(InputError):
        component(TEMPLATE, {k: v for k, v in given.items() if v is not None})


def test_plain_form_is_the_component_with_its_defaults() -> None:
    plain = yaml.safe_load(PLAIN.read_text())
    access = plain[".kubernetes-access"]
    given = {
        "url": access["variables"]["JOBGATE_URL"],
        "audience": access["id_tokens"]["JOBGATE_ID_TOKEN"]["aud"],
    }
    extended = "job: {extends: .kubernetes-access, script: ['true']}"
    assert job(component(TEMPLATE, given), extended) == job(plain, extended)
