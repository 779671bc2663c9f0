"""The one connection that a client of the control surface keeps, and what comes back over it."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Json = dict[str, Any]

_TIMEOUT_SECONDS = 120


class ControlError(Exception):
    """The control surface refused; the text says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job and the ID tokens that it was given, by audience."""

    id: int
    pipeline_id: int
    project_id: int
    status: str
    ref: str
    sha: str
    id_tokens: Mapping[str, str]

    @property
    def id_token(self) -> str:
        """Its only ID token."""
        (token,) = self.id_tokens.values()
        return token


class ControlConnection:
    """Sends one call at a time, from any thread."""

    def __init__(self, url: str, *, token: str, ca: Path) -> None:
        self._token = token
        self._address = urlsplit(url).netloc
        self._trust = ssl.create_default_context(cafile=ca)
        self._connection: http.client.HTTPSConnection | None = None
        self._lock = threading.Lock()

    def call(self, verb: str, given: Json) -> Json:
        """Call a verb; raises ControlError."""
        body = json.dumps(given).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        with self._lock:
            status, answer = self._send(f"/control/{verb}", body, headers)
        if status != http.client.OK:
            raise ControlError(f"{verb}: {status} {answer.get('error') or answer.get('message')}")
        return answer

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Json]:
        """One request; a kept connection that the server has closed meanwhile is opened anew."""
        fresh = self._connection is None
        try:
            return self._exchange(path, body, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()
            if fresh:
                raise
            return self._exchange(path, body, headers)

    def _exchange(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Json]:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                self._address, context=self._trust, timeout=_TIMEOUT_SECONDS
            )
        self._connection.request("POST", path, body=body, headers=dict(headers))
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())
