"""The exchange's and the relay's reads of the table: few round trips, all of them consistent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.batch_get import batch_get
from jobgate.core.errors import Unavailable
from jobgate.ports.exchange import ExchangeFacts, ExchangeStore
from jobgate.ports.relay import RelayFacts, RelayStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.adapters.batch_get import Found
    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import JobIdentity
    from jobgate.ports import Clock


class DecisionStore(ExchangeStore, RelayStore):
    """One table. A key that stays unprocessed is unknown, not absent: Unavailable.

    An issuer's stops are one item for all its jobs, and one item has a limit of reads a second
    (ADR 22): the relay's are read anew when they are `stops_believed` seconds old.
    """

    def __init__(
        self, call: AWSCall, table: str, *, clock: Clock, stops_believed: float = 0
    ) -> None:
        self._call = call
        self._table = table
        self._clock = clock
        self._stops_believed = stops_believed
        self._stops: dict[str, tuple[float, items.Item | None]] = {}

    def exchange_facts(self, job: JobIdentity) -> ExchangeFacts:
        subject = items.subject_key(job.issuer, "project", job.project_id)
        found = self._get([subject, *_of_job(job)])
        return ExchangeFacts(
            project_agents=items.agents_of(found(subject)), **self._job_facts(found, job)
        )

    def agents_of_groups(self, issuer: str, group_ids: Sequence[int]) -> frozenset[int]:
        subjects = [items.subject_key(issuer, "group", group_id) for group_id in group_ids]
        subjects.append(items.subject_key(issuer, "instance", 0))
        found = self._get(subjects)
        return frozenset().union(*(items.agents_of(found(subject)) for subject in subjects))

    def snapshots(
        self, issuer: str, agent_ids: Iterable[int]
    ) -> Mapping[int, AgentSnapshot | None]:
        keys = {agent_id: items.snapshot_key(issuer, agent_id) for agent_id in sorted(agent_ids)}
        found = self._get(list(keys.values()))
        stored = {i: item for i, key in keys.items() if (item := found(key)) is not None}
        return {i: _readable(item) for i, item in stored.items()}

    def relay_facts(self, job: JobIdentity, agent_id: int) -> RelayFacts:
        snapshot = items.snapshot_key(job.issuer, agent_id)
        cluster = items.cluster_key(job.issuer, agent_id)
        stops_key, now = operator_items.stops_key(job.issuer), self._clock()
        read_at, stops = self._stops.get(job.issuer, (-math.inf, None))
        keys = [snapshot, cluster, *_of_job(job)]
        # A clock that was set back makes stops from the future: these aren't young.
        if 0 <= now - read_at < self._stops_believed:
            keys.remove(stops_key)
            found = self._get(keys)
        else:
            found = self._get(keys)
            read_at, stops = self._stops[job.issuer] = now, found(stops_key)
        facts = self._job_facts(found, job) | {"stops": operator_items.stops_of(stops)}
        return RelayFacts(
            snapshot=agent_items.snapshot_of(found(snapshot)),
            cluster=agent_items.cluster_of(found(cluster)),
            stops_read_at=read_at,
            **facts,
        )

    def _job_facts(self, found: Found, job: JobIdentity) -> dict[str, Any]:
        place, chain, state, stops = (found(key) for key in _of_job(job))
        return {
            "place": items.place_of(place),
            "chain": items.chain_of(chain),
            "state": items.job_life_of(state, now=self._clock()),
            "stops": operator_items.stops_of(stops),
        }

    def _get(self, keys: Sequence[items.Item]) -> Found:
        return batch_get(self._call, self._table, keys)


def _readable(item: items.Item) -> AgentSnapshot | None:
    try:
        return agent_items.snapshot_of(item)
    except Unavailable:
        return None


def _of_job(job: JobIdentity) -> tuple[items.Item, ...]:
    return (
        items.place_key(job.issuer, job.project_id),
        items.chain_key(job.issuer, job.namespace_id),
        items.job_key(job.key),
        operator_items.stops_key(job.issuer),
    )
