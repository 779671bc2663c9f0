"""The Runtime API at its edges, spoken to over real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from local.gateway.invocation import Failure, Invocation, Result, Stream, StreamBrokenError
from local.gateway.limits import Limits
from local.gateway.runtime_api import RuntimeAPI

_ROOT = "/2018-06-01/runtime"
_STREAMED = "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"


@dataclass
class _Worker:
    """A worker's side of one connection, and what the API told of it."""

    api: RuntimeAPI = field(init=False)
    asked: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    told: list[str] = field(default_factory=list)
    _address: str = ""

    async def start(self, limits: Limits | None = None) -> _Worker:
        self.api = RuntimeAPI(
            limits or Limits(),
            on_ready=lambda: self.asked.put_nowait(None),
            on_dispatch=lambda invocation: None,
            on_init_error=self.told.append,
        )
        self._address = await self.api.start()
        await self.dial()
        return self

    async def dial(self) -> None:
        host, port = self._address.split(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    def ask(self) -> None:
        self.send(f"GET {_ROOT}/invocation/next HTTP/1.1\r\n\r\n")

    async def read(self) -> tuple[str, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ") for line in head[1:-2])
        body = await self.reader.readexactly(int(headers["content-length"]))
        return head[0].partition(" ")[2], headers, body

    async def take(self, invocation: Invocation) -> None:
        self.api.give(invocation)
        self.ask()
        await self.read()

    def close(self) -> None:
        self.writer.close()
        self.api.close()


def _invocation(request_id: str = "one", *, streaming: bool = True) -> Invocation:
    return Invocation(request_id, b'{"a": 1}', "arn:x", "Root=1", 60, streaming)


async def _all(stream: Stream) -> bytes:
    received = bytearray()
    while chunk := await stream.take():
        received += chunk
    return bytes(received)


def test_next_hands_out_event_and_headers() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        worker.ask()
        worker.api.give(_invocation())
        status, headers, body = await worker.read()
        assert (status, body) == ("200 OK", b'{"a": 1}')
        assert headers["lambda-runtime-aws-request-id"] == "one"
        assert headers["lambda-runtime-invoked-function-arn"] == "arn:x"
        assert headers["lambda-runtime-trace-id"] == "root=1"
        assert headers["lambda-runtime-deadline-ms"].isdigit()
        worker.close()

    asyncio.run(run())


def test_a_worker_that_redials_gets_the_event_on_its_new_connection() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        worker.ask()
        earlier = worker.writer
        await worker.dial()
        worker.ask()
        await worker.asked.get()
        await worker.asked.get()
        worker.api.give(_invocation())
        assert (await worker.read())[0] == "200 OK"
        earlier.close()
        worker.close()

    asyncio.run(run())


@pytest.mark.parametrize("what", ["response", "error"])
def test_another_request_id_is_400_and_the_invocation_stays_open(what: str) -> None:
    async def run() -> None:
        worker = await _Worker().start()
        invocation = _invocation()
        await worker.take(invocation)
        worker.send(
            f"POST {_ROOT}/invocation/other/{what} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}"
        )
        assert (await worker.read())[0] == "400 Bad Request"
        assert not invocation.outcome.done()
        worker.close()

    asyncio.run(run())


def test_an_invocation_is_answered_only_once() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        invocation = _invocation()
        await worker.take(invocation)
        answer = f"POST {_ROOT}/invocation/one/response HTTP/1.1\r\nContent-Length: 1\r\n\r\n"
        worker.send(f"{answer}1{answer}2")
        assert (await worker.read())[0] == "202 Accepted"
        assert (await worker.read())[0] == "400 Bad Request"
        assert await invocation.outcome == Result(b"1")
        worker.close()

    asyncio.run(run())


def test_asking_for_the_next_without_an_answer_fails_the_invocation() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        invocation = _invocation()
        await worker.take(invocation)
        worker.ask()
        assert await invocation.outcome == Failure("Runtime.NoResponse")
        worker.close()

    asyncio.run(run())


def test_an_error_carries_its_type() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        invocation = _invocation()
        await worker.take(invocation)
        kind = "Lambda-Runtime-Function-Error-Type: Function.Bad"
        worker.send(f"POST {_ROOT}/invocation/one/error HTTP/1.1\r\n{kind}\r\n\r\n")
        assert (await worker.read())[0] == "202 Accepted"
        assert await invocation.outcome == Failure("Function.Bad")
        worker.close()

    asyncio.run(run())


def test_an_init_error_is_told() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        kind = "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError"
        worker.send(f"POST {_ROOT}/init/error HTTP/1.1\r\n{kind}\r\n\r\n")
        assert (await worker.read())[0] == "202 Accepted"
        assert worker.told == ["Runtime.ImportModuleError"]
        worker.close()

    asyncio.run(run())


def test_a_chunk_is_handed_on_before_it_is_complete() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        invocation = _invocation()
        await worker.take(invocation)
        worker.send(f"POST {_ROOT}/invocation/one/response HTTP/1.1\r\n{_STREAMED}\r\na\r\nhalf")
        stream = await invocation.outcome
        assert isinstance(stream, Stream)
        assert await stream.take() == b"half"
        worker.send(" whole\r\n0\r\n\r\n")
        assert await _all(stream) == b" whole"
        worker.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "end",
    ["0\r\nLambda-Runtime-Function-Error-Type: Function.Late\r\n\r\n", "5\r\nha", "zz\r\n", None],
)
def test_a_stream_that_doesnt_end_well_is_broken(end: str | None) -> None:
    async def run() -> None:
        worker = await _Worker().start()
        invocation = _invocation()
        await worker.take(invocation)
        worker.send(f"POST {_ROOT}/invocation/one/response HTTP/1.1\r\n{_STREAMED}\r\n1\r\nx\r\n")
        if end is not None:
            worker.send(end)
        worker.writer.close()
        stream = await invocation.outcome
        assert isinstance(stream, Stream)
        with pytest.raises(StreamBrokenError):
            await _all(stream)
        worker.close()

    asyncio.run(run())


def test_a_streamed_response_to_a_buffered_invocation_is_collected() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        invocation = _invocation(streaming=False)
        await worker.take(invocation)
        body = "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        worker.send(f"POST {_ROOT}/invocation/one/response HTTP/1.1\r\n{_STREAMED}\r\n{body}")
        assert await invocation.outcome == Result(b"ab")
        worker.close()

    asyncio.run(run())


def test_a_payload_above_the_limit_is_413_to_the_runtime() -> None:
    async def run() -> None:
        worker = await _Worker().start(Limits(response_payload=2))
        invocation = _invocation()
        await worker.take(invocation)
        worker.send(
            f"POST {_ROOT}/invocation/one/response HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        )
        assert (await worker.read())[0] == "413 Payload Too Large"
        assert await invocation.outcome == Failure("Function.ResponseSizeTooLarge")
        worker.close()

    asyncio.run(run())


def test_an_abandoned_stream_takes_all_that_comes() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        invocation = _invocation()
        await worker.take(invocation)
        worker.send(f"POST {_ROOT}/invocation/one/response HTTP/1.1\r\n{_STREAMED}\r\n")
        stream = await invocation.outcome
        assert isinstance(stream, Stream)
        worker.send("1\r\nx\r\n" * 100)
        stream.abandon()
        worker.send("0\r\n\r\n")
        assert (await worker.read())[0] == "202 Accepted"
        worker.close()

    asyncio.run(run())


def test_what_isnt_a_call_of_the_runtime_api_is_404() -> None:
    async def run() -> None:
        worker = await _Worker().start()
        worker.send("GET /elsewhere HTTP/1.1\r\n\r\n")
        assert (await worker.read())[0] == "404 Not Found"
        worker.close()

    asyncio.run(run())
