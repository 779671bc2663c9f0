"""GitLab's REST API with a token that may change what is there, of which nothing is repeated."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobgate.core.errors import JobgateError, NotForUs, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobgate.core.issuer import Issuer

_ANSWER_MAX_BYTES = 2_000_000
_PAGES_MAX = 50
_PER_PAGE = 100


class GitLabWrites:
    """One instance; redirects are never followed, and the token is in no text.

    `seconds` is the time that each call has; `proof` names the token where one is refused.
    """

    refusal: type[JobgateError] = NotForUs

    def __init__(self, issuer: Issuer, token: str, *, seconds: float, proof: str) -> None:
        self._url = urlsplit(issuer.base_url)
        self._shown = issuer.base_url
        self._token = token
        self._seconds = seconds
        self._proof = proof
        self._tls = ssl.create_default_context(cadata=issuer.ca)

    def __call__(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON, or None where GitLab says that there is no such thing."""
        status, answer = self.ask(method, target, body)
        if status == 404 or (300 <= status < 400 and method == "GET"):
            return None
        if status in (401, 403):
            raise self.refusal(f"GitLab refused {method} {target} with {self._proof}.")
        if not 200 <= status < 300:
            raise Unavailable(f"GitLab at {self._shown} answered {status} to {method} {target}.")
        return answer

    def ask(
        self, method: str, target: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON, None where there is no body; raises Unavailable."""
        status, content = self._exchange(method, target, body)
        if not content or not 200 <= status < 300:
            return status, _loose(content)
        try:
            return status, json.loads(content)
        except (ValueError, RecursionError):
            raise Unavailable(f"What answers at {self._shown} isn't GitLab.") from None

    def pages(self, target: str) -> Iterator[dict[str, Any]]:
        """Every entry of a list; a list that isn't there is empty."""
        mark = "&" if "?" in target else "?"
        for page in range(1, _PAGES_MAX + 1):
            found = self("GET", f"{target}{mark}per_page={_PER_PAGE}&page={page}") or []
            if not isinstance(found, list):
                raise Unavailable(f"What answers at {self._shown} isn't GitLab.")
            yield from found
            if len(found) < _PER_PAGE:
                return
        raise Unavailable(f"GitLab's list {target} has more pages than can be read.")

    def _exchange(
        self, method: str, target: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._url.hostname or "",
            self._url.port or 443,
            context=self._tls,
            timeout=self._seconds,
        )
        headers = {"PRIVATE-TOKEN": self._token, "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, f"{self._url.path}/api/v4{target}", content, headers)
            response = connection.getresponse()
            return response.status, response.read(_ANSWER_MAX_BYTES)
        except (OSError, http.client.HTTPException) as exc:
            raise Unavailable(f"GitLab at {self._shown} can't be reached: {exc}.") from exc
        finally:
            connection.close()


def _loose(content: bytes) -> Any:
    """What a refusal says, if it's JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
