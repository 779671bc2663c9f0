"""One invocation of a function, and what comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

# Chunks that may wait for a slow client before the function has to wait too.
_WAITING_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class Result:
    """A buffered result: the payload as the function sent it."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """A function error, or the end of the function; `kind` is Lambda's error type."""

    kind: str


class StreamBrokenError(Exception):
    """A streamed result ended before its end."""


class Stream:
    """A streamed result: raw bytes as they arrive, bounded in memory.

    One side puts chunks, then ends or breaks it off; the other takes them. Whoever stops taking
    abandons it, and the function runs on to its end unnoticed, as on AWS.
    """

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | StreamBrokenError | None] = asyncio.Queue(
            _WAITING_CHUNKS
        )
        self._abandoned = False

    async def put(self, chunk: bytes) -> None:
        """Add bytes; waits while the taker is behind."""
        if not self._abandoned:
            await self._chunks.put(chunk)

    async def end(self) -> None:
        """Say that all bytes were put."""
        if not self._abandoned:
            await self._chunks.put(None)

    async def break_off(self, kind: str) -> None:
        """Say that no more bytes come although some are missing."""
        if not self._abandoned:
            await self._chunks.put(StreamBrokenError(kind))

    async def take(self) -> bytes | None:
        """The next bytes, or None at the end; raises StreamBrokenError."""
        chunk = await self._chunks.get()
        if isinstance(chunk, StreamBrokenError):
            raise chunk
        return chunk

    def abandon(self) -> None:
        """Take no more; what is put from now on is dropped."""
        self._abandoned = True
        while not self._chunks.empty():
            self._chunks.get_nowait()


Outcome = Result | Failure | Stream


@dataclass(eq=False, slots=True)
class Invocation:
    """An event on its way through a worker. `outcome` is set once, by whoever comes first."""

    request_id: str
    event: bytes
    function_arn: str
    trace_id: str
    timeout_seconds: float
    streaming: bool
    outcome: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome unless there is one."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)
