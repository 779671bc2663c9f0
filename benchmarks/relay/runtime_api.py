"""Lambda's Runtime API for one worker, as quick as Python makes it: one thread, plain sockets.

It measures from the last byte of an event to the first and the last byte of its answer.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import time
from dataclasses import dataclass
from typing import Self

_READ = 1 << 20
_PATIENCE_SECONDS = 10.0
_LIFE_MS = 900_000
_PRELUDE_END = b"\0" * 8
_ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)
_REGISTERED = (
    b"HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: 0b0f0e9c-0000-4000-8000-000000000000\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and its times in seconds."""

    status: int
    body: bytes
    first: float
    total: float


class RuntimeAPI:
    """Use it as a context manager; `address` is for AWS_LAMBDA_RUNTIME_API."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._poll = select.poll()
        self._poll.register(self._server, select.POLLIN)
        self._open: dict[int, tuple[socket.socket, bytearray]] = {}
        self._idle: socket.socket | None = None
        self._posting: socket.socket
        self._number = 0

    @property
    def address(self) -> str:
        """Host and port."""
        host, port = self._server.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open.values():
            each[0].close()
        self._server.close()

    def wait(self) -> None:
        """Wait until the worker asks for an event."""
        while self._idle is None:
            self._turn()

    def invoke(self, event: bytes) -> Answer:
        """Give the worker an event, and take its whole answer."""
        self.wait()
        self._number += 1
        deadline = int(time.time() * 1000) + _LIFE_MS  # noqa: TID251  Lambda gives wall-clock time
        head = (
            f"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: r-{self._number}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {deadline}\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:1:function:f\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(event)}\r\n\r\n"
        ).encode()
        assert self._idle is not None
        sock, self._idle = self._idle, None
        sock.sendall(head + event)
        began = time.perf_counter()
        first = 0.0
        while True:
            posted = self._turn()
            if posted is None:
                continue
            ended = time.perf_counter()
            if not first and _has_body(posted):
                first = ended - began
            if _is_whole(posted):
                total = ended - began
                answer, given = bytes(posted), self._posting
                posted.clear()
                given.sendall(_ACCEPTED)
                return _answer(answer, first or total, total)

    def _turn(self) -> bytearray | None:
        """Take what comes next; gives the buffer of an answer that has grown."""
        ready = self._poll.poll(_PATIENCE_SECONDS * 1000)
        if not ready:
            raise TimeoutError("the worker does nothing")
        for number, _ in ready:
            if number == self._server.fileno():
                sock, _ = self._server.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._poll.register(sock, select.POLLIN)
                self._open[sock.fileno()] = sock, bytearray()
            elif (buffer := self._read(number)) is not None:
                return buffer
        return None

    def _read(self, number: int) -> bytearray | None:
        sock, buffer = self._open[number]
        data = sock.recv(_READ)
        if not data:
            self._poll.unregister(number)
            del self._open[number]
            sock.close()
            return None
        buffer += data
        if buffer.startswith(b"POST") and b"/response " in buffer[:200]:
            self._posting = sock
            return buffer
        if buffer.endswith(b"\r\n\r\n") and b"/invocation/next " in buffer[:200]:
            buffer.clear()
            self._idle = sock
        elif b"/extension/register " in buffer[:200]:
            buffer.clear()
            sock.sendall(_REGISTERED)
        elif b"/error " in buffer[:200]:
            raise RuntimeError(bytes(buffer[-2000:]).decode(errors="replace"))
        return None


def _has_body(posted: bytearray) -> bool:
    """Whether a streamed answer's own first byte has come, behind the prelude's end."""
    end = posted.find(_PRELUDE_END)
    if end < 0:
        return False
    # What ends the prelude's chunk, and the next one's size.
    return len(posted) > end + 8 and b"\r\n" in posted[end + 10 : end + 30]


def _is_whole(posted: bytearray) -> bool:
    end = posted.find(b"\r\n\r\n", 0, 8192)
    if end < 0:
        return False
    head = bytes(posted[:end]).lower()
    if b"chunked" in head:
        return posted.endswith(b"\r\n0\r\n\r\n")
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return len(posted) >= end + 4 + length


def _answer(posted: bytes, first: float, total: float) -> Answer:
    head, _, body = posted.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        prelude, _, content = _unchunked(body).partition(_PRELUDE_END)
        return Answer(json.loads(prelude)["statusCode"], content, first, total)
    answer = json.loads(body)
    content = answer["body"].encode()
    if answer.get("isBase64Encoded"):
        content = base64.b64decode(content)
    return Answer(answer["statusCode"], content, first, total)


def _unchunked(data: bytes) -> bytes:
    pieces: list[bytes] = []
    at = 0
    while True:
        line_end = data.index(b"\r\n", at)
        size = int(data[at:line_end].split(b";")[0], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(data[line_end + 2 : line_end + 2 + size])
        at = line_end + 4 + size
