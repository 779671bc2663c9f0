"""Which function may do what with which item, judged by the evaluator of tests/support/iam.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import role_table
from tests.role_flows import FLOWS
from tests.support.iam import LEADING_KEYS, Request, Statement, allows

ROOT = Path(__file__).resolve().parents[2]
TABLE = "${Table.Arn}"
ACTIONS = {
    "g": "dynamodb:GetItem",
    "b": "dynamodb:BatchGetItem",
    "q": "dynamodb:Query",
    "c": "dynamodb:ConditionCheckItem",
    "p": "dynamodb:PutItem",
    "u": "dynamodb:UpdateItem",
    "d": "dynamodb:DeleteItem",
}
WRITES = "pud"
# An item of each kind, and what each function may do with it: the letters above, "-" is nothing.
EXPECTED = """
                             gitlab_webhook  config_refresh  reconcile  token_exchange  relay
AGENT#main#1000000001        -               gbpu            g          b               b
AGENT_IDS#main               -               -               -          -               -
CLUSTER#main#1000000001      -               g               g          -               b
CONFIG_PROJECTS              g               gqcu            q          q               q
EXCHANGES#main#7             -               -               -          u               -
GITLAB_TOKEN#main            -               -               gp         -               -
HOOKS#main                   p               -               -          -               -
HOOKS_MADE#main              -               -               qpd        -               -
ISSUERS                      -               q               q          q               q
JOB#main#7#8                 u               u               -          bu              bu
JTI#main#jti                 -               -               -          p               -
KEYS                         -               q               q          q               q
NAMESPACE#main#7             gu              gp              -          bp              bp
PROJECT#main#7               gu              gp              -          bp              bp
SETTINGS                     -               g               g          g               g
STOPS#main                   -               -               -          b               b
SUBJECT#main#project#7       -               bu              -          b               -
UNKNOWN#main                 -               -               -          -               -
"""
# As docs/architecture.md calls whoever writes.
WRITERS = {
    "gitlab_webhook": "gitlab_webhook",
    "config_refresh": "config_refresh",
    "reconcile": "reconcile",
    "exchange": "token_exchange",
    "relay": "relay",
}


def table() -> dict[tuple[str, str], str]:
    """The expected letters by item and function."""
    header, *rows = (line.split() for line in EXPECTED.strip().splitlines())
    return {
        (row[0], function): row[1 + place].strip("-")
        for row in rows
        for place, function in enumerate(header)
    }


@pytest.fixture(scope="module")
def roles() -> dict[str, tuple[Statement, ...]]:
    return dict(role_table.template_statements())


def request(action: str, *keys: str) -> Request:
    return Request(action, TABLE, {LEADING_KEYS: keys})


@pytest.mark.parametrize(("item", "function"), table())
def test_function_may_do_with_an_item_what_it_is_for_and_no_more(
    roles: dict[str, tuple[Statement, ...]], item: str, function: str
) -> None:
    may = {
        letter
        for letter, action in ACTIONS.items()
        if allows(roles[function], request(action, item))
    }

    assert may == set(table()[item, function])


@pytest.mark.parametrize("function", role_table.FUNCTIONS)
def test_no_function_may_scan_or_change_the_table(
    roles: dict[str, tuple[Statement, ...]], function: str
) -> None:
    actions = ("Scan", "UpdateTable", "DeleteTable", "BatchWriteItem", "PartiQLSelect")

    allowed = [a for a in actions if allows(roles[function], request(f"dynamodb:{a}"))]

    assert allowed == []


@pytest.mark.parametrize("function", role_table.FUNCTIONS)
def test_an_item_that_a_function_may_not_read_can_not_ride_along_in_a_batch(
    roles: dict[str, tuple[Statement, ...]], function: str
) -> None:
    for item, _ in table():
        if "b" not in table()[item, function]:
            batch = request(ACTIONS["b"], "AGENT#main#1000000001", item)
            assert not allows(roles[function], batch)


def test_the_security_page_proves_the_statements_of_the_template_and_no_others() -> None:
    page = role_table.PAGE.read_text()
    rows = list(role_table.read_rows(page))
    statements = role_table.template_statements()

    assert [(row.function, row.sid, row.action, row.on) for row in rows] == [
        (row.function, row.sid, row.action, row.on)
        for function in role_table.FUNCTIONS
        for statement in statements[function]
        for row in role_table.rows_of(function, statement)
    ]
    assert [row.sid for row in rows if not (row.fails and row.refused_by)] == []
    assert f"`{len(rows)} actions: none is spare, none is missing.`" in page


def test_each_flow_that_the_security_page_names_is_one() -> None:
    named = {row.fails for row in role_table.read_rows(role_table.PAGE.read_text())}

    assert named - {role_table.BY_LAMBDA} <= {flow.name for flow in FLOWS}


def test_who_writes_an_item_is_what_the_architecture_page_says() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` / [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    documented = {
        key.split("#<")[0]: {ours for theirs, ours in WRITERS.items() if theirs in who}
        for key, who in rows
    }
    kinds = {item.split("#")[0] for item, _ in table()} - {"UNKNOWN"}

    assert documented == {
        kind: {
            function
            for (item, function), letters in table().items()
            if item.split("#")[0] == kind and set(letters) & set(WRITES)
        }
        for kind in kinds
    }
