"""docs/decide.md: each example, run in the page's order, prints what the page says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from jobgate.cli.app import app
from typer.testing import CliRunner

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs/decide.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_has_examples_of_both_commands() -> None:
    consoles = [body for kind, _, body in BLOCK.findall(PAGE.read_text()) if kind == "console"]

    assert {body.split()[2] for body in consoles} == {"lint", "decide"}


def test_every_example_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, name, body in BLOCK.findall(PAGE.read_text()):
        if kind != "console":
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body)
            continue
        command, *expected, code = body.splitlines()
        found = CliRunner().invoke(app, shlex.split(command)[2:], env={"CI_PROJECT_PATH": None})

        assert code == f"# exit code {found.exit_code}", found.output
        if "--json" in command:
            assert json.loads(found.stdout) == json.loads("\n".join(expected))
        else:
            assert found.stdout.splitlines() == expected
