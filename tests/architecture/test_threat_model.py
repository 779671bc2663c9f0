"""Each test that docs/threat-model.md names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def functions_of(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    assert name in functions_of(ROOT / file)


def test_each_attack_class_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") >= 4]
    classes = [row for row in rows if not row.startswith(("| class", "| | may"))]
    without = [row for row in classes if "::" not in row]

    assert len(NAMED) > 50
    assert [row.split("|")[1].strip() for row in without] == [
        "a stranger on the same GitLab",
        "who writes a project's pipeline",
        "who writes an agent's file",
        "the functions' roles",
        "the operator",
    ]
