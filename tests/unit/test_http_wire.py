"""What a wire gives while nothing of a body comes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, cast

import pytest
from jobgate.adapters.http_wire import Wire, WireError

if TYPE_CHECKING:
    import socket

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Trickle:
    """A socket that has another byte each time: of `first`, then very many of `rest`'s."""

    def __init__(self, first: bytes, rest: bytes = b"0") -> None:
        self._bytes = itertools.chain(first, itertools.islice(itertools.cycle(rest), 100_000))

    def settimeout(self, _: float | None) -> None: ...

    def recv(self, _: int) -> bytes:
        return bytes(itertools.islice(self._bytes, 1))


def _wire(first: bytes, rest: bytes = b"0") -> Wire:
    return Wire(cast("socket.socket", Trickle(first, rest)))


@pytest.mark.parametrize("framing", [b"", b"1;", b"1\r\nx", b"0\r\n", b"0\r\na: b\r\n"])
def test_framing_that_trickles_in_leaves_time_to_look_whether_it_may_go_on(framing: bytes) -> None:
    """Byte by byte it's never silent for a tick, and a size or a trailer is no piece."""
    wire = _wire(_HEAD + framing)
    head = wire.head("GET", seconds=None, clock=lambda: 0)
    body = wire.body(head, tick=0.5)

    given = [next(body) for _ in range(1000)]

    assert set(given) <= {b"", b"x"}
    with pytest.raises(WireError, match="too long"):
        list(body)


@pytest.mark.parametrize(
    ("first", "rest", "told"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"A", "a head that is too long"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", "too many interim answers"),
    ],
)
def test_a_head_without_an_end_is_given_up(first: bytes, rest: bytes, told: str) -> None:
    with pytest.raises(WireError, match=told):
        _wire(first, rest).head("GET", seconds=None, clock=lambda: 0)


def test_trailers_without_an_end_are_given_up() -> None:
    wire = _wire(_HEAD + b"0\r\n", b"a: b\r\n")
    head = wire.head("GET", seconds=None, clock=lambda: 0)
    with pytest.raises(WireError, match="too many trailers"):
        list(wire.body(head, tick=None))
