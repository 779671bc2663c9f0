"""Builds the cluster's programs from the Go modules that go.mod and go.sum pin."""

from __future__ import annotations

import hashlib
import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from local.kubernetes.cache import exclusive, is_program, this_platform
from local.kubernetes.go import find_go
from local.kubernetes.run import run_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local.kubernetes.progress import Progress

_SOURCE = Path(__file__).parent
PACKAGES: Mapping[str, str] = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "fakelet": "./fakelet",
}
# No debugging information: a third of the time, and half of the size.
_FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false")
_VERSION_PACKAGE = "k8s.io/component-base/version"


def cache_key(source: Path = _SOURCE) -> str:
    """Names a build: a hash of everything that goes into it, and the platform."""
    digest = hashlib.sha256()
    go_files = sorted((source / "fakelet").glob("*.go"))
    for path in (source / "go.mod", source / "go.sum", *go_files):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    digest.update(" ".join(_FLAGS + _ldflags(source)).encode())
    return f"{digest.hexdigest()[:16]}-{this_platform()}"


def build(
    names: Sequence[str], folder: Path, *, environ: Mapping[str, str], progress: Progress
) -> None:
    """Put each of the named programs that isn't there yet into `folder`.

    Two builds at once take turns, and the second finds the first one's work. Raises
    ChildFailedError if the build fails, OSError if the folder can't be written.
    """

    def waiting() -> None:
        progress.tick("Waiting for another build of the Kubernetes binaries")

    with exclusive(folder, waiting=waiting) as work:
        wanted = [name for name in names if not is_program(folder / name)]
        if not wanted:
            return
        go = find_go(environ, progress=progress)
        progress.say(
            f"Building {', '.join(wanted)} from their Go modules. The first build takes four to "
            f"six minutes and fills Go's own caches with about 3 GB; the programs are then kept "
            f"in {folder}."
        )
        for number, name in enumerate(wanted, start=1):
            what = f"Building {name} ({number} of {len(wanted)})"
            started = time.monotonic()
            go_build(
                go,
                PACKAGES[name],
                work / name,
                "-ldflags",
                " ".join(_ldflags(_SOURCE)),
                source=_SOURCE,
                environ=environ,
                tick=partial(progress.tick, what),
            )
            (work / name).rename(folder / name)
            progress.say(f"Built {name} in {time.monotonic() - started:.0f} s.")


def go_build(
    go: Path,
    package: str,
    target: Path,
    *options: str,
    source: Path,
    environ: Mapping[str, str],
    tick: Callable[[], None],
) -> None:
    """Build a `package` that go.mod in `source` pins into `target`, with a log beside it.

    Raises ChildFailedError.
    """
    run_to_end(
        [go, "build", *_FLAGS, *options, "-o", target, package],
        log=target.with_name(f"build-{target.name}.log"),
        # A build tool of the user's: their proxies, module proxy and caches count.
        env={
            **environ,
            "CGO_ENABLED": "0",
            "GOFLAGS": "-buildvcs=false",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        },
        cwd=source,
        tick=tick,
    )


def _ldflags(source: Path) -> tuple[str, ...]:
    """Linker flags that give the programs the version that a release of theirs would report."""
    pinned = re.search(
        r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)",
        (source / "go.mod").read_text(),
        re.MULTILINE,
    )
    if pinned is None:
        raise ValueError(f"{source / 'go.mod'} requires no k8s.io/kubernetes.")
    values = {
        "gitVersion": pinned[1],
        "gitMajor": pinned[2],
        "gitMinor": pinned[3],
        "gitTreeState": "clean",
        "gitCommit": "unknown",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    stamps = [f"-X {_VERSION_PACKAGE}.{key}={value}" for key, value in values.items()]
    return ("-s", "-w", *stamps)
