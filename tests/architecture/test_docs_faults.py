"""The table of faults in docs/operations.md: each row names tests, and each of these exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEADING = "## When something goes wrong on the way from a push"


def rows() -> list[list[str]]:
    text = (REPOSITORY / "docs/operations.md").read_text()
    section = text.split(HEADING, 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture(scope="module")
def tests() -> frozenset[str]:
    found = (path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    return frozenset(
        name for text in found for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    )


def test_the_table_has_its_faults() -> None:
    assert len(rows()) >= 20


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_fault_is_told_whole_and_shown_by_tests_that_exist(
    row: list[str], tests: frozenset[str]
) -> None:
    assert len(row) == 5
    assert all(row)
    named = re.findall(r"`(test_\w+)`", row[4])
    assert named
    assert [name for name in named if name not in tests] == []
