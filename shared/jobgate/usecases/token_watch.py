"""Reads daily until when GitLab's run-time tokens are good, for an alarm thirty days ahead."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.errors import NotForUs, Unavailable
from jobgate.core.gitlab_token import TokenEnd, days_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobgate.ports import Clock, Recorder
    from jobgate.ports.gitlab import TokenEnds

_EVERY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWatch:
    """The watch and what it needs; `ask` asks GitLab, with an issuer's own token."""

    issuers: Callable[[], Iterable[str]]
    ask: Callable[[str], str | None]
    ends: TokenEnds
    recorder: Recorder
    clock: Clock

    def run(self) -> None:
        """Ask where the last answer is a day old; who is away is asked again in the next round."""
        for issuer in self.issuers():
            try:
                self._one(issuer, self.clock())
            except Unavailable as exc:
                self._tell(issuer, error=str(exc))

    def _one(self, issuer: str, now: float) -> None:
        known = self.ends.token_end(issuer)
        # Noted in the future means that the clock was set back: that isn't young.
        if known is not None and 0 <= now - known.noted_at < _EVERY_SECONDS:
            return
        end = self._end(issuer, now)
        left = days_left(end.expires_at, now=now) if end.good else -1
        self.ends.note_token_end(issuer, end)
        self._tell(issuer, days_left=left)

    def _end(self, issuer: str, now: float) -> TokenEnd:
        try:
            return TokenEnd(expires_at=self.ask(issuer), good=True, noted_at=now)
        except NotForUs:
            return TokenEnd(expires_at=None, good=False, noted_at=now)

    def _tell(self, issuer: str, **values: object) -> None:
        """A line for the log, from which the alarm's metric is taken."""
        self.recorder(json.dumps({"type": "gitlab_token", "issuer": issuer, **values}))
