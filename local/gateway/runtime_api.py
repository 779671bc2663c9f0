"""Lambda's Runtime API, served to one worker.

As in Lambda's "Using the Lambda runtime API for custom runtimes" and "Using response streaming with
custom runtimes": next, response, error, init error. A streamed response is handed on while it
arrives; an error in its trailers, or a connection that breaks, breaks the stream off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

from local.gateway.http1 import (
    READ_SIZE,
    BrokenRequestError,
    IncomingRequest,
    read_body,
    read_head,
    response,
)
from local.gateway.invocation import Failure, Result, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.gateway.invocation import Invocation
    from local.gateway.limits import Limits

_ROOT = "/2018-06-01/runtime/"
_ERROR_TYPE = "lambda-runtime-function-error-type"
_RESPONSE_MODE = "lambda-runtime-function-response-mode"
_JSON = {"Content-Type": "application/json"}


class RuntimeAPI:
    """One worker's Runtime API; it carries one invocation at a time.

    `on_ready` is called whenever the worker asks for the next invocation and none is there,
    `on_dispatch` when it gets one, `on_init_error` when it reports that its init failed.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        on_ready: Callable[[], None],
        on_dispatch: Callable[[Invocation], None],
        on_init_error: Callable[[str], None],
    ) -> None:
        self._limits = limits
        self._on_ready = on_ready
        self._on_dispatch = on_dispatch
        self._on_init_error = on_init_error
        self._given: Invocation | None = None
        self._current: Invocation | None = None
        self._asked: asyncio.Future[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; returns the address for AWS_LAMBDA_RUNTIME_API."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2 * READ_SIZE)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        """Stop listening and drop the worker's connections."""
        if self._server:
            self._server.close()
        for connection in self._connections:
            connection.cancel()

    def give(self, invocation: Invocation) -> None:
        """Hand the worker its next invocation, now or when it asks."""
        self._given = invocation
        self._wake()

    def fail(self, kind: str) -> None:
        """Settle what the worker has got, or is about to get, as a failure."""
        for invocation in (self._given, self._current):
            if invocation:
                invocation.settle(Failure(kind))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        with contextlib.suppress(BrokenRequestError, ConnectionError, asyncio.CancelledError):
            while request := await read_head(reader):
                if request.headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                answer = await self._answer(request, reader)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()

    async def _answer(self, request: IncomingRequest, reader: asyncio.StreamReader) -> bytes | None:
        match request.method, request.target.removeprefix(_ROOT).split("/"):
            case "GET", ["invocation", "next"]:
                return await self._next(reader)
            case "POST", ["invocation", request_id, "response"]:
                return await self._response(request_id, request, reader)
            case "POST", ["invocation", request_id, "error"]:
                return await self._error(request_id, request, reader)
            case "POST", ["init", "error"]:
                await _skip(request, reader)
                self._on_init_error(request.headers.get(_ERROR_TYPE, "Runtime.Unknown"))
                return _accepted()
        await _skip(request, reader)
        return _problem("404 Not Found", "NotFound", request.target)

    async def _next(self, reader: asyncio.StreamReader) -> bytes | None:
        if self._current:
            # It answered nothing and asks for more: what it had is lost.
            self._current.settle(Failure("Runtime.NoResponse"))
            self._current = None
        if self._given is None:
            self._on_ready()
        while self._given is None:
            if not await self._wait(reader):
                return None
        invocation, self._given = self._given, None
        self._current = invocation
        deadline = int((_epoch() + invocation.timeout_seconds) * 1000)
        self._on_dispatch(invocation)
        headers = _JSON | {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
        }
        return response("200 OK", headers, invocation.event)

    async def _wait(self, reader: asyncio.StreamReader) -> bool:
        """Wait until `give` was called; False if the worker left or asked again meanwhile."""
        self._wake()
        asked = self._asked = asyncio.get_running_loop().create_future()
        # A worker sends nothing while it waits, so whatever can be read is the end.
        left = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((asked, left), return_when=asyncio.FIRST_COMPLETED)
            return not left.done() and self._asked is asked
        finally:
            left.cancel()
            # Until the cancelled read has ended, nobody else may read.
            await asyncio.wait((left,))

    def _wake(self) -> None:
        if self._asked and not self._asked.done():
            self._asked.set_result(None)

    async def _response(
        self, request_id: str, request: IncomingRequest, reader: asyncio.StreamReader
    ) -> bytes:
        invocation = self._take(request_id)
        if invocation is None:
            await _skip(request, reader)
            return _problem("400 Bad Request", "InvalidRequestID", "Invalid request ID")
        streamed = request.headers.get(_RESPONSE_MODE, "").lower() == "streaming"
        try:
            if streamed and invocation.streaming:
                return await self._pass_on(invocation, request, reader)
            return await self._collect(invocation, request, reader)
        except (BrokenRequestError, asyncio.CancelledError):
            invocation.settle(Failure("Runtime.TruncatedResponse"))
            raise

    async def _pass_on(
        self, invocation: Invocation, request: IncomingRequest, reader: asyncio.StreamReader
    ) -> bytes:
        stream = Stream()
        invocation.settle(stream)
        try:
            async for piece in read_body(request, reader, limit=self._limits.stream):
                await stream.put(piece)
        except BrokenRequestError as error:
            await stream.break_off(str(error))
            raise
        except asyncio.CancelledError:
            # The worker is gone; whoever takes must not wait for the rest.
            await stream.break_off("Runtime.ExitError")
            raise
        if _ERROR_TYPE in request.trailers:
            await stream.break_off(request.trailers[_ERROR_TYPE])
        else:
            await stream.end()
        return _accepted()

    async def _collect(
        self, invocation: Invocation, request: IncomingRequest, reader: asyncio.StreamReader
    ) -> bytes:
        payload = bytearray()
        size = 0
        async for piece in read_body(request, reader):
            size += len(piece)
            if size <= self._limits.response_payload:
                payload += piece
        if size > self._limits.response_payload:
            invocation.settle(Failure("Function.ResponseSizeTooLarge"))
            return _problem(
                "413 Payload Too Large",
                "RequestEntityTooLarge",
                f"Exceeded maximum allowed payload size ({self._limits.response_payload} bytes).",
            )
        if _ERROR_TYPE in request.trailers:
            invocation.settle(Failure(request.trailers[_ERROR_TYPE]))
        else:
            invocation.settle(Result(bytes(payload)))
        return _accepted()

    async def _error(
        self, request_id: str, request: IncomingRequest, reader: asyncio.StreamReader
    ) -> bytes:
        await _skip(request, reader)
        invocation = self._take(request_id)
        if invocation is None:
            return _problem("400 Bad Request", "InvalidRequestID", "Invalid request ID")
        invocation.settle(Failure(request.headers.get(_ERROR_TYPE, "Unhandled")))
        return _accepted()

    def _take(self, request_id: str) -> Invocation | None:
        """The worker's invocation, if that is the one it answers; it can answer it only once."""
        if self._current is None or self._current.request_id != request_id:
            return None
        invocation, self._current = self._current, None
        return invocation


async def _skip(request: IncomingRequest, reader: asyncio.StreamReader) -> None:
    async for _ in read_body(request, reader):
        pass


def _accepted() -> bytes:
    return response("202 Accepted", _JSON, b'{"status":"OK"}\n')


def _problem(status: str, kind: str, message: str) -> bytes:
    body = json.dumps({"errorMessage": message, "errorType": kind}).encode()
    return response(status, _JSON, body)


def _epoch() -> float:
    return time.time()  # noqa: TID251  the Runtime API states deadlines by the wall clock
