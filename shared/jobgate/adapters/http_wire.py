"""HTTP/1.1 answers off a blocking socket: strictly read, streamed, bytes as they are.

Smaller and several times quicker than `http.client`, and able to do what that can't: to wait for a
body in short steps, so that a watch can be ended in the middle. It reads answers only (RFC 9112).
"""

from __future__ import annotations

import contextlib
import functools
import re
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator, Iterable, Iterator

TICK_SECONDS = 0.5
"""How long a wait goes on at most before something else is looked at."""

_READ_BYTES = 65_536
_PIECE_BYTES = 16_384  # a record of TLS
_HEAD_MAX_BYTES = 65_536  # the API server's are under 4 KB
_LINE_MAX_BYTES = 4_096
_INTERIM_MAX = 4  # answers of 1xx before the real one
_TRAILERS_MAX = 32
_STATUS_LINE = re.compile(r"HTTP/1\.1 ([1-5][0-9]{2})(?: [^\r\n\x00]*)?")
_BREAK = re.compile(r"[\x00\r\n]")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00\r\n]*)?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_LENGTH = re.compile(r"[0-9]{1,18}")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_BODILESS = frozenset({204, 304})
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})


class WireError(Exception):
    """The other side broke off, or doesn't speak HTTP/1.1 as it must."""


class SilentEndError(WireError):
    """The connection ended before the first byte that answers what was sent."""


class Head(NamedTuple):
    """An answer's status and headers. `length` is None where it isn't known beforehand."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None
    chunked: bool
    keeps: bool  # the connection may be used again after the body


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A request's head. Raises ValueError for what would make another request of it."""
    if not _is_name(method) or not _TARGET.fullmatch(target):
        raise ValueError("a method or target that can't be sent")
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers:
        if not _is_name(name) or _has_control(value):
            raise ValueError("a header that can't be sent")
        lines.append(f"{name}: {value}")
    # Kubernetes' names are UTF-8: in another encoding a header would name somebody else.
    return "\r\n".join([*lines, "", ""]).encode()


def _has_control(value: str) -> bool:
    """Whether a header's value holds a control character, a tab apart."""
    # Nothing printable is one, and that is quickly known.
    return not value.isprintable() and _CONTROL.search(value) is not None


@functools.lru_cache(maxsize=256)  # the same few names, again and again
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


class Wire:
    """One connection's stream of bytes. Every method may raise OSError or WireError."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._heard = False
        self._wait: float | None = None
        sock.settimeout(None)

    @property
    def sock(self) -> socket.socket:
        """The socket."""
        return self._sock

    @property
    def is_drained(self) -> bool:
        """Nothing was received beyond what was read."""
        return not self._buffer

    def send(
        self,
        data: bytes,
        *,
        seconds: float | None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Send everything within `seconds`; raises TimeoutError.

        With a bound and more than a piece, `meanwhile` is called after each piece, and every
        TICK_SECONDS where none is taken; what it raises comes out.
        """
        self._heard = False
        if meanwhile is None or seconds is None or len(data) <= _PIECE_BYTES:
            self._set_wait(seconds)
            self._sock.sendall(data)
            return
        self._set_wait(TICK_SECONDS)
        rest, until = memoryview(data), time.monotonic() + seconds
        while rest:
            # TLS wants the same piece again once it wasn't taken.
            with contextlib.suppress(TimeoutError):
                rest = rest[self._sock.send(rest[:_PIECE_BYTES]) :]
            if time.monotonic() >= until:
                raise TimeoutError
            meanwhile()

    def head(
        self,
        method: str,
        *,
        seconds: float | None,
        clock: Callable[[], float],
        meanwhile: Callable[[], None] | None = None,
    ) -> Head:
        """The head of the answer to a request of `method`, within `seconds` in all.

        `meanwhile` is called whenever something has come, and every TICK_SECONDS where nothing has;
        what it raises comes out. Raises TimeoutError, and SilentEndError where nothing at all had
        come since `send`.
        """
        until = None if seconds is None else clock() + seconds
        for _ in range(_INTERIM_MAX):
            while (block := self._head_block()) is None:
                self._grow(None if until is None else until - clock(), meanwhile)
            head = _parse_head(block, method)
            if head.status == 101:
                raise WireError("an upgrade that nobody asked for")
            if head.status >= 200:
                return head
        raise WireError("too many interim answers")

    def body(self, head: Head, *, tick: float | None) -> Iterator[bytes]:
        """The body piece by piece, chunked framing taken off, nothing decoded.

        With a `tick` the first item never waits, and an empty item comes whenever nothing has been
        received for so many seconds.
        """
        if not self._buffer and head.length != 0 and tick is not None:
            yield b""
        if head.chunked:
            yield from self._chunked(tick)
        elif head.length is not None:
            yield from self._sized(head.length, tick)
        else:
            yield from self._until_end(tick)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _head_block(self) -> bytes | None:
        """The head that was received; None while it isn't whole."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_MAX_BYTES:
                raise WireError("a head that is too long")
            return None
        block, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return block

    def _grow(self, left: float | None, meanwhile: Callable[[], None] | None) -> None:
        """Receive more of a head, for which `left` seconds are left."""
        if left is not None and left <= 0:
            raise TimeoutError
        if meanwhile is None:
            self._buffer += self._receive(left) or self._ended()
            return
        with contextlib.suppress(TimeoutError):
            tick = TICK_SECONDS if left is None else min(TICK_SECONDS, left)
            self._buffer += self._receive(tick) or self._ended()
        meanwhile()

    def _sized(self, length: int, tick: float | None) -> Iterator[bytes]:
        while length:
            if not self._buffer:
                yield from self._more(tick)
            piece, self._buffer = self._buffer[:length], self._buffer[length:]
            length -= len(piece)
            yield piece

    def _chunked(self, tick: float | None) -> Iterator[bytes]:
        while True:
            line = yield from self._line(tick)
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise WireError("a chunk without a size")
            size = int(match[1], 16)
            if size == 0:
                break
            yield from self._sized(size, tick)
            if (yield from self._line(tick)):
                raise WireError("a chunk that is longer than its size")
        for _ in range(_TRAILERS_MAX):
            if not (yield from self._line(tick)):
                return
        raise WireError("too many trailers")

    def _until_end(self, tick: float | None) -> Iterator[bytes]:
        while True:
            if self._buffer:
                piece, self._buffer = self._buffer, b""
                yield piece
            try:
                data = self._receive(tick)
            except TimeoutError:
                yield b""
                continue
            if not data:
                return
            self._buffer = data

    def _line(self, tick: float | None) -> Generator[bytes, None, bytes]:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LINE_MAX_BYTES:
                raise WireError("a line that is too long")
            yield from self._more(tick)
            if tick is not None and b"\r\n" not in self._buffer:
                # A line that trickles in, never silent for a tick, is no piece either.
                yield b""
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _more(self, tick: float | None) -> Iterator[bytes]:
        while True:
            try:
                data = self._receive(tick) or self._ended()
            except TimeoutError:
                yield b""
                continue
            self._buffer = self._buffer + data if self._buffer else data
            return

    def _receive(self, seconds: float | None) -> bytes:
        """What has come; empty at a proper end."""
        self._set_wait(seconds)
        try:
            data = self._sock.recv(_READ_BYTES)
        except (ConnectionError, ssl.SSLEOFError):
            # Without TLS's own goodbye: anybody could have cut it.
            return self._ended()
        self._heard = self._heard or bool(data)
        return data

    def _ended(self) -> NoReturn:
        raise WireError("an answer that ends early") if self._heard else SilentEndError

    def _set_wait(self, seconds: float | None) -> None:
        if seconds != self._wait:
            self._sock.settimeout(seconds)
            self._wait = seconds


def _parse_head(block: bytes, method: str) -> Head:
    try:
        text = block.decode()
    except UnicodeDecodeError:
        text = block.decode("latin-1")
    lines = text.split("\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise WireError("no status line of HTTP/1.1")
    status = int(match[1])
    headers, framing = [], []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not _is_name(name) or (not value.isprintable() and _BREAK.search(value)):
            raise WireError("a header that can't be read")
        value = value.strip(" \t")
        headers.append((name, value))
        if (folded := name.lower()) in _FRAMING:
            framing.append((folded, value))
    length, chunked = _framing(framing)
    if method == "HEAD" or status in _BODILESS or status < 200:
        length, chunked = 0, False
    connection = ",".join([value for name, value in framing if name == "connection"])
    closes = "close" in map(str.strip, connection.lower().split(","))
    keeps = (chunked or length is not None) and not closes
    return Head(status, tuple(headers), length, chunked, keeps)


def _framing(headers: Iterable[tuple[str, str]]) -> tuple[int | None, bool]:
    """Length, and whether it's chunked (RFC 9112, 6.3); what can be read in two ways is refused.

    The headers' names are in lower case.
    """
    lengths = {value for name, value in headers if name == "content-length"}
    codings = [value.lower() for name, value in headers if name == "transfer-encoding"]
    if codings:
        if lengths or codings != ["chunked"]:
            raise WireError("a body whose length is in doubt")
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or not _LENGTH.fullmatch(text := lengths.pop()):
        raise WireError("a body whose length is in doubt")
    return int(text), False
