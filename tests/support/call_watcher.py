"""Stands between a process and what it calls: sees each call before and after it took effect."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.certificates import CertificateAuthority

    Watch = Callable[[str, str], None]

_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a killed process leaves broken connections behind, as it should."""


@contextlib.contextmanager
def call_watcher(
    upstream: str, watch: Watch, *, authority: CertificateAuthority, folder: Path
) -> Iterator[str]:
    """The URL of a proxy of `upstream`.

    `watch(moment, call)` runs at each call, with `moment` "before" or "after" it took effect, and
    holds the call as long as it takes. One call at a time runs through the proxy.
    """
    parts = urlsplit(upstream)
    trust = ssl.create_default_context(cafile=authority.certificate)
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            call = self.headers.get("X-Amz-Target") or f"{self.command} {self.path}"
            with one_at_a_time:
                watch("before", call)
                status, headers, content = self._ask(body)
                watch("after", call)
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _forward  # noqa: N815  http.server's names

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, context=trust, timeout=60
            )
            headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP_BY_HOP}
            try:
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is its own."""

    files = authority.issue(f"watcher-{parts.port}-{threading.get_ident()}", folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.certificate, files.key)
    with _Server(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
