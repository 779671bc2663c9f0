"""A table that was made from a backup: it denies all, and what `jobgate reconcile` makes good."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.deployment_reader import DeploymentReader
from jobgate.adapters.refresh_queue import RefreshMessage, message_of
from jobgate.cli import agent_ids, registration
from jobgate.cli.inputs import CredentialFile
from jobgate.cli.registry import Registry
from jobgate.cli.stored_secrets import change_entry
from jobgate.core.bounds import Bounds
from jobgate.core.errors import Unavailable
from jobgate.core.liveness import Stop, StopKind
from jobgate.core.reasons import Reason
from jobgate.core.stops import StopChange, replayed
from jobgate.ports.gitlab import GitLabProject
from jobgate.usecases.exchange import Exchanged
from moto import mock_aws

from tests.support import builders as b
from tests.support.exchanges import an_exchange
from tests.support.fakes import FakeClock, FakeExchangeStore, FakeTokenVerifier
from tests.support.operators_stack import NOW, TABLE, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator

LEEWAY = 30
PROJECT = GitLabProject(
    project_id=b.CONFIG_PROJECT,
    path="top/agents",
    default_branch="main",
    namespace_id=b.TOP,
    namespace_path="top",
    namespace_kind="group",
)


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    """A stack that is set up, with one GitLab instance."""
    with mock_aws():
        stack = OperatorsStack.deploy()
        stack.json("setup")
        add_issuer(stack, "main")
        stack.meanwhile = lambda: refresh(stack)
        yield stack


def add_issuer(stack: OperatorsStack, alias: str) -> None:
    registry = Registry(stack.table)
    issuer = b.an_issuer(alias, url=f"https://{alias}.test", is_default=alias == "main")
    registry.prepare_issuer(issuer, now=NOW)
    change_entry(stack.real, "tokens", alias, "canary")
    registry.save_issuer(issuer)


def register(stack: OperatorsStack, name: str, **changes: Any) -> int:
    given: dict[str, Any] = {
        "issuer": "main",
        "project": PROJECT,
        "name": name,
        "server": "https://k8s.example.test:6443",
        "ca": None,
    }
    agent = registration.NewAgent(**given | changes)
    agent_id = registration.reserve(stack.table, agent)
    credentials = (CredentialFile("token", {"token": "canary"}), None)
    registration.register(
        stack.real, stack.stack, stack.table, agent, agent_id, credentials=credentials
    )
    return agent_id


def refresh(stack: OperatorsStack, *, error: str | None = None) -> None:
    """What the queue's messages come to: GitLab confirms each project, or doesn't."""
    for item in stack.table.query("CONFIG_PROJECTS"):
        told = {"last_error": {"S": error}} if error else {"last_commit": {"S": "c" * 40}}
        stack.table.put({**item, **told})


def reader(stack: OperatorsStack, *, decides: bool = True) -> DeploymentReader:
    return DeploymentReader(stack, TABLE, bounds=Bounds(), clock=lambda: stack.now, decides=decides)


# --- Until it's reconciled ---


def test_a_table_that_was_restored_decides_nothing_and_says_so_in_the_record(
    stack: OperatorsStack,
) -> None:
    lines: list[str] = []
    store = FakeExchangeStore(b.some_facts(), [b.an_agent(b.PROD, projects={b.APP: b.an_entry()})])
    exchange = an_exchange(
        verifier=FakeTokenVerifier({"token": b.a_verified_job()}),
        store=store,
        deployment=reader(stack),
        recorder=lines.append,
        clock=FakeClock(),
    )
    assert isinstance(exchange.redeem("token"), Exchanged)

    stack.restore(stack.backup())
    stack.now += Bounds().issuers_max_age + 1
    lines.clear()
    outcome = exchange.redeem("token")

    assert (type(outcome).__name__, getattr(outcome, "reason", None)) == (
        "Refused",
        Reason.JOB_UNKNOWN,
    )
    (line,) = map(json.loads, lines)
    assert line["cause"] == "the table was restored: it denies all until `jobgate reconcile`"


def test_what_reconciles_a_restored_table_goes_on_with_it(stack: OperatorsStack) -> None:
    stack.restore(stack.backup())

    with pytest.raises(Unavailable):
        reader(stack)()
    assert set(reader(stack, decides=False)().issuers) == {"main"}


@pytest.mark.parametrize("answer", [{}, {"TableId": None}, {"TableId": ""}])
def test_a_table_that_does_not_say_which_it_is_decides_nothing(
    stack: OperatorsStack, answer: dict[str, Any]
) -> None:
    def call(service: str, operation: str, request: Any) -> dict[str, Any]:
        if operation == "DescribeTable":
            return {"Table": answer}
        return stack(service, operation, request)

    with pytest.raises(Unavailable):
        DeploymentReader(call, TABLE, bounds=Bounds(), clock=lambda: NOW)()


def test_set_up_does_not_make_a_restored_table_live(stack: OperatorsStack) -> None:
    stack.restore(stack.backup())

    refused = stack.run("setup")

    assert (refused.code, "jobgate reconcile" in refused.err) == (4, True)
    with pytest.raises(Unavailable):
        reader(stack)()


def test_settings_from_before_tables_had_ids_serve_until_the_next_set_up(
    stack: OperatorsStack,
) -> None:
    known = Registry(stack.table).settings()
    assert known is not None
    former = {"v": {"N": "1"}, "body": {"S": json.dumps({"base_url": known.base_url, "ca": None})}}
    stack.table.put(operator_items.SETTINGS_KEY | former)
    assert reader(stack)().base_url == known.base_url

    stack.json("setup")

    assert Registry(stack.table).settings() == known


# --- What is made good ---


def test_a_reconciled_table_is_live_for_jobs_that_begin_from_then_on(
    stack: OperatorsStack,
) -> None:
    stack.restore(stack.backup())
    stack.now += 7200.5

    told = stack.json("reconcile")

    assert told["reconciled"] is True
    assert reader(stack)().not_before == int(NOW) + 7201 + LEEWAY
    again = stack.json("reconcile")
    assert again["reconciled"] is False
    assert reader(stack)().not_before == int(NOW) + 7201 + LEEWAY


def test_stops_are_those_that_operators_made_and_lifted_since(stack: OperatorsStack) -> None:
    stack.json("revoke", "user", "12", "--why", "before, and for ever")
    stack.json("revoke", "project", "100", "--why", "lifted since")
    backup = stack.backup()
    stack.now += 60
    stack.json("restore", "project", "100")
    stack.json("revoke", "pipeline", "7", "--why", "since")
    stack.json("revoke", "all", "--why", "since and lifted")
    stack.json("restore", "all")
    live = stack.table.get(operator_items.stops_key("main"))

    stack.restore(backup)
    assert stack.table.get(operator_items.stops_key("main")) != live
    stack.json("reconcile")

    stops = operator_items.stops_of(stack.table.get(operator_items.stops_key("main")))
    assert stops is not None
    assert {(stop.kind, stop.value) for stop in stops} == {
        (StopKind.USER, "12"),
        (StopKind.PIPELINE, "7"),
    }
    assert sorted(s.why for s in stops) == ["before, and for ever", "since"]


def test_an_agent_that_was_removed_since_does_not_come_back(stack: OperatorsStack) -> None:
    gone, kept = register(stack, "gone"), register(stack, "kept")
    backup = stack.backup()
    stack.json("agent", "remove", gone)

    stack.restore(backup)
    assert stack.table.get(items.cluster_key("main", gone)) is not None
    told = stack.json("reconcile")

    assert told["agents_removed"] == [["main", gone]]
    assert stack.table.get(items.cluster_key("main", gone)) is None
    assert stack.table.get(items.cluster_key("main", kept)) is not None
    (project,) = stack.table.query("CONFIG_PROJECTS")
    listed = agent_items.config_project_of(project)
    assert listed is not None
    assert dict(listed.agents) == {kept: "kept"}


def test_an_id_that_was_given_since_is_not_given_again(stack: OperatorsStack) -> None:
    first = register(stack, "first")
    backup = stack.backup()
    lost = [register(stack, name) for name in ("second", "third")]

    stack.restore(backup)
    stack.json("reconcile")
    anew = register(stack, "fourth")

    assert lost == [first + 1, first + 2]
    assert anew == first + 1_000_000 + 1
    assert register(stack, "fifth") == anew + 1
    known = agent_ids.read(stack.table.get(items.agent_ids_key("main")))
    assert all(known.is_tombstone(agent_id) for agent_id in lost)


def test_ids_stay_apart_where_a_table_is_restored_twice(stack: OperatorsStack) -> None:
    backup = stack.backup()
    stack.restore(backup)
    stack.json("reconcile")
    given = register(stack, "one")

    stack.restore(stack.backup())
    stack.json("reconcile")

    assert register(stack, "two") > given + 999_999


def test_an_issuer_that_is_added_after_a_restore_gives_no_id_twice(stack: OperatorsStack) -> None:
    backup = stack.backup()
    add_issuer(stack, "other")
    given = register(stack, "one", issuer="other")

    stack.restore(backup)
    told = stack.json("reconcile")
    add_issuer(stack, "other")

    assert told["issuers_missing"] == ["other"]
    assert register(stack, "two", issuer="other") > given


def test_an_id_of_gitlabs_that_was_taken_over_and_removed_since_stays_buried(
    stack: OperatorsStack,
) -> None:
    backup = stack.backup()
    register(stack, "moved", wanted_id=77)
    stack.json("agent", "remove", 77)

    stack.restore(backup)
    stack.json("reconcile")

    assert agent_ids.read(stack.table.get(items.agent_ids_key("main"))).is_tombstone(77)


def test_an_issuer_that_was_removed_since_is_not_trusted_again(stack: OperatorsStack) -> None:
    add_issuer(stack, "former")
    backup = stack.backup()
    stack.json("issuer", "remove", "former")

    stack.restore(backup)
    told = stack.json("reconcile")

    assert told["issuers_removed"] == ["former"]
    assert set(reader(stack)().issuers) == {"main"}


def test_every_configuration_project_is_read_anew(stack: OperatorsStack) -> None:
    register(stack, "prod")
    refresh(stack)
    stack.messages()
    stack.restore(stack.backup())
    commits: list[str | None] = []

    def read() -> None:
        (project,) = stack.table.query("CONFIG_PROJECTS")
        commits.append(project.get("last_commit"))
        refresh(stack)

    stack.meanwhile = read
    told = stack.json("reconcile")

    assert commits == [None]
    assert told["projects"] == 1
    (message,) = stack.messages()
    assert message_of(message) == RefreshMessage("main", b.CONFIG_PROJECT)


@pytest.mark.parametrize("error", [None, "GitLab answered 401"])
def test_a_table_whose_projects_gitlab_does_not_confirm_goes_on_denying(
    stack: OperatorsStack, error: str | None
) -> None:
    register(stack, "prod")
    stack.restore(stack.backup())

    def meanwhile() -> None:
        stack.now += 59
        if error is not None:
            refresh(stack, error=error)

    stack.meanwhile = meanwhile

    answer = stack.run("reconcile")

    assert (answer.code, f"project {b.CONFIG_PROJECT} of 'main'" in answer.err) == (3, True)
    with pytest.raises(Unavailable):
        reader(stack)()
    stack.meanwhile = lambda: mend(stack)
    assert stack.json("reconcile")["reconciled"] is True


def mend(stack: OperatorsStack) -> None:
    for item in stack.table.query("CONFIG_PROJECTS"):
        kept = {name: value for name, value in item.items() if name != "last_error"}
        stack.table.put({**kept, "last_commit": {"S": "c" * 40}})


@pytest.mark.parametrize("survived", [1, 5, 9, 13, 17, 21])
def test_a_run_that_breaks_off_denies_on_and_is_completed_by_another(
    stack: OperatorsStack, survived: int
) -> None:
    gone = register(stack, "gone")
    register(stack, "kept")
    stack.json("revoke", "user", "12", "--why", "lifted since")
    backup = stack.backup()
    stack.json("restore", "user", "12")
    stack.json("agent", "remove", gone)
    stack.restore(backup)
    stack.break_after = survived
    assert stack.run("reconcile").code == 3
    stack.break_after = None

    with pytest.raises(Unavailable):
        reader(stack)()
    assert stack.json("reconcile")["reconciled"] is True

    assert operator_items.stops_of(stack.table.get(operator_items.stops_key("main"))) == ()
    assert stack.table.get(items.cluster_key("main", gone)) is None
    assert reader(stack)().not_before is not None


@pytest.mark.parametrize(
    "changes", [{"at": "yesterday"}, {"stop": {"kind": "nobody", "value": "1"}}, {"stop": "all"}]
)
def test_a_record_that_cannot_be_read_leaves_the_table_denying(
    stack: OperatorsStack, changes: dict[str, Any]
) -> None:
    stack.json("revoke", "user", "12", "--why", "since")
    stack.records[0] |= changes
    stack.restore(stack.backup())

    answer = stack.run("reconcile")

    assert (answer.code, "can't be read" in answer.err) == (3, True)
    with pytest.raises(Unavailable):
        reader(stack)()


def test_what_somebody_else_has_put_into_the_log_is_no_record(stack: OperatorsStack) -> None:
    stack.restore(stack.backup())
    stack.records += ["a note", ["revocation"], 7]

    assert stack.json("reconcile")["reconciled"] is True


def test_before_the_first_set_up_there_is_nothing_to_reconcile() -> None:
    with mock_aws():
        answer = OperatorsStack.deploy().run("reconcile")

    assert (answer.code, "jobgate setup" in answer.err) == (2, True)


# --- The stops that operators' changes come to ---


def a_stop(value: str = "12", *, at: float = 0, until: float | None = None) -> Stop:
    return Stop(kind=StopKind.USER, value=value, until=until, by="olga", why="why", at=at)


def made(at: float, **stop: Any) -> StopChange:
    return StopChange(at, a_stop(at=at, **stop), is_lifted=False)


def lifted(at: float) -> StopChange:
    return StopChange(at, a_stop(), is_lifted=True)


CHANGES = [made(1), lifted(2), made(3, until=50), made(4, value="13"), lifted(5), made(6)]


@pytest.mark.parametrize("already", range(len(CHANGES) + 1))
def test_it_does_not_matter_which_changes_a_restored_table_holds(already: int) -> None:
    held = replayed((), CHANGES[:already])
    assert held is not None

    assert replayed(held, CHANGES) == replayed((), CHANGES)


def test_a_stop_outlives_what_lifted_an_earlier_one() -> None:
    unrecorded = a_stop(at=9)

    assert replayed((unrecorded,), [made(1), lifted(2)]) == (unrecorded,)


def test_more_stops_than_fit_are_none_and_not_the_first_hundred() -> None:
    many = [made(n, value=str(n + 1)) for n in range(101)]

    assert len(replayed((), many[:100]) or ()) == 100
    assert replayed((), many) is None
