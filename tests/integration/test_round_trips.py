"""How many round trips to the table a decision takes; a job waits for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.decision_store import DecisionStore
from jobgate.adapters.job_states import DynamoDBJobStates
from jobgate.adapters.place_store import DynamoDBPlaces
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from jobgate.core.bounds import Bounds
from jobgate.core.errors import Unavailable
from jobgate.core.settings import Settings
from jobgate.ports.refresh import Subject
from jobgate.usecases.exchange import Exchanged
from jobgate.usecases.lookups import LazyLookups
from jobgate.usecases.relay_facts import RelayFactsCache

from tests.support import builders as b
from tests.support.exchanges import an_exchange
from tests.support.fakes import FakeClock, FakeTokenVerifier, a_watch
from tests.support.stores import TABLE, CountedCall, job_item

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall
    from jobgate.ports.gitlab import GitLabOfJobs
    from jobgate.usecases.exchange import Exchange

FIRST_PROJECT = 5000


def no_gitlab(_alias: str) -> GitLabOfJobs:
    raise Unavailable("everything that is needed is stored and fresh")


def lookups(call: AWSCall, clock: FakeClock) -> LazyLookups:
    return LazyLookups(
        b.a_deployment,
        no_gitlab,
        DynamoDBPlaces(call, TABLE),
        a_watch(clock, jobs=DynamoDBJobStates(call, TABLE, bounds=Bounds(), clock=clock)),
        settings=Settings(),
        bounds=Bounds(),
        clock=clock,
    )


def store_agents(call: AWSCall, count: int, *, projects: int, subject: Subject) -> None:
    """`count` agents of `projects` configuration projects, all of them for the default job."""
    store, places = DynamoDBRefreshStore(call, TABLE), DynamoDBPlaces(call, TABLE)
    entry = {subject.id: b.an_entry()}
    for number in range(count):
        project_id = FIRST_PROJECT + number % projects
        agent = b.an_agent(
            number + 1,
            name=f"agent-{number}",
            config_project=b.a_config_project(project_id),
            projects=entry if subject.kind == "project" else {},
            groups=entry if subject.kind == "group" else {},
        )
        store.add_to_index({subject: [agent]})
        store.publish(agent, replaces=None)
        places.save_place("main", project_id, b.a_config_place())
    places.save_place("main", b.APP, b.a_place())
    places.save_chain("main", b.a_chain())
    # Heard of by its hook: GitLab needn't be asked whether it runs.
    state = job_item(b.a_job().key, b.a_state(), expires_at=int(b.NOW) + 3600)
    for item in (operator_items.stops_item("main", ()), state):
        call("dynamodb", "PutItem", {"TableName": TABLE, "Item": item})


def exchange_on(call: AWSCall) -> Exchange:
    clock = FakeClock()
    return an_exchange(
        verifier=FakeTokenVerifier({"token": b.a_verified_job()}),
        store=DecisionStore(call, TABLE, clock=clock),
        lookups=lookups(call, clock),
        clock=clock,
    )


@pytest.mark.parametrize("kind", ["project", "group"])
@pytest.mark.parametrize(("count", "projects"), [(1, 1), (100, 1), (100, 100)])
def test_a_warm_exchange_takes_three_round_trips_for_a_hundred_candidates(
    call: AWSCall, count: int, projects: int, kind: str
) -> None:
    subject = Subject(kind, b.APP if kind == "project" else b.TOP)
    store_agents(call, count, projects=projects, subject=subject)
    counted = CountedCall(call)
    exchange = exchange_on(counted)

    trips = []
    for _ in range(2):
        counted.operations.clear()
        outcome = exchange.redeem("token")
        assert isinstance(outcome, Exchanged)
        assert len(outcome.grants) == count
        trips.append(counted.operations[:])

    # A function that has just started also reads where the configuration projects are.
    assert trips == [["BatchGetItem"] * 4, ["BatchGetItem"] * 3]


def test_a_warm_relay_takes_one_round_trip(call: AWSCall) -> None:
    store_agents(call, 1, projects=1, subject=Subject("project", b.APP))
    cluster = agent_items.cluster_item(b.a_cluster(1, config_project_id=FIRST_PROJECT))
    call("dynamodb", "PutItem", {"TableName": TABLE, "Item": cluster})
    counted, clock = CountedCall(call), FakeClock()
    facts = RelayFactsCache(
        DecisionStore(counted, TABLE, clock=clock),
        lookups(counted, clock),
        bounds=Bounds(),
        clock=clock,
    )

    trips = []
    for _ in range(3):
        counted.operations.clear()
        known = facts.of(b.a_job(), 1)
        assert known.surroundings.config_places == {FIRST_PROJECT: b.a_config_place()}
        trips.append(len(counted.operations))
        clock.advance(Bounds().relay_cache)

    assert trips == [2, 1, 1]


def test_a_place_that_cannot_be_read_is_left_out_and_takes_no_other_with_it(call: AWSCall) -> None:
    places = DynamoDBPlaces(call, TABLE)
    places.save_place("main", 1, b.a_place())
    broken = items.place_item("main", 2, b.a_place()) | {"v": {"N": "9"}}
    call("dynamodb", "PutItem", {"TableName": TABLE, "Item": broken})

    assert places.places("main", [1, 2, 3]) == {1: b.a_place()}
