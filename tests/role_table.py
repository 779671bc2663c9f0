"""docs/security.md's table of statements: what `make roles` writes and a test compares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.cloudformation import resources
from local.sam_template import translate
from tests.support.iam import statements_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.iam import Statement

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/security.md"
FUNCTIONS = ("gitlab_webhook", "config_refresh", "reconcile", "token_exchange", "relay")
BY_LAMBDA = "what Lambda itself does"
_BEGIN, _END = "<!-- statements: written by make roles -->\n", "<!-- end of statements -->\n"
_HEAD = (
    "| role | statement | action | on | without it fails | refused by |\n"
    "|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A statement's action, what fails without it, and who refuses then."""

    function: str
    sid: str
    action: str
    on: str
    fails: str = ""
    refused_by: str = ""


def role_of(function: str) -> str:
    """`TokenExchangeRole` for `token_exchange`."""
    return "".join(word.capitalize() for word in function.split("_")) + "Role"


def template_statements() -> Mapping[str, tuple[Statement, ...]]:
    """Each function's statements, as the template's defaults deploy them."""
    deployed = resources(translate(ROOT / "template.yaml", {}))
    return {function: statements_of(deployed, role_of(function)) for function in FUNCTIONS}


def rows_of(function: str, statement: Statement) -> Iterator[Row]:
    """The table's rows: with the items' keys where there are some, else with the resources."""
    keys = [value for _, _, values in statement.conditions for value in values]
    short = [re.sub(r"^arn:.*:(secret:)?", "", resource) for resource in statement.resources]
    on = ", ".join(f"`{value}`" for value in (keys or short))
    for action in statement.actions:
        yield Row(function, statement.sid, action, on)


def read_rows(page: str) -> Iterator[Row]:
    """The rows of a page."""
    table = page.partition(_BEGIN)[2].partition(_END)[0]
    for line in table.splitlines()[2:]:
        yield Row(*(cell.strip() for cell in line.strip("|").split("|")))


def with_rows(page: str, rows: Iterable[Row]) -> str:
    """The page with these rows for the old ones."""
    before, _, rest = page.partition(_BEGIN)
    lines = (
        f"| {r.function} | {r.sid} | {r.action} | {r.on} | {r.fails} | {r.refused_by} |\n"
        for r in rows
    )
    return before + _BEGIN + _HEAD + "".join(lines) + _END + rest.partition(_END)[2]
