"""Finds the four programs that a local cluster is made of, or has them built.

Each program is looked for in `$KUBEBUILDER_ASSETS`, then in the cache, then built into the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.kubernetes.build import PACKAGES, build, cache_key
from local.kubernetes.cache import CacheBusyError, cache_root, is_program
from local.process import ChildFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.kubernetes.progress import Progress

NAMES = tuple(PACKAGES)


class BinariesUnavailableError(Exception):
    """A program can neither be found nor built; the text tells a person the ways out."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where each program is."""

    kube_apiserver: Path
    etcd: Path
    kube_controller_manager: Path
    fakelet: Path


@dataclass(frozen=True, slots=True)
class Search:
    """What a look into the folders gave: the programs found, those missing, what to tell."""

    found: Mapping[str, Path]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def binaries(environ: Mapping[str, str], *, progress: Progress) -> Binaries:
    """The four programs, built first if need be. Raises BinariesUnavailableError."""
    folder = cache_root(environ) / cache_key()
    assets = environ.get("KUBEBUILDER_ASSETS", "")
    result = search(assets=Path(assets) if assets else None, cached=folder)
    for note in result.notes:
        progress.say(note)
    if result.missing:
        try:
            build(result.missing, folder, environ=environ, progress=progress)
        except (ChildFailedError, CacheBusyError, OSError) as error:
            raise BinariesUnavailableError(_ways_out(result.missing, error)) from error
    return Binaries(*(result.found.get(name, folder / name) for name in NAMES))


def search(*, assets: Path | None, cached: Path) -> Search:
    """Look for each program in `assets` first, then in `cached`."""
    found: dict[str, Path] = {}
    notes: tuple[str, ...] = ()
    folders = [cached]
    if assets is not None:
        folders = [assets, cached]
        lacking = [name for name in NAMES if not is_program(assets / name)]
        if lacking:
            instead = "taken from the cache or built instead"
            notes = (f"KUBEBUILDER_ASSETS ({assets}) has no {_listed(lacking)}: {instead}.",)
    for name in NAMES:
        for folder in folders:
            if name not in found and is_program(folder / name):
                found[name] = folder / name
    return Search(found, tuple(name for name in NAMES if name not in found), notes)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _ways_out(missing: tuple[str, ...], cause: Exception) -> str:
    return (
        f"{_listed(missing)} could not be built: {cause}\n\n"
        "Two ways out:\n"
        f"  - set KUBEBUILDER_ASSETS to a folder that holds {_listed(NAMES)}\n"
        "    (a machine that can build them leaves them in ~/.cache/jobgate/kubernetes);\n"
        "  - use a cluster that you have already: make demo CLUSTER=KUBECONFIG_FILE"
    )
