"""The clusters' API servers: one kept TLS connection each, the cluster's own CA, no redirects.

The answer's bytes pass as they come, compressed or not. Nothing that may change something is sent
twice; a connection that breaks in the middle of an answer is an error, never an end.
"""

from __future__ import annotations

import hashlib
import ssl
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jobgate.adapters.http_connection import (
    KeptConnection,
    NotConnectedError,
    Origin,
    Timeouts,
)
from jobgate.adapters.http_wire import TICK_SECONDS, WireError, request_head
from jobgate.core.errors import OutOfTime, TimedOut, Unanswered, Unavailable
from jobgate.core.upstream_request import changes_nothing
from jobgate.ports.relay import ClusterGateway, UpstreamResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.adapters.http_connection import Exchange
    from jobgate.core.agent import ClusterConnection
    from jobgate.core.cluster_credential import ClientCertificate
    from jobgate.core.upstream_request import UpstreamRequest
    from jobgate.ports import Clock

_CONNECT_SECONDS = 5.0
_SEND_SECONDS = 30.0
# The API server ends ordinary requests itself after 60 s (--request-timeout).
_HEAD_SECONDS = 70.0
_IDLE_SECONDS = 70.0
# What is left for telling the caller that the time is over.
_MARGIN_SECONDS = 2.0
_CONNECTIONS_MAX = 16


class DirectClusterGateway(ClusterGateway):
    """Connects to the API servers themselves."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._connections: OrderedDict[tuple[str, ...], KeptConnection] = OrderedDict()

    def send(
        self,
        cluster: ClusterConnection,
        request: UpstreamRequest,
        *,
        certificate: ClientCertificate | None,
        deadline: float,
        meanwhile: Callable[[], None],
    ) -> UpstreamResponse:
        left = deadline - self._clock() - _MARGIN_SECONDS
        if left <= 0:
            raise OutOfTime("no time was left for the cluster")
        head = request_head(request.method, request.target, request.headers)
        timeouts = Timeouts(
            connect=min(_CONNECT_SECONDS, left),
            send=min(_SEND_SECONDS, left),
            head=left if request.long_running else min(_HEAD_SECONDS, left),
            meanwhile=meanwhile,
        )
        try:
            exchange = self._connection(cluster, certificate).send(
                request.method,
                head,
                request.body,
                timeouts=timeouts,
                repeatable=changes_nothing(request.method) and not request.body,
            )
        except NotConnectedError as exc:
            raise Unavailable(f"the cluster: {type(exc.__cause__).__name__}") from exc
        except TimeoutError as exc:
            raise TimedOut("the cluster didn't answer in time") from exc
        except (OSError, WireError) as exc:
            raise Unanswered(f"the cluster: {type(exc).__name__}") from exc
        return _Answer(exchange, idle_seconds=None if request.long_running else _IDLE_SECONDS)

    def close(self) -> None:
        """Close what is kept."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _connection(
        self, cluster: ClusterConnection, certificate: ClientCertificate | None
    ) -> KeptConnection:
        """The connection for exactly this server, its name, CA and client certificate."""
        name = cluster.tls_server_name or ""
        key = (cluster.server, name, cluster.ca or "", _fingerprint(certificate))
        connection = self._connections.get(key)
        if connection is None:
            connection = KeptConnection(_origin(cluster, certificate), clock=self._clock)
            self._connections[key] = connection
        self._connections.move_to_end(key)
        if len(self._connections) > _CONNECTIONS_MAX:
            self._connections.popitem(last=False)[1].close()
        return connection


class _Answer(UpstreamResponse):
    def __init__(self, exchange: Exchange, *, idle_seconds: float | None) -> None:
        self._exchange = exchange
        self._idle_seconds = idle_seconds
        self.status = exchange.head.status
        self.headers = exchange.head.headers
        self.length = exchange.head.length
        self.connect_seconds = exchange.connect_seconds

    def chunks(self) -> Iterator[bytes]:
        heard_at = time.monotonic()
        try:
            for piece in self._exchange.body(tick=TICK_SECONDS):
                now = time.monotonic()
                if piece:
                    heard_at = now
                elif self._idle_seconds is not None and now - heard_at > self._idle_seconds:
                    raise TimedOut("the cluster stopped in the middle of an answer")
                yield piece
        except (OSError, WireError) as exc:
            raise Unavailable(f"the cluster broke off: {type(exc).__name__}") from exc

    def close(self) -> None:
        self._exchange.close()


def _origin(cluster: ClusterConnection, certificate: ClientCertificate | None) -> Origin:
    parts = urlsplit(cluster.server)
    if parts.scheme != "https" or parts.hostname is None:
        raise Unavailable("a cluster's server isn't an https URL")
    try:
        tls = _tls(cluster.ca, certificate)
    except (OSError, ValueError) as exc:
        raise Unavailable(f"a cluster's CA or certificate: {type(exc).__name__}") from exc
    return Origin(parts.hostname, parts.port or 443, tls, cluster.tls_server_name)


def _tls(ca: str | None, certificate: ClientCertificate | None) -> ssl.SSLContext:
    tls = ssl.create_default_context(cadata=ca)
    # Python 3.13 asks for key identifiers that clusters' own CAs often lack, and Go doesn't ask.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    tls.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        # OpenSSL reads a chain and a key from files alone; these are gone before the first byte.
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "certificate"), Path(folder, "key")
            files[0].write_text(certificate.certificate)
            files[1].touch(mode=0o600)
            files[1].write_text(certificate.key)
            tls.load_cert_chain(*files)
    return tls


def _fingerprint(certificate: ClientCertificate | None) -> str:
    if certificate is None:
        return ""
    return hashlib.sha256(f"{certificate.certificate}\0{certificate.key}".encode()).hexdigest()
