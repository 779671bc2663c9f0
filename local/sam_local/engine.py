"""Docker's engine: the user's own, or one unpacked from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from local.aws.commands import inherited, run
from local.kubernetes.cache import exclusive
from local.process import ChildFailedError, spawn, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local.process import Child

_PACKAGE = "docker.io"
_SECONDS = 120
_DOWNLOAD_SECONDS = 300
_PULL_SECONDS = 300


class EngineUnavailableError(Exception):
    """There is no engine, and none can be had; the text tells a person what to do."""


@dataclass(frozen=True, slots=True)
class Docker:
    """The command-line client of an engine that runs."""

    environment: Mapping[str, str]

    def __call__(
        self,
        *arguments: str | Path,
        seconds: float = _SECONDS,
        check: bool = True,
        standard_input: IO[bytes] | None = None,
    ) -> str:
        """Run `docker ARGUMENTS`; returns what it printed."""
        done = subprocess.run(
            ["docker", *arguments],
            env=dict(self.environment),
            stdin=standard_input or subprocess.DEVNULL,
            check=check,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        return done.stdout.strip()

    def reachable(self) -> bool:
        """Whether an engine answers."""
        try:
            return bool(self("version", "--format", "{{.Server.Version}}", check=False, seconds=20))
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return False

    def images(self) -> set[str]:
        """Every image's name and tag."""
        return set(self("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines())

    def remove_containers(self, mounted: Path) -> None:
        """End and remove every container that mounts a folder."""
        found = self("ps", "--all", "--quiet", "--filter", f"volume={mounted}")
        for container in found.splitlines():
            self("rm", "--force", container, check=False)

    def pull(self, image: str) -> bool:
        """Whether the image could be had from its registry."""
        try:
            self("pull", "--quiet", image, seconds=_PULL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
        return True


def engine_programs(folder: Path, say: Callable[[str], None]) -> Path:
    """Where dockerd's packages are unpacked: below `folder`, or "/" where they are installed.

    Raises EngineUnavailableError, ChildFailedError and CacheBusyError.
    """
    if os.getuid() != 0:  # an engine mounts file systems and makes network interfaces
        raise EngineUnavailableError(
            "No docker answers, and only root can start one: start yours, or run this as root."
        )
    if shutil.which("dockerd"):
        return Path("/")
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise EngineUnavailableError("No docker answers: install Docker's engine, and start it.")
    unpacked = folder / _PACKAGE
    with exclusive(folder, waiting=lambda: None) as work:
        if not unpacked.is_dir():
            say("Getting Docker's engine from Debian's packages (65 MB), once.")
            _unpack(work / _PACKAGE)
            (work / _PACKAGE).rename(unpacked)
    return unpacked


def _unpack(folder: Path) -> None:
    archives, log = folder / "archives", folder / "apt.log"
    (archives / "partial").mkdir(parents=True)
    # Only what isn't installed on this machine is downloaded, and nothing is installed.
    get = [
        *("apt-get", "install", "--yes", "--no-install-recommends", "--download-only"),
        *("-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=true", _PACKAGE),
    ]

    def step(*argv: str | Path) -> None:
        run(str(argv[0]), argv, log=log, env=inherited(), seconds=_DOWNLOAD_SECONDS)

    try:
        step(*get)
    except ChildFailedError:
        # The machine's lists of packages may be empty, or too old.
        step("apt-get", "update")
        step(*get)
    for package in sorted(archives.glob("*.deb")):
        step("dpkg-deb", "--extract", package, folder)
    shutil.rmtree(archives)


def start_engine(programs: Path, folder: Path) -> tuple[Docker, Child]:
    """Start dockerd with everything that it writes below `folder`, and wait for it.

    In namespaces of its own (`namespaces.py`), since it makes network interfaces and mounts. Raises
    ChildFailedError.
    """
    address = f"unix://{folder / 'docker.sock'}"
    search = [str(programs / place) for place in ("usr/bin", "usr/sbin", "sbin")]
    environment = {**inherited(), "PATH": ":".join([*search, inherited()["PATH"]])}
    # For dockerd alone: libraries of its packages that the machine hasn't installed.
    libraries = [str(place) for place in (programs / "usr/lib").glob("*-linux-gnu")]
    child = spawn(
        "dockerd",
        [
            *("dockerd", "--host", address),
            *("--data-root", folder / "data", "--exec-root", folder / "exec"),
            *("--pidfile", folder / "dockerd.pid"),
            *("--cgroup-parent", f"/{folder.name}"),
            # A container needs nothing outside: no packet leaves these namespaces.
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"),
        ],
        log=folder / "dockerd.log",
        env={**environment, "LD_LIBRARY_PATH": ":".join(libraries)},
    )
    docker = Docker({**environment, "DOCKER_HOST": address})
    try:
        wait_until(docker.reachable, children=[child], what="Docker's engine")
    except BaseException:
        child.stop()
        raise
    return docker, child
