"""Times as operators give and read them: `2h`, or RFC 3339 with its zone.

Seconds since 1970 inside. Raises InvalidRequest with one sentence for a form.
"""

from __future__ import annotations

import datetime as dt
import re

from jobgate.core.errors import InvalidRequest

_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def before(text: str, option: str, *, now: float) -> float:
    """A moment that is over, or so long ago; never before 1970."""
    given = _given(text, option)
    moment = max(0.0, now - given if isinstance(given, int) else given.timestamp())
    if moment > now:
        raise InvalidRequest(f"{option} lies ahead.")
    return moment


def ahead(text: str, option: str, *, now: float) -> float:
    """A moment that is to come, or so long from now."""
    given = _given(text, option)
    moment = now + given if isinstance(given, int) else given.timestamp()
    if moment <= now:
        raise InvalidRequest(f"{option} is over already.")
    return moment


def shown(seconds: float) -> str:
    """For people and scripts (RFC 3339, in UTC)."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")


def _given(text: str, option: str) -> int | dt.datetime:
    if match := _DURATION.fullmatch(text):
        return int(match[1]) * _SECONDS[match[2]]
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidRequest(f"{option} is a duration like 2h, or 2030-01-31T12:00Z.") from exc
    if moment.tzinfo is None:
        raise InvalidRequest(f"{option} needs a zone, as in 2030-01-31T12:00Z.")
    return moment
