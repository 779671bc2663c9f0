"""The HTTP side: one request in, one answer out, with API Gateway's limits on the way.

aiohttp parses strictly (no bare LF, no folded headers, no doubled lengths or hosts) and keeps the
target as it was sent in `raw_path`; its routing and its URL objects, which normalise, aren't used.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import secrets
import time
import traceback
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from multidict import CIMultiDict

from local.gateway.answer import Answer, Head, MalformedResultError, buffered_answer
from local.gateway.event import Identifiers, build_event
from local.gateway.invocation import Failure, Result, Stream, StreamBrokenError
from local.gateway.pool import ThrottledError
from local.gateway.refusals import refusal
from local.gateway.request import Request, RequestRefusedError, head_size, parse_target
from local.gateway.routing import match
from local.gateway.streaming import StreamCutError, TimedStream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from local.gateway.api import API, Route
    from local.gateway.invocation import Invocation, Outcome
    from local.gateway.limits import Limits
    from local.gateway.pool import Pool
    from local.gateway.routing import Match

_NO_BODY = frozenset({204, 304})


class FrontRequest(web.BaseRequest):
    """aiohttp's request, without the `Server` header that it would add to the answer."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.popall("Server", None)


@dataclass(frozen=True, slots=True)
class Front:
    """Answers the requests of one stage."""

    api: API
    limits: Limits
    pools: Mapping[str, Pool]

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; prints a line about it, without query, headers or bodies."""
        started = time.monotonic()
        identifiers = _identifiers()
        try:
            response = await self._handle(incoming, identifiers)
        except RequestRefusedError as refused:
            answer = refusal(self.api, refused.kind, identifiers)
            response = await _send(incoming, answer, identifiers)
        except Exception:  # noqa: BLE001  a fault of this gateway: shown in its log, 500 outside
            traceback.print_exc()
            response = await _send(
                incoming, refusal(self.api, "INTERNAL_FAULT", identifiers), identifiers
            )
        path = incoming.raw_path.partition("?")[0].encode("ascii", "backslashreplace").decode()
        elapsed = (time.monotonic() - started) * 1000
        print(f"{incoming.method} {path} {response.status} {elapsed:.1f} ms", flush=True)
        return response

    async def _handle(
        self, incoming: web.BaseRequest, identifiers: Identifiers
    ) -> web.StreamResponse:
        request, found = self._read(incoming)
        event = build_event(
            request,
            found,
            body=await _body(incoming, self.limits.request_body),
            binary_media_types=self.api.binary_media_types,
            identifiers=identifiers,
            now=dt.datetime.now(dt.UTC),  # noqa: TID251  the event states the wall clock
        )
        deadline = time.monotonic() + self._seconds(found.route)
        invocation = await self._invoke(event, found.route, identifiers)
        match await _outcome(invocation, deadline):
            case Failure():
                raise RequestRefusedError("FUNCTION_FAILED")
            case Result(payload) if found.route.streaming:
                # A streaming integration passes on what isn't in its format as it is.
                head = Head(200, (("Content-Type", "application/json"),))
                return await _send(incoming, Answer(head, payload), identifiers)
            case Result(payload):
                return await _send(incoming, self._answer(request, payload), identifiers)
            case Stream() as stream:
                timed = TimedStream(stream, deadline, self.limits.idle_seconds)
                try:
                    return await self._stream(incoming, timed, identifiers)
                finally:
                    # The function isn't told that nobody listens any more: it runs to its end.
                    stream.abandon()

    def _read(self, incoming: web.BaseRequest) -> tuple[Request, Match]:
        size = head_size(incoming.method, incoming.raw_path, incoming.raw_headers)
        if size > self.limits.request_head:
            raise RequestRefusedError("HEADERS_TOO_LARGE")
        request = Request(
            incoming.method,
            parse_target(incoming.raw_path),
            tuple((_text(name), _text(value)) for name, value in incoming.raw_headers),
            incoming.remote or "",
            f"HTTP/{incoming.version.major}.{incoming.version.minor}",
        )
        if request.target.stage != self.api.stage:
            raise RequestRefusedError("UNKNOWN_STAGE")
        found = match(self.api, request.method, request.target.path)
        if found is None:
            raise RequestRefusedError("MISSING_AUTHENTICATION_TOKEN")
        return request, found

    def _seconds(self, route: Route) -> float:
        limits = self.limits
        longest = limits.stream_seconds if route.streaming else limits.buffered_seconds
        return min(route.timeout_seconds, longest)

    async def _invoke(
        self, event: dict[str, Any], route: Route, identifiers: Identifiers
    ) -> Invocation:
        payload = json.dumps(event).encode()
        if len(payload) > self.limits.event:
            raise RequestRefusedError("REQUEST_TOO_LARGE")
        try:
            return await self.pools[route.function].invoke(
                payload,
                request_id=identifiers.request_id,
                trace_id=f"{identifiers.trace_id};Parent={secrets.token_hex(8)};Sampled=0",
                streaming=route.streaming,
            )
        except ThrottledError as error:
            raise RequestRefusedError("FUNCTION_THROTTLED") from error

    def _answer(self, request: Request, payload: bytes) -> Answer:
        try:
            return buffered_answer(
                payload,
                accept=request.header("accept"),
                binary_media_types=self.api.binary_media_types,
            )
        except MalformedResultError as error:
            raise RequestRefusedError("RESULT_MALFORMED") from error

    async def _stream(
        self, incoming: web.BaseRequest, timed: TimedStream, identifiers: Identifiers
    ) -> web.StreamResponse:
        try:
            head, body = await timed.head(self.limits.prelude)
        except TimeoutError as error:
            raise RequestRefusedError("INTEGRATION_TIMEOUT") from error
        except (MalformedResultError, StreamBrokenError) as error:
            raise RequestRefusedError("RESULT_MALFORMED") from error
        if incoming.method == "HEAD" or head.status in _NO_BODY:
            return await _send(incoming, Answer(head, b""), identifiers)
        response = web.StreamResponse(status=head.status, headers=_headers(head, identifiers))
        # A client that left ends the copying, not the function.
        with contextlib.suppress(ConnectionError):
            await response.prepare(incoming)
            try:
                # A client that reads nothing doesn't hold the answer beyond its time either.
                async with asyncio.timeout(timed.left()):
                    await _copy(body, timed, response)
            except (StreamCutError, TimeoutError) as error:
                print(f"cut a streamed answer: {str(error) or 'time is over'}", flush=True)
                if incoming.transport:
                    incoming.transport.abort()
        return response


async def _copy(body: bytes, timed: TimedStream, response: web.StreamResponse) -> None:
    chunk: bytes | None = body
    while chunk is not None:
        if chunk:
            await response.write(chunk)
        chunk = await timed.rest()


async def _outcome(invocation: Invocation, deadline: float) -> Outcome:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await asyncio.shield(invocation.outcome)
    except TimeoutError as error:
        invocation.outcome.add_done_callback(_let_go)
        raise RequestRefusedError("INTEGRATION_TIMEOUT") from error


def _let_go(settled: asyncio.Future[Outcome]) -> None:
    if not settled.cancelled() and isinstance(stream := settled.result(), Stream):
        stream.abandon()


async def _body(incoming: web.BaseRequest, limit: int) -> bytes:
    if (incoming.content_length or 0) > limit:
        raise RequestRefusedError("REQUEST_TOO_LARGE")
    if incoming.headers.get("Expect", "").lower() == "100-continue":
        await incoming.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    try:
        async for chunk in incoming.content.iter_any():
            body += chunk
            if len(body) > limit:
                raise RequestRefusedError("REQUEST_TOO_LARGE")
    except (web.RequestPayloadError, ConnectionError) as error:
        raise RequestRefusedError("BAD_REQUEST_PARAMETERS") from error
    return bytes(body)


async def _send(
    incoming: web.BaseRequest, answer: Answer, identifiers: Identifiers
) -> web.StreamResponse:
    headers = _headers(answer.head, identifiers)
    response = web.Response(status=answer.head.status, headers=headers, body=answer.body)
    with contextlib.suppress(ConnectionError):
        await response.prepare(incoming)
        await response.write_eof()
    return response


def _headers(head: Head, identifiers: Identifiers) -> CIMultiDict[str]:
    return CIMultiDict(
        [
            *head.headers,
            ("x-amzn-RequestId", identifiers.request_id),
            ("x-amz-apigw-id", identifiers.extended_request_id),
            ("X-Amzn-Trace-Id", identifiers.trace_id),
        ]
    )


def _identifiers() -> Identifiers:
    seconds = int(time.time())  # noqa: TID251  X-Ray's trace ids begin with the wall clock
    return Identifiers(
        request_id=str(uuid.uuid4()),
        extended_request_id=secrets.token_urlsafe(11) + "=",
        trace_id=f"Root=1-{seconds:08x}-{secrets.token_hex(12)}",
    )


def _text(value: bytes) -> str:
    """A header as JSON can carry it; bytes that aren't UTF-8 keep their values as Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
