"""One command of the matrix: a line of bash.

Every side has a namespace of its own, `$SPACE`, which is the kubeconfig's default, and a folder of
manifests in which `SPACE` stands for it. `$LOGS` is where the cluster reads its pods' logs from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command that must come to the same directly and through the relay.

    `unordered`: the order of its lines means nothing. `eventual`: it reads what controllers are
    still changing, so it is asked again until both sides agree. `shown` is what the table shows of
    a long command. `known` says what the relay does otherwise, and rightly; what it then prints
    must match `relay_prints`.
    """

    command: str
    topic: str = ""
    unordered: bool = False
    eventual: bool = False
    who: str = "job"
    shown: str = ""
    known: str = ""
    relay_prints: str = ""

    @property
    def title(self) -> str:
        """The command as the table shows it."""
        return self.shown or self.command


def topic(name: str, *commands: str | Step) -> list[Step]:
    """Commands about one thing; a line alone is one without any of a step's marks."""
    return [
        Step(topic=name, command=each) if isinstance(each, str) else replace(each, topic=name)
        for each in commands
    ]


def eventual(command: str, *, shown: str = "") -> Step:
    """A read of what controllers still change."""
    return Step(command=command, eventual=True, unordered=True, shown=shown)


def unordered(command: str) -> Step:
    """A read whose lines come in any order."""
    return Step(command=command, unordered=True)


def as_auditor(command: str) -> Step:
    """By a job that may only look."""
    return Step(command=command, who="auditor")


def shown_as(shown: str, command: str) -> Step:
    """A long command."""
    return Step(command=command, shown=shown)


def refused(command: str, reason: str) -> Step:
    """What the relay refuses by design."""
    return Step(
        command=command,
        known=f"refused, reason `{reason}`",
        relay_prints=rf"Jobgate: .*\(reason {reason}, decision [0-9a-zUID-]+\)",
    )
