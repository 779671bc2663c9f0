"""Small HTTPS requests to a GitLab instance: bounded in time and size, redirects never followed."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobgate.core.errors import Unanswered, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names are lower-case. `cut` is true where the body was longer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool

    def json(self) -> Any:
        """The body as JSON; raises Unavailable where it isn't, or where it was cut."""
        if self.cut:
            raise Unavailable("an answer that is too long")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise Unavailable("an answer that isn't JSON") from exc


class _BoundedSocket(ssl.SSLSocket):
    """A socket whose reads all end at one deadline, however small the pieces that come."""

    deadline: float | None = None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        if self.deadline is not None:
            self.settimeout(_left(self.deadline))
        return super().recv_into(buffer, nbytes, flags)


class HTTPSClient:
    """One kept connection to one origin, trusting `ca` (PEM) or else the public authorities."""

    def __init__(self, url: str, ca: str | None, *, agent: str = "jobgate") -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.hostname is None:
            raise ValueError("only https URLs with a host are fetched")
        self._origin = (parts.hostname, parts.port or 443)
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context(cadata=ca)
        self._tls.sslsocket_class = _BoundedSocket
        self._agent = agent
        self._kept: http.client.HTTPSConnection | None = None

    def get(
        self,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float,
        max_bytes: int,
    ) -> Answer:
        """GET `target` (path and query, encoded); raises Unavailable within about `seconds`."""
        deadline = time.monotonic() + seconds
        # A kept connection may have been closed by the other side meanwhile: once more, anew.
        may_try_again = self._kept is not None
        try:
            return self._exchange("GET", target, None, headers or {}, deadline, max_bytes)
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            if not may_try_again:
                raise Unavailable(f"{self._origin[0]}: {type(exc).__name__}") from exc
        except ValueError:
            self.close()
            # Not "from": the library's text quotes the header, which may be a token.
            raise Unavailable(f"{self._origin[0]}: a header that can't be sent") from None
        return self.get(
            target, headers=headers, seconds=deadline - time.monotonic(), max_bytes=max_bytes
        )

    def send(
        self,
        method: str,
        target: str,
        body: bytes | None,
        *,
        headers: Mapping[str, str],
        seconds: float,
        max_bytes: int,
    ) -> Answer:
        """Send what changes something (POST, PUT, DELETE), never twice.

        Raises Unanswered within about `seconds`.
        """
        deadline = time.monotonic() + seconds
        # The other side may have closed a kept one, and then nobody knew whether this was done.
        self.close()
        try:
            return self._exchange(method, target, body, headers, deadline, max_bytes)
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise Unanswered(f"{self._origin[0]}: {type(exc).__name__}") from exc
        except ValueError:
            self.close()
            # Not "from": the library's text quotes the header, which may be a token.
            raise Unavailable(f"{self._origin[0]}: a header that can't be sent") from None

    def close(self) -> None:
        """Drop the kept connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _exchange(
        self,
        method: str,
        target: str,
        given: bytes | None,
        headers: Mapping[str, str],
        deadline: float,
        max_bytes: int,
    ) -> Answer:
        connection = self._kept or http.client.HTTPSConnection(*self._origin, context=self._tls)
        self._kept = connection
        self._bound(connection, deadline)
        sent = {"User-Agent": self._agent, "Accept": "application/json", **headers}
        connection.request(method, self._prefix + target, body=given, headers=sent)
        response = connection.getresponse()
        if response.length is None and not response.chunked:
            # Ended by the connection's end alone, so that a cut body would look whole.
            raise http.client.IncompleteRead(b"")
        body = bytearray()
        while len(body) <= max_bytes:
            chunk = response.read1(min(_CHUNK, max_bytes + 1 - len(body)))
            if not chunk:
                break
            body += chunk
        cut = len(body) > max_bytes
        if not cut and response.length:
            raise http.client.IncompleteRead(bytes(body))
        # A read to the very end doesn't do so by itself, and the next request would be refused.
        response.close()
        if cut or response.will_close:
            self.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, bytes(body[:max_bytes]), cut)

    @staticmethod
    def _bound(connection: http.client.HTTPSConnection, deadline: float) -> None:
        left = _left(deadline)
        connection.timeout = left
        if connection.sock is None:
            connection.connect()
        if isinstance(connection.sock, _BoundedSocket):
            connection.sock.deadline = deadline
            connection.sock.settimeout(left)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
