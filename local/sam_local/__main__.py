"""`make sam-local`: finds or starts an engine, then runs the tests of tests/sam_local with it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from local.aws.build import build
from local.aws.target import target_of
from local.gateway.runtime_folder import prepare_runtime
from local.kubernetes.cache import cache_root
from local.process import ChildFailedError
from local.sam_local.engine import (
    Docker,
    EngineUnavailableError,
    engine_programs,
    start_engine,
)
from local.sam_local.namespaces import raise_loopback, remove_control_groups, run_inside, supervise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT = Path(__file__).parents[2]
_INSIDE = "--inside"


def main(arguments: Sequence[str]) -> int:
    """Run the stage; returns the exit code. `arguments` are pytest's."""
    environ = os.environ  # noqa: TID251  DOCKER_HOST, PATH and the cache's folder
    if arguments and arguments[0] == _INSIDE:
        unpacked, folder, *rest = arguments[1:]
        return _with_own_engine(Path(unpacked), Path(folder), rest)
    if Docker(environ).reachable():
        _say("Using the docker that runs.")
        return supervise(_pytest(arguments), environ)
    try:
        cache = cache_root(environ)
        programs = engine_programs(cache / "docker", _say)
        _prepare(cache)
        return _in_namespaces(programs, arguments, environ)
    except (ChildFailedError, EngineUnavailableError) as error:
        print(error, file=sys.stderr)
        return 1


def _prepare(cache: Path) -> None:
    """Everything that asks a registry: the namespaces' network has no way out."""
    target = target_of(_ROOT / ".venv-ministack/bin/python")
    build(target, _ROOT / ".local/sam-local/sam-build.log", say=_say).release()
    prepare_runtime(cache / "runtimes", target.interpreter)


def _in_namespaces(programs: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    folder = tempfile.mkdtemp(prefix="jobgate-sam-local-")
    itself = [sys.executable, "-m", "local.sam_local"]
    try:
        return run_inside([*itself, _INSIDE, str(programs), folder, *arguments], environ)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        remove_control_groups(Path(folder).name)


def _with_own_engine(programs: Path, folder: Path, arguments: Sequence[str]) -> int:
    raise_loopback()
    docker, child = start_engine(programs, folder)
    try:
        return supervise(_pytest(arguments), docker.environment)
    finally:
        child.stop()


def _pytest(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", "-m", "sam_local", "tests/sam_local", *arguments]


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
