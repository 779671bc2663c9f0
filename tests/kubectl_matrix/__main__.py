"""`make kubectl-matrix`: every command directly and through the relay, with each kubectl and helm.

    .venv/bin/python -m tests.kubectl_matrix [--versions v36,v37] [--topics logs,watch]

Starts the whole local stack, prints a Markdown table, and ends with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from local.installation import Installation
from local.kubernetes.clients import Clients, clients
from local.kubernetes.progress import TerminalProgress
from local.stack import EXPECTED_ERRORS, Stack
from tests.kubectl_matrix.compare import Compared, compare, programs, table
from tests.kubectl_matrix.sides import Kubeconfigs, made_sides
from tests.kubectl_matrix.steps import STEPS

_VERSIONS = ("v34", "v35", "v36", "v37")


def main(arguments: list[str]) -> int:
    """Run the matrix; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make kubectl-matrix", description=__doc__)
    parser.add_argument("--versions", default=",".join(_VERSIONS))
    parser.add_argument("--topics", default="", help="by default all")
    parser.add_argument("--folder", type=Path, help="where the stack's files and logs stay")
    options = parser.parse_args(arguments)
    topics = {name for name in options.topics.split(",") if name}
    if unknown := topics - {step.topic for step in STEPS}:
        parser.error(f"no such topic: {', '.join(sorted(unknown))}")
    steps = [step for step in STEPS if not topics or step.topic in topics]
    progress = TerminalProgress(sys.stderr)
    environ = os.environ  # noqa: TID251  the user's cache folder and PATH
    found: dict[str, Clients] = {}
    results: dict[str, list[Compared]] = {}
    try:
        for version in options.versions.split(","):
            found[version] = clients(version, environ=environ, progress=progress)
        with (
            tempfile.TemporaryDirectory(prefix="kubectl-matrix-") as folder,
            Stack.start(options.folder or Path(folder) / "stack", progress=progress) as stack,
        ):
            installation = Installation.create(stack, namespace="shop", tell=lambda *_: None)
            installation.grant()
            installation.configure()
            kubeconfigs = Kubeconfigs.of(stack)
            for version, programs_of in found.items():
                with made_sides(stack, kubeconfigs, programs_of, version) as sides:
                    results[version] = compare(sides, steps, say=progress.say)
    except EXPECTED_ERRORS as error:
        print(error, file=sys.stderr)
        return 1
    print(table(steps, results, {version: programs(each) for version, each in found.items()}))
    different = [one for each in results.values() for one in each if not one.is_as_expected]
    for one in different:
        print(f"\n{one.difference()}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
