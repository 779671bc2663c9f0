"""A refresh's reads and writes: the index is always a superset, the snapshot is one item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items
from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import Conflict, Unavailable
from jobgate.ports import ConfigProjectItem, ConfigProjects, RefreshStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.agent import AgentSnapshot, ClusterConnection
    from jobgate.ports import Subject

_CONDITION_FAILED = "ConditionalCheckFailedException"
_PAGES_MAX = 100


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

    def add_to_index(self, subjects: Iterable[Subject], snapshot: AgentSnapshot) -> None:
        self._stamp(subjects, snapshot, "SET #a = :v", "attribute_not_exists(#a) OR #a < :v")

    def remove_from_index(self, subjects: Iterable[Subject], snapshot: AgentSnapshot) -> None:
        self._stamp(subjects, snapshot, "REMOVE #a", "#a <= :v")

    def publish(self, snapshot: AgentSnapshot, *, replaces: int | None) -> None:
        request: dict[str, Any] = {"Item": agent_items.snapshot_item(snapshot)}
        if replaces is None:
            request["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            request["ConditionExpression"] = "#v = :v"
            request["ExpressionAttributeNames"] = {"#v": "version"}
            request["ExpressionAttributeValues"] = {":v": {"N": str(replaces)}}
        if not self._holds("PutItem", request):
            raise Conflict("another refresh has published this agent meanwhile")

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
    ) -> None:
        values = {
            "last_commit": commit,
            "last_error": error,
            "last_note": note,
            "root_path": root_path,
        }
        written = {name: value for name, value in values.items() if value is not None}
        cleared = [name for name, value in values.items() if value is None]
        changes = ", ".join(f"{name} = :{name}" for name in (*written, "last_at"))
        expression = f"SET {changes}" + (f" REMOVE {', '.join(cleared)}" if cleared else "")
        attributes = {f":{name}": {"S": value} for name, value in written.items()}
        self._holds(
            "UpdateItem",
            {
                "Key": items.config_project_key(issuer, project_id),
                "UpdateExpression": expression,
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeValues": attributes | {":last_at": {"N": repr(at)}},
            },
        )

    def _stamp(
        self,
        subjects: Iterable[Subject],
        snapshot: AgentSnapshot,
        expression: str,
        condition: str,
    ) -> None:
        for subject in subjects:
            self._holds(
                "UpdateItem",
                {
                    "Key": items.subject_key(snapshot.issuer, subject.kind, subject.id),
                    "UpdateExpression": expression,
                    "ConditionExpression": condition,
                    "ExpressionAttributeNames": {"#a": items.stamp(snapshot.agent_id)},
                    "ExpressionAttributeValues": {":v": {"N": str(snapshot.version)}},
                },
            )

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
            raise Unavailable(f"the table takes no write: {exc.code}") from exc
        return True

    def _do(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._call("dynamodb", operation, {"TableName": self._table, **request})
        except AWSError as exc:
            raise Unavailable(f"the table can't be read: {exc.code}") from exc
