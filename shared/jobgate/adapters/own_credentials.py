"""The function's own credentials, as Lambda gives them.

As a rule they're in the environment and last as long as it does. A function that was restored from
a snapshot (SnapStart) has an address to ask instead, since what a snapshot holds is old (AWS SDKs,
"Container credential provider").
"""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jobgate.adapters.http_connection import KeptConnection, Origin, Timeouts
from jobgate.adapters.http_wire import WireError, request_head
from jobgate.adapters.signature_v4 import AWSCredentials
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.adapters.http_connection import Exchange
    from jobgate.ports import Clock

_TIMEOUTS = Timeouts(connect=1, send=1, head=2)
_LEFT_SECONDS = 300.0  # what is left of credentials when new ones are asked for
_ANSWER_MAX_BYTES = 65_536
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def own_credentials(
    environment: Mapping[str, str], *, clock: Clock
) -> Callable[[], AWSCredentials]:
    """A source of the credentials that hold at the moment of the call, which may raise Unavailable.

    Raises ValueError naming what is missing.
    """
    url = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if url:
        return _Container(url, environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"), clock)
    given = AWSCredentials(
        _required(environment, "AWS_ACCESS_KEY_ID"),
        _required(environment, "AWS_SECRET_ACCESS_KEY"),
        environment.get("AWS_SESSION_TOKEN") or None,
    )
    return lambda: given


class _Container:
    def __init__(self, url: str, token: str | None, clock: Clock) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in _LOCAL:
            # The token would travel in the clear.
            raise ValueError("AWS_CONTAINER_CREDENTIALS_FULL_URI isn't on this machine")
        origin = Origin(parts.hostname, parts.port or 80, None)
        self._connection = KeptConnection(origin, clock=clock)
        self._target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        self._headers = [("Host", parts.netloc), ("Accept", "application/json")]
        if token:
            self._headers.append(("Authorization", token))
        self._clock = clock
        self._known: tuple[float, AWSCredentials] | None = None

    def __call__(self) -> AWSCredentials:
        if self._known is None or self._clock() > self._known[0] - _LEFT_SECONDS:
            self._known = self._fetched()
        return self._known[1]

    def _fetched(self) -> tuple[float, AWSCredentials]:
        head = request_head("GET", self._target, self._headers)
        try:
            exchange = self._connection.send("GET", head, b"", timeouts=_TIMEOUTS, repeatable=True)
            try:
                body = _whole(exchange)
            finally:
                exchange.close()
                # The next time is hours away.
                self._connection.close()
        except (OSError, WireError) as exc:
            raise Unavailable(f"our own credentials: {type(exc).__name__}") from exc
        try:
            given = json.loads(body)
            ends_at = dt.datetime.fromisoformat(given["Expiration"]).timestamp()
            return ends_at, AWSCredentials(
                given["AccessKeyId"], given["SecretAccessKey"], given["Token"]
            )
        except (KeyError, TypeError, ValueError):
            # Not "from": the library's text may quote what was given.
            raise Unavailable("our own credentials can't be read") from None


def _whole(exchange: Exchange) -> bytes:
    until = time.monotonic() + _TIMEOUTS.head
    body = b""
    for piece in exchange.body(tick=0.5):
        body += piece
        if time.monotonic() > until or len(body) > _ANSWER_MAX_BYTES:
            raise WireError("an answer that doesn't end")
    return body


def _required(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise ValueError(f"{name} is missing")
    return environment[name]
