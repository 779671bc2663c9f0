"""The subject index and each agent's list of its subjects, which is written first."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items
from jobgate.adapters.batch_get import batch_get
from jobgate.adapters.conditional_writes import ConditionalWrites, newest_check

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports.refresh import IndexChange, Subject

_STAMPS_AT_ONCE = 50  # an expression holds 4 KB
_FEW = 16  # subjects that are written one after another
_WRITERS = 8  # boto3 keeps ten connections


class DynamoDBSubjectIndex:
    """The index's part of `RefreshStore`."""

    def __init__(self, call: AWSCall, table: str) -> None:
        self._call = call
        self._table = table
        self._writes = ConditionalWrites(call, table)

    def add_to_index(self, named: IndexChange) -> None:
        for snapshot, subjects in by_agent(named):
            self._list(snapshot, subjects)
        self._stamp(named, "SET", " = {v}", "(attribute_not_exists({a}) OR {a} < {v})")

    def remove_from_index(self, gone: IndexChange, *, reading: int | None = None) -> None:
        self._stamp(gone, "REMOVE", "", "{a} <= {v}", reading=reading)

    def indexed(
        self, issuer: str, subjects: Collection[Subject]
    ) -> Mapping[Subject, Mapping[int, int]]:
        keys = {s: items.subject_key(issuer, s.kind, s.id) for s in subjects}
        found = batch_get(self._call, self._table, list(keys.values()))
        return {subject: items.stamps_of(found(key)) for subject, key in keys.items()}

    def listed(self, issuer: str, agent_ids: Iterable[int]) -> Mapping[int, frozenset[Subject]]:
        keys = {i: items.list_key(issuer, i) for i in agent_ids}
        found = batch_get(self._call, self._table, list(keys.values()))
        return {i: agent_items.listed_of(found(key)) for i, key in keys.items()}

    def unlist(
        self, snapshot: AgentSnapshot, subjects: Collection[Subject], *, reading: int | None = None
    ) -> None:
        self._writes.update(
            {
                "Key": items.list_key(snapshot.issuer, snapshot.agent_id),
                "UpdateExpression": "DELETE subjects :subjects",
                "ConditionExpression": "#v <= :v",
                "ExpressionAttributeNames": {"#v": "version"},
                "ExpressionAttributeValues": {
                    ":subjects": agent_items.subjects_value(subjects),
                    ":v": {"N": str(snapshot.version)},
                },
            },
            while_newest=_check(snapshot, reading),
        )

    def _stamp(
        self,
        change: IndexChange,
        verb: str,
        effect: str,
        condition: str,
        *,
        reading: int | None = None,
    ) -> None:
        """One update a subject for all its agents; one by one where a newer stamp is among them."""

        def update(subject: Subject, agents: Sequence[AgentSnapshot]) -> bool:
            numbered = range(len(agents))
            forms = [{"a": f"#a{n}", "v": f":v{n}"} for n in numbered]
            effects = ", ".join(f"{form['a']}{effect.format(**form)}" for form in forms)
            request = {
                "Key": items.subject_key(agents[0].issuer, subject.kind, subject.id),
                "UpdateExpression": f"{verb} {effects}",
                "ConditionExpression": " AND ".join(condition.format(**form) for form in forms),
                "ExpressionAttributeNames": {
                    f"#a{n}": items.stamp(agents[n].agent_id) for n in numbered
                },
                "ExpressionAttributeValues": {
                    f":v{n}": {"N": str(agents[n].version)} for n in numbered
                },
            }
            return self._writes.update(request, while_newest=_check(agents[0], reading))

        def stamp(entry: tuple[Subject, Sequence[AgentSnapshot]]) -> None:
            subject, agents = entry
            for start in range(0, len(agents), _STAMPS_AT_ONCE):
                some = agents[start : start + _STAMPS_AT_ONCE]
                if not update(subject, some) and len(some) > 1:
                    for agent in some:
                        update(subject, [agent])

        if len(change) <= _FEW:
            for entry in change.items():
                stamp(entry)
            return
        # A configuration may name a thousand subjects, and a refresh has less than a minute.
        with ThreadPoolExecutor(_WRITERS) as writers:
            for _ in writers.map(stamp, change.items()):
                pass

    def _list(self, snapshot: AgentSnapshot, subjects: Collection[Subject]) -> None:
        """Add subjects to an agent's list, with the newest version that did so."""
        request: dict[str, Any] = {
            "Key": items.list_key(snapshot.issuer, snapshot.agent_id),
            "UpdateExpression": "SET v = :form, #v = :v ADD subjects :subjects",
            "ConditionExpression": "attribute_not_exists(#v) OR #v <= :v",
            "ExpressionAttributeNames": {"#v": "version"},
            "ExpressionAttributeValues": {
                ":subjects": agent_items.subjects_value(subjects),
                ":v": {"N": str(snapshot.version)},
                ":form": items.number(items.VERSION),
            },
        }
        if not self._writes.update(request):
            # A newer one has added some before: its version stays.
            del request["ConditionExpression"], request["ExpressionAttributeNames"]
            del request["ExpressionAttributeValues"][":v"]
            request["UpdateExpression"] = "SET v = :form ADD subjects :subjects"
            self._writes.update(request)


def by_agent(change: IndexChange) -> Iterator[tuple[AgentSnapshot, set[Subject]]]:
    """Each agent of a change with its subjects."""
    agents: dict[int, AgentSnapshot] = {}
    subjects: dict[int, set[Subject]] = defaultdict(set)
    for subject, some in change.items():
        for agent in some:
            agents[agent.agent_id] = agent
            subjects[agent.agent_id].add(subject)
    for agent_id, agent in agents.items():
        yield agent, subjects[agent_id]


def _check(snapshot: AgentSnapshot, reading: int | None) -> dict[str, Any] | None:
    if reading is None:
        return None
    return newest_check(snapshot.issuer, snapshot.config_project.project_id, reading)
