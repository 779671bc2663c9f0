"""The stack's log groups as they are read: events page by page, each with its JSON line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall

_PAGES_MAX = 1000


def events(
    aws: AWSCall,
    group: str,
    *,
    pattern: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Iterator[dict[str, Any]]:
    """What a log group holds of this span (seconds since 1970), by CloudWatch's filter pattern.

    In no order. Raises AWSError, and Unavailable where there is more than can be read.
    """
    bounds = {"startTime": since, "endTime": until}
    request: dict[str, Any] = {"logGroupName": group}
    request |= {name: int(at * 1000) for name, at in bounds.items() if at is not None}
    if pattern is not None:
        request["filterPattern"] = pattern
    for _ in range(_PAGES_MAX):
        page = aws("logs", "FilterLogEvents", request)
        yield from page.get("events", ())
        if not page.get("nextToken"):
            return
        request["nextToken"] = page["nextToken"]
    raise Unavailable("The log has more pages than can be read: take a shorter time.")


def line_of(event: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON object that an event holds, None where it is something else."""
    try:
        line = json.loads(event["message"])
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def by_time(event: dict[str, Any]) -> int:
    """The key to sort events by: when each was written (milliseconds)."""
    return int(event["timestamp"])
