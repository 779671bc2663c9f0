"""The agents' files of a checkout, as git holds them: links are their targets, and never followed.

A configuration may come from whoever can push, so no link of it may make a command read, and then
print, another file of the machine that it runs on.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.agent_configuration import FILE_MAX_BYTES
from jobgate.core.agent_folder import AGENTS_FOLDER, FileKind
from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATHS_MAX = 10_000
_DEPTH_MAX = 50
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """What is at a path. `content` is cut one byte above the largest configuration."""

    kind: FileKind
    content: bytes = b""


def agents_folder(checkout: Path) -> Path:
    """The folder of the agents in a checkout; raises InvalidRequest where there is none."""
    gitlab = checkout / ".gitlab"
    folder = gitlab / "agents"
    with readable(folder):
        if gitlab.is_symlink() or folder.is_symlink() or not folder.is_dir():
            raise InvalidRequest(f"{checkout} has no folder {AGENTS_FOLDER}.")
    return folder


def read_agents_folder(folder: Path) -> dict[str, CheckedOut]:
    """Everything below `folder`, which is a checkout's .gitlab/agents, by its path in git."""
    found: dict[str, CheckedOut] = {}
    with readable(folder):
        for path, checked_out in _below(folder, _DEPTH_MAX):
            if len(found) == _PATHS_MAX:
                raise InvalidRequest(f"{folder} holds more than {_PATHS_MAX} files.")
            found[f"{AGENTS_FOLDER}/{path.relative_to(folder).as_posix()}"] = checked_out
    return found


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """While the block looks into `folder`, what can't be read is bad input."""
    try:
        yield
    except OSError as exc:
        where = str(exc.filename or folder)[:_SHOWN]
        raise InvalidRequest(f"{where} can't be read: {exc.strerror}.") from exc


def _below(folder: Path, depth: int) -> Iterator[tuple[Path, CheckedOut]]:
    """Neither sockets and the like nor empty folders are in git."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            yield path, CheckedOut(FileKind.LINK, os.fsencode(path.readlink()))
        elif path.is_file():
            with path.open("rb") as file:
                yield path, CheckedOut(FileKind.FILE, file.read(FILE_MAX_BYTES + 1))
        elif path.is_dir() and depth and (within := list(_below(path, depth - 1))):
            yield path, CheckedOut(FileKind.FOLDER)
            yield from within
