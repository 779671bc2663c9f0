"""A small HTTP/1.1 reader for the Runtime API's port: it keeps trailers and sees broken bodies.

aiohttp's server drops trailers, and a streaming runtime reports a failure in them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READ_SIZE = 64 * 1024
_TRAILER_LINES = 32


class BrokenRequestError(Exception):
    """The peer left in the middle of a request, or doesn't speak HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """One request's head; header names are in lower case, a repeated one keeps its last value.

    `trailers` is filled while the body is read.
    """

    method: str
    target: str
    headers: dict[str, str]
    trailers: dict[str, str] = field(default_factory=dict)


async def read_head(reader: asyncio.StreamReader) -> IncomingRequest | None:
    """Read a request's head; None where the peer left between two requests."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BrokenRequestError("the head is incomplete") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise BrokenRequestError("the head is too long") from error
    line, *lines = block[:-4].decode("latin-1").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BrokenRequestError("the request line isn't HTTP/1.1's")
    return IncomingRequest(parts[0], parts[1], dict(_field(each) for each in lines))


async def read_body(
    request: IncomingRequest, reader: asyncio.StreamReader, *, limit: int | None = None
) -> AsyncIterator[bytes]:
    """Yield the body's bytes as they come.

    Raises BrokenRequestError where the body breaks off, and before the first byte beyond `limit`.
    """
    size = 0
    async for piece in _body(request, reader):
        size += len(piece)
        if limit is not None and size > limit:
            raise BrokenRequestError(f"the body is longer than {limit} bytes")
        yield piece


async def _body(request: IncomingRequest, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                async for piece in _pieces(reader, size):
                    yield piece
                await reader.readexactly(2)
            await _read_trailers(request, reader)
        else:
            async for piece in _pieces(reader, int(request.headers.get("content-length", "0"))):
                yield piece
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError) as error:
        raise BrokenRequestError("the body is incomplete") from error


def response(status: str, headers: dict[str, str], body: bytes) -> bytes:
    """A whole response with a known length."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


async def _pieces(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        piece = await reader.read(min(size, READ_SIZE))
        if not piece:
            raise BrokenRequestError("the body is incomplete")
        size -= len(piece)
        yield piece


async def _read_trailers(request: IncomingRequest, reader: asyncio.StreamReader) -> None:
    for _ in range(_TRAILER_LINES):
        line = (await reader.readuntil(b"\r\n"))[:-2].decode("latin-1")
        if not line:
            return
        name, value = _field(line)
        request.trailers[name] = value
    raise BrokenRequestError("too many trailers")


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise BrokenRequestError("a header has no colon")
    return name.strip().lower(), value.strip()
