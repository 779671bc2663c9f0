"""The operators' commands as a whole: each is there, in both forms, and a shell completes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from jobgate.cli.app import app
from typer.main import get_command

COMMANDS = (
    "agent rotate",
    *("issuer add", "issuer list", "issuer remove", "agent register", "agent list", "agent show"),
    *("agent remove", "gitlab connect", "gitlab status", "gitlab rotate-token", "lint", "decide"),
    *("explain", "status", "restore", "keys list", "keys rotate", "queue redrive", "audit", "rbac"),
    *("doctor", "setup", "revoke"),
)


@pytest.mark.parametrize("words", COMMANDS)
def test_command_is_there_and_answers_scripts_too(words: str) -> None:
    command = get_command(app)
    for word in words.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts}

    assert command.help
    assert "--json" in options


def test_shell_completes_commands() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "jobgate"],
        env={
            "PATH": os.defpath,
            "_JOBGATE_COMPLETE": "complete_bash",
            "COMP_WORDS": "jobgate do",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == ["doctor"]
