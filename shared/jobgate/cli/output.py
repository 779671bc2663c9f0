"""What a command prints: sentences and tables for people, or one JSON document for scripts.

Much of what is shown was written by whoever can push to a repository, so control characters are
escaped and nothing is read as Rich markup: a configuration file can't rewrite an operator's screen.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDTH_OF_A_FILE = 200


class Output:
    """Standard output in one of the two forms. In JSON's, `say` and `table` print nothing."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._progress = Console(markup=False, highlight=False, emoji=False, stderr=True)
        if not self._console.is_terminal:
            self._console.width = _WIDTH_OF_A_FILE

    def say(self, sentence: str) -> None:
        """One line for a person."""
        if not self._as_json:
            self._console.print(Text(plain(sentence)))

    def progress(self, what: str) -> None:
        """What is being looked at, for a person who waits at a terminal."""
        if not self._as_json and self._progress.is_terminal:
            self._progress.print(Text(plain(f"… {what}"), style="dim"))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table for a person; None is shown as a dash."""
        if self._as_json:
            return
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text("-" if v is None else plain(str(v))) for v in row))
        self._console.print(table)

    def result(self, value: Any) -> None:
        """The whole answer, for a script."""
        if self._as_json:
            self._console.print(Text(json.dumps(value, indent=2)))


def plain(text: str) -> str:
    """The text with everything that isn't printable (terminal escapes, bidi marks) escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def age(seconds: float) -> str:
    """A duration as people say it: `12 s`, `5 min`, `3 h`, `8 d`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
