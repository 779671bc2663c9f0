"""The installed command in a real shell: the Tab key completes commands and options."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).parent / "jobgate"
BASH = "/bin/bash"
SECONDS = 60


class Terminal:
    """A person's bash: what is typed into it, and what its screen has shown."""

    def __init__(self, home: Path) -> None:
        pid, self._screen = pty.fork()
        if pid == 0:
            os.execve(BASH, [BASH, "--noprofile", "-i"], environment(home))
        self._pid = pid
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self._shown:
            assert time.monotonic() < deadline, self._shown
            if select.select([self._screen], [], [], 0.2)[0]:
                self._shown += os.read(self._screen, 4096).decode(errors="replace")
        self._shown = self._shown.partition(text)[2]

    def close(self) -> None:
        os.close(self._screen)  # which hangs up
        os.waitpid(self._pid, 0)


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{COMMAND.parent}:{os.defpath}",
        "HOME": str(home),
        "TERM": "dumb",
    }


def in_bash(home: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line; the command asks its parent which shell this is, so bash must stay it."""
    return subprocess.run(
        [BASH, "-c", f"{line}; true"],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of somebody who has installed the completion as docs/install.md says."""
    done = in_bash(tmp_path, "jobgate --install-completion")
    installed = tmp_path / ".bashrc"
    assert installed.is_file(), done.stdout + done.stderr
    installed.write_text(f"{installed.read_text()}\nPS1='ready> '\n")
    return tmp_path


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    opened = Terminal(home)
    yield opened
    opened.close()


def test_tab_completes_a_command_and_its_option_in_bash(terminal: Terminal) -> None:
    terminal.wait_for("ready> ")

    terminal.type("jobgate aud\t")
    terminal.wait_for("jobgate audit ")
    terminal.type("--foll\t")
    terminal.wait_for("--follow ")
    terminal.type("\x15jobgate gitlab rot\t")
    terminal.wait_for("jobgate gitlab rotate-token ")


def test_bash_is_shown_the_script_that_is_installed(home: Path) -> None:
    done = in_bash(home, "jobgate --show-completion")

    assert done.stdout.strip() == (home / ".bash_completions/jobgate.sh").read_text().strip()


@pytest.mark.parametrize(
    ("line", "name"), [("jobgate aud", "audit"), ("jobgate audit --foll", "--follow")]
)
def test_zsh_is_answered_by_its_own_protocol(tmp_path: Path, line: str, name: str) -> None:
    """Where zsh isn't at hand: the script that it evaluates, and the answer that this gets."""

    def ask(wish: str, **variables: str) -> str:
        return subprocess.run(
            [COMMAND],
            env={**environment(tmp_path), "_JOBGATE_COMPLETE": wish, **variables},
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    assert "#compdef jobgate" in ask("source_zsh")
    assert f'"{name}":' in ask("complete_zsh", _TYPER_COMPLETE_ARGS=line)
