"""Programs that examples use and no package has: built from their Go modules, kept in the cache.

Each has a folder here with the go.mod and go.sum that pin it. The first build of all three takes
about five minutes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from local.kubernetes.build import go_build
from local.kubernetes.cache import cache_root, exclusive, is_program, this_platform
from local.kubernetes.go import find_go
from local.kubernetes.progress import TerminalProgress
from local.kubernetes.run import run_to_end

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = Path(__file__).parent
_FLUX = "github.com/fluxcd/flux2/v2"
_PACKAGES = {
    "tofu": "github.com/opentofu/opentofu/cmd/tofu",
    # The newest version that a Go module has: the later ones' numbers don't fit their path.
    "terraform-provider-kubernetes": "github.com/hashicorp/terraform-provider-kubernetes",
    "flux": f"{_FLUX}/cmd/flux",
}


def go_program(name: str) -> Path:
    """One of the programs, built first if need be. Raises ChildFailedError."""
    environ, progress = os.environ, TerminalProgress(sys.stderr)  # noqa: TID251  a build tool
    folder = cache_root(environ) / "programs" / f"{name}-{_key(name)}"
    tick = partial(progress.tick, f"Building {name}")
    with exclusive(folder, waiting=tick) as work:
        if not is_program(folder / name):
            go = find_go(environ, progress=progress)
            source = work / "source"
            shutil.copytree(_HERE / name, source)
            if name == "flux":
                _add_manifests(go, source, tick=tick)
            package = _PACKAGES[name]
            go_build(go, package, work / name, source=source, environ=environ, tick=tick)
            (work / name).rename(folder / name)
    return folder / name


def _key(name: str) -> str:
    """Names a build: a hash of what pins it, and the platform."""
    digest = hashlib.sha256()
    for file in ("go.mod", "go.sum"):
        digest.update((_HERE / name / file).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return f"{digest.hexdigest()[:16]}-{this_platform()}"


def _add_manifests(go: Path, source: Path, *, tick: Callable[[], None]) -> None:
    """Let flux be built without the manifests of its controllers, which its module lacks.

    They are made by its release and are for `flux install` alone.
    """
    environ = os.environ  # noqa: TID251  a build tool

    def run(name: str, *arguments: str | Path) -> str:
        log = source / f"{name}.log"
        run_to_end([go, *arguments], log=log, env=environ, tick=tick, cwd=source)
        return log.read_text()

    run("download", "mod", "download", _FLUX)
    module = Path(run("find", "list", "-m", "-f", "{{.Dir}}", _FLUX).strip())
    copy = source / "module"
    shutil.copytree(module, copy, copy_function=shutil.copyfile)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (copy / "cmd" / "flux" / "manifests").mkdir()
    (copy / "cmd" / "flux" / "manifests" / "none.yaml").touch()
    run("replace", "mod", "edit", f"-replace={_FLUX}=./module")
