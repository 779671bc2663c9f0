"""GitLab's REST API with a token that may change what is there, of which nothing is repeated."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from jobgate.adapters.gitlab_forms import is_not_found, rows_of, token_of
from jobgate.adapters.https import HTTPSClient
from jobgate.core.errors import JobgateError, NotForUs, TimedOut, Unanswered, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobgate.adapters.https import Answer
    from jobgate.core.issuer import Issuer

_ANSWER_MAX_BYTES = 2_000_000
_PAGES_MAX = 200
_PER_PAGE = 100


class GitLabWrites:
    """One instance; redirects are never followed, and the token is in no text.

    `seconds` is the time that each call has, `until` (monotonic) the time for all of them; `proof`
    names the token where one is refused. Raises Unanswered where a change may have been made.
    """

    refusal: type[JobgateError] = NotForUs

    def __init__(
        self, issuer: Issuer, token: str, *, seconds: float, proof: str, until: float = math.inf
    ) -> None:
        self._client = HTTPSClient(f"{issuer.base_url}/api/v4", issuer.ca)
        self._shown = issuer.base_url
        self._headers = {"PRIVATE-TOKEN": token_of(token)}
        self._seconds = seconds
        self._until = until
        self._proof = proof

    def __call__(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON, or None where GitLab says that there is no such thing."""
        answer = self._answer(method, target, body)
        if 200 <= answer.status < 300:
            return self._json(answer)
        if answer.status in (401, 403):
            raise self.refusal(f"GitLab refused {method} {target} with {self._proof}.")
        if is_not_found(answer, is_path=method == "GET"):
            return None
        error = Unanswered if answer.status >= 500 and method != "GET" else Unavailable
        raise error(f"GitLab at {self._shown} answered {answer.status} to {method} {target}.")

    def ask(
        self, method: str, target: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON, None where there is no body; raises Unavailable."""
        answer = self._answer(method, target, body)
        is_good = 200 <= answer.status < 300
        return answer.status, self._json(answer) if is_good else _loose(answer)

    def pages(self, target: str, *, must_exist: bool = False) -> Iterator[dict[str, Any]]:
        """Every entry of a list; one that isn't there is empty, or raises NotForUs."""
        mark = "&" if "?" in target else "?"
        for page in range(1, _PAGES_MAX + 1):
            found = self("GET", f"{target}{mark}per_page={_PER_PAGE}&page={page}")
            if found is None and page > 1:
                raise Unavailable(f"GitLab's list {target} ended in its middle.")
            if found is None and must_exist:
                raise NotForUs(f"GitLab shows no {target} with {self._proof}.")
            rows = [] if found is None else rows_of(found)
            yield from rows
            if len(rows) < _PER_PAGE:
                return
        raise Unavailable(f"GitLab's list {target} has more pages than can be read.")

    def _json(self, answer: Answer) -> Any:
        try:
            return answer.json() if answer.body else None
        except Unavailable:
            raise Unavailable(f"What answers at {self._shown} isn't GitLab.") from None

    def _answer(self, method: str, target: str, body: Mapping[str, Any] | None) -> Answer:
        try:
            return self._exchange(method, target, body)
        except Unavailable as exc:
            raise type(exc)(f"GitLab at {self._shown} can't be reached: {exc}.") from exc
        finally:
            self._client.close()

    def _exchange(self, method: str, target: str, body: Mapping[str, Any] | None) -> Answer:
        seconds = min(self._seconds, self._until - time.monotonic())
        if seconds <= 0:
            raise TimedOut("no time is left")
        if method == "GET":
            return self._client.get(
                target, headers=self._headers, seconds=seconds, max_bytes=_ANSWER_MAX_BYTES
            )
        return self._client.send(
            method,
            target,
            None if body is None else json.dumps(body).encode(),
            headers=self._headers | {"Content-Type": "application/json"},
            seconds=seconds,
            max_bytes=_ANSWER_MAX_BYTES,
        )


def _loose(answer: Answer) -> Any:
    """What a refusal says, if it's JSON."""
    try:
        return answer.json()
    except Unavailable:
        return None
