"""Mutates the decision and identity core, and fails where its tests leave too much alive.

    .venv-mutation/bin/python tests/mutation.py

Everything happens in a scratch copy that is removed. What survives and why it may is written in
`tests/mutation_survivors.md`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = ("authorization", "impersonation", "environment", "snapshot")
TESTS = (
    *(f"tests/unit/test_{module}.py" for module in MODULES),
    "tests/unit/test_snapshot_problems.py",
    "tests/unit/test_vectors.py",
    "tests/property/test_decisions.py",
    "tests/property/test_oracle.py",
)
# Too slow to run once a mutant; the small instances go the same ways.
LEFT_OUT = "hundreds_of_agents"
ENOUGH_PERCENT = 95
PROCESSES = 2
MAX_SECONDS = 900
# What mutmut notes of a mutant, by the exit code of its tests.
SURVIVED, UNTESTED, NOT_RUN = 0, 33, None

_CONFTEST = """\
from hypothesis import HealthCheck, settings

settings.register_profile(
    "mutation",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=50,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutation")
"""


def main() -> int:
    """Run mutmut and print what it found; 1 where too many survive or some weren't tried."""
    with tempfile.TemporaryDirectory(prefix="jobgate-mutation-") as name:
        scratch = Path(name)
        _copy_to(scratch)
        mutmut = str(Path(sys.executable).with_name("mutmut"))
        if (failed := _run(mutmut, scratch)) is not None:
            print(failed, file=sys.stderr)
        outcomes = _outcomes(scratch)
        alive = [mutant for mutant, code in outcomes.items() if code in (SURVIVED, UNTESTED)]
        for mutant in alive:
            shown = subprocess.run(
                [mutmut, "show", mutant], cwd=scratch, capture_output=True, text=True, check=False
            )
            print(shown.stdout.strip(), end="\n\n")
        return _verdict(outcomes, alive)


def _run(mutmut: str, scratch: Path) -> str | None:
    """Run it with an end; returns the end of what it said where it failed."""
    command = [mutmut, "run", "--max-children", str(PROCESSES)]
    log = scratch / "mutmut.log"
    with log.open("wb") as out:
        running = subprocess.Popen(
            command, cwd=scratch, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = running.wait(MAX_SECONDS)
        except subprocess.TimeoutExpired:
            code = 0  # what wasn't tried is told as such
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    return None if code == 0 else log.read_text(errors="replace")[-4000:]


def _copy_to(scratch: Path) -> None:
    """The package at the top, where mutmut looks for modules, and the tests without the stack's."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "shared/jobgate", scratch / "jobgate", ignore=ignored)
    for folder in ("support", "vectors"):
        shutil.copytree(ROOT / "tests" / folder, scratch / "tests" / folder, ignore=ignored)
    for test in TESTS:
        (scratch / test).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / test, scratch / test)
    (scratch / "tests/__init__.py").touch()
    (scratch / "tests/conftest.py").write_text(_CONFTEST)
    lines = {
        "source_paths": ["jobgate"],
        "only_mutate": [f"jobgate/core/{module}.py" for module in MODULES],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-k", f"not {LEFT_OUT}"],
        "pytest_add_cli_args_test_selection": ["tests"],
    }
    options = "".join(f"{key}=\n    " + "\n    ".join(v) + "\n" for key, v in lines.items())
    alone = "track_dependencies=false\nuse_git_change_detection=false\n"
    (scratch / "setup.cfg").write_text(f"[mutmut]\n{options}{alone}")


def _outcomes(scratch: Path) -> dict[str, int | None]:
    outcomes: dict[str, int | None] = {}
    for meta in sorted((scratch / "mutants/jobgate/core").glob("*.meta")):
        outcomes |= json.loads(meta.read_text())["exit_code_by_key"]
    return outcomes


def _verdict(outcomes: dict[str, int | None], alive: list[str]) -> int:
    not_run = [mutant for mutant, code in outcomes.items() if code is NOT_RUN]
    tried = len(outcomes) - len(not_run)
    killed = tried - len(alive)
    by_module = Counter(mutant.split(".")[2] for mutant in outcomes)
    alive_in = Counter(mutant.split(".")[2] for mutant in alive)
    for module, total in sorted(by_module.items()):
        print(f"{module:<15} {total - alive_in[module]:>4} of {total:>4} killed")
    percent = 100 * killed / max(tried, 1)
    print(f"{killed} of {tried} mutants killed ({percent:.1f} %), {len(not_run)} not tried")
    return int(percent < ENOUGH_PERCENT or bool(not_run))


if __name__ == "__main__":
    sys.exit(main())
