"""A refresh's reads and writes: the index is always a superset, the snapshot is one item."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.conditional_writes import is_newest, newest, newest_check
from jobgate.adapters.partition import items_of_partition
from jobgate.adapters.subject_index import DynamoDBSubjectIndex
from jobgate.core.errors import Conflict, Unavailable
from jobgate.ports.refresh import ConfigProjectItem, ConfigProjects, RefreshStore
from jobgate.ports.renewal import AgentConnections

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from jobgate.core.agent import AgentSnapshot, ClusterConnection


class DynamoDBRefreshStore(DynamoDBSubjectIndex, RefreshStore, ConfigProjects, AgentConnections):
    """The refresh's items in the table."""

    def all(self) -> Iterator[tuple[str, int]]:
        # By their keys alone: one that can't be read is told of by its own refresh, which fails.
        return (agent_items.config_project_named(item) for item in self._config_projects())

    def agents(self) -> Iterator[tuple[str, int]]:
        unread: Unavailable | None = None
        for item in self._config_projects():
            try:
                project = agent_items.config_project_of(item)
            except Unavailable as exc:
                unread = exc
                continue
            if project is not None:
                yield from ((project.issuer, agent_id) for agent_id in project.agents)
        if unread is not None:
            raise unread

    def _config_projects(self) -> Iterator[items.Item]:
        return items_of_partition(partial(self._do, "Query"), "CONFIG_PROJECTS", consistent=False)

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
            "ConditionExpression": f"attribute_exists(pk) AND {is_newest(after)}",
            "ExpressionAttributeValues": newest(after) | {":next": {"N": str(after + 1)}},
        }
        if not self._writes.update(request):
            raise Conflict("another reading of this project has begun meanwhile")
        return after + 1

    def publish(self, snapshot: AgentSnapshot, *, replaces: int | None, reading: int = 0) -> None:
        put: dict[str, Any] = {"Item": agent_items.snapshot_item(snapshot)}
        if replaces is None:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            put["ConditionExpression"] = "#v = :v"
            put["ExpressionAttributeNames"] = {"#v": "version"}
            put["ExpressionAttributeValues"] = {":v": {"N": str(replaces)}}
        check = newest_check(snapshot.issuer, snapshot.config_project.project_id, reading)
        if reading:
            # Nothing is published of an agent that was removed since the reading began.
            check["ConditionExpression"] += " AND attribute_exists(#agents.#id)"
            check["ExpressionAttributeNames"] = {
                "#agents": "agents",
                "#id": str(snapshot.agent_id),
            }
        self._writes.put(put, while_newest=check)

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
        self._writes.update(request)

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
        self._writes.update(
            {
                "Key": items.config_project_key(issuer, project_id),
                "UpdateExpression": expression,
                "ConditionExpression": f"attribute_exists(pk) AND {is_newest(reading)}",
                "ExpressionAttributeValues": newest(reading)
                | {f":{name}": value for name, value in written.items()},
            },
        )

    def _item(self, key: items.Item) -> items.Item | None:
        item: items.Item | None = self._do("GetItem", {"Key": key, "ConsistentRead": True}).get(
            "Item"
        )
        return item

    def _do(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._call("dynamodb", operation, {"TableName": self._table, **request})
        except AWSError as exc:
            raise Unavailable(f"the table can't be read: {exc.code}") from exc
