"""What a wire gives while nothing of a body comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from jobgate.adapters.http_wire import Wire, WireError

if TYPE_CHECKING:
    import socket

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Trickle:
    """A socket that always has another byte, of `first` and then of a line without an end."""

    def __init__(self, first: bytes) -> None:
        self._bytes = iter(first)

    def settimeout(self, _: float | None) -> None: ...

    def recv(self, _: int) -> bytes:
        return bytes((next(self._bytes, ord("0")),))


@pytest.mark.parametrize("framing", [b"", b"1;", b"1\r\nx", b"0\r\n", b"0\r\na: b\r\n"])
def test_framing_that_trickles_in_leaves_time_to_look_whether_it_may_go_on(framing: bytes) -> None:
    """Byte by byte it's never silent for a tick, and a size or a trailer is no piece."""
    wire = Wire(cast("socket.socket", Trickle(_HEAD + framing)))
    head = wire.head("GET", seconds=None, clock=lambda: 0)
    body = wire.body(head, tick=0.5)

    given = [next(body) for _ in range(1000)]

    assert set(given) <= {b"", b"x"}
    with pytest.raises(WireError, match="too long"):
        list(body)
