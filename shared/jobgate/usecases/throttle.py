"""How often a project's jobs may ask, and how much strangers may ask in all.

One conditional update a request would be a round trip that each job waits for. So a function counts
the first few of a project's minute by itself, and shares the count through the table from there on:
what each running function lets through uncounted is at most a twentieth of the limit.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.job import JobIdentity
    from jobgate.core.settings import Settings
    from jobgate.ports import Clock, Deployment
    from jobgate.ports.exchange import ExchangeCounter

_WINDOW_SECONDS = 60
_UNCOUNTED_MAX = 10
_PROJECTS_MAX = 4096
_STRANGERS = ("", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """The limits and what was counted; `seen` holds this function's own counts of the minute."""

    deployment: Callable[[], Deployment]
    counter: ExchangeCounter
    settings: Settings
    clock: Clock
    seen: OrderedDict[tuple[str, int], tuple[int, int]] = field(default_factory=OrderedDict)

    def admits(self, job: JobIdentity) -> bool:
        """Count a request of `job`; false where its project has asked too often this minute.

        Jobs of no known root share one small budget in each function, and never reach the table.
        Raises Unavailable where the table can't count.
        """
        window = int(self.clock() // _WINDOW_SECONDS)
        if self._is_stranger(job):
            return self._seen(_STRANGERS, window) <= self.settings.stranger_rate
        limit = self.settings.project_rate
        if self._seen((job.issuer, job.project_id), window) <= min(_UNCOUNTED_MAX, limit // 20):
            return True
        return self.counter.count(
            job.issuer,
            job.project_id,
            window=window,
            limit=limit,
            ends_at=(window + 1) * _WINDOW_SECONDS,
        )

    def _is_stranger(self, job: JobIdentity) -> bool:
        if self.settings.instance_wide:
            return False
        return (job.issuer, job.root_path) not in self.deployment().roots

    def _seen(self, key: tuple[str, int], window: int) -> int:
        """How many there were in this window, with this one."""
        known_window, count = self.seen.pop(key, (window, 0))
        count = count + 1 if known_window == window else 1
        self.seen[key] = window, count
        if len(self.seen) > _PROJECTS_MAX:
            self.seen.popitem(last=False)
        return count
