"""A refresh's reads and writes: the index is always a superset, the snapshot is one item."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.batch_get import batch_get
from jobgate.core.errors import Conflict, Unavailable
from jobgate.ports import ConfigProjectItem, ConfigProjects, RefreshStore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.agent import AgentSnapshot, ClusterConnection
    from jobgate.ports import IndexChange, Subject

_CONDITION_FAILED = "ConditionalCheckFailedException"
_OVERTAKEN = frozenset({_CONDITION_FAILED, "ConditionalCheckFailed", "TransactionConflict"})
_PAGES_MAX = 100
_STAMPS_AT_ONCE = 50  # an expression holds 4 KB
_FEW = 16  # subjects that are written one after another
_WRITERS = 8  # boto3 keeps ten connections


class DynamoDBRefreshStore(RefreshStore, ConfigProjects):
    """The refresh's items in the table."""

    def __init__(self, call: AWSCall, table: str) -> None:
        self._call = call
        self._table = table

    def all(self) -> Iterator[tuple[str, int]]:
        request: dict[str, Any] = {
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": "CONFIG_PROJECTS"}},
        }
        for _ in range(_PAGES_MAX):
            answer = self._do("Query", request)
            for item in answer["Items"]:
                project = agent_items.config_project_of(item)
                if project is not None:
                    yield project.issuer, project.project_id
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        raise Unavailable("more pages of configuration projects than can be read")

    def config_project(self, issuer: str, project_id: int) -> ConfigProjectItem | None:
        item = self._item(items.config_project_key(issuer, project_id))
        return agent_items.config_project_of(item)

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None:
        return agent_items.cluster_of(self._item(items.cluster_key(issuer, agent_id)))

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None:
        return agent_items.snapshot_of(self._item(items.snapshot_key(issuer, agent_id)))

    def begin_reading(self, issuer: str, project_id: int, *, after: int) -> int:
        request = {
            "Key": items.config_project_key(issuer, project_id),
            "UpdateExpression": "SET reading = :next",
            "ConditionExpression": f"attribute_exists(pk) AND {_is_newest(after)}",
            "ExpressionAttributeValues": _newest(after) | {":next": {"N": str(after + 1)}},
        }
        if not self._holds("UpdateItem", request):
            raise Conflict("another reading of this project has begun meanwhile")
        return after + 1

    def add_to_index(self, named: IndexChange) -> None:
        for snapshot, subjects in by_agent(named):
            self._list(snapshot, subjects)
        self._stamp(named, "SET", " = {v}", "(attribute_not_exists({a}) OR {a} < {v})")

    def remove_from_index(self, gone: IndexChange) -> None:
        self._stamp(gone, "REMOVE", "", "{a} <= {v}")

    def publish(self, snapshot: AgentSnapshot, *, replaces: int | None, reading: int = 0) -> None:
        put: dict[str, Any] = {
            "TableName": self._table,
            "Item": agent_items.snapshot_item(snapshot),
        }
        if replaces is None:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            put["ConditionExpression"] = "#v = :v"
            put["ExpressionAttributeNames"] = {"#v": "version"}
            put["ExpressionAttributeValues"] = {":v": {"N": str(replaces)}}
        project_id = snapshot.config_project.project_id
        check: dict[str, Any] = {
            "TableName": self._table,
            "Key": items.config_project_key(snapshot.issuer, project_id),
            "ConditionExpression": _is_newest(reading),
        }
        if newest := _newest(reading):
            check["ExpressionAttributeValues"] = newest
            # Nothing is published of an agent that was removed since the reading began.
            check["ConditionExpression"] += " AND attribute_exists(#agents.#id)"
            check["ExpressionAttributeNames"] = {
                "#agents": "agents",
                "#id": str(snapshot.agent_id),
            }
        actions = [{"Put": put}, {"ConditionCheck": check}]
        try:
            self._call("dynamodb", "TransactWriteItems", {"TransactItems": actions})
        except AWSError as exc:
            if _OVERTAKEN.intersection(exc.reasons):
                raise Conflict("another refresh has overtaken this one") from exc
            raise _unwritten(exc) from exc

    def note_doubt(self, snapshot: AgentSnapshot, *, since: float | None) -> None:
        request: dict[str, Any] = {
            "Key": items.snapshot_key(snapshot.issuer, snapshot.agent_id),
            "UpdateExpression": "REMOVE doubt_since" if since is None else "SET doubt_since = :at",
            "ConditionExpression": "#v = :v",
            "ExpressionAttributeNames": {"#v": "version"},
            "ExpressionAttributeValues": {":v": {"N": str(snapshot.version)}},
        }
        if since is not None:
            request["ExpressionAttributeValues"][":at"] = {"N": repr(since)}
        self._holds("UpdateItem", request)

    def note_refresh(  # noqa: PLR0913  one argument for each attribute that it writes
        self,
        issuer: str,
        project_id: int,
        *,
        root_path: str | None,
        commit: str | None,
        error: str | None,
        at: float,
        note: str | None = None,
        reading: int = 0,
        finished: int = 0,
        done: Collection[int] = (),
    ) -> None:
        texts = {
            "last_commit": commit,
            "last_error": error,
            "last_note": note,
            "root_path": root_path,
        }
        values: dict[str, Any] = {
            "last_at": {"N": repr(at)},
            "finished": {"N": str(finished)},
            "done": {"NS": sorted(map(str, done))} if done else None,
        } | {name: None if text is None else {"S": text} for name, text in texts.items()}
        written = {name: value for name, value in values.items() if value is not None}
        cleared = [name for name, value in values.items() if value is None]
        changes = ", ".join(f"{name} = :{name}" for name in written)
        expression = f"SET {changes}" + (f" REMOVE {', '.join(cleared)}" if cleared else "")
        self._holds(
            "UpdateItem",
            {
                "Key": items.config_project_key(issuer, project_id),
                "UpdateExpression": expression,
                "ConditionExpression": f"attribute_exists(pk) AND {_is_newest(reading)}",
                "ExpressionAttributeValues": _newest(reading)
                | {f":{name}": value for name, value in written.items()},
            },
        )

    def _stamp(self, change: IndexChange, verb: str, effect: str, condition: str) -> None:
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
            return self._holds("UpdateItem", request)

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

    def unlist(self, snapshot: AgentSnapshot, subjects: Collection[Subject]) -> None:
        self._holds(
            "UpdateItem",
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
        )

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
        if not self._holds("UpdateItem", request):
            # A newer one has added some before: its version stays.
            del request["ConditionExpression"], request["ExpressionAttributeNames"]
            del request["ExpressionAttributeValues"][":v"]
            request["UpdateExpression"] = "SET v = :form ADD subjects :subjects"
            self._holds("UpdateItem", request)

    def _item(self, key: items.Item) -> items.Item | None:
        item: items.Item | None = self._do("GetItem", {"Key": key, "ConsistentRead": True}).get(
            "Item"
        )
        return item

    def _holds(self, operation: str, request: dict[str, Any]) -> bool:
        """Do a conditional write; false where its condition didn't hold."""
        try:
            self._call("dynamodb", operation, {"TableName": self._table, **request})
        except AWSError as exc:
            if exc.code == _CONDITION_FAILED:
                return False
            raise _unwritten(exc) from exc
        return True

    def _do(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._call("dynamodb", operation, {"TableName": self._table, **request})
        except AWSError as exc:
            raise Unavailable(f"the table can't be read: {exc.code}") from exc


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


def _is_newest(reading: int) -> str:
    """The condition that no other reading has begun since this one; 0 is before the first."""
    return "reading = :reading" if reading else "attribute_not_exists(reading)"


def _newest(reading: int) -> dict[str, Any]:
    return {":reading": {"N": str(reading)}} if reading else {}


def _unwritten(exc: AWSError) -> Unavailable:
    reasons = ", ".join(reason for reason in exc.reasons if reason != "None")
    return Unavailable(f"the table takes no write: {reasons or exc.code}")
