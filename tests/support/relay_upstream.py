"""An API server's place taken by raw TLS on a socket: keeps the bytes it got, answers any bytes."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from local.certificates import ServerCertificate

_PATIENCE_SECONDS = 20
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Reset:
    """End the connection by a TCP reset."""


@dataclass(frozen=True)
class End:
    """End the connection; politely means with TLS's own goodbye."""

    politely: bool = True


@dataclass(frozen=True)
class Left:
    """Wait until the other side has ended the connection."""

    seen: threading.Event


Step = bytes | Reset | End | Left | threading.Event


class RawUpstream:
    """Use it as a context manager; each request is answered by the next of `answers`.

    An answer is bytes, or steps: bytes are sent, an event is waited for, Left waits for the client
    to end the connection and tells of it, Reset and End close. When `answers` are used up, the last
    goes on. `requests` has the bytes of every request, `connections` counts handshakes and
    `resumed` those that resumed a TLS session. With `early` each request gets that (or nothing
    until the event) once something of it has come, and its rest is never read.
    """

    def __init__(
        self,
        certificate: ServerCertificate,
        *answers: bytes | Sequence[Step],
        ca: Path | None = None,
        early: bytes | threading.Event | None = None,
    ) -> None:
        self._early = early
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate.certificate, certificate.key)
        if ca is not None:
            self._tls.load_verify_locations(ca)
            self._tls.verify_mode = ssl.CERT_REQUIRED
        self._answers: queue.Queue[bytes | Sequence[Step]] = queue.Queue()
        for answer in answers or (OK,):
            self._answers.put(answer)
        self._last: bytes | Sequence[Step] = OK
        self.requests: list[bytes] = []
        self._arrival = threading.Condition()
        self.peers: list[Any] = []
        self.connections = 0
        self.resumed = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._server, *tuple(self._open)):
            _shut(each)
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)

    def asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        with self._arrival:
            assert self._arrival.wait_for(lambda: len(self.requests) >= count, _PATIENCE_SECONDS)

    def hang_up(self) -> None:
        """Close the idle connections, as a server does after a while."""
        for each in tuple(self._open):
            _shut(each)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._server.accept()
            except OSError:
                return
            plain.settimeout(_PATIENCE_SECONDS)
            self._open.add(plain)
            self._start(self._serve, plain)

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock = self._tls.wrap_socket(plain, server_side=True)
            self._open.discard(plain)
            self._open.add(sock)
            self.connections += 1
            self.resumed += bool(sock.session_reused)
            self.peers.append(sock.getpeercert())
            try:
                if self._early is not None:
                    sock.recv(1)
                    if isinstance(self._early, bytes):
                        sock.sendall(self._early)
                    else:
                        self._early.wait(_PATIENCE_SECONDS)
                    return
                while request := _read_request(sock):
                    with self._arrival:
                        self.requests.append(request)
                        self._arrival.notify_all()
                    if not self._answer(sock):
                        break
            finally:
                self._open.discard(sock)
                _shut(sock)
        self._open.discard(plain)

    def _answer(self, sock: ssl.SSLSocket) -> bool:
        with contextlib.suppress(queue.Empty):
            self._last = self._answers.get_nowait()
        for step in (self._last,) if isinstance(self._last, bytes) else self._last:
            match step:
                case bytes():
                    sock.sendall(step)
                case threading.Event():
                    assert step.wait(_PATIENCE_SECONDS)
                case Left():
                    assert sock.recv(1) == b""
                    step.seen.set()
                    return False
                case End(politely=True):
                    sock.unwrap()
                    return False
                case End():
                    sock.shutdown(socket.SHUT_RDWR)
                    return False
                case Reset():
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    sock.close()
                    return False
        return True


def _read_request(sock: ssl.SSLSocket) -> bytes:
    """One request with its body; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65_536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    match = _LENGTH.search(head)
    while match and len(body) < int(match[1]):
        body += sock.recv(65_536)
    return head + b"\r\n\r\n" + body


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
