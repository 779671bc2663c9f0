"""Names that must be unique: pytest imports test modules by their file's name alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_two_test_modules_have_one_name() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_decisions_are_numbered_without_a_gap_or_a_double_and_say_their_number() -> None:
    files = sorted((ROOT / "docs/adr").glob("*.md"))
    titles = [path.read_text().partition("\n")[0] for path in files]
    numbers = [int(path.name[:4]) for path in files]
    assert numbers == list(range(1, len(files) + 1))
    wrong = [
        title
        for number, title in zip(numbers, titles, strict=True)
        if not re.match(rf"# {number}\. ", title)
    ]
    assert wrong == []
