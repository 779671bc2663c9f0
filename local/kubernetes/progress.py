"""Tells a person what a long step is doing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_LINE_SECONDS = 30.0
_CLEAR_LINE = "\r\x1b[K"


class Progress(Protocol):
    """Where a step reports to."""

    def say(self, line: str) -> None:
        """Print one line that stays."""

    def tick(self, what: str) -> None:
        """Note that `what` goes on; called several times a second for as long as it does."""

    def clear(self) -> None:
        """End the step that ticked, without a word."""


class TerminalProgress:
    """A spinner with the elapsed time on a terminal; elsewhere a plain line now and then."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._live = out.isatty()
        self._what = ""
        self._since = 0.0
        self._said = 0.0
        self._frame = 0

    def say(self, line: str) -> None:
        """Print one line that stays; it ends the step that ticked."""
        self._what = ""
        self._write(f"{_CLEAR_LINE}{line}\n" if self._live else f"{line}\n")

    def tick(self, what: str) -> None:
        """Show `what` with the time since it first ticked."""
        now = self._clock()
        new = what != self._what
        if new:
            self._what, self._since = what, now
        text = f"{what}  {_minutes(now - self._since)}"
        if self._live:
            self._frame = (self._frame + 1) % len(_SPINNER)
            self._write(f"{_CLEAR_LINE}{_SPINNER[self._frame]} {text}")
        elif new or now - self._said >= _PLAIN_LINE_SECONDS:
            self._said = now
            self._write(f"{text}\n")

    def clear(self) -> None:
        """Take a spinner off the terminal."""
        if self._what and self._live:
            self._write(_CLEAR_LINE)
        self._what = ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
