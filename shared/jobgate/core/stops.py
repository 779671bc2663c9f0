"""How an operator's stop comes into an issuer's list of active stops, and out of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.liveness import StopKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.core.liveness import Stop

# Every decision reads them all, and an item of the table holds 400 KB.
STOPS_MAX = 100
# An operator's clock may run ahead of the functions': a stop is dropped well after its end.
_KEPT_SECONDS = 86_400.0


def with_stop(stops: tuple[Stop, ...], stop: Stop, *, now: float) -> tuple[Stop, ...] | None:
    """The stops with one more, without those that ended long ago; None where there are too many.

    Of two stops of one thing the later end counts, so that nobody shortens another's by chance.
    One of an issuer or of all always finds room.
    """
    current = [s for s in stops if s.until is None or s.until > now - _KEPT_SECONDS]
    same = [s for s in current if (s.kind, s.value) == (stop.kind, stop.value)]
    others = [s for s in current if s not in same]
    is_wide = stop.kind in (StopKind.ISSUER, StopKind.ALL)
    if not (same or is_wide) and len(others) >= STOPS_MAX:
        return None
    until = max((s.until for s in (*same, stop)), key=_end)
    return (*others, dataclasses.replace(stop, until=until))


def without_stop(stops: tuple[Stop, ...], kind: StopKind, value: str) -> tuple[Stop, ...]:
    """The stops without those of one thing."""
    return tuple(s for s in stops if (s.kind, s.value) != (kind, value))


@dataclass(frozen=True, slots=True)
class StopChange:
    """What an operator did at a time (epoch seconds): made a stop, or lifted those of one thing."""

    at: float
    stop: Stop
    is_lifted: bool


def replayed(stops: tuple[Stop, ...], changes: Iterable[StopChange]) -> tuple[Stop, ...] | None:
    """What became of stops by changes, of which they may hold some already; None for too many.

    The changes are those that were made since some time before the stops were what they are, in
    their order: then it doesn't matter which of them are in. A stop outlives what lifted an earlier
    one of the same thing.
    """
    for change in changes:
        about = (change.stop.kind, change.stop.value)
        held = [s for s in stops if (s.kind, s.value) == about]
        if change.is_lifted:
            later = [s for s in held if (s.at or 0) > change.at]
            stops = (*without_stop(stops, *about), *later)
        elif all((s.at or 0) < change.at for s in held):
            after = with_stop(stops, change.stop, now=change.at)
            if after is None:
                return None
            stops = after
    return stops


def _end(until: float | None) -> float:
    return math.inf if until is None else until
