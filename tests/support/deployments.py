"""A deployment of many agents in a table in memory, and an exchange that counts what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.decision_store import DecisionStore
from jobgate.adapters.job_states import DynamoDBJobStates
from jobgate.adapters.place_store import DynamoDBPlaces
from jobgate.core.bounds import Bounds
from jobgate.core.errors import Unavailable
from jobgate.core.settings import Settings
from jobgate.usecases.exchange import Exchanged
from jobgate.usecases.lookups import LazyLookups

from tests.support import builders as b
from tests.support.exchanges import an_exchange
from tests.support.fakes import FakeClock, FakeTokenVerifier, a_watch
from tests.support.stores import job_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.ports.gitlab import GitLabOfJobs
    from jobgate.usecases.exchange import Exchange

_TABLE = "jobgate"
_TOKEN = "id-token.of.the-job"
# Far from the ids of the default instance.
_CANDIDATES, _STRANGERS, _STRANGERS_PROJECTS = 10_000, 100_000, 1_000_000
_KINDS = ("project", "group", "instance")


@dataclass(frozen=True)
class Reads:
    """What an exchange read; `items` counts those that were there, `keys` those asked for."""

    round_trips: int
    keys: int
    items: int
    agents: int


class CountingTable:
    """An AWSCall that answers BatchGetItem from memory, and counts."""

    def __init__(self, stored: Iterable[items.Item]) -> None:
        self._items = {_key(item): item for item in stored}
        self.start()

    def start(self) -> None:
        """Count from nought."""
        self.round_trips = self.keys = self.items = 0

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if (service, operation) == ("dynamodb", "UpdateItem"):
            # Whether GitLab may be asked about a job of which nothing was heard: the first may.
            self.round_trips += 1
            return {}
        assert (service, operation) == ("dynamodb", "BatchGetItem"), operation
        keys = request["RequestItems"][_TABLE]["Keys"]
        assert len(keys) <= 100
        found = [self._items[_key(key)] for key in keys if _key(key) in self._items]
        self.round_trips += 1
        self.keys += len(keys)
        self.items += len(found)
        return {"Responses": {_TABLE: found}}


class ManyAgents:
    """One job that `candidates` agents are about, among `agents` agents of the deployment.

    Project, group and instance entries name the candidates in turn; all others are of other
    projects. Each has a configuration project of its own.
    """

    def __init__(self, *, agents: int, candidates: int) -> None:
        numbers = range(candidates)
        stored = [item for n in numbers for item in _candidate(_CANDIDATES + n, _KINDS[n % 3])]
        for n in range(agents - candidates):
            stored += _stranger(_STRANGERS + n, _STRANGERS_PROJECTS + n)
        for place, kind in enumerate(_KINDS):
            ids = [_CANDIDATES + n for n in numbers if n % 3 == place]
            stamps = {items.stamp(agent_id): {"N": "1"} for agent_id in ids}
            subject_id = {"project": b.APP, "group": b.TOP, "instance": 0}[kind]
            stored.append({**items.subject_key("main", kind, subject_id), **stamps})
        stored += [
            items.place_item("main", b.APP, b.a_place()),
            items.chain_item("main", b.a_chain()),
            job_item(b.a_job().key, b.a_state(), expires_at=int(b.NOW) + 3600),
            operator_items.stops_item("main", ()),
        ]
        self.table = CountingTable(stored)
        self.exchange = _exchange(self.table)

    def reads(self) -> Reads:
        """What one exchange reads; the first of a cold function reads more than the later ones."""
        self.table.start()
        exchanged = self.exchange.redeem(_TOKEN)
        assert isinstance(exchanged, Exchanged), exchanged
        table = self.table
        return Reads(table.round_trips, table.keys, table.items, len(exchanged.grants))


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _candidate(agent_id: int, kind: str) -> list[items.Item]:
    entry = b.an_entry()
    by_kind: dict[str, dict[str, Any]] = {
        "project": {"projects": {b.APP: entry}},
        "group": {"groups": {b.TOP: entry}},
        "instance": {"projects": {b.APP: entry}, "instance": entry},
    }
    return _stored(agent_id, by_kind[kind])


def _stranger(agent_id: int, project_id: int) -> list[items.Item]:
    subject = items.subject_key("main", "project", project_id)
    listed = _stored(agent_id, {"projects": {project_id: b.an_entry("top/other")}})
    return [*listed, {**subject, items.stamp(agent_id): {"N": "1"}}]


def _stored(agent_id: int, entries: Mapping[str, Any]) -> list[items.Item]:
    """An agent and where its configuration project is, which has the agent's number."""
    agent = b.an_agent(
        agent_id,
        name=f"a{agent_id}",
        config_project=b.a_config_project(agent_id, path=f"top/agents/{agent_id}"),
        **entries,
    )
    return [agent_items.snapshot_item(agent), items.place_item("main", agent_id, b.a_place())]


def _exchange(table: CountingTable) -> Exchange:
    def no_gitlab(_alias: str) -> GitLabOfJobs:
        raise Unavailable("nothing here needs GitLab")

    settings, bounds, clock = Settings(), Bounds(), FakeClock()
    deployment = b.a_deployment()
    return an_exchange(
        deployment=lambda: deployment,
        verifier=FakeTokenVerifier({_TOKEN: b.a_verified_job()}),
        store=DecisionStore(table, _TABLE, clock=clock),
        lookups=LazyLookups(
            lambda: deployment,
            no_gitlab,
            DynamoDBPlaces(table, _TABLE),
            a_watch(clock, jobs=DynamoDBJobStates(table, _TABLE, bounds=bounds, clock=clock)),
            settings=settings,
            bounds=bounds,
            clock=clock,
        ),
        settings=settings,
        bounds=bounds,
        clock=clock,
    )
