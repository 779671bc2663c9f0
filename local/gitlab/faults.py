"""Faults that a test or a demo asks for, and the log of what was asked of the instance."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

_KEPT = 100_000


@dataclass(slots=True)
class Fault:
    """What the next matching requests meet.

    `pattern` is searched in `METHOD /raw/path?query`. `skip` matches pass unharmed first, then
    `times` are hit. With a `status` the answer is made up; else the true answer is delayed by
    `delay` seconds, and with `half` cut in its middle, or with `drop` never sent.
    """

    pattern: str
    times: int = 1
    skip: int = 0
    status: int | None = None
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    half: bool = False
    drop: bool = False


class Faults:
    """The faults that are still to happen, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Add a fault; raises re.error for a bad pattern."""
        re.compile(fault.pattern)
        self._faults.append(fault)

    def clear(self) -> int:
        """Forget all faults; returns how many were still to happen."""
        left = sum(fault.times for fault in self._faults)
        self._faults.clear()
        return left

    def take(self, request_line: str) -> Fault | None:
        """The fault that meets this request, if one does."""
        for fault in self._faults:
            if fault.times <= 0 or not re.search(fault.pattern, request_line):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None


class RequestLog:
    """The requests that the instance was asked, without tokens."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    def add(self, *, method: str, path: str, status: int, token: str | None, at: float) -> None:
        """Keep one request; `token` is its name, `at` the time of its answer."""
        entry = {"method": method, "path": path, "status": status, "token": token, "at": at}
        self._entries.append(entry)

    def entries(self, pattern: str = "") -> list[dict[str, Any]]:
        """Requests whose `METHOD path` matches, oldest first."""
        return [
            entry
            for entry in self._entries
            if re.search(pattern, f"{entry['method']} {entry['path']}")
        ]

    def clear(self) -> None:
        """Forget them."""
        self._entries.clear()
