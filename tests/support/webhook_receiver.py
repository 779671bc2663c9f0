"""A TLS server that takes GitLab's webhooks into a function of the test's."""

from __future__ import annotations

import contextlib
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.certificates import CertificateAuthority


@dataclass(frozen=True, slots=True)
class Delivered:
    """One delivery; header names are lower-case, `path` holds the query too."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """The server. `answer` gives each delivery's status, by default 200."""

    url: str
    received: list[Delivered] = field(default_factory=list)
    answer: Callable[[Delivered], int] = lambda _: 200


@contextlib.contextmanager
def webhook_receiver(authority: CertificateAuthority, folder: Path) -> Iterator[Receiver]:
    """A running receiver whose certificate this authority has signed."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            delivered = Delivered(self.path, headers, body)
            receiver.received.append(delivered)
            self.send_response(receiver.answer(delivered))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is its own."""

    files = authority.issue("receiver", folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.certificate, files.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver = Receiver(f"https://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()
