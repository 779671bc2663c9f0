"""GitLab.com's rate limits, off until they are switched on.

https://docs.gitlab.com/user/gitlab_com/#rate-limits-on-gitlabcom
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from email.utils import formatdate


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` calls in each `seconds` of the clock.

    `pattern` is matched against `METHOD /api/v4 path`. A `silent` limit answers without the
    RateLimit headers, as GitLab's application limits do.
    """

    name: str
    count: int
    seconds: int
    pattern: str = ""
    silent: bool = True


#: By user where there is one, else by address.
AUTHENTICATED = Limit("throttle_authenticated_api", 2000, 60, silent=False)
UNAUTHENTICATED = Limit("throttle_unauthenticated_api", 500, 60, silent=False)
APPLICATION = (
    Limit("project_api", 400, 60, r"^GET /projects/[^/?]+$"),
    Limit("projects_api", 2000, 600, r"^GET /projects$"),
    Limit("group_api", 400, 60, r"^GET /groups/[^/?]+$"),
    Limit("groups_api", 50, 60, r"^GET /groups$"),
    Limit("group_projects_api", 600, 60, r"^GET /groups/[^/?]+/projects$"),
    Limit("project_jobs_api", 600, 60, r"^GET /projects/[^/?]+/jobs$"),
    Limit("throttle_authenticated_files_api", 500, 60, r"^GET /projects/[^/?]+/repository/files/"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call passes, and the headers that its answer carries."""

    passes: bool
    headers: dict[str, str]


class RateLimits:
    """Counters in fixed windows, as GitLab's throttle counts."""

    def __init__(self) -> None:
        self.enabled = False
        self.factor = 1.0
        self._counts: defaultdict[tuple[str, str, int], int] = defaultdict(int)

    def switch(self, *, enabled: bool, factor: float = 1.0) -> None:
        """Turn them on or off; `factor` scales every limit, so that a test needs fewer calls."""
        self.enabled = enabled
        self.factor = factor
        self._counts.clear()

    def count(self, call: str, *, who: str, known: bool, now: float) -> Verdict:
        """Count a call, `METHOD /path` below /api/v4, of a user or an address."""
        if not self.enabled:
            return Verdict(passes=True, headers={})
        general = AUTHENTICATED if known else UNAUTHENTICATED
        verdict = self._observe(general, self._key(general, who, call), now)
        for limit in APPLICATION:
            if re.search(limit.pattern, call):
                own = self._observe(limit, self._key(limit, who, call), now)
                if verdict.passes and not own.passes:
                    return Verdict(passes=False, headers={})
        return verdict

    def _key(self, limit: Limit, who: str, call: str) -> str:
        # The files limit counts each file apart.
        return f"{who} {call}" if limit.name.endswith("files_api") else who

    def _observe(self, limit: Limit, who: str, now: float) -> Verdict:
        window = int(now // limit.seconds)
        key = (limit.name, who, window)
        self._counts[key] += 1
        allowed = max(1, int(limit.count * self.factor))
        observed = self._counts[key]
        reset = (window + 1) * limit.seconds
        headers = {
            "RateLimit-Limit": str(allowed),
            "RateLimit-Name": limit.name,
            "RateLimit-Observed": str(observed),
            "RateLimit-Remaining": str(max(0, allowed - observed)),
            "RateLimit-Reset": str(reset),
        }
        if observed > allowed:
            headers["RateLimit-ResetTime"] = formatdate(reset, usegmt=True)
            headers["Retry-After"] = str(max(1, int(reset - now)))
        return Verdict(passes=observed <= allowed, headers=headers)
