"""A real HTTPS server on 127.0.0.1 that answers as it is told, and counts what it is asked."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from local.certificates import ServerCertificate

_DRIP_SECONDS = 0.02
_HANG_SECONDS = 30
_NOT_FOUND = b'{"message": "404 Not Found"}'


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came in; `target` is path and query, header names are lower-case."""

    target: str
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""


@dataclass(slots=True)
class HTTPSServer:
    """Answers by path, most recently told first; a path that nobody named is GitLab's 404."""

    url: str
    ca: str
    asked: list[Asked] = field(default_factory=list)
    _answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def answer(
        self,
        path: str,
        body: object = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        keep: bool = False,
    ) -> None:
        """Answer `path` (with its query, or without for any) with bytes, or with JSON of a value.

        The connection ends with the answer unless `keep`.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Length": str(len(content)), **(headers or {})}
        if not keep:
            sent["Connection"] = "close"

        def respond(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in sent.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)

        self._answers[path] = respond

    def answer_raw(self, path: str, content: bytes) -> None:
        """Answer with these very bytes, then close the connection."""

        def respond(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(content)
            handler.close_connection = True

        self._answers[path] = respond

    def drip(self, path: str, content: bytes) -> None:
        """Answer with these bytes one at a time, far slower than anybody should wait for."""

        def respond(handler: BaseHTTPRequestHandler) -> None:
            handler.close_connection = True
            for byte in content:
                handler.wfile.write(bytes([byte]))
                if self._stopping.wait(_DRIP_SECONDS):
                    return

        self._answers[path] = respond

    def hang(self, path: str) -> None:
        """Take the request, and never answer."""

        def respond(handler: BaseHTTPRequestHandler) -> None:
            handler.close_connection = True
            self._stopping.wait(_HANG_SECONDS)

        self._answers[path] = respond

    def count(self, path: str) -> int:
        """How often a path was asked for, whatever the query."""
        return sum(asked.target.partition("?")[0] == path for asked in self.asked)

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", "0")))
        self.asked.append(Asked(handler.path, headers, handler.command, body))
        bare = handler.path.partition("?")[0]
        respond = self._answers.get(handler.path) or self._answers.get(bare)
        if respond is None:
            handler.send_response(404)
            handler.send_header("Content-Length", str(len(_NOT_FOUND)))
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(_NOT_FOUND)
        else:
            respond(handler)


@contextmanager
def https_server(
    certificate: ServerCertificate, ca: Path, *, ciphers: str | None = None
) -> Iterator[HTTPSServer]:
    """Listen while the context lasts; `ciphers` in OpenSSL's form, None for Python's own."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers is not None:
        tls.set_ciphers(ciphers)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    listener = _Listener(tls)
    server = HTTPSServer(f"https://127.0.0.1:{listener.server_address[1]}", ca.read_text())
    listener.told = server
    # A short poll, since leaving waits for it.
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server._stopping.set()
        listener.shutdown()
        listener.server_close()
        thread.join(_HANG_SECONDS)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    told: HTTPSServer

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._tls = tls

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        # The handshake comes with the first read, on the connection's own thread.
        wrapped = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return wrapped, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that give up are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _HANG_SECONDS
    disable_nagle_algorithm = True  # head and body are two writes
    server: _Listener

    def do_GET(self) -> None:
        self.server.told.take(self)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  the base's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Say nothing."""
