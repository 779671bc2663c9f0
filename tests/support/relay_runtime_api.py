"""A Runtime API for one worker, on a real socket: gives events, keeps the bytes of the answers."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Self

_PATIENCE_SECONDS = 20


@dataclass
class Posted:
    """What the worker posted: request line and headers, then the pieces as they were framed."""

    line: str
    headers: dict[str, str]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    @property
    def prelude(self) -> Any:
        head, _, rest = b"".join(self.chunks).partition(b"\0" * 8)
        del rest
        return json.loads(head)

    @property
    def content(self) -> bytes:
        return b"".join(self.chunks).partition(b"\0" * 8)[2]


class FakeRuntimeAPI:
    """Use it as a context manager. `posted` has one entry for each answer, in order.

    `arrived` gets every chunk when it comes. `hang_up_after_next` closes the connection once an
    event was given, and then sets `hung_up`; `drop_after` resets it after so many chunks of an
    answer, and `drop_next` closes so many waiting connections without an event.
    `asked_to_restore` is set once the worker says that a snapshot may be taken.
    """

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()
        self.posted: queue.Queue[Posted] = queue.Queue()
        self.arrived: queue.Queue[bytes] = queue.Queue()
        self.hang_up_after_next = False
        self.hung_up = threading.Event()
        self.drop_after: int | None = None
        self.drop_next = 0
        self.asked = 0
        self.asked_to_restore = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._ended = False

    @property
    def address(self) -> str:
        host, port = self._server.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for each in (self._server, *tuple(self._open)):
            _shut(each)
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)

    def give(self, event: Any, **headers: str) -> None:
        given = {
            "Lambda-Runtime-Aws-Request-Id": "r-1",
            "Lambda-Runtime-Deadline-Ms": "1800000900000",
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:f",
        }
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.events.put((body, given))

    def answer(self) -> Posted:
        return self.posted.get(timeout=_PATIENCE_SECONDS)

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rwb")
        try:
            while self._one(stream, connection):
                pass
        except (OSError, ValueError):
            pass
        finally:
            with contextlib.suppress(OSError):
                stream.close()
            _shut(connection)
            self._open.discard(connection)

    def _one(self, stream: Any, connection: socket.socket) -> bool:
        line = stream.readline().decode().strip()
        if not line:
            return False
        headers = _fields(stream)
        if line.startswith("GET /2018-06-01/runtime/restore/next "):
            self.asked_to_restore.set()
            stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            stream.flush()
            return True
        if line.startswith("GET"):
            return self._next(stream, connection)
        posted = Posted(line, headers)
        try:
            if headers.get("transfer-encoding") == "chunked":
                self._chunks(stream, posted, connection)
            else:
                posted.body = stream.read(int(headers["content-length"]))
                posted.complete = True
        finally:
            self.posted.put(posted)
        stream.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
        stream.flush()
        return True

    def _next(self, stream: Any, connection: socket.socket) -> bool:
        self.asked += 1
        if self.drop_next:
            self.drop_next -= 1
            return False
        while not self._ended:
            try:
                body, headers = self.events.get(timeout=0.05)
            except queue.Empty:
                continue
            lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
            head = "".join(["HTTP/1.1 200 OK\r\n", *lines, f"Content-Length: {len(body)}\r\n\r\n"])
            stream.write(head.encode() + body)
            stream.flush()
            if self.hang_up_after_next:
                _shut(connection)
                self.hung_up.set()
            return not self.hang_up_after_next
        return False

    def _chunks(self, stream: Any, posted: Posted, connection: socket.socket) -> None:
        while size := int(stream.readline(), 16):
            posted.chunks.append(stream.read(size))
            self.arrived.put(posted.chunks[-1])
            assert stream.readline() == b"\r\n"
            if self.drop_after is not None and len(posted.chunks) > self.drop_after:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                raise OSError("dropped on purpose")
        posted.trailers = _fields(stream)
        posted.complete = True


def _fields(stream: Any) -> dict[str, str]:
    fields = {}
    while line := stream.readline().decode().strip():
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return fields


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
