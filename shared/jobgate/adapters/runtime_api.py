"""A client of Lambda's Runtime API that streams answers.

Source: Lambda, "Using the Lambda runtime API for custom runtimes" and "Using response streaming
with custom runtimes" (2018-06-01). A streamed answer ends with its connection, so the next event is
asked for on a new one.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from jobgate.adapters.http_connection import has_something
from jobgate.adapters.http_wire import Wire, WireError, request_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobgate.adapters.http_wire import Head
    from jobgate.ports import Clock

_ROOT = "/2018-06-01/runtime"
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# They speak of one connection, and this one is Lambda's.
_DROPPED = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"})
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
_PRELUDE_END = b"\0" * 8
_END = b"0\r\n\r\n"
_SHORT_SECONDS = 5.0
_encoded = json.JSONEncoder(separators=(",", ":")).encode


class RuntimeAPIError(Exception):
    """The Runtime API doesn't take part as it must."""


class FrontGoneError(Exception):
    """Lambda takes no more of an answer: its invocation is over."""


class Invocation(NamedTuple):
    """One event; at `deadline` (epoch seconds) Lambda ends the invocation, whatever it does."""

    request_id: str
    invocation_id: str | None
    deadline: float
    function_arn: str
    trace_id: str | None
    event: bytes


class RuntimeAPI:
    """One worker's Runtime API; it carries one invocation at a time."""

    def __init__(self, address: str, *, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        self._wire: Wire | None = None

    def next(self) -> Invocation:
        """Wait, as long as it takes, for the next event.

        Raises OSError, WireError, or RuntimeAPIError for an event that can't be answered.
        """
        self._drop()
        wire = self._wire = self._connect()
        wire.send(self._head("GET", "/invocation/next"), seconds=_SHORT_SECONDS)
        head = wire.head("GET", seconds=None, clock=time.monotonic)
        event = b"".join(wire.body(head, tick=None))
        if head.status != 200:
            raise RuntimeAPIError(f"the Runtime API gave status {head.status}")
        return _invocation(head, event)

    def begin(self, invocation: Invocation, *, length: int | None = None) -> AnswerStream:
        """Begin to answer, on the connection that brought the event if it's still there.

        `length` is the body's, in bytes, where it's known.
        """
        wire, self._wire = self._wire, None
        if wire is not None and has_something(wire.sock):
            wire.close()
            wire = None
        headers = [
            ("Lambda-Runtime-Function-Response-Mode", "streaming"),
            ("Content-Type", "application/vnd.awslambda.http-integration-response"),
            ("Transfer-Encoding", "chunked"),
            ("Trailer", f"{_ERROR_TYPE}, {_ERROR_BODY}"),
        ]
        if invocation.invocation_id is not None:
            headers.append(("Lambda-Runtime-Invocation-Id", invocation.invocation_id))
        head = self._head("POST", f"/invocation/{invocation.request_id}/response", headers)
        return AnswerStream(
            wire or self._connect(), head, invocation, length=length, clock=self._clock
        )

    def fail(self, invocation: Invocation, kind: str, message: str) -> None:
        """Report that an invocation came to nothing; nothing of it was streamed."""
        self._report(f"/invocation/{invocation.request_id}/error", kind, message)

    def fail_init(self, kind: str, message: str) -> None:
        """Report that the handler can't be loaded."""
        self._report("/init/error", kind, message)

    def restore_next(self) -> None:
        """Say that the snapshot may be taken; returns once something was restored from it.

        Raises OSError, WireError or RuntimeAPIError.
        """
        self._drop()
        wire = self._connect()
        try:
            wire.send(self._head("GET", "/restore/next"), seconds=_SHORT_SECONDS)
            head = wire.head("GET", seconds=None, clock=time.monotonic)
        finally:
            wire.close()
        if head.status != 200:
            raise RuntimeAPIError(f"the Runtime API gave status {head.status}")

    def fail_restore(self, kind: str, message: str) -> None:
        """Report that the handler can't go on after a restore."""
        self._report("/restore/error", kind, message)

    def _report(self, path: str, kind: str, message: str) -> None:
        self._drop()
        wire = self._connect()
        body = _error(kind, message)
        headers = [
            ("Content-Type", "application/vnd.aws.lambda.error+json"),
            (_ERROR_TYPE, kind),
            ("Content-Length", str(len(body))),
        ]
        try:
            wire.send(self._head("POST", path, headers) + body, seconds=_SHORT_SECONDS)
            wire.head("POST", seconds=_SHORT_SECONDS, clock=time.monotonic)
        finally:
            wire.close()

    def _head(self, method: str, path: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
        return request_head(method, _ROOT + path, (("Host", self._address), *headers))

    def _connect(self) -> Wire:
        host, _, port = self._address.rpartition(":")
        sock = socket.create_connection((host, int(port)), timeout=_SHORT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Wire(sock)

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class AnswerStream:
    """An answer on its way. Every method may raise FrontGoneError.

    What completes a body of a known `length` is held for the end, which follows at once: a small
    answer is one write.
    """

    def __init__(
        self,
        wire: Wire,
        head: bytes,
        invocation: Invocation,
        *,
        length: int | None,
        clock: Clock,
    ) -> None:
        self._wire = wire
        self._head = head
        self._invocation = invocation
        self._length = length
        self._clock = clock
        self._held = b""
        self.bytes_sent = 0

    def start(self, prelude: bytes, first: bytes) -> None:
        """Send the prelude at once, with what there is of the body as an HTTP chunk of its own."""
        head = self._head + _chunk(prelude + _PRELUDE_END)
        self._pass(first, head + (_chunk(first) if first else b""))

    def write(self, piece: bytes) -> None:
        """Send a piece of the body; an empty one is nothing."""
        if piece:
            self._pass(piece, _chunk(piece))

    def end(self) -> None:
        """The body is complete."""
        self._close(_END)

    def break_off(self, kind: str, message: str) -> None:
        """The body isn't complete: the client must see a broken stream."""
        body = base64.b64encode(_error(kind, message)).decode()
        trailers = f"0\r\n{_ERROR_TYPE}: {kind}\r\n{_ERROR_BODY}: {body}\r\n\r\n"
        self._close(trailers.encode("ascii"))

    def close(self) -> None:
        """Close the connection, whatever was sent."""
        self._wire.close()

    def _pass(self, piece: bytes, data: bytes) -> None:
        self.bytes_sent += len(piece)
        if piece and self.bytes_sent == self._length:
            self._held += data
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        try:
            # A slow reader holds this up, rightly, and at most as long as the invocation lasts.
            self._wire.send(data, seconds=max(self._invocation.deadline - self._clock(), 1.0))
        except OSError as exc:
            self._wire.close()
            raise FrontGoneError from exc

    def _close(self, data: bytes) -> None:
        self._send(data)
        try:
            # That it was taken; the next event must not be asked for before.
            self._wire.head("POST", seconds=_SHORT_SECONDS, clock=time.monotonic)
        except (OSError, WireError) as exc:
            raise FrontGoneError from exc
        finally:
            self._wire.close()


def prelude(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    """Status and headers as API Gateway reads them. Raises ValueError for what can't be sent.

    Names that differ in case alone are one header with many values.
    """
    if not 200 <= status <= 599:
        raise ValueError("a status that isn't of a final answer")
    spelled: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or _CONTROL.search(value):
            raise ValueError("a header that can't be sent")
        if name.lower() not in _DROPPED:
            values.setdefault(spelled.setdefault(name.lower(), name), []).append(value)
    return _encoded({"statusCode": status, "multiValueHeaders": values}).encode()


def _invocation(head: Head, event: bytes) -> Invocation:
    given = {name.lower(): value for name, value in head.headers}
    request_id = given.get("lambda-runtime-aws-request-id", "")
    invocation_id = given.get("lambda-runtime-invocation-id")
    deadline = given.get("lambda-runtime-deadline-ms", "")
    if not _ID.fullmatch(request_id) or not deadline.isdecimal():
        raise RuntimeAPIError("the Runtime API gave an event without an id or a deadline")
    return Invocation(
        request_id=request_id,
        invocation_id=invocation_id if _ID.fullmatch(invocation_id or "") else None,
        deadline=int(deadline) / 1000,
        function_arn=given.get("lambda-runtime-invoked-function-arn", ""),
        trace_id=given.get("lambda-runtime-trace-id"),
        event=event,
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message, "stackTrace": []}).encode()
