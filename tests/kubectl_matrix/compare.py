"""Runs the matrix's commands on both sides, and shows what came of it."""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local.kubernetes.clients import Clients
    from tests.kubectl_matrix.sides import Ran, Sides
    from tests.kubectl_matrix.step import Step

_EVENTUAL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Compared:
    """What a command came to on both sides."""

    step: Step
    space: str
    direct: Ran
    relay: Ran

    @property
    def is_as_expected(self) -> bool:
        """The same, or different in the way that is known."""
        if not self.step.known:
            return self.direct == self.relay
        printed = self.relay.out + self.relay.err
        return self.direct != self.relay and bool(re.search(self.step.relay_prints, printed))

    @property
    def cell(self) -> str:
        """For the table: the exit code where both are the same."""
        if self.step.known and self.is_as_expected:
            return f"otherwise, {self.relay.code}"
        return f"same, {self.direct.code}" if self.direct == self.relay else "**differs**"

    def difference(self) -> str:
        """What differs, for a person."""
        lines = [f"{self.space}: {self.step.command}"]
        for name in ("code", "out", "err"):
            lines += difflib.unified_diff(
                str(getattr(self.direct, name)).splitlines(),
                str(getattr(self.relay, name)).splitlines(),
                f"{name}, directly",
                f"{name}, through the relay",
                lineterm="",
                n=1,
            )
        return "\n".join(lines)


def compare(sides: Sides, steps: Sequence[Step], *, say: Callable[[str], None]) -> list[Compared]:
    """Run every command on both sides, in order."""
    results = []
    for step in steps:
        until = time.monotonic() + _EVENTUAL_SECONDS
        while True:
            one = Compared(step, sides.relay.space, *sides.run(step))
            if one.direct == one.relay or not step.eventual or time.monotonic() > until:
                break
        say(f"{sides.relay.space}  {one.cell:12} {step.title}")
        results.append(one)
    return results


def programs(clients: Clients) -> str:
    """The versions of kubectl and helm."""
    told = subprocess.run(
        [clients.kubectl, "version", "--client", "--output=json"],
        check=True,
        capture_output=True,
    )
    kubectl = json.loads(told.stdout)["clientVersion"]["gitVersion"]
    helm = subprocess.run(
        [clients.helm, "version", "--template={{.Version}}"], check=True, capture_output=True
    )
    return f"kubectl {kubectl.removeprefix('v')}, helm {helm.stdout.decode().removeprefix('v')}"


def table(
    steps: Sequence[Step], results: Mapping[str, Sequence[Compared]], heads: Mapping[str, str]
) -> str:
    """A Markdown table: a line a command, a column a version with its exit code, and the sums."""
    versions = list(results)
    lines = [
        "| topic | command | " + " | ".join(heads[version] for version in versions) + " |",
        "|---|---|" + "---|" * len(versions),
    ]
    for number, step in enumerate(steps):
        cells = [results[version][number].cell for version in versions]
        command = step.title.replace("|", "\\|")
        lines.append(f"| {step.topic} | `{command}` | " + " | ".join(cells) + " |")
    sums = []
    for version in versions:
        same = sum(one.direct == one.relay for one in results[version])
        sums.append(f"{same} of {len(steps)} the same")
    lines.append("| | | " + " | ".join(sums) + " |")
    known = [f"- `{step.title}`: {step.known}" for step in steps if step.known]
    return "\n".join([*lines, "", "Otherwise through the relay, by design:", "", *known])
