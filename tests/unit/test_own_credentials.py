"""Where our own credentials come from: the environment, or, after a snapshot, an address."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.own_credentials import own_credentials
from jobgate.adapters.signature_v4 import AWSCredentials
from jobgate.core.errors import Unavailable

from tests.support.relay_parts import NOW, Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
GIVEN = {
    "AccessKeyId": "ASIA",
    "SecretAccessKey": "canary",
    "Token": "session",
    "Expiration": "2027-01-15T09:00:00Z",  # an hour after NOW
}


class Container:
    """Lambda's address for credentials; answers `status` and `body`, keeps what was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.body = json.dumps(GIVEN).encode()
        self.asked: list[tuple[str, str | None]] = []
        container = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                container.asked.append((self.path, self.headers["Authorization"]))
                self.send_response(container.status)
                self.send_header("Content-Length", str(len(container.body)))
                self.end_headers()
                self.wfile.write(container.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.server.server_address[1]}/2021/credentials?v=1"
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": url,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token",
        }


@pytest.fixture
def container() -> Iterator[Container]:
    container = Container()
    yield container
    container.server.shutdown()
    container.thread.join()
    container.server.server_close()


def test_the_environments_are_the_functions_own() -> None:
    source = own_credentials({**KEYS, "AWS_SESSION_TOKEN": "s"}, clock=Clock())
    assert source() == AWSCredentials("AKIA", "secret", "s")
    assert own_credentials(KEYS, clock=Clock())() == AWSCredentials("AKIA", "secret", None)


@pytest.mark.parametrize("missing", KEYS)
def test_what_is_missing_is_named_at_the_start(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        own_credentials({**KEYS, missing: ""}, clock=Clock())


def test_after_a_snapshot_they_are_asked_for_and_kept_until_shortly_before_their_end(
    container: Container,
) -> None:
    clock = Clock()
    source = own_credentials({**KEYS, **container.environment}, clock=clock)
    assert container.asked == []
    for after, asked in ((0, 1), (3300, 1), (3301, 2)):
        clock.now = NOW + after
        assert source() == AWSCredentials("ASIA", "canary", "session")
        assert container.asked == [("/2021/credentials?v=1", "token")] * asked


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", json.dumps({**GIVEN, "Expiration": "canary"}).encode()]
)
def test_what_can_not_be_read_is_unavailable_and_never_quoted(
    container: Container, body: bytes
) -> None:
    container.body = body
    source = own_credentials(container.environment, clock=Clock())
    with pytest.raises(Unavailable) as raised:
        source()
    assert "canary" not in f"{raised.value!r} {raised.value.__cause__!r}"


@pytest.mark.parametrize("url", ["http://169.254.169.254/x", "https://127.0.0.1/x", "/x", "x"])
def test_credentials_are_asked_for_on_this_machine_alone(url: str) -> None:
    with pytest.raises(ValueError, match="isn't on this machine"):
        own_credentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}, clock=Clock())
