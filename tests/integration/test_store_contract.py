"""What every store promises: the in-memory fakes, DynamoDB on moto, and on a real ministack."""

from __future__ import annotations

import hashlib
import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.decision_store import DecisionStore
from jobgate.adapters.deployment_reader import DeploymentReader
from jobgate.adapters.exchange_counts import DynamoDBExchangeCounter, DynamoDBRedeemedTokens
from jobgate.adapters.job_states import DynamoDBJobStates
from jobgate.adapters.place_store import DynamoDBPlaces
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from jobgate.core.agent import AsCIJob, AsIdentity, Problem
from jobgate.core.bounds import Bounds
from jobgate.core.errors import Conflict, Unavailable
from jobgate.core.liveness import JobLife, StopKind
from jobgate.core.public_settings import PublicSettings
from jobgate.ports.refresh import Subject
from jobgate.usecases.exchange import Exchanged
from moto import mock_aws

from local.aws.emulator import REGION, start_emulator
from local.certificates import CertificateAuthority
from tests.support import builders as b
from tests.support.exchanges import an_exchange
from tests.support.fakes import (
    FakeClock,
    FakeExchangeStore,
    FakeJobStates,
    FakeTokenSigner,
    FakeTokenVerifier,
)
from tests.support.refresh_fakes import FakeRefreshStore
from tests.support.stores import (
    TABLE,
    CountedCall,
    RefusingCall,
    UnprocessedCall,
    boto_call,
    create_table,
    job_item,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import JobIdentity
    from jobgate.ports.lookups import JobStates
    from jobgate.ports.refresh import ConfigProjectItem, RefreshStore

BOUNDS = Bounds()
ROOT = Path(__file__).parents[2]
STACK = pytest.param("ministack", marks=pytest.mark.stack)
PROJECT, GROUP, INSTANCE = Subject("project", 100), Subject("group", 1), Subject("instance", 0)
SUBJECTS = (PROJECT, GROUP, INSTANCE)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class AWS:
    """A table of one test's own."""

    call: AWSCall
    table: str

    def put(self, item: items.Item) -> None:
        self.call("dynamodb", "PutItem", {"TableName": self.table, "Item": item})

    def decisions(self, call: AWSCall | None = None) -> DecisionStore:
        return DecisionStore(call or self.call, self.table, clock=FakeClock())


@pytest.fixture(scope="module")
def moto() -> Iterator[AWSCall]:
    with mock_aws():
        yield boto_call({"AWS_DEFAULT_REGION": REGION})


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AWSCall]:
    folder = tmp_path_factory.mktemp("ministack")
    interpreter = ROOT / ".venv-ministack" / "bin" / "python"
    authority = CertificateAuthority.create(folder)
    emulator = start_emulator(interpreter, folder, authority=authority)
    try:
        yield boto_call(emulator.environment)
    finally:
        emulator.child.stop()


@pytest.fixture(params=["moto", STACK])
def aws(request: pytest.FixtureRequest) -> AWS:
    call: AWSCall = request.getfixturevalue(request.param)
    table = f"{TABLE}-{next(_numbers)}"
    create_table(call, table)
    return AWS(call, table)


@dataclass(frozen=True)
class Stores:
    """The stores of a refresh, and what a reader sees of them."""

    refresh: RefreshStore
    jobs: JobStates
    seed: Callable[[ConfigProjectItem], None]
    indexed: Callable[[Subject], frozenset[int]]
    state: Callable[[JobIdentity], Any]


@pytest.fixture(params=["fake", "moto", STACK])
def stores(request: pytest.FixtureRequest) -> Stores:
    if request.param == "fake":
        return _fakes()
    call: AWSCall = request.getfixturevalue(request.param)
    table = f"{TABLE}-{next(_numbers)}"
    create_table(call, table)
    aws = AWS(call, table)
    store = aws.decisions()

    def indexed(subject: Subject) -> frozenset[int]:
        if subject.kind == "project":
            return store.exchange_facts(b.a_job(project_id=subject.id)).project_agents
        return store.agents_of_groups("main", [subject.id] if subject.id else [])

    return Stores(
        refresh=DynamoDBRefreshStore(call, table),
        jobs=jobs_in(call, table),
        seed=lambda project: aws.put(agent_items.config_project_item(project)),
        indexed=indexed,
        state=lambda job: store.exchange_facts(job).state,
    )


def _fakes() -> Stores:
    refresh, jobs = FakeRefreshStore(), FakeJobStates()

    def seed(project: ConfigProjectItem) -> None:
        refresh.config_projects[project.issuer, project.project_id] = project

    return Stores(
        refresh=refresh,
        jobs=jobs,
        seed=seed,
        indexed=lambda subject: refresh.agents_of("main", subject),
        state=lambda job: jobs.states.get(job.key, JobLife()),
    )


def jobs_in(call: AWSCall, table: str = TABLE) -> DynamoDBJobStates:
    return DynamoDBJobStates(call, table, bounds=BOUNDS, clock=FakeClock())


def version(number: int, **values: Any) -> AgentSnapshot:
    return b.an_agent(version=number, **values)


# --- Snapshots: one conditional put ---


def test_a_published_snapshot_is_read_back_whole(stores: Stores) -> None:
    snapshot = version(
        1,
        projects={b.APP: b.an_entry(access_as=AsCIJob(), environments=["a"])},
        groups={b.TOP: b.an_entry("top", access_as=AsIdentity("u", "1", ("g",), (("k", ("v",)),)))},
        problems=[Problem(code="c", file="f", line=1, column=2, text="ü", fix="x")],
    )

    stores.refresh.publish(snapshot, replaces=None)

    assert stores.refresh.snapshot("main", b.PROD) == snapshot


def test_an_agent_that_was_never_published_has_no_snapshot(stores: Stores) -> None:
    assert stores.refresh.snapshot("main", b.PROD) is None


@pytest.mark.parametrize(("stored", "replaces"), [(None, 1), (1, None), (2, 1), (1, 2)])
def test_a_snapshot_that_replaces_another_than_the_stored_one_is_a_conflict(
    stores: Stores, stored: int | None, replaces: int | None
) -> None:
    if stored is not None:
        stores.refresh.publish(version(stored), replaces=None)

    with pytest.raises(Conflict):
        stores.refresh.publish(version(9, name="late"), replaces=replaces)

    after = stores.refresh.snapshot("main", b.PROD)
    assert after == (None if stored is None else version(stored))


def test_of_two_refreshes_from_one_version_the_first_wins(stores: Stores) -> None:
    stores.refresh.publish(version(1), replaces=None)
    stores.refresh.publish(version(2, commit="a" * 40), replaces=1)

    with pytest.raises(Conflict):
        stores.refresh.publish(version(2, commit="b" * 40), replaces=1)

    assert stores.refresh.snapshot("main", b.PROD) == version(2, commit="a" * 40)


def test_nothing_is_published_of_an_agent_that_was_removed_since_the_reading_began(
    stores: Stores,
) -> None:
    stores.seed(b.a_config_project_item({b.STAGING: "staging"}))
    reading = stores.refresh.begin_reading("main", b.CONFIG_PROJECT, after=0)

    with pytest.raises(Conflict):
        stores.refresh.publish(version(1), replaces=None, reading=reading)

    assert stores.refresh.snapshot("main", b.PROD) is None
    stores.refresh.publish(b.an_agent(b.STAGING, name="staging"), replaces=None, reading=reading)


# --- Index: always a superset ---


def test_an_agent_is_found_by_each_subject_that_it_was_added_to(stores: Stores) -> None:
    stores.refresh.add_to_index({PROJECT: [version(1)], INSTANCE: [version(1)]})

    assert stores.indexed(PROJECT) == {b.PROD}
    assert stores.indexed(INSTANCE) == {b.PROD}
    assert stores.indexed(Subject("project", 101)) == frozenset()


def test_agents_of_one_subject_do_not_disturb_each_other(stores: Stores) -> None:
    other = b.an_agent(b.STAGING, version=7)
    stores.refresh.add_to_index({PROJECT: [version(1)]})
    stores.refresh.add_to_index({PROJECT: [other]})

    stores.refresh.remove_from_index({PROJECT: [version(2)]})

    assert stores.indexed(PROJECT) == {b.STAGING}


def test_a_late_removal_leaves_what_a_faster_refresh_has_just_added(stores: Stores) -> None:
    # v1 named the project. A slow refresh (v2) takes it out of the file and stalls after its
    # publication; a fast one (v3) puts it back; then the slow one's removal comes.
    stores.refresh.add_to_index({PROJECT: [version(1)]})
    stores.refresh.publish(version(1), replaces=None)
    stores.refresh.publish(version(2), replaces=1)
    stores.refresh.add_to_index({PROJECT: [version(3)]})
    stores.refresh.publish(version(3), replaces=2)

    stores.refresh.remove_from_index({PROJECT: [version(2)]})

    assert stores.indexed(PROJECT) == {b.PROD}


def test_a_removal_of_the_newest_version_removes(stores: Stores) -> None:
    stores.refresh.add_to_index({PROJECT: [version(3)]})

    stores.refresh.remove_from_index({PROJECT: [version(3)]})

    assert stores.indexed(PROJECT) == frozenset()


def test_a_slow_addition_does_not_make_a_newer_one_removable(stores: Stores) -> None:
    stores.refresh.add_to_index({PROJECT: [version(3)]})
    stores.refresh.add_to_index({PROJECT: [version(2)]})

    stores.refresh.remove_from_index({PROJECT: [version(2)]})

    assert stores.indexed(PROJECT) == {b.PROD}


def test_a_removal_of_what_is_not_there_changes_nothing(stores: Stores) -> None:
    stores.refresh.remove_from_index({subject: [version(1)] for subject in SUBJECTS})

    assert [stores.indexed(subject) for subject in (PROJECT, INSTANCE)] == [frozenset()] * 2


# --- An agent's list: whom the index may lead from to it ---


def test_an_agents_list_holds_whom_it_was_added_to_even_once_it_was_taken_out(
    stores: Stores,
) -> None:
    stores.refresh.add_to_index({PROJECT: [version(1)], GROUP: [version(1)]})
    stores.refresh.remove_from_index({GROUP: [version(2)]})

    listed = stores.refresh.listed("main", [b.PROD, b.STAGING])

    assert listed == {b.PROD: {PROJECT, GROUP}, b.STAGING: frozenset()}


def test_subjects_are_taken_out_of_a_list_and_the_last_one_too(stores: Stores) -> None:
    stores.refresh.add_to_index({PROJECT: [version(1)], GROUP: [version(1)]})

    stores.refresh.unlist(version(1), [GROUP])
    assert stores.refresh.listed("main", [b.PROD]) == {b.PROD: {PROJECT}}
    stores.refresh.unlist(version(1), [PROJECT])

    assert stores.refresh.listed("main", [b.PROD]) == {b.PROD: frozenset()}


def test_a_list_that_a_newer_version_has_added_to_is_left_alone(stores: Stores) -> None:
    stores.refresh.add_to_index({PROJECT: [version(3)]})
    stores.refresh.add_to_index({GROUP: [version(2)]})

    stores.refresh.unlist(version(2), [PROJECT, GROUP])

    assert stores.refresh.listed("main", [b.PROD]) == {b.PROD: {PROJECT, GROUP}}


def test_the_index_is_read_with_its_stamps(stores: Stores) -> None:
    stores.refresh.add_to_index({PROJECT: [version(3)]})

    found = stores.refresh.indexed("main", [PROJECT, GROUP])

    assert {s: dict(agents) for s, agents in found.items()} == {PROJECT: {b.PROD: 3}, GROUP: {}}


# --- Configuration projects ---


def test_a_refreshs_outcome_is_noted_and_cleared(stores: Stores) -> None:
    stores.seed(b.a_config_project_item())

    stores.refresh.note_refresh(
        "main", b.CONFIG_PROJECT, root_path="top", commit="c1", error=None, at=b.NOW
    )
    good = stores.refresh.config_project("main", b.CONFIG_PROJECT)
    stores.refresh.note_refresh(
        "main", b.CONFIG_PROJECT, root_path=None, commit=None, error="bad", at=b.NOW + 0.5, note="n"
    )
    bad = stores.refresh.config_project("main", b.CONFIG_PROJECT)

    assert good == b.a_config_project_item(root_path="top", last_commit="c1", last_at=b.NOW)
    assert bad == b.a_config_project_item(last_error="bad", last_note="n", last_at=b.NOW + 0.5)


def test_the_agents_that_an_unfinished_round_has_done_are_noted_and_cleared(
    stores: Stores,
) -> None:
    stores.seed(b.a_config_project_item())

    def note(done: set[int]) -> ConfigProjectItem | None:
        stores.refresh.note_refresh(
            "main", b.CONFIG_PROJECT, root_path=None, commit=None, error=None, at=b.NOW, done=done
        )
        return stores.refresh.config_project("main", b.CONFIG_PROJECT)

    assert note({b.PROD, 7}) == b.a_config_project_item(last_at=b.NOW, done={b.PROD, 7})
    assert note(set()) == b.a_config_project_item(last_at=b.NOW)


def test_a_note_never_makes_a_configuration_project(stores: Stores) -> None:
    stores.refresh.note_refresh(
        "main", b.CONFIG_PROJECT, root_path="top", commit="c1", error=None, at=b.NOW
    )

    assert stores.refresh.config_project("main", b.CONFIG_PROJECT) is None


# --- Readings: the newest alone publishes ---


def a_reading(stores: Stores, number: int) -> None:
    stores.seed(b.a_config_project_item())
    for after in range(number):
        assert stores.refresh.begin_reading("main", b.CONFIG_PROJECT, after=after) == after + 1


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_reading_begins_after_the_newest_alone(stores: Stores, after: int) -> None:
    a_reading(stores, 2)

    with pytest.raises(Conflict):
        stores.refresh.begin_reading("main", b.CONFIG_PROJECT, after=after)

    known = stores.refresh.config_project("main", b.CONFIG_PROJECT)
    assert known == b.a_config_project_item(reading=2)


def test_a_reading_never_makes_a_configuration_project(stores: Stores) -> None:
    with pytest.raises(Conflict):
        stores.refresh.begin_reading("main", b.CONFIG_PROJECT, after=0)

    assert stores.refresh.config_project("main", b.CONFIG_PROJECT) is None


@pytest.mark.parametrize("reading", [0, 1, 3])
@pytest.mark.parametrize("is_first", [True, False])
def test_another_reading_than_the_newest_publishes_nothing(
    stores: Stores, reading: int, *, is_first: bool
) -> None:
    a_reading(stores, 2)
    if not is_first:
        stores.refresh.publish(version(1), replaces=None, reading=2)

    with pytest.raises(Conflict):
        stores.refresh.publish(version(9), replaces=None if is_first else 1, reading=reading)

    stored = stores.refresh.snapshot("main", b.PROD)
    assert stored == (None if is_first else version(1))


def test_the_newest_reading_publishes(stores: Stores) -> None:
    a_reading(stores, 2)

    stores.refresh.publish(version(1), replaces=None, reading=2)
    stores.refresh.publish(version(2), replaces=1, reading=2)

    assert stores.refresh.snapshot("main", b.PROD) == version(2)


def test_another_reading_than_the_newest_notes_nothing(stores: Stores) -> None:
    a_reading(stores, 2)

    for reading, commit in ((0, "late"), (1, "late"), (3, "late"), (2, "c2")):
        stores.refresh.note_refresh(
            "main",
            b.CONFIG_PROJECT,
            root_path="top",
            commit=commit,
            error=None,
            at=b.NOW,
            reading=reading,
            finished=reading,
        )

    known = stores.refresh.config_project("main", b.CONFIG_PROJECT)
    assert known == b.a_config_project_item(
        root_path="top", last_commit="c2", last_at=b.NOW, reading=2, finished=2
    )


def test_a_removal_of_a_reading_that_is_not_the_newest_takes_nothing_out(stores: Stores) -> None:
    a_reading(stores, 2)
    stray = version(2)
    stores.refresh.add_to_index({PROJECT: [stray]})

    for late in (0, 1, 3):
        with pytest.raises(Conflict):
            stores.refresh.remove_from_index({PROJECT: [stray]}, reading=late)
        with pytest.raises(Conflict):
            stores.refresh.unlist(stray, [PROJECT], reading=late)

    assert stores.refresh.indexed("main", [PROJECT]) == {PROJECT: {b.PROD: 2}}
    assert stores.refresh.listed("main", [b.PROD]) == {b.PROD: {PROJECT}}


def test_a_removal_of_the_newest_reading_spares_newer_stamps(stores: Stores) -> None:
    a_reading(stores, 2)
    stores.refresh.add_to_index({PROJECT: [version(2)], GROUP: [version(3)]})

    stores.refresh.remove_from_index({PROJECT: [version(2)], GROUP: [version(2)]}, reading=2)
    stores.refresh.unlist(version(2), [PROJECT], reading=2)
    stores.refresh.unlist(version(3), [PROJECT], reading=2)

    found = stores.refresh.indexed("main", [PROJECT, GROUP])
    assert found == {PROJECT: {}, GROUP: {b.PROD: 3}}
    assert stores.refresh.listed("main", [b.PROD]) == {b.PROD: {GROUP}}


# --- Doubt ---


def test_a_doubt_is_noted_on_its_own_version_and_taken_back(stores: Stores) -> None:
    stores.refresh.publish(version(1), replaces=None)
    stores.refresh.publish(version(2), replaces=1)

    stores.refresh.note_doubt(version(1), since=b.NOW)
    assert stores.refresh.snapshot("main", b.PROD) == version(2)
    stores.refresh.note_doubt(version(2), since=b.NOW)
    assert stores.refresh.snapshot("main", b.PROD) == version(2, doubt_since=b.NOW)
    stores.refresh.note_doubt(version(2), since=None)
    assert stores.refresh.snapshot("main", b.PROD) == version(2)


def test_a_doubt_about_what_was_never_published_makes_no_snapshot(stores: Stores) -> None:
    stores.refresh.note_doubt(version(1), since=b.NOW)

    assert stores.refresh.snapshot("main", b.PROD) is None


def test_what_is_published_anew_is_in_doubt_no_more(stores: Stores) -> None:
    stores.refresh.publish(version(1), replaces=None)
    stores.refresh.note_doubt(version(1), since=b.NOW)

    stores.refresh.publish(version(2), replaces=1)

    assert stores.refresh.snapshot("main", b.PROD) == version(2)


# --- Many agents and subjects at once ---


def test_a_newer_stamp_among_many_keeps_no_other_from_being_written(stores: Stores) -> None:
    agents = [b.an_agent(i, version=5) for i in range(1, 121)]
    stores.refresh.add_to_index({PROJECT: [b.an_agent(60, version=9)]})
    stores.refresh.add_to_index({PROJECT: agents})
    assert stores.indexed(PROJECT) == set(range(1, 121))

    stores.refresh.remove_from_index({PROJECT: agents})

    assert stores.indexed(PROJECT) == {60}


def test_hundreds_of_subjects_are_stamped_and_taken_out(stores: Stores) -> None:
    subjects = [Subject("project", i) for i in range(1, 301)]
    stores.refresh.add_to_index({subject: [version(1)] for subject in subjects})
    found = [stores.indexed(subject) for subject in subjects]

    stores.refresh.remove_from_index({subject: [version(2)] for subject in subjects[1:]})

    assert found == [{b.PROD}] * 300
    assert [stores.indexed(s) for s in subjects] == [{b.PROD}] + [frozenset()] * 299


# --- Job states ---


@pytest.mark.parametrize("end", ["success", "failed", "canceled"])
@pytest.mark.parametrize("late", ["running", "pending", "success", "failed", "canceled"])
def test_a_jobs_first_end_stays(stores: Stores, end: str, late: str) -> None:
    job = b.a_job()
    ended = b.a_state(end, finished_at=b.NOW)

    assert stores.jobs.put(job.key, b.a_state("running"))
    assert stores.jobs.put(job.key, ended)
    assert not stores.jobs.put(job.key, b.a_state(late, seen_at=b.NOW + 9))

    assert stores.state(job) == b.a_life(b.a_state("running"), ended)
    assert stores.jobs.get(job.key) == stores.state(job)


def test_a_job_that_has_not_ended_is_seen_again_and_again(stores: Stores) -> None:
    job = b.a_job()
    for status in ("running", "skipped", "manual", "canceling", "running"):
        assert stores.jobs.put(job.key, b.a_state(status))

    assert stores.state(job) == b.a_life(b.a_state("running"))


def test_jobs_of_two_issuers_with_one_id_are_two_jobs(stores: Stores) -> None:
    stores.jobs.put(b.a_job(issuer="other").key, b.a_state("success"))

    assert stores.state(b.a_job()) == JobLife()


def test_what_is_said_of_another_projects_job_of_that_id_is_of_another_job(stores: Stores) -> None:
    job = b.a_job()
    stores.jobs.put(b.a_job(project_id=666).key, b.a_state("failed"))

    assert stores.state(job) == JobLife()
    assert stores.jobs.put(job.key, b.a_state("running"))


def test_a_question_about_a_job_is_put_by_one_of_many(stores: Stores) -> None:
    job = b.a_job()
    floor, leeway = BOUNDS.probe_floor, BOUNDS.leeway
    moments = [0, 0, floor - 1, floor, floor + 1, 2 * floor, leeway, 2 * floor - leeway - 1]

    put = [stores.jobs.ask(job.key, now=b.NOW + moment) for moment in moments]

    # The last one's clock is so far behind that the question before it is from the future.
    assert put == [True, False, False, True, False, True, True, False]
    assert stores.state(job) == JobLife(asked_at=b.NOW + leeway, asked_since=b.NOW)


def test_an_answer_ends_the_doubt_and_keeps_when_it_was_asked(stores: Stores) -> None:
    job = b.a_job()
    hook, answer = b.a_state(seen_at=b.NOW - 900), b.a_state(source="probe", seen_at=b.NOW)
    stores.jobs.put(job.key, hook)
    stores.jobs.ask(job.key, now=b.NOW)
    # A hook answers no question: where questions alone count, it ends no doubt.
    stores.jobs.put(job.key, hook)
    asked = stores.state(job)

    stores.jobs.put(job.key, answer)

    assert asked == JobLife(
        status="running", hook_at=b.NOW - 900, asked_at=b.NOW, asked_since=b.NOW
    )
    assert stores.state(job) == JobLife(
        status="running", hook_at=b.NOW - 900, probe_at=b.NOW, asked_at=b.NOW
    )


def test_nobody_asks_about_a_job_that_has_ended(stores: Stores) -> None:
    stores.jobs.put(b.a_job().key, b.a_state("failed"))

    assert not stores.jobs.ask(b.a_job().key, now=b.NOW)
    assert stores.state(b.a_job()) == b.a_life(b.a_state("failed"))


# --- What DynamoDB alone has: batches, sizes, forms ---


def test_a_job_state_beyond_its_time_is_absent_though_the_table_still_has_it(aws: AWS) -> None:
    kept = DynamoDBJobStates(aws.call, aws.table, bounds=Bounds(job_kept=-1), clock=FakeClock())
    kept.put(b.a_job().key, b.a_state("success"))

    assert aws.decisions().exchange_facts(b.a_job()).state == JobLife()
    assert kept.get(b.a_job().key) == JobLife()


def test_an_exchanges_facts_are_read_in_one_round_trip(aws: AWS) -> None:
    job = b.a_job()
    store = DynamoDBRefreshStore(aws.call, aws.table)
    store.add_to_index({PROJECT: [version(1)]})
    jobs_in(aws.call, aws.table).put(b.a_job().key, b.a_state())
    places = DynamoDBPlaces(aws.call, aws.table)
    places.save_place("main", b.APP, b.a_place())
    places.save_chain("main", b.a_chain())
    stops = (b.a_stop(StopKind.JOB, 1, until=b.NOW + 1),)
    aws.put(operator_items.stops_item("main", stops))
    counted = CountedCall(aws.call)

    facts = aws.decisions(counted).exchange_facts(job)

    assert facts == b.some_facts(state=b.a_state(), stops=stops)
    assert counted.operations == ["BatchGetItem"]


def test_nothing_stored_is_nothing_known_and_missing_stops_are_told(aws: AWS) -> None:
    facts = aws.decisions().exchange_facts(b.a_job())

    assert (facts.project_agents, facts.place, facts.chain) == (frozenset(), None, None)
    assert (facts.state, facts.stops) == (JobLife(), None)


def test_a_relays_facts_are_read_in_one_round_trip(aws: AWS) -> None:
    store = DynamoDBRefreshStore(aws.call, aws.table)
    store.publish(version(1), replaces=None)
    aws.put(agent_items.cluster_item(b.a_cluster()))
    counted = CountedCall(aws.call)

    facts = aws.decisions(counted).relay_facts(b.a_job(), b.PROD)

    assert (facts.snapshot, facts.cluster) == (version(1), b.a_cluster())
    assert counted.operations == ["BatchGetItem"]


@pytest.mark.parametrize(("agents", "round_trips"), [(0, 0), (1, 1), (100, 1), (101, 2)])
def test_snapshots_are_read_by_the_hundred(aws: AWS, agents: int, round_trips: int) -> None:
    store = DynamoDBRefreshStore(aws.call, aws.table)
    stored = {i: b.an_agent(i, version=1) for i in range(1, agents + 1)}
    for snapshot in stored.values():
        store.publish(snapshot, replaces=None)
    counted = CountedCall(aws.call)

    assert aws.decisions(counted).snapshots("main", stored) == stored
    assert len(counted.operations) == round_trips


def test_a_snapshot_that_cannot_be_read_takes_no_other_with_it(aws: AWS) -> None:
    good = b.an_agent(b.PROD, version=1)
    DynamoDBRefreshStore(aws.call, aws.table).publish(good, replaces=None)
    bad = agent_items.snapshot_item(b.an_agent(b.STAGING)) | {"body": {"B": b"not a snapshot"}}
    aws.put(bad)

    snapshots = aws.decisions().snapshots("main", [b.PROD, b.STAGING])

    assert snapshots == {b.PROD: good, b.STAGING: None}


def test_a_place_that_was_fetched_earlier_never_replaces_a_later_one(aws: AWS) -> None:
    places = DynamoDBPlaces(aws.call, aws.table)
    newer = b.a_place(namespace_id=b.TOP, fetched_at=b.NOW + 1)
    places.save_place("main", b.APP, newer)
    places.save_chain("main", b.a_chain(fetched_at=b.NOW + 1))

    places.save_place("main", b.APP, b.a_place())
    places.save_chain("main", b.a_chain())

    facts = aws.decisions().exchange_facts(b.a_job())
    assert (facts.place, facts.chain) == (newer, b.a_chain(fetched_at=b.NOW + 1))


def test_what_an_event_has_marked_is_unknown_until_it_is_fetched_anew(aws: AWS) -> None:
    places = DynamoDBPlaces(aws.call, aws.table)
    places.save_place("main", b.APP, b.a_place())
    places.save_chain("main", b.a_chain())
    counted = CountedCall(aws.call)

    places.mark_place("main", b.APP, at=b.NOW + 1)
    places.mark_chain("main", b.SUB1, at=b.NOW + 1)
    marked = aws.decisions(counted).exchange_facts(b.a_job())
    # A slow look-up that began before the event, or at its very moment, brings nothing back.
    for slow in (b.NOW, b.NOW + 0.5, b.NOW + 1):
        places.save_place("main", b.APP, b.a_place(fetched_at=slow))
        places.save_chain("main", b.a_chain(fetched_at=slow))
    late = aws.decisions().exchange_facts(b.a_job())
    places.save_place("main", b.APP, b.a_place(fetched_at=b.NOW + 2))
    places.save_chain("main", b.a_chain(fetched_at=b.NOW + 2))
    anew = aws.decisions().exchange_facts(b.a_job())

    assert (marked.place, marked.chain, late.place, late.chain) == (None,) * 4
    assert places.places("main", [b.APP]) == {b.APP: b.a_place(fetched_at=b.NOW + 2)}
    assert (anew.place, anew.chain) == (
        b.a_place(fetched_at=b.NOW + 2),
        b.a_chain(fetched_at=b.NOW + 2),
    )


def test_a_mark_makes_no_item(aws: AWS) -> None:
    places = DynamoDBPlaces(aws.call, aws.table)

    places.mark_place("main", b.APP, at=b.NOW)
    places.mark_chain("main", b.SUB1, at=b.NOW)

    answer = aws.call("dynamodb", "Scan", {"TableName": aws.table})
    assert answer["Items"] == []


def test_a_mark_of_a_clock_that_ran_ahead_keeps_nothing_out_for_long(aws: AWS) -> None:
    places = DynamoDBPlaces(aws.call, aws.table)
    places.save_place("main", b.APP, b.a_place())
    places.mark_place("main", b.APP, at=b.NOW + 3600)

    places.save_place("main", b.APP, b.a_place(fetched_at=b.NOW + 2))

    assert places.place("main", b.APP) == b.a_place(fetched_at=b.NOW + 2)


def test_what_a_webhook_reads_is_what_is_stored(aws: AWS) -> None:
    places = DynamoDBPlaces(aws.call, aws.table)
    aws.put(agent_items.config_project_item(b.a_config_project_item()))
    places.save_place("main", b.APP, b.a_place())
    places.save_chain("main", b.a_chain())

    assert (places.place("main", b.APP), places.place("main", 101)) == (b.a_place(), None)
    assert (places.chain("main", b.SUB1), places.chain("main", 3)) == (b.a_chain(), None)
    known = [places.is_config_project("main", i) for i in (b.CONFIG_PROJECT, b.APP)]
    assert known == [True, False]


def test_a_place_that_was_kept_under_a_clock_that_ran_ahead_is_replaced(aws: AWS) -> None:
    places = DynamoDBPlaces(aws.call, aws.table)
    places.save_place("main", b.APP, b.a_place(namespace_id=b.TOP, fetched_at=b.NOW + 3600))

    places.save_place("main", b.APP, b.a_place())

    assert aws.decisions().exchange_facts(b.a_job()).place == b.a_place()


def _large() -> AgentSnapshot:
    """500 projects and 500 groups with long paths that don't compress well."""

    def path(number: int) -> str:
        digest = hashlib.sha512(str(number).encode()).hexdigest()
        return f"top/{digest[:60]}/{digest[60:120]}"

    def entry(number: int) -> Any:
        name = hashlib.sha256(str(number).encode()).hexdigest()
        return b.an_entry(
            path(number),
            access_as=AsIdentity(name, groups=(f"{name}-a",)),
            namespace=name[:40],
            environments=["production", f"review/{name[:20]}/*"],
        )

    return version(
        1,
        projects={i: entry(i) for i in range(500)},
        groups={i: entry(i) for i in range(500, 1000)},
        problems=[
            Problem(code="c", file="f" * 80, line=i, column=1, text=path(i)[:80], fix="y" * 80)
            for i in range(100)
        ],
    )


def test_an_agent_of_500_and_500_entries_fits_one_item(aws: AWS) -> None:
    snapshot = _large()
    item = agent_items.snapshot_item(snapshot)
    size = sum(len(name) + len(next(iter(value.values()))) for name, value in item.items())

    DynamoDBRefreshStore(aws.call, aws.table).publish(snapshot, replaces=None)

    assert size < 400 * 1024
    assert aws.decisions().snapshots("main", [b.PROD]) == {b.PROD: snapshot}


def _keys_of_an_exchange() -> dict[str, Callable[[Any], bool]]:
    prefixes = ("SUBJECT#", "PROJECT#", "NAMESPACE#", "JOB#", "STOPS#")
    return {p: lambda key, p=p: key["pk"]["S"].startswith(p) for p in prefixes}


# --- Counts and claims of the exchange ---


def test_an_id_token_is_taken_once(aws: AWS) -> None:
    redeemed = DynamoDBRedeemedTokens(aws.call, aws.table)

    taken = [redeemed.claim("main", "jti-1", expires_at=b.NOW) for _ in range(3)]

    assert taken == [True, False, False]
    assert redeemed.claim("main", "jti-2", expires_at=b.NOW)
    assert redeemed.claim("other", "jti-1", expires_at=b.NOW)


@pytest.mark.stack
def test_of_fifty_redemptions_at_once_exactly_one_is_answered(ministack: AWSCall) -> None:
    table = f"{TABLE}-{next(_numbers)}"
    create_table(ministack, table)
    deployment = b.a_deployment(b.an_issuer(single_use=True))
    exchange = an_exchange(
        deployment=lambda: deployment,
        verifier=FakeTokenVerifier({"token": b.a_verified_job()}),
        store=FakeExchangeStore(b.some_facts(), [b.an_agent(projects={b.APP: b.an_entry()})]),
        redeemed=DynamoDBRedeemedTokens(ministack, table),
        signer=FakeTokenSigner(),
    )

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(lambda _: exchange.redeem("token"), range(50)))

    assert sum(isinstance(outcome, Exchanged) for outcome in outcomes) == 1


def test_a_projects_requests_are_counted_up_to_the_limit(aws: AWS) -> None:
    counter = DynamoDBExchangeCounter(aws.call, aws.table)

    def counted(issuer: str = "main", project_id: int = 1, window: int = 7) -> bool:
        return counter.count(issuer, project_id, window=window, limit=2, ends_at=b.NOW)

    assert [counted() for _ in range(4)] == [True, True, False, False]
    assert [counted("other"), counted(project_id=11), counted(window=8)] == [True, True, True]


@pytest.mark.stack
def test_requests_at_once_are_counted_to_the_last(ministack: AWSCall) -> None:
    table = f"{TABLE}-{next(_numbers)}"
    create_table(ministack, table)
    counter = DynamoDBExchangeCounter(ministack, table)

    with ThreadPoolExecutor(30) as pool:
        counted = pool.map(
            lambda _: counter.count("main", 1, window=7, limit=20, ends_at=b.NOW), range(60)
        )

    assert sum(counted) == 20


def test_a_table_that_cannot_claim_is_unavailable() -> None:
    call = RefusingCall("PutItem", "ProvisionedThroughputExceededException")

    with pytest.raises(Unavailable):
        DynamoDBRedeemedTokens(call, TABLE).claim("main", "jti", expires_at=b.NOW)


def test_a_table_that_cannot_count_is_unavailable() -> None:
    call = RefusingCall("UpdateItem", "ProvisionedThroughputExceededException")

    with pytest.raises(Unavailable):
        DynamoDBExchangeCounter(call, TABLE).count("main", 1, window=7, limit=1, ends_at=b.NOW)


@pytest.mark.parametrize("prefix", _keys_of_an_exchange())
def test_a_key_left_unprocessed_once_is_read_again(aws: AWS, prefix: str) -> None:
    DynamoDBPlaces(aws.call, aws.table).save_place("main", b.APP, b.a_place())
    aws.put(operator_items.stops_item("main", ()))
    call = UnprocessedCall(aws.call, _keys_of_an_exchange()[prefix], times=1)

    facts = aws.decisions(call).exchange_facts(b.a_job())

    assert (facts.place, facts.stops) == (b.a_place(), ())


@pytest.mark.parametrize("prefix", _keys_of_an_exchange())
def test_a_key_left_unprocessed_twice_is_unknown_and_never_absent(aws: AWS, prefix: str) -> None:
    call = UnprocessedCall(aws.call, _keys_of_an_exchange()[prefix], times=2)

    with pytest.raises(Unavailable):
        aws.decisions(call).exchange_facts(b.a_job())


@pytest.mark.parametrize("read", ["snapshots", "agents_of_groups", "relay_facts"])
def test_other_reads_never_take_an_unprocessed_key_for_absent(aws: AWS, read: str) -> None:
    store = aws.decisions(UnprocessedCall(aws.call, lambda _key: True, times=2))
    reads: dict[str, Callable[[], Any]] = {
        "snapshots": lambda: store.snapshots("main", [b.PROD]),
        "agents_of_groups": lambda: store.agents_of_groups("main", [b.TOP]),
        "relay_facts": lambda: store.relay_facts(b.a_job(), b.PROD),
    }

    with pytest.raises(Unavailable):
        reads[read]()


ACTS: dict[str, tuple[str, Callable[[AWSCall], Any]]] = {
    "facts": ("BatchGetItem", lambda call: _decisions(call).exchange_facts(b.a_job())),
    "snapshot": ("GetItem", lambda call: _refreshes(call).snapshot("main", 1)),
    "cluster": ("GetItem", lambda call: _refreshes(call).cluster("main", 1)),
    "project": ("GetItem", lambda call: _refreshes(call).config_project("main", 1)),
    "publish": (
        "TransactWriteItems",
        lambda call: _refreshes(call).publish(version(1), replaces=None),
    ),
    "add": ("UpdateItem", lambda call: _refreshes(call).add_to_index({PROJECT: [version(1)]})),
    "remove": (
        "UpdateItem",
        lambda call: _refreshes(call).remove_from_index({PROJECT: [version(1)]}),
    ),
    "begin": ("UpdateItem", lambda call: _refreshes(call).begin_reading("main", 1, after=0)),
    "doubt": ("UpdateItem", lambda call: _refreshes(call).note_doubt(version(1), since=b.NOW)),
    "projects": ("Query", lambda call: list(_refreshes(call).all())),
    "job": (
        "UpdateItem",
        lambda call: jobs_in(call).put(b.a_job().key, b.a_state()),
    ),
    "mark": ("UpdateItem", lambda call: DynamoDBPlaces(call, TABLE).mark_place("main", 1, at=1)),
    "where": ("GetItem", lambda call: DynamoDBPlaces(call, TABLE).place("main", 1)),
    "place": (
        "PutItem",
        lambda call: DynamoDBPlaces(call, TABLE).save_place("main", 1, b.a_place()),
    ),
}


def _decisions(call: AWSCall) -> DecisionStore:
    return DecisionStore(call, TABLE, clock=FakeClock())


def _refreshes(call: AWSCall) -> DynamoDBRefreshStore:
    return DynamoDBRefreshStore(call, TABLE)


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "AccessDeniedException"]
)
@pytest.mark.parametrize("act", ACTS)
def test_a_table_that_refuses_is_unavailable(act: str, code: str) -> None:
    operation, run = ACTS[act]

    with pytest.raises(Unavailable):
        run(RefusingCall(operation, code))


def _written(aws: AWS) -> dict[str, items.Item]:
    return {
        "snapshot": agent_items.snapshot_item(version(1)),
        "cluster": agent_items.cluster_item(b.a_cluster()),
        "place": items.place_item("main", b.APP, b.a_place()),
        "chain": items.chain_item("main", b.a_chain()),
        "state": job_item(b.a_job().key, b.a_state("success"), expires_at=int(b.NOW) + 9),
        "stops": operator_items.stops_item("main", ()),
    }


@pytest.mark.parametrize("form", [{"N": "2"}, {"N": "0"}, {"S": "1"}, None])
@pytest.mark.parametrize("name", ["snapshot", "cluster", "place", "chain", "state", "stops"])
def test_an_item_of_an_unknown_form_is_unknown_and_never_absent(
    aws: AWS, name: str, form: dict[str, str] | None
) -> None:
    item = dict(_written(aws)[name])
    del item["v"]
    aws.put(item if form is None else item | {"v": form})

    with pytest.raises(Unavailable):
        aws.decisions().relay_facts(b.a_job(), b.PROD)


@pytest.mark.parametrize("name", ["snapshot", "cluster", "place", "chain", "state", "stops"])
def test_an_item_that_lacks_an_attribute_is_unknown_and_never_absent(aws: AWS, name: str) -> None:
    whole = _written(aws)[name]
    needed = set(whole) - {"pk", "sk", "ca", "finished_at"}
    for attribute in sorted(needed):
        aws.put({key: value for key, value in whole.items() if key != attribute})
        with pytest.raises(Unavailable):
            aws.decisions().relay_facts(b.a_job(), b.PROD)


def test_configuration_projects_are_listed_over_many_pages(aws: AWS) -> None:
    for number in range(1, 31):
        aws.put(agent_items.config_project_item(b.a_config_project_item(project_id=number)))

    def small_pages(service: str, operation: str, request: Any) -> dict[str, Any]:
        more = {"Limit": 7} if operation == "Query" else {}
        return aws.call(service, operation, {**request, **more})

    listed = DynamoDBRefreshStore(small_pages, aws.table).all()

    assert sorted(listed) == [("main", number) for number in range(1, 31)]


@pytest.mark.parametrize("broken", [{"agents": {"S": "none"}}, {"v": {"N": "99"}}])
def test_a_configuration_project_that_cannot_be_read_holds_no_other_up(
    aws: AWS, broken: dict[str, Any]
) -> None:
    for number in (1, 2, 3):
        project = b.a_config_project_item({number: "prod"}, project_id=number)
        aws.put(agent_items.config_project_item(project) | (broken if number == 2 else {}))
    store = DynamoDBRefreshStore(aws.call, aws.table)

    # Its own refresh tells of it.
    assert sorted(store.all()) == [("main", 1), ("main", 2), ("main", 3)]
    agents = store.agents()
    assert sorted([next(agents), next(agents)]) == [("main", 1), ("main", 3)]
    with pytest.raises(Unavailable):
        next(agents)
    with pytest.raises(Unavailable):
        store.config_project("main", 2)


# --- The deployment ---


def a_reader(aws: AWS, call: AWSCall | None = None) -> tuple[DeploymentReader, FakeClock]:
    clock = FakeClock()
    return DeploymentReader(call or aws.call, aws.table, bounds=BOUNDS, clock=clock), clock


def test_a_deployment_is_read_as_it_was_written(aws: AWS) -> None:
    main, other = b.an_issuer(ca="PEM"), b.an_issuer("other", is_default=False)
    key = b.a_public_key(retire_after=b.NOW + 1)
    for item in (
        operator_items.issuer_item(main),
        operator_items.issuer_item(other),
        operator_items.public_key_item(key),
    ):
        aws.put(item)
    aws.put(operator_items.settings_item(PublicSettings(base_url=b.BASE_URL, ca="PEM")))
    for project_id, root in ((50, "top"), (51, None)):
        item = agent_items.config_project_item(b.a_config_project_item(project_id=project_id))
        aws.put(item | ({"root_path": {"S": root}} if root else {}))

    read, _ = a_reader(aws)

    assert read() == b.a_deployment(main, other, ca="PEM", keys=[key])


def test_an_empty_table_is_a_deployment_that_trusts_nobody(aws: AWS) -> None:
    read, _ = a_reader(aws)

    deployment = read()

    assert deployment.base_url is None
    assert (dict(deployment.issuers), deployment.keys, deployment.roots) == ({}, (), frozenset())


def test_a_deployment_is_read_again_when_it_is_too_old(aws: AWS) -> None:
    read, clock = a_reader(aws)
    read()
    aws.put(operator_items.issuer_item(b.an_issuer()))

    clock.advance(BOUNDS.issuers_max_age)
    assert dict(read().issuers) == {}
    clock.advance(1)

    assert set(read().issuers) == {"main"}


def test_a_deployment_that_was_read_before_the_clock_was_set_back_is_read_again(aws: AWS) -> None:
    aws.put(operator_items.issuer_item(b.an_issuer()))
    read, clock = a_reader(aws)
    read()
    aws.put(operator_items.issuer_item(b.an_issuer("other", is_default=False)))

    clock.advance(-3600)

    assert set(read().issuers) == {"main", "other"}


def test_an_issuer_is_not_trusted_longer_than_it_can_be_read(aws: AWS) -> None:
    aws.put(operator_items.issuer_item(b.an_issuer()))
    broken = RefusingCall("Query", "InternalServerError")
    away: list[bool] = []

    def call(service: str, operation: str, request: Any) -> dict[str, Any]:
        refuses = away and operation == "Query"
        return (broken if refuses else aws.call)(service, operation, request)

    read, clock = a_reader(aws, call)
    read()
    away.append(True)
    clock.advance(BOUNDS.issuers_max_age + 1)

    with pytest.raises(Unavailable):
        read()
    away.clear()
    assert set(read().issuers) == {"main"}


def test_what_ends_access_is_read_consistently(aws: AWS) -> None:
    """A stop or a job's end that was just written isn't missed by the next reading."""
    consistent: list[bool] = []

    def call(service: str, operation: str, request: Any) -> dict[str, Any]:
        assert operation == "BatchGetItem"
        consistent.extend(table["ConsistentRead"] for table in request["RequestItems"].values())
        return aws.call(service, operation, request)

    aws.decisions(call).exchange_facts(b.a_job())
    aws.decisions(call).relay_facts(b.a_job(), b.PROD)
    DynamoDBJobStates(call, aws.table, bounds=BOUNDS, clock=FakeClock()).get(b.a_job().key)

    assert len(consistent) >= 3
    assert all(consistent)


def test_a_redeemed_token_is_kept_longer_than_it_is_good(aws: AWS) -> None:
    DynamoDBRedeemedTokens(aws.call, aws.table).claim("main", "kept", expires_at=b.NOW)

    key = items.redeemed_key("main", "kept")
    item = aws.call("dynamodb", "GetItem", {"TableName": aws.table, "Key": key})["Item"]

    assert int(item["expires_at"]["N"]) > b.NOW


def test_whom_a_deployment_trusts_is_read_consistently(aws: AWS) -> None:
    """An issuer that was just removed, or a key that was just replaced, isn't read once more."""
    consistent: dict[str, bool] = {}

    def call(service: str, operation: str, request: Any) -> dict[str, Any]:
        key = request.get("Key") or {"pk": request["ExpressionAttributeValues"][":pk"]}
        consistent[key["pk"]["S"]] = request["ConsistentRead"]
        return aws.call(service, operation, request)

    a_reader(aws, call)[0]()

    assert consistent == {"SETTINGS": True, "ISSUERS": True, "KEYS": True, "CONFIG_PROJECTS": False}


@pytest.mark.parametrize("name", ["settings", "issuer", "key"])
def test_a_deployments_item_of_an_unknown_form_is_unknown(aws: AWS, name: str) -> None:
    item = {
        "settings": operator_items.settings_item(PublicSettings(base_url=b.BASE_URL)),
        "issuer": operator_items.issuer_item(b.an_issuer()),
        "key": operator_items.public_key_item(b.a_public_key()),
    }[name]
    aws.put(item | {"v": {"N": "2"}})
    read, _ = a_reader(aws)

    with pytest.raises(Unavailable):
        read()


def test_a_condition_that_fails_is_no_fault(aws: AWS) -> None:
    with pytest.raises(AWSError) as refused:
        aws.call(
            "dynamodb",
            "PutItem",
            {
                "TableName": aws.table,
                "Item": items.key("a", "b"),
                "ConditionExpression": "attribute_exists(pk)",
            },
        )

    assert refused.value.code == "ConditionalCheckFailedException"


def test_the_stored_large_snapshot_is_unpacked_within_a_bound() -> None:
    item = agent_items.snapshot_item(_large())
    bomb = items.compressed_body({"x": "y" * (17 * 1024 * 1024)})

    with pytest.raises(Unavailable, match="larger"):
        agent_items.snapshot_of(item | bomb)
    assert sys.getsizeof(bomb["body"]["B"]) < 100_000
    assert replace(_large(), version=2) != _large()
