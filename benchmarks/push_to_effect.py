"""How long a push takes until it counts: seconds from the push to the snapshot that decides.

    .venv/bin/python -m benchmarks.push_to_effect [--pushes N]

On the whole local stack: GitLab's stand-in tells of each push by its webhook, and from then on
everything is the deployed system. A push counts for every exchange once the agent's snapshot is of
its commit; a warm relay believes what it read before for RELAY_CACHE (3 s) more. GitLab documents
"one or two minutes" for its own agent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from jobgate.adapters import agent_items, items
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.cli.stack import read_stack
from jobgate.cli.table import Table

from local.installation import AGENTS, ALIAS, OPS, STAGING_FILE, Installation
from local.kubernetes.progress import TerminalProgress
from local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.aws.stack import AWS

_POLL_SECONDS = 0.02
_GIVEN_UP_SECONDS = 60.0
_GITLABS_OWN = "60 to 120"  # GitLab, "Using GitLab CI/CD with a Kubernetes cluster"


def _table(aws: AWS) -> Table:
    os.environ.update(aws.environment)  # noqa: TID251  a program of its own
    call = BotoAWS(boto3.Session())
    return Table(call, read_stack(call, aws.stack_name).table)


def _agent_id(table: Table) -> int:
    ids = table.get(items.agent_ids_key(ALIAS)) or {}
    return next(int(n["N"]) for name, n in ids["names"]["M"].items() if name.endswith("/staging"))


def _seconds(stack: Stack, table: Table, agent_id: int, number: int) -> float:
    """From a push to its effect; raises TimeoutError."""
    content = f"ci_access:\n  projects:\n    - id: {OPS}\n      environments: [e{number}]\n"
    head = stack.gitlab.control.commit(AGENTS, {STAGING_FILE: content})
    began = time.monotonic()
    while time.monotonic() - began < _GIVEN_UP_SECONDS:
        snapshot = agent_items.snapshot_of(table.get(items.snapshot_key(ALIAS, agent_id)))
        if snapshot is not None and snapshot.commit == head:
            return time.monotonic() - began
        time.sleep(_POLL_SECONDS)
    raise TimeoutError("a push has no effect")


def _print(taken: Sequence[float]) -> None:
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    print(f"{len(taken)} pushes, seconds to effect:")
    print(f"  p50 {cuts[49]:.2f}   p99 {cuts[98]:.2f}   max {max(taken):.2f}")
    print(f"  GitLab's own agent, as documented: {_GITLABS_OWN}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pushes", type=int, default=50)
    pushes = parser.parse_args().pushes
    with (
        tempfile.TemporaryDirectory(prefix="jobgate-") as folder,
        Stack.start(Path(folder) / "stack", progress=TerminalProgress(sys.stderr)) as stack,
    ):
        installation = Installation.create(stack, namespace="shop", tell=lambda *_: None)
        installation.grant()
        installation.configure()
        table = _table(stack.aws)
        agent_id = _agent_id(table)
        _print([_seconds(stack, table, agent_id, number) for number in range(pushes)])


if __name__ == "__main__":
    main()
