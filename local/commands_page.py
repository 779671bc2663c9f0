"""`make commands`: docs/commands.md, from what the operators' command says of itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from jobgate.cli.app import app
from jobgate.cli.exit_codes import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"

_BEGIN = """\
# Commands

Every command, argument and option of `jobgate`, as `--help` says it; `make commands` writes this
page. When to use which: [install](install.md), [connect GitLab](connect-gitlab.md),
[connect a cluster](connect-a-cluster.md), [operations](operations.md),
[check a configuration](decide.md).

Those that work on a deployment take its name from `--stack` or `JOBGATE_STACK`, and AWS's
credentials and region from where AWS's own command line has them. For people they print tables,
with `--json` one JSON document for scripts; sentences about errors go to standard error. No secret
is an argument: tokens come from files or from the environment, and none is printed.

| exit code | meaning |
|---|---|
"""
_END = """
Of the whole command: `--version`, `--help`, and `--install-completion` and `--show-completion` for
the shell that it is run in ([install](install.md#shell-completion)).
"""


def commands(command: Any, *words: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by what is typed after `jobgate`, in order."""
    if not hasattr(command, "commands"):
        yield " ".join(words), command
        return
    for name, found in sorted(command.commands.items()):
        yield from commands(found, *words, name)


def page() -> str:
    """The page's text."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in MEANINGS.items())
    sections = (_section(*each) for each in commands(typer.main.get_command(app)))
    return "\n".join([_BEGIN + codes + _END, *sections])


def _section(name: str, command: Any) -> str:
    # The help's lines end where the source's do; only its paragraphs count.
    paragraphs = [" ".join(part.split()) for part in command.help.split("\n\n")]
    context = typer.Context(command, info_name=name)
    rows = [_row(*found) for each in command.params if (found := each.get_help_record(context))]
    lines = [f"## {name}", "", *paragraphs, command.epilog, "", "| | |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _row(name: str, text: str) -> str:
    return f"| `{_cell(name)}` | {_cell(text)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}\n")
