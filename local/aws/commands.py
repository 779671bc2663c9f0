"""Commands that run to their end, with bounds and a log, and what they inherit."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from local.process import ChildFailedError, spawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from local.process import Child


def inherited() -> dict[str, str]:
    """This process's environment without anything that could lead a child to a real AWS account."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  PATH, proxies and pip's settings are the machine's to say
        if not name.startswith(("AWS_", "SAM_CLI_"))
    }


def run(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    seconds: float,
    alongside: Iterable[Child] = (),
) -> None:
    """Run `argv` to its end, its output appended to `log`.

    Raises ChildFailedError when it fails or takes longer than `seconds`, or when a child that it
    needs, one of `alongside`, ends first.
    """
    needed = tuple(alongside)
    child = spawn(name, argv, log=log, env=env)
    try:
        deadline = time.monotonic() + seconds
        while child.process.poll() is None:
            for other in needed:
                other.check()
            if time.monotonic() > deadline:
                raise ChildFailedError(f"{name} took over {seconds:g} s.\n{child.log_tail()}")
            time.sleep(0.05)
        if child.process.returncode:
            child.check()
    finally:
        child.stop()
