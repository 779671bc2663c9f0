"""One connection to one origin, kept between invocations, and never a request sent twice.

A frozen function doesn't notice that the other side has closed: what it kept may be dead although
nothing says so. So a kept connection is used again only while it's young, after a look whether
something (its end) has come meanwhile; and a request that met a silent end is repeated, on a new
connection and once, only where the caller says that it changes nothing.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from jobgate.adapters.http_wire import SilentEndError, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.adapters.http_wire import Head
    from jobgate.ports import Clock

# The API server closes an idle connection after 90 s, and load balancers after 60 s or more.
_KEPT_SECONDS = 50.0
# A request that must not be sent twice takes a new connection rather than a doubtful one.
_KEPT_SECONDS_ONCE_ONLY = 5.0
_KEEPALIVE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to connect; `tls` is None for plain HTTP.

    The certificate must name `server_name`, or `host` where that is None.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str | None = None


class Timeouts(NamedTuple):
    """In seconds: for the connection, for sending everything, and for the answer's head.

    `meanwhile` is called now and then in the last two, see `Wire`.
    """

    connect: float
    send: float
    head: float
    meanwhile: Callable[[], None] | None = None


class NotConnectedError(OSError):
    """No connection came about, so nothing was sent; its cause says why."""


class Exchange:
    """An answer that has begun. Read `body` to its end, or `close` it."""

    def __init__(
        self, kept: KeptConnection, wire: Wire, head: Head, connect_seconds: float
    ) -> None:
        self._kept = kept
        self._wire: Wire | None = wire
        self.head = head
        self.connect_seconds = connect_seconds

    def body(self, *, tick: float | None) -> Iterator[bytes]:
        """See `Wire.body`. The connection is kept once the body has been read to its end."""
        if self._wire is None:
            return
        yield from self._wire.body(self.head, tick=tick)
        wire, self._wire = self._wire, None
        if self.head.keeps and wire.is_drained:
            self._kept.give_back(wire)
        else:
            wire.close()

    def close(self) -> None:
        """Drop the connection unless the body was read to its end."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class KeptConnection:
    """At most one connection, used by one request at a time."""

    def __init__(self, origin: Origin, *, clock: Clock) -> None:
        self._origin = origin
        self._clock = clock
        self._idle: tuple[Wire, float] | None = None
        self._session: ssl.SSLSession | None = None
        self._session_of: Wire | None = None

    def send(
        self, method: str, head: bytes, body: bytes, *, timeouts: Timeouts, repeatable: bool
    ) -> Exchange:
        """Send a request and wait for the answer's head.

        Raises OSError (NotConnectedError, TimeoutError among them), WireError, or what
        `timeouts.meanwhile` raises.
        """
        wire = self._young(_KEPT_SECONDS if repeatable else _KEPT_SECONDS_ONCE_ONLY)
        if wire is not None:
            try:
                return self._sent(wire, method, head + body, timeouts, 0.0)
            except SilentEndError:
                if not repeatable:
                    raise
        begun = time.monotonic()
        try:
            wire = self._connect(timeouts.connect)
        except OSError as exc:
            raise NotConnectedError from exc
        return self._sent(wire, method, head + body, timeouts, time.monotonic() - begun)

    def give_back(self, wire: Wire) -> None:
        """Keep a connection whose answer was read to its end."""
        if wire is not self._session_of and isinstance(wire.sock, ssl.SSLSocket):
            # Once a connection, as it's a copy of everything that the handshake came to.
            self._session, self._session_of = wire.sock.session, wire
        self._idle = wire, self._clock()

    def close(self) -> None:
        """Close what is kept."""
        if self._idle is not None:
            self._idle[0].close()
            self._idle = None

    def _young(self, seconds: float) -> Wire | None:
        if self._idle is None:
            return None
        (wire, since), self._idle = self._idle, None
        # The wall clock: it alone goes on while the function is frozen.
        if 0 <= self._clock() - since < seconds and not has_something(wire.sock):
            return wire
        wire.close()
        return None

    def _sent(
        self, wire: Wire, method: str, request: bytes, timeouts: Timeouts, connect_seconds: float
    ) -> Exchange:
        try:
            took_all = _took_all(wire, request, timeouts)
            head = wire.head(
                method, seconds=timeouts.head, clock=time.monotonic, meanwhile=timeouts.meanwhile
            )
        except BaseException:
            wire.close()
            raise
        if not took_all:
            head = head._replace(keeps=False)
        return Exchange(self, wire, head, connect_seconds)

    def _connect(self, seconds: float) -> Wire:
        sock = socket.create_connection((self._origin.host, self._origin.port), timeout=seconds)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A watch may be silent for minutes; what stands between must not forget it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
            if self._origin.tls is None:
                return Wire(sock)
            return Wire(
                self._origin.tls.wrap_socket(
                    sock,
                    server_hostname=self._origin.server_name or self._origin.host,
                    session=self._session,
                    suppress_ragged_eofs=False,
                )
            )
        except BaseException:
            sock.close()
            raise


def _took_all(wire: Wire, request: bytes, timeouts: Timeouts) -> bool:
    """Send; false where the other side stopped listening, which may have answered all the same."""
    try:
        wire.send(request, seconds=timeouts.send, meanwhile=timeouts.meanwhile)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        return False
    return True


def has_something(sock: socket.socket) -> bool:
    """Whether anything, an end included, has come on a connection that should be silent."""
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
