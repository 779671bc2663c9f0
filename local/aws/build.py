"""`sam build`, skipped where the same inputs were built before.

Builds are kept under `.aws-sam/builds`, each in a folder named by a digest of everything that goes
in. A build in use is locked, so that making room for new ones never takes it from under a running
stack.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from local.aws.commands import inherited, run
from local.process import ChildFailedError, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.aws.target import Target

REPOSITORY = Path(__file__).resolve().parents[2]

# The lock of the SAM CLI counts too: it decides how the artifacts come about.
_INPUTS = ("template.yaml", "samconfig.toml", "functions", "shared", "requirements/sam.txt")
# shared/Makefile leaves these out of the layer.
_NOT_SHIPPED = (Path("shared/jobgate/cli"),)
_KEPT_BUILDS = 3
_ATTEMPTS = 3
_BUILD_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Build:
    """What `sam build` made: `folder` holds template.yaml and one folder a function and layer."""

    folder: Path
    target: Target
    _in_use: IO[bytes]

    @property
    def layer(self) -> Path:
        """The folder that becomes /opt."""
        return self.folder / "SharedLayer"

    def release(self) -> None:
        """Let the build be removed once newer ones crowd it out."""
        self._in_use.close()


def build(
    target: Target,
    log: Path,
    *,
    repository: Path = REPOSITORY,
    say: Callable[[str], None] = print,
) -> Build:
    """Build the functions and the layer for `target`, or find them built.

    `sam build` writes to `log`. Raises local.process.ChildFailedError with its last lines.
    """
    builds = repository / ".aws-sam" / "builds"
    builds.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(builds / "lock"):
        folder = _current_build(builds, target, log, repository=repository, say=say)
        folder.touch()
        in_use = _in_use_file(folder).open("ab")
        fcntl.flock(in_use, fcntl.LOCK_SH)
        _remove_old(builds)
    return Build(folder, target, in_use)


def _current_build(
    builds: Path, target: Target, log: Path, *, repository: Path, say: Callable[[str], None]
) -> Path:
    for _ in range(_ATTEMPTS):
        digest = _digest(repository, target)
        folder = builds / digest
        if folder.is_dir():
            say("The functions are built already.")
            return folder
        say(f"Building the functions for Python {target.version} on {target.architecture}.")
        unfinished = builds / f"{digest}.unfinished"
        _sam_build(unfinished, target, log, repository=repository)
        # An edit in the middle would leave a build under a name that isn't its own.
        if _digest(repository, target) == digest:
            return unfinished.rename(folder)
        shutil.rmtree(unfinished)
    raise ChildFailedError(f"The sources changed during each of {_ATTEMPTS} builds.")


def _sam_build(folder: Path, target: Target, log: Path, *, repository: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    run(
        "sam build",
        [
            repository / ".venv-sam/bin/sam",
            "build",
            "--template-file",
            repository / "template.yaml",
            "--build-dir",
            folder,
            "--parameter-overrides",
            f"PythonRuntime={target.runtime} Architecture={target.architecture}",
        ],
        log=log,
        env={
            **inherited(),
            "AWS_DEFAULT_REGION": "eu-central-1",
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(log.parent / "sam"),
            "JOBGATE_TARGET_PYTHON": target.version,
            "JOBGATE_TARGET_PLATFORM": target.wheel_platforms,
            "JOBGATE_TARGET_INTERPRETER": str(target.interpreter),
            "JOBGATE_PIP": f"{repository / '.venv/bin/python'} -m pip",
        },
        seconds=_BUILD_SECONDS,
    )


def _digest(repository: Path, target: Target) -> str:
    """Names every input: path, mode and content of each file, and the target."""
    digest = hashlib.sha256(f"{target.platform}\0{target.build}\0".encode())
    for path in _input_files(repository):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        executable = bool(path.stat().st_mode & 0o100)
        digest.update(f"{path.relative_to(repository)}\0{executable}\0{content}\0".encode())
    return digest.hexdigest()[:16]


def _input_files(repository: Path) -> Iterator[Path]:
    for name in _INPUTS:
        entry = repository / name
        for path in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            relative = path.relative_to(repository)
            skipped = "__pycache__" in relative.parts or any(
                relative.is_relative_to(folder) for folder in _NOT_SHIPPED
            )
            if path.is_file() and not skipped:
                yield path


def _remove_old(builds: Path) -> None:
    # Whoever gets here holds the lock, so an unfinished build was given up.
    for unfinished in builds.glob("*.unfinished"):
        shutil.rmtree(unfinished, ignore_errors=True)
    folders = sorted(
        (entry for entry in builds.iterdir() if entry.is_dir()),
        key=lambda entry: entry.stat().st_mtime,
        reverse=True,
    )
    for folder in folders[_KEPT_BUILDS:]:
        with _in_use_file(folder).open("ab") as in_use:
            try:
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            _in_use_file(folder).unlink(missing_ok=True)


def _in_use_file(folder: Path) -> Path:
    return folder.with_suffix(".in-use")


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    with lock.open("ab") as file:

        def taken() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        wait_until(taken, children=(), what="Another build in this clone", seconds=_BUILD_SECONDS)
        yield
