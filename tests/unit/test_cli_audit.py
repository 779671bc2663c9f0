"""`jobgate audit`: from the id that a person has to every line about that decision."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from moto import mock_aws

from tests.support.operators_stack import NOW, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ID = "0d6a3f0e-5b6c-4f0e-9d3c-1f2e3d4c5b6a"
OTHER = "11111111-2222-4333-8444-555555555555"
GROUPS = {
    "TokenExchangeLogName": "exchange-log",
    "RelayLogName": "relay-log",
    "ConfigRefreshLogName": "refresh-log",
    "AccessLogGroupName": "access-log",
}


@dataclass
class LoggedStack(OperatorsStack):
    """With lines in its log groups, which FilterLogEvents gives one a page."""

    lines: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation != "FilterLogEvents":
            return super().__call__(service, operation, request)
        word = request["filterPattern"].strip('"')
        matching = [
            {"timestamp": int(at * 1000), "message": text}
            for at, text in self.lines.get(request["logGroupName"], [])
            if at * 1000 >= request["startTime"] and word in text
        ]
        place = int(request.get("nextToken", "0"))
        page: dict[str, Any] = {"events": matching[place : place + 1]}
        if place + 1 < len(matching):
            page["nextToken"] = str(place + 1)
        return page

    def log(self, group: str, *, at: float = NOW, **line: object) -> dict[str, object]:
        self.lines.setdefault(group, []).append((at, json.dumps(line)))
        return line


@pytest.fixture
def stack() -> Iterator[LoggedStack]:
    with mock_aws():
        deployed = LoggedStack.deploy()
        deployed.outputs.update(GROUPS)
        yield deployed


def test_every_line_about_a_decision_is_found_the_oldest_first(stack: LoggedStack) -> None:
    asked = stack.log("relay-log", at=NOW - 1, type="request", decision_id=ID, status=403)
    stack.log("relay-log", at=NOW - 1, type="request", decision_id=OTHER)
    decided = stack.log("exchange-log", at=NOW - 5, type="exchange", decision_id=ID)
    again = stack.log("relay-log", at=NOW, type="request", decision_id=ID, status=200)
    gateway = stack.log("access-log", at=NOW - 3, request_id=ID, status="413")

    assert stack.json("audit", ID) == [decided, gateway, asked, again]


def test_a_line_that_only_mentions_the_id_is_not_its_record(stack: LoggedStack) -> None:
    stack.log("relay-log", type="request", decision_id=OTHER, name=ID)
    stack.lines["exchange-log"] = [(NOW, f"not JSON {ID}"), (NOW, json.dumps([ID]))]

    answer = stack.run("audit", ID)

    assert answer.code == 3
    assert "No record of the last 24 hours has this id" in answer.out


def test_what_is_older_is_found_by_looking_further_back(stack: LoggedStack) -> None:
    old = stack.log("exchange-log", at=NOW - 30 * 3600, type="exchange", decision_id=ID)

    assert stack.run("audit", ID).code == 3
    assert stack.json("audit", ID, "--hours", 48) == [old]


@pytest.mark.parametrize("text", ["", "short", 'a" ?b ?"c', "x" * 65, "id with spaces", "{$.a=1}"])
def test_what_is_no_id_asks_nobody(stack: LoggedStack, text: str) -> None:
    answer = stack.run("audit", text)

    assert answer.code == 2
    assert ("logs", "FilterLogEvents") not in stack.calls


def test_a_stack_without_access_logs_is_looked_through_all_the_same(stack: LoggedStack) -> None:
    del stack.outputs["AccessLogGroupName"]
    found = stack.log("exchange-log", type="exchange", decision_id=ID)

    assert stack.json("audit", ID) == [found]


def test_a_person_reads_the_values_with_control_characters_escaped(stack: LoggedStack) -> None:
    stack.log("relay-log", type="request", decision_id=ID, reason="stopped", ref="a\x1b[2Jb")

    answer = stack.run("audit", ID)

    assert answer.code == 0
    assert "stopped" in answer.out
    assert "\x1b" not in answer.out
