"""`jobgate revoke` and `jobgate restore`, and what decisions make of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import items, operator_items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.decision_store import DecisionStore
from jobgate.cli import agent_ids
from jobgate.cli.registry import Registry
from jobgate.core.errors import Unavailable
from jobgate.core.liveness import Stop, StopKind, stop_refusal
from jobgate.core.reasons import Reason
from jobgate.core.stops import STOPS_MAX
from moto import mock_aws

from tests.support import builders as b
from tests.support.operators_stack import NOW, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WHO = "arn:aws:sts::123456789012:user/moto"
ALIASES = ("main", "other")


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    """A stack with two GitLab instances."""
    with mock_aws():
        stack = OperatorsStack.deploy()
        registry = Registry(stack.table)
        for alias in ALIASES:
            add_issuer(registry, alias)
        yield stack


def add_issuer(registry: Registry, alias: str) -> None:
    url = f"https://{alias}.example.test"
    issuer = b.an_issuer(alias, url=url, is_default=alias == "main")
    registry.prepare_issuer(issuer, now=NOW)
    registry.save_issuer(issuer)


def refusal(stack: OperatorsStack, *, agent_id: int | None = b.PROD, **job: Any) -> Reason | None:
    """What a decision about the default job makes of the stops now."""
    asked = b.a_job(**job)
    store = DecisionStore(stack.real, "table", clock=lambda: stack.now)
    facts = store.exchange_facts(asked)
    return stop_refusal(asked, agent_id=agent_id, stops=facts.stops, now=stack.now)


WHAT: dict[str, tuple[list[str], dict[str, Any]]] = {
    "job": (["job", "9001"], {"job_id": 9002}),
    "pipeline": (["pipeline", "7001"], {"pipeline_id": 7002}),
    "project": (["project", str(b.APP)], {"project_id": 101}),
    "user": (["user", "12"], {"user_id": 13}),
    "runner": (["runner", "33"], {"runner_id": None}),
    "agent": (["agent", str(b.PROD)], {"agent_id": b.STAGING}),
    "issuer": (["issuer", "main"], {"issuer": "other"}),
}


@pytest.mark.parametrize("kind", WHAT)
def test_what_is_revoked_is_refused_until_it_is_restored(stack: OperatorsStack, kind: str) -> None:
    what, another = WHAT[kind]
    _register_agent(stack)

    stopped = stack.json("revoke", *what, "--why", "incident 7")
    assert refusal(stack) is Reason.STOPPED
    assert refusal(stack, **another) is None
    stack.json("restore", *what)

    assert refusal(stack) is None
    value = "*" if kind == "issuer" else what[1]
    assert stopped == [
        {
            "issuer": "main",
            "kind": kind,
            "value": value,
            "since": "2027-01-15T08:00:00+00:00",
            "until": None,
            "by": WHO,
            "why": "incident 7",
        }
    ]


def test_everything_is_stopped_at_every_issuer(stack: OperatorsStack) -> None:
    stack.json("revoke", "all", "--why", "incident 7")

    assert [refusal(stack, issuer=alias) for alias in ALIASES] == [Reason.STOPPED] * 2
    stack.json("restore", "all")
    assert [refusal(stack, issuer=alias) for alias in ALIASES] == [None] * 2


def test_an_issuer_that_is_added_while_everything_is_stopped_is_stopped(
    stack: OperatorsStack,
) -> None:
    stack.json("revoke", "all", "--why", "incident 7")
    registry = Registry(stack.table)
    registry.remove_issuer("other")
    stack.json("restore", "all")
    stack.json("revoke", "all", "--why", "incident 8")

    for alias in ("third", "other"):
        add_issuer(registry, alias)

    assert [refusal(stack, issuer=alias) for alias in ("third", "other")] == [Reason.STOPPED] * 2


def test_an_issuer_that_was_removed_when_everything_was_stopped_comes_back_stopped(
    stack: OperatorsStack,
) -> None:
    registry = Registry(stack.table)
    registry.remove_issuer("other")
    stack.json("revoke", "all", "--why", "incident 7")

    add_issuer(registry, "other")

    assert refusal(stack, issuer="other") is Reason.STOPPED


def test_an_issuer_that_is_added_again_and_again_has_one_stop_of_everything(
    stack: OperatorsStack,
) -> None:
    registry = Registry(stack.table)
    registry.change_stops("other", lambda _stops: (b.a_stop(StopKind.JOB, 1),))
    stack.json("revoke", "all", "--why", "incident 7", "--until", "1h")
    before = registry.stops("other")

    for _ in range(3):
        add_issuer(registry, "other")

    assert registry.stops("other") == before
    assert [stop.kind for stop in before or ()] == [StopKind.JOB, StopKind.ALL]


@pytest.mark.parametrize("failing", ALIASES)
def test_what_can_be_lifted_is_lifted_and_told_where_one_issuer_fails(
    stack: OperatorsStack, failing: str
) -> None:
    stack.json("revoke", "all", "--why", "w")
    (lifted,) = {*ALIASES} - {failing}
    real, records = stack.real, len(stack.records)

    def call(service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "TransactWriteItems" and f"STOPS#{failing}" in json.dumps(request):
            raise Unavailable("dynamodb: EndpointConnectionError")
        return real(service, operation, request)

    stack.real = call  # type: ignore[assignment]
    answer = stack.run("restore", "all")
    stack.real = real

    assert answer.code == 3
    assert answer.err == f"jobgate: Not lifted: {failing}: dynamodb: EndpointConnectionError.\n"
    assert f"Lifted at: {lifted}." in answer.out
    assert [refusal(stack, issuer=alias) for alias in (failing, lifted)] == [Reason.STOPPED, None]
    told = [(line["issuer"], line["outcome"]) for line in stack.records[records:]]
    assert told == [(lifted, "allowed")]


@pytest.mark.parametrize(
    ("until", "ends"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("2027-01-15T09:00+00:30", 1800)],
)
def test_a_stop_ends_by_itself_when_it_was_told_to(
    stack: OperatorsStack, until: str, ends: int
) -> None:
    stack.json("revoke", "user", "12", "--why", "w", "--until", until)

    stack.now = NOW + ends - 1
    assert refusal(stack) is Reason.STOPPED
    stack.now = NOW + ends
    assert refusal(stack) is None
    assert stack.json("restore") == []


def test_each_stop_and_its_end_is_a_record(stack: OperatorsStack) -> None:
    stack.json("revoke", "project", b.APP, "--why", "incident\n7", "--until", "2h")
    stack.json("restore", "project", b.APP)

    records = stack.records
    ids = [record.pop("decision_id") for record in records]
    common = {
        "v": 1,
        "type": "revocation",
        "at": "2027-01-15T08:00:00.000+00:00",
        "issuer": "main",
        "project_id": b.APP,
        "stop": {"kind": "project", "value": str(b.APP)},
        "by": WHO,
    }
    assert len(set(ids)) == 2
    assert records == [
        common
        | {"outcome": "refused", "reason": "stopped", "why": "incident\n7", "until": NOW + 7200},
        common | {"outcome": "allowed"},
    ]


def test_a_stop_of_which_the_record_fails_is_in_force_all_the_same(stack: OperatorsStack) -> None:
    stack.real("logs", "DeleteLogGroup", {"logGroupName": "operator"})

    answer = stack.run("revoke", "job", "9001", "--why", "w")

    assert (answer.code, answer.err) == (
        3,
        "jobgate: It is done, but its record couldn't be written: ResourceNotFoundException.\n",
    )
    assert refusal(stack) is Reason.STOPPED


@pytest.mark.parametrize(
    ("error", "who"),
    [
        (AWSError("InternalFailure"), "unknown (InternalFailure)"),
        (Unavailable("sts: EndpointConnectionError"), "unknown (sts: EndpointConnectionError)"),
    ],
)
def test_a_stop_does_not_wait_for_who_it_was(
    stack: OperatorsStack, error: Exception, who: str
) -> None:
    _failing(stack, "GetCallerIdentity", error)

    (stop,) = stack.json("revoke", "job", "9001", "--why", "w")
    assert stop["by"] == who


def test_a_record_that_cannot_be_sent_is_told(stack: OperatorsStack) -> None:
    _failing(stack, "CreateLogStream", Unavailable("logs: EndpointConnectionError"))

    answer = stack.run("revoke", "job", "9001", "--why", "w")

    assert (answer.code, refusal(stack)) == (3, Reason.STOPPED)
    assert "It is done, but its record couldn't be written: logs: Endpoint" in answer.err


def _failing(stack: OperatorsStack, failing: str, error: Exception) -> None:
    real = stack.real

    def call(service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == failing:
            raise error
        return real(service, operation, request)

    stack.real = call  # type: ignore[assignment]


@pytest.mark.parametrize(
    "arguments",
    [
        ["revoke", "job", "9001"],
        ["revoke", "job", "--why", "w"],
        ["revoke", "job", "0", "--why", "w"],
        ["revoke", "job", "-1", "--why", "w"],
        ["revoke", "job", "9001x", "--why", "w"],
        ["revoke", "job", "\u0669", "--why", "w"],
        ["revoke", "job", "9" * 5000, "--why", "w"],
        ["revoke", "job", str(2**64), "--why", "w"],
        ["revoke", "user", "dana", "--why", "w"],
        ["revoke", "project", "app", "--why", "w"],
        ["revoke", "agent", "9" * 5000, "--why", "w"],
        ["revoke", "agent", "999", "--why", "w"],
        ["revoke", "agent", "prod", "--why", "w"],
        ["revoke", "issuer", "--why", "w"],
        ["revoke", "issuer", "unknown", "--why", "w"],
        ["revoke", "issuer", "main", "--issuer", "other", "--why", "w"],
        ["revoke", "all", "9001", "--why", "w"],
        ["revoke", "all", "--issuer", "main", "--why", "w"],
        ["revoke", "everything", "--why", "w"],
        ["revoke", "job", "9001", "--issuer", "unknown", "--why", "w"],
        ["revoke", "job", "9001", "--why", " "],
        ["revoke", "job", "9001", "--why", "w" * 201],
        ["revoke", "job", "9001", "--why", "w", "--until", "soon"],
        ["revoke", "job", "9001", "--why", "w", "--until", "0s"],
        ["revoke", "job", "9001", "--why", "w", "--until", "2027-01-15T08:00:00+00:00"],
        ["revoke", "job", "9001", "--why", "w", "--until", "2030-01-15T08:00:00"],
        ["restore", "job", "9001"],
        ["restore", "job"],
        ["restore", "all"],
    ],
)
def test_a_command_that_names_nothing_is_refused_and_changes_nothing(
    stack: OperatorsStack, arguments: list[str]
) -> None:
    answer = stack.run(*arguments)

    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert stack.json("restore") == []
    assert stack.records == []


def test_the_later_end_counts_so_that_nobody_shortens_anothers_stop(stack: OperatorsStack) -> None:
    for until in (["--until", "1h"], [], ["--until", "1m"]):
        stack.json("revoke", "job", "9001", "--why", " ".join(until) or "for ever", *until)

    (stop,) = stack.json("restore")
    assert (stop["until"], stop["why"]) == (None, "--until 1m")


def test_missing_stops_are_not_made_good_by_a_stop_of_one_thing(stack: OperatorsStack) -> None:
    stack.table.delete(operator_items.stops_key("main"))

    answer = stack.run("revoke", "job", "9001", "--why", "w")

    assert answer.code == 4
    assert refusal(stack, job_id=1) is Reason.STOPPED


def test_what_can_be_stopped_is_stopped_where_one_issuer_fails(stack: OperatorsStack) -> None:
    stack.table.delete(operator_items.stops_key("main"))

    answer = stack.run("revoke", "all", "--why", "w")

    assert (answer.code, refusal(stack, issuer="other")) == (3, Reason.STOPPED)
    assert "Not stopped: main" in answer.err


def test_stops_are_few_and_a_wide_one_always_finds_room(stack: OperatorsStack) -> None:
    registry = Registry(stack.table)
    many = tuple(b.a_stop(StopKind.JOB, number) for number in range(1, STOPS_MAX + 1))
    registry.change_stops("main", lambda _stops: many)

    assert stack.run("revoke", "job", "9001", "--why", "w").code == 4
    assert refusal(stack) is None
    stack.json("revoke", "job", "1", "--why", "w")
    stack.json("revoke", "issuer", "main", "--why", "w")
    assert refusal(stack) is Reason.STOPPED


def test_the_fullest_list_of_stops_fits_one_item(stack: OperatorsStack) -> None:
    def long(number: int) -> Stop:
        return Stop(
            kind=StopKind.PIPELINE,
            value=str(2**63 - number),
            until=NOW + number / 7,
            by="arn:aws:sts::123456789012:assumed-role/" + "r" * 64 + "/" + "s" * 64,
            why="\U0001f6d1" * 200,
            at=NOW + number / 7,
        )

    full = tuple(long(number) for number in range(STOPS_MAX + 2))

    assert len(json.dumps(operator_items.stops_item("main", full))) < 400_000
    Registry(stack.table).change_stops("main", lambda _stops: full)


def test_stops_that_ended_long_ago_are_dropped_and_no_others(stack: OperatorsStack) -> None:
    for number, until in enumerate(("1m", "1d", "2d"), start=1):
        stack.json("revoke", "job", number, "--why", "w", "--until", until)
    stack.now = NOW + 86_400 + 61

    stack.json("revoke", "job", "4", "--why", "w")

    stops = Registry(stack.table).stops("main") or ()
    assert [stop.value for stop in stops] == ["2", "3", "4"]


@pytest.mark.parametrize("command", ["revoke", "restore"])
def test_of_commands_at_once_none_undoes_another(stack: OperatorsStack, command: str) -> None:
    stack.json("revoke", "job", "1", "--why", "w")
    registry, real, meanwhile = Registry(stack.table), stack.real, iter((2, 3, 4))

    def late(service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Between the command's read and its write, somebody else's whole command."""
        if operation == "TransactWriteItems" and (number := next(meanwhile, None)):
            other = b.a_stop(StopKind.JOB, number)
            registry.change_stops("main", lambda stops: (*(stops or ()), other))
        return real(service, operation, request)

    stack.real = late  # type: ignore[assignment]
    if command == "revoke":
        stack.json("revoke", "job", "5", "--why", "w")
    else:
        stack.json("restore", "job", "1")

    left = {stop.value for stop in registry.stops("main") or ()}
    assert left == ({"1", "2", "3", "4", "5"} if command == "revoke" else {"2", "3", "4"})


def test_a_killed_command_has_stopped_whole_or_not_at_all(stack: OperatorsStack) -> None:
    calls = len(stack.calls)
    stack.json("revoke", "job", "1", "--why", "w")
    calls = len(stack.calls)
    for after in range(calls):
        stack.break_after = after
        stack.run("revoke", "job", "9001", "--why", "w")
        stack.break_after = None
        stops = Registry(stack.table).stops("main") or ()
        assert {stop.value for stop in stops} in ({"1"}, {"1", "9001"})


def test_who_looks_sees_every_stop_in_force(stack: OperatorsStack) -> None:
    stack.json("revoke", "runner", "33", "--why", "\x1b[2J stolen")
    stack.json("revoke", "user", "12", "--why", "left", "--until", "2h", "--issuer", "other")

    seen = stack.run("restore").out

    assert "\x1b" not in seen
    assert "\\x1b[2J stolen" in seen
    assert "2027-01-15T10:00:00+00:00" in seen


def _register_agent(stack: OperatorsStack) -> None:
    key = items.agent_ids_key("main")
    item = stack.table.get(key)
    assert item is not None
    item["names"] = {"M": {"50/prod": {"N": str(b.PROD)}}}
    stack.table.put(item)
    assert agent_ids.read(stack.table.get(key)).name_of(b.PROD) == (50, "prod")
