"""Paired rounds, and a ratio within each.

Every subject is measured once a round, in changing order, so that a busy machine slows all of them.
"""

from __future__ import annotations

import contextlib
import secrets
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.relay.neighbours import SIZES
from benchmarks.relay.subjects import started

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.relay.runtime_api import Answer
    from benchmarks.relay.subjects import Setting, Subject

_WARM_UP = 100
# Few calls and many rounds: what else the machine does then meets every subject alike.
_CALLS = {"small": 60, "medium": 20, "large": 3, "watch": 5}
_MEMORY_WARM_UP = 500
_MEMORY_REQUESTS = 10_000
_MEMORY_WATCHES = 300
ROWS = ("small", "medium", "large", "watch", "cold")


@dataclass(slots=True)
class Figures:
    """One subject's: for each row a value a round, in milliseconds; single values below."""

    rounds: dict[str, list[float]] = field(default_factory=lambda: {row: [] for row in ROWS})
    p99: float = 0.0  # of 1 KB, over all rounds
    cpu: float = 0.0  # of 1 KB, milliseconds
    memory: float = 0.0  # MB, warm
    grown_by_requests: float | None = None
    grown_by_watches: float | None = None
    samples: list[float] = field(default_factory=list)

    def median(self, row: str) -> float | None:
        """Of all rounds."""
        return statistics.median(self.rounds[row]) if self.rounds[row] else None


def ratios(one: Figures, base: Figures, row: str) -> tuple[float, float, float]:
    """Median, least and greatest of the rounds' ratios."""
    each = [a / b for a, b in zip(one.rounds[row], base.rounds[row], strict=True)]
    return statistics.median(each), min(each), max(each)


def warm(
    names: Sequence[str], setting: Setting, rounds: int, say: Callable[[str], None]
) -> dict[str, Figures]:
    """Measure everything but cold starts and growth."""
    figures = {name: Figures() for name in names}
    spent = dict.fromkeys(names, 0.0)
    with contextlib.ExitStack() as stack:
        subjects = {name: stack.enter_context(started(name, setting)) for name in names}
        for subject in subjects.values():
            for row in _CALLS:
                for _ in range(_WARM_UP if row == "small" else 3):
                    _checked(subject, row)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for name in _shuffled(names):
                spent[name] += _round(subjects[name], figures[name])
        for name, subject in subjects.items():
            one = figures[name]
            one.p99 = statistics.quantiles(one.samples, n=100)[98]
            one.cpu = spent[name] / (rounds * _CALLS["small"])
            one.memory = _resident(subject)
    return figures


def _round(subject: Subject, figures: Figures) -> float:
    """Measure one subject once; returns the milliseconds of CPU of its small answers."""
    before = _cpu(subject)
    taken = [_checked(subject, "small").total * 1000 for _ in range(_CALLS["small"])]
    spent = _cpu(subject) - before
    figures.samples += taken
    figures.rounds["small"].append(statistics.median(taken))
    for row in ("medium", "large"):
        values = [_checked(subject, row).total * 1000 for _ in range(_CALLS[row])]
        figures.rounds[row].append(statistics.median(values))
    firsts = [_checked(subject, "watch").first * 1000 for _ in range(_CALLS["watch"])]
    figures.rounds["watch"].append(statistics.median(firsts))
    return spent


def cold(figures: Mapping[str, Figures], setting: Setting, rounds: int) -> None:
    """Measure from a process's start to its first whole answer, token and table included."""
    for _ in range(rounds):
        for name in _shuffled(list(figures)):
            try:
                taken = _first_answer(name, setting)
            except TimeoutError:
                # A port that was free a moment ago may be somebody else's by now.
                taken = _first_answer(name, setting)
            figures[name].rounds["cold"].append(taken)


def _first_answer(name: str, setting: Setting) -> float:
    began = time.perf_counter()
    with started(name, setting) as subject:
        _checked(subject, "small")
        return (time.perf_counter() - began) * 1000


def growth(name: str, figures: Figures, setting: Setting) -> None:
    """Measure how much memory a subject gains by many requests, and by many watches."""
    with started(name, setting) as subject:
        for _ in range(_MEMORY_WARM_UP):
            _checked(subject, "small")
        for row in ("large", "watch"):
            for _ in range(5):
                _checked(subject, row)
        at_first = _resident(subject)
        for _ in range(_MEMORY_REQUESTS):
            _checked(subject, "small")
        after_requests = _resident(subject)
        for _ in range(_MEMORY_WATCHES):
            _checked(subject, "watch")
        figures.grown_by_requests = after_requests - at_first
        figures.grown_by_watches = _resident(subject) - after_requests


def _checked(subject: Subject, row: str) -> Answer:
    """An answer, which must be right: a quick refusal is no result."""
    answer = subject.call(row)
    if answer.status != 200 or (row in SIZES and len(answer.body) != SIZES[row]):
        raise RuntimeError(
            f"{row}: {answer.status}, {len(answer.body)} bytes {answer.body[:200]!r}"
        )
    return answer


def _shuffled(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda _: secrets.randbits(32))


def _cpu(subject: Subject) -> float:
    """Milliseconds on a CPU, of all threads (Linux: schedstat's first field, nanoseconds)."""
    tasks = (task for pid in subject.pids for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def _resident(subject: Subject) -> float:
    """MB of memory that belongs to the processes, shared libraries' share included."""
    total = 0
    for pid in subject.pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024
