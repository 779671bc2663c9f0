"""The calls of a page of documentation: each shell block, and the answer shown after it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_CALL = re.compile(
    r"```sh\n(?P<command>.*?)```\n\n```(?P<form>json|text)\n(?P<answer>.*?)```", re.DOTALL
)
_ANY = "…"


@dataclass(frozen=True)
class DocumentedCall:
    """A command, and the form and text of its answer, in which `…` stands for anything."""

    command: str
    form: str
    answer: str

    def fits(self, output: str) -> bool:
        """Whether the command's output is the answer that is shown."""
        if self.form == "text":
            return _text_fits(self.answer, output)
        return _fits(json.loads(self.answer), json.loads(output))


def documented_calls(page: Path) -> list[DocumentedCall]:
    """All of a page, in order."""
    return [DocumentedCall(*found.groups()) for found in _CALL.finditer(page.read_text())]


def _fits(shown: Any, given: Any) -> bool:
    if shown == _ANY:
        return True
    if isinstance(shown, str):
        return isinstance(given, str) and _text_fits(shown, given)
    if isinstance(shown, dict):
        same = isinstance(given, dict) and shown.keys() == given.keys()
        return same and all(_fits(value, given[name]) for name, value in shown.items())
    if isinstance(shown, list):
        same = isinstance(given, list) and len(shown) == len(given)
        return same and all(map(_fits, shown, given))
    return type(shown) is type(given)


def _text_fits(shown: str, given: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in shown.split(_ANY))
    return re.fullmatch(pattern, given, re.DOTALL) is not None
