"""Runs one program to its end, with progress and its output in a file."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from local.process import ChildFailedError, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

# pip of this very Python, installing nothing but what the requirements file names and hashes.
_PIP = (sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check")
_EXACTLY = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement")
_PIP_SECONDS = 900.0


def run_pip(
    command: str,
    requirements: Path,
    *args: str | Path,
    log: Path,
    env: Mapping[str, str],
    tick: Callable[[], None],
) -> None:
    """Run `pip install` or `pip download` for a file of pinned requirements, as `run_to_end`."""
    run_to_end(
        [*_PIP, command, *_EXACTLY, requirements, *args],
        log=log,
        env=env,
        tick=tick,
        seconds=_PIP_SECONDS,
    )


def run_to_end(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    tick: Callable[[], None],
    cwd: Path | None = None,
    seconds: float = 3600,
) -> None:
    """Run `argv`, calling `tick` ten times a second; an interruption ends the program too.

    Raises ChildFailedError, with the last lines of `log`, if the program fails or takes longer
    than `seconds`.
    """
    name = log.stem
    child = spawn(name, argv, log=log, env=env, cwd=cwd)
    deadline = time.monotonic() + seconds
    try:
        while child.process.poll() is None:
            if time.monotonic() > deadline:
                raise ChildFailedError(
                    f"{name} did not end within {seconds:g} s.\n{child.log_tail()}"
                )
            tick()
            time.sleep(0.1)
    finally:
        child.stop()
    if child.process.returncode:
        child.check()
