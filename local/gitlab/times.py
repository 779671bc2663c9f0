"""The three ways in which GitLab writes a time."""

from __future__ import annotations

import datetime as dt


def moment(at: float) -> dt.datetime:
    """The time in UTC."""
    return dt.datetime.fromtimestamp(at, dt.UTC)


def api_time(at: float | None) -> str | None:
    """As in REST answers: `2026-09-01T10:00:00.000Z`."""
    if at is None:
        return None
    return moment(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def build_time(at: float | None) -> str | None:
    """As in job events: `2026-09-01 10:00:00 UTC`."""
    return None if at is None else moment(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def hook_time(at: float) -> str:
    """As in system, project and subgroup events: `2026-09-01T10:00:00Z`."""
    return moment(at).strftime("%Y-%m-%dT%H:%M:%SZ")
