"""A streamed result as a streamed HTTP answer: prelude, then bytes, within API Gateway's times."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.gateway.answer import PRELUDE_END, MalformedResultError, streamed_head
from local.gateway.invocation import StreamBrokenError

if TYPE_CHECKING:
    from local.gateway.answer import Head
    from local.gateway.invocation import Stream


class StreamCutError(Exception):
    """The answer can't be brought to its end; the client must see that some of it is missing."""


@dataclass(frozen=True, slots=True)
class TimedStream:
    """A stream that is cut when its time is over or when it is silent for too long.

    `deadline` is a reading of `time.monotonic`.
    """

    stream: Stream
    deadline: float
    idle_seconds: float

    async def take(self) -> bytes | None:
        """The next bytes, None at the end; raises TimeoutError and StreamBrokenError."""
        async with asyncio.timeout(min(self.left(), self.idle_seconds)):
            return await self.stream.take()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    async def head(self, limit: int) -> tuple[Head, bytes]:
        """Status and headers, and the body's bytes that came with them.

        Raises TimeoutError, StreamBrokenError and MalformedResultError.
        """
        received = bytearray()
        while PRELUDE_END not in received:
            if len(received) > limit:
                raise MalformedResultError("the prelude is too long")
            chunk = await self.take()
            if chunk is None:
                raise MalformedResultError("the prelude has no end")
            received += chunk
        prelude, _, body = received.partition(PRELUDE_END)
        return streamed_head(bytes(prelude)), bytes(body)

    async def rest(self) -> bytes | None:
        """The next bytes after the head was sent; raises StreamCutError."""
        try:
            return await self.take()
        except (StreamBrokenError, TimeoutError) as error:
            raise StreamCutError(str(error) or "time is over") from error
