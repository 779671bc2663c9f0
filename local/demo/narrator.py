"""Tells the story at a terminal: what is done, the command as typed, what came back."""

from __future__ import annotations

import contextlib
import shutil
import textwrap
import threading
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.kubernetes.progress import Progress

_TICK_SECONDS = 0.1
_SPIN_AFTER_SECONDS = 1.5
_INDENT = "    "


class Narrator:
    """Writes to one stream; `progress` shows that a long command still runs."""

    def __init__(self, out: TextIO, progress: Progress, *, steps: int) -> None:
        self._out = out
        self._progress = progress
        self._steps = steps
        self._number = 0

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._number += 1
        width = min(shutil.get_terminal_size().columns, 100)
        head = f"── {self._number}/{self._steps}  {title} "
        self._line("")
        self._line(head + "─" * max(0, width - len(head)))

    def says(self, text: str) -> None:
        """Say something in words."""
        for line in textwrap.wrap(text, 96):
            self._line(f"  {line}")

    def typed(self, command: str) -> None:
        """Show a command as it's typed."""
        self._line(f"  $ {command}")

    def printed(self, output: str) -> None:
        """Show what a command printed."""
        for line in output.rstrip().splitlines():
            self._line(f"{_INDENT}{line}")

    def failed(self, why: str) -> None:
        """Show why a step failed."""
        self._line(f"  ✗ {why}")

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show a spinner while the block runs, if it takes long."""
        done = threading.Event()

        def spin() -> None:
            if not done.wait(_SPIN_AFTER_SECONDS):
                while not done.wait(_TICK_SECONDS):
                    self._progress.tick(what)

        spinner = threading.Thread(target=spin, daemon=True)
        spinner.start()
        try:
            yield
        finally:
            done.set()
            spinner.join()
            self._progress.clear()

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
