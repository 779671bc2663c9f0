"""Runs git with no configuration but our own."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 60


class GitError(Exception):
    """Git refused; the text is what it printed."""


def git_environment() -> dict[str, str]:
    """The whole environment of a git process: nobody's ~/.gitconfig, no prompt."""
    return {
        "PATH": program_path(),
        "HOME": "/nonexistent",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }


def program_path() -> str:
    """A PATH that has git on it."""
    found = shutil.which("git")
    return os.defpath if found is None else f"{Path(found).parent}{os.pathsep}{os.defpath}"


async def git(
    repository: Path,
    *arguments: str,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run git on a bare repository and return what it printed; raises GitError."""
    process = await asyncio.create_subprocess_exec(
        "git",
        f"--git-dir={repository}",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**git_environment(), **(environment or {})},
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise GitError(f"git {arguments[0]} took longer than {_SECONDS} s") from None
    if process.returncode != 0:
        raise GitError(err.decode(errors="replace").strip())
    return out
