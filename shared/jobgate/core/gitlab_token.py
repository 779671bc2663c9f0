"""When a GitLab token ends: access tokens do so at midnight UTC of their date."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from jobgate.core.errors import Unavailable

WARN_DAYS = 30
_SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEnd:
    """What GitLab last said of a token: its date, None for never, and whether it's good at all."""

    expires_at: str | None
    good: bool
    noted_at: float


def days_left(expires_at: str | None, *, now: float) -> int | None:
    """Whole days until a token ends, negative afterwards; None for one that never does.

    Raises Unavailable for a date in another form than GitLab's.
    """
    if expires_at is None:
        return None
    try:
        end = dt.datetime.combine(dt.date.fromisoformat(expires_at), dt.time(), dt.UTC)
    except ValueError as exc:
        raise Unavailable("GitLab says in an unknown form when a token ends") from exc
    return int((end.timestamp() - now) // _SECONDS_A_DAY)


def ends_soon(left: int | None) -> bool:
    """Whether a token with so many days left is to be renewed now."""
    return left is not None and left <= WARN_DAYS
