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
            if request["startTime"] <= at * 1000 <= request.get("endTime", at * 1000)
            and word in text
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
    assert "No record since 2027-01-14T08:00:00+00:00 is like that" in answer.out


def test_what_is_older_is_found_by_looking_further_back(stack: LoggedStack) -> None:
    old = stack.log("exchange-log", at=NOW - 30 * 3600, type="exchange", decision_id=ID)

    assert stack.run("audit", ID).code == 3
    assert stack.json("audit", ID, "--since", "2d") == [old]


@pytest.mark.parametrize(
    ("span", "jobs"),
    [
        (("--since", "15m"), [2, 1]),
        (("--since", "900s"), [2, 1]),
        (("--since", "2h"), [3, 2, 1]),
        (("--since", "3d"), [4, 3, 2, 1]),
        (("--since", "999999d"), [4, 3, 2, 1]),
        (("--since", "3d", "--until", "15m"), [4, 3, 2]),
        (("--until", "2h"), [3]),
        (("--since", "2027-01-15T06:00Z", "--until", "2027-01-15T07:45:00Z"), [3, 2]),
        (("--since", "2027-01-15T07:59:59.5+01:00", "--until", "20270115T0744Z"), []),
        (("--since", "0001-01-01T00:00Z", "--until", "3d"), [4]),
    ],
)
def test_a_span_of_time_is_searched_its_ends_included(
    stack: LoggedStack, span: tuple[str, ...], jobs: list[int]
) -> None:
    ages = {1: 0, 2: 15 * 60, 3: 2 * 3600, 4: 3 * 86_400}
    for job, seconds in ages.items():
        a_record(stack, at=NOW - seconds, job_id=job)

    answer = stack.run("audit", *span, "--json")

    assert answer.code == (0 if jobs else 3)
    assert [record["job_id"] for record in answer.json] == jobs


DURATION = "is a duration like 2h, or 2030-01-31T12:00Z."


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *((t, DURATION) for t in ("", "yesterday", "2", "h", "-2h", "1.5h", "2h30m", "1w", "2 h")),
        *((t, DURATION) for t in ("2H", "\N{ARABIC-INDIC DIGIT TWO}h", "2030-02-30T12:00Z")),
        ("2027-01-15T06:00", "needs a zone, as in 2030-01-31T12:00Z."),
        ("2027-01-15", "needs a zone, as in 2030-01-31T12:00Z."),
        ("2027-01-15T08:00:01Z", "lies ahead."),
    ],
)
def test_what_is_no_time_gets_one_sentence(
    stack: LoggedStack, option: str, text: str, sentence: str
) -> None:
    answer = stack.run("audit", f"{option}={text}")

    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"jobgate: {option} {sentence}\n"


@pytest.mark.parametrize("until", ["1h", "2h", "2027-01-15T07:00Z"])
def test_a_span_that_ends_before_it_begins_is_refused(stack: LoggedStack, until: str) -> None:
    answer = stack.run("audit", "--since", "1h", "--until", until)

    assert (answer.code, answer.err) == (2, "jobgate: --since must be before --until.\n")
    assert ("logs", "FilterLogEvents") not in stack.calls


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


def test_what_was_stopped_by_whom_and_why_is_in_its_row(stack: LoggedStack) -> None:
    stop = {"kind": "project", "value": "7"}
    a_record(stack, type="revocation", stop=stop, by="arn:dana", why="a leak", job_id=None)

    assert "project 7 by arn:dana a leak" in " ".join(stack.run("audit").out.split())


def test_records_are_in_the_order_of_what_they_tell_of(stack: LoggedStack) -> None:
    for written, told, job in ((NOW - 5, "07:59:59", 2), (NOW - 1, "07:59:58", 1)):
        line = {"type": "request", "decision_id": ID, "at": f"2027-01-15T{told}Z", "job_id": job}
        stack.lines.setdefault("relay-log", []).append((written, json.dumps(line)))

    assert [record["job_id"] for record in stack.json("audit")] == [1, 2]


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


@pytest.mark.parametrize("until", ["5s", "2027-01-15T08:00:05Z"])
def test_following_ends_by_itself_with_what_came_until_then(stack: LoggedStack, until: str) -> None:
    for second in (1, 5, 6):
        a_record(stack, at=NOW + second, job_id=second)

    answer = stack.run("audit", "--follow", "--until", until, "--json")

    assert answer.code == 0
    assert [json.loads(line)["job_id"] for line in answer.out.splitlines()] == [1, 5]
    assert stack.now == NOW + 5


@pytest.mark.parametrize("until", ["0s", "2027-01-15T08:00:00Z"])
def test_following_until_a_time_that_is_over_is_refused(stack: LoggedStack, until: str) -> None:
    answer = stack.run("audit", "--follow", "--until", until)

    assert (answer.code, answer.err) == (2, "jobgate: --until is over already.\n")


def test_following_may_begin_in_the_past(stack: LoggedStack) -> None:
    for seconds in (7200, 3600, -1):
        a_record(stack, at=NOW - seconds, job_id=seconds)

    answer = stack.run("audit", "--follow", "--since", "1h", "--until", "5s", "--json")

    assert [json.loads(line)["job_id"] for line in answer.out.splitlines()] == [3600, -1]


def test_what_was_written_while_calls_failed_is_shown_once_they_work(stack: LoggedStack) -> None:
    rounds = iter(range(200))

    def meanwhile() -> None:
        stack.now += 20  # so that it's older than what is looked for anew
        if next(rounds) == 0:
            a_record(stack, at=stack.now, job_id=3)

    stack.meanwhile = meanwhile
    stack.refusals = iter([False] * 2 + [True] * 4)

    answer = stack.run("audit", "--follow", "--until", "10m", "--json")

    assert [json.loads(line)["job_id"] for line in answer.out.splitlines()] == [3]


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
