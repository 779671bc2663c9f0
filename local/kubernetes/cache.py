"""The folder outside the clone where what is slow to get is kept, safe against interruption."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_UNFINISHED = ".unfinished-"
# Longer than the slowest build that was seen (six minutes on two busy cores), by far.
_LOCK_SECONDS = 3600.0


class CacheBusyError(Exception):
    """Another process held a cache folder's lock for longer than any build takes."""


def cache_root(environ: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME`/jobgate/kubernetes, or below ~/.cache.

    A relative `XDG_CACHE_HOME` is ignored, as the XDG base directory specification asks.
    """
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path(environ["HOME"]) / ".cache" if "HOME" in environ else Path.home() / ".cache"
    return base / "jobgate" / "kubernetes"


def this_platform() -> str:
    """This machine in Go's words, such as `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_ARCHITECTURES.get(machine, machine)}"


def is_program(path: Path) -> bool:
    """Whether this user can execute the file."""
    return path.is_file() and os.access(path, os.X_OK)


@contextlib.contextmanager
def exclusive(
    folder: Path, *, waiting: Callable[[], None], seconds: float = _LOCK_SECONDS
) -> Iterator[Path]:
    """Hold `folder`'s lock; yields a folder inside it for unfinished work, removed at the end.

    Finish a piece by renaming it out of there: a rename within one file system is atomic, so an
    interrupted process leaves no half of it. `waiting` is called while another process has the
    lock. Raises CacheBusyError after `seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        _acquire(lock.fileno(), folder, waiting=waiting, seconds=seconds)
        # Only the lock's holder makes such folders, so these are of processes that were killed.
        for left in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as work:
            yield Path(work)


def _acquire(lock: int, folder: Path, *, waiting: Callable[[], None], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise CacheBusyError(f"Another process holds {folder / '.lock'}.") from None
            waiting()
            time.sleep(0.1)
        else:
            return
