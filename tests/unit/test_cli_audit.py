"""`jobgate audit`: from the id that a person has to every line about that decision."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.aws_api import AWSError
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
    patterns: list[str] = field(default_factory=list)
    refusals: Iterator[bool] = field(default_factory=lambda: iter(()))

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "FilterLogEvents" and next(self.refusals, False):
            raise AWSError("ThrottlingException")
        if operation != "FilterLogEvents":
            return super().__call__(service, operation, request)
        self.patterns.append(request["filterPattern"])
        # A pattern of fields lets everything through, so that the command has to look itself.
        word = "" if request["filterPattern"][0] == "{" else request["filterPattern"].strip('"')
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
    assert "No record of the last 24 hours" in answer.out


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


def a_record(stack: LoggedStack, group: str = "relay-log", *, at: float = NOW, **values: object):  # type: ignore[no-untyped-def]  # noqa: ANN201
    known = {"type": "request", "outcome": "refused", "decision_id": ID, "job_id": 1}
    return stack.log(group, at=at, **(known | values))


@pytest.mark.parametrize(
    ("option", "value", "field_name", "stored", "pattern"),
    [
        ("--job", "4711", "job_id", 4711, "$.job_id = 4711"),
        ("--project", "12", "project_id", 12, "$.project_id = 12"),
        ("--project", "acme/web", "project_path", "acme/web", '$.project_path = "acme/web"'),
        ("--agent", "1000000001", "agent_id", 1_000_000_001, "$.agent_id = 1000000001"),
        (
            "--agent",
            "acme/agents:prod",
            "agent",
            "acme/agents:prod",
            '$.agent = "acme/agents:prod"',
        ),
        ("--user", "dana", "user_login", "dana", '$.user_login = "dana"'),
        ("--outcome", "allowed", "outcome", "allowed", '$.outcome = "allowed"'),
        ("--reason", "job_finished", "reason", "job_finished", '$.reason = "job_finished"'),
        ("--type", "exchange", "type", "exchange", '$.type = "exchange"'),
    ],
)
def test_records_are_found_by_what_they_hold(
    stack: LoggedStack, option: str, value: str, field_name: str, stored: object, pattern: str
) -> None:
    a_record(stack, **{field_name: "another"})
    a_record(stack, **{field_name: None})
    wanted = a_record(stack, **{field_name: stored})

    assert stack.json("audit", option, value) == [wanted]
    assert set(stack.patterns) == {"{ $.decision_id = * && " + pattern + " }"}


def test_every_wish_must_hold(stack: LoggedStack) -> None:
    a_record(stack, job_id=1, outcome="allowed")
    a_record(stack, job_id=2, outcome="refused")
    wanted = a_record(stack, "exchange-log", job_id=2, outcome="allowed")

    assert stack.json("audit", "--job", 2, "--outcome", "allowed") == [wanted]


def test_lines_that_are_no_records_are_not_searched(stack: LoggedStack) -> None:
    stack.log("access-log", request_id=ID, outcome="refused")
    stack.lines["relay-log"] = [(NOW, "no JSON with refused in it"), (NOW, "[]")]

    assert stack.run("audit", "--outcome", "refused").code == 3


def test_the_newest_are_shown_and_that_there_are_more(stack: LoggedStack) -> None:
    made = [a_record(stack, at=NOW - 10 + n, job_id=n) for n in (3, 1, 2)]

    answer = stack.run("audit", "--limit", 2)

    assert [made[0], made[2]] == sorted(
        stack.json("audit", "--limit", 2), key=lambda r: -r["job_id"]
    )
    assert "newest 2" in answer.out


def test_a_decisions_id_stands_alone(stack: LoggedStack) -> None:
    for options in (("--job", 1), ("--follow",)):
        assert stack.run("audit", ID, *options).code == 2


def test_what_comes_is_followed_once_each_until_it_is_interrupted(stack: LoggedStack) -> None:
    a_record(stack, at=NOW - 60, job_id=1)
    a_record(stack, at=NOW - 1, job_id=2)
    rounds = iter(
        [
            lambda: a_record(stack, at=NOW + 1, job_id=3),
            lambda: a_record(stack, "exchange-log", at=NOW + 0.5, job_id=4),
            lambda: stack.log("relay-log", at=NOW + 5, note="no record"),
        ]
    )

    def meanwhile() -> None:
        step = next(rounds, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    stack.meanwhile = meanwhile

    answer = stack.run("audit", "--follow", "--json")

    assert answer.code == 0
    assert [json.loads(line)["job_id"] for line in answer.out.splitlines()] == [3, 4]


def test_a_record_cannot_rewrite_the_terminal_that_follows_it(stack: LoggedStack) -> None:
    a_record(stack, at=NOW + 1, project_path="acme/\x1b[2J")
    stack.meanwhile = lambda: (_ for _ in ()).throw(KeyboardInterrupt())

    assert "\x1b" not in stack.run("audit", "--follow").out


@pytest.mark.parametrize(("failures", "code"), [(4, 0), (5, 3)])
def test_following_outlives_a_few_failed_calls(
    stack: LoggedStack, failures: int, code: int
) -> None:
    a_record(stack, at=NOW + 1, job_id=3)
    stack.refusals = iter([True] * failures)
    rounds = iter([False] * 5)

    def meanwhile() -> None:
        if next(rounds, True):
            raise KeyboardInterrupt

    stack.meanwhile = meanwhile

    answer = stack.run("audit", "--follow", "--json")

    assert answer.code == code
    assert len(answer.out.splitlines()) == (1 if code == 0 else 0)
