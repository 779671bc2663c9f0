"""How many seconds pass until access is refused: after a job's end, and after an operator's word.

    .venv/bin/python -m benchmarks.revocation [--rounds N]

On the whole local stack, with the template's own bounds but for `ProbeFloorSeconds` where no hook
is sent: 5 s instead of 60, so that a round doesn't take a minute; the rest of that figure is what
comes on top of the floor. kubectl asks again and again, so each figure holds one call of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from local.installation import WEB, Installation
from local.job import JobShell
from local.kubernetes.progress import TerminalProgress
from local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.job import Result

_FLOOR = 5
_USE = "kubectl get pods"


def main() -> None:
    """Measure and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    parameters = {"ProbeFloorSeconds": str(_FLOOR)}
    with tempfile.TemporaryDirectory() as folder:
        progress = TerminalProgress(sys.stderr)
        with Stack.start(Path(folder), progress=progress, parameters=parameters) as stack:
            made = Installation.create(stack, namespace="shop", tell=lambda _c, _o: None)
            made.grant()
            made.configure()
            _report("job end to refusal, by the Job Hook", rounds, lambda: _by_end(made))
            _report("`jobgate revoke` to refusal", rounds, lambda: _by_revoke(made))
            for hook in stack.gitlab.control.hooks():
                stack.gitlab.control.delete_hook(hook["id"])
            name = f"job end to refusal, by asking alone (floor {_FLOOR} s)"
            _report(name, rounds, lambda: _by_end(made))


def _by_end(made: Installation) -> float:
    job = _started(made)
    made.stack.gitlab.control.finish_job(job.job)
    return job.until(_USE, _refused("job_finished"), seconds=120)[1]


def _by_revoke(made: Installation) -> float:
    job = _started(made)
    made.jobgate("revoke", "job", str(job.job.id), "--why", "benchmark")
    seconds = job.until(_USE, _refused("stopped"), seconds=120)[1]
    made.jobgate("restore", "job", str(job.job.id))
    made.stack.gitlab.control.finish_job(job.job)
    return seconds


def _started(made: Installation) -> JobShell:
    job = JobShell.start(made.stack, WEB)
    fetched = job.fetch()
    if fetched.code:
        raise RuntimeError(fetched.output)
    job.run(f"kubectl config set-context --current --namespace={made.namespace}")
    job.until(_USE, lambda result: result.code == 0)
    return job


def _refused(reason: str) -> Callable[[Result], bool]:
    return lambda result: result.code != 0 and f"reason {reason}" in result.output


def _report(name: str, rounds: int, measure: Callable[[], float]) -> None:
    taken = sorted(measure() for _ in range(rounds))
    print(
        f"  {name:<52} median {statistics.median(taken):5.1f} s   "
        f"{taken[0]:.1f} to {taken[-1]:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
