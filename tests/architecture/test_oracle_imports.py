"""The oracle of the rules shares no code with what it judges."""

from __future__ import annotations

import ast
from pathlib import Path

ORACLE = Path(__file__).parents[1] / "support/oracle.py"


def test_the_oracle_imports_the_standard_library_alone() -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(ORACLE.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{'.' * node.level}{node.module or ''}"]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert imported == {"__future__", "collections.abc", "dataclasses", "hashlib", "typing"}
