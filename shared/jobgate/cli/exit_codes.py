"""With which exit codes each command can end, as its help says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.cli.errors import FINDINGS, REFUSED, UNKNOWN, USAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer
    from typer.models import CommandInfo

DONE = 0
MEANINGS = {
    DONE: "done",
    FINDINGS: "findings",
    USAGE: "wrong use or input",
    UNKNOWN: "not reachable or unknown",
    REFUSED: "refused",
}
_WITH_FINDINGS = frozenset(
    {
        *("agent register", "doctor", "gitlab connect", "gitlab status"),
        *("lint", "queue redrive", "setup", "status"),
    }
)
_OFFLINE = frozenset({"decide", "lint"})


def codes(command: str) -> tuple[int, ...]:
    """Those of a command, which is named as it is typed after `jobgate`."""
    findings = (FINDINGS,) if command in _WITH_FINDINGS else ()
    outside = () if command in _OFFLINE else (UNKNOWN, REFUSED)
    return (DONE, *findings, USAGE, *outside)


def tell(app: typer.Typer) -> None:
    """Have the help of every command end with its exit codes."""
    for name, command in _commands(app, ()):
        meant = ", ".join(f"{code} {MEANINGS[code]}" for code in codes(name))
        command.epilog = f"Exit codes: {meant}."


def _commands(app: typer.Typer, before: tuple[str, ...]) -> Iterator[tuple[str, CommandInfo]]:
    for command in app.registered_commands:
        yield " ".join((*before, str(command.name))), command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, (*before, str(group.name)))
