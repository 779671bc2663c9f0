"""Which authorised projects were given a webhook: one small item a project."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jobgate.adapters import hook_items, items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.partition import items_of_partition
from jobgate.core.errors import Conflict, Unavailable
from jobgate.ports.hooks import MadeHooks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.hook import HookMade


class DynamoDBMadeHooks(MadeHooks):
    """In the table; every call raises Unavailable where it can't be had."""

    def __init__(self, call: AWSCall, table: str) -> None:
        self._call = call
        self._table = table

    def made(self, issuer: str) -> Mapping[int, HookMade]:
        pk = hook_items.hook_made_key(issuer, 0)["pk"]["S"]
        # What has begun elsewhere may be the reason for which an old secret is to stay.
        found = items_of_partition(partial(self._do, "Query"), pk, consistent=True)
        return dict(map(hook_items.hook_made_of, found))

    def note(self, issuer: str, project_id: int, made: HookMade) -> None:
        before = made.revision - 1
        request = {
            "Item": hook_items.hook_made_item(issuer, project_id, made),
            "ConditionExpression": "attribute_not_exists(revision)"
            if before == 0
            else "revision = :before",
        }
        if before:
            request["ExpressionAttributeValues"] = {":before": items.number(before)}
        self._do("PutItem", request)

    def forget(self, issuer: str, project_id: int) -> None:
        self._do("DeleteItem", {"Key": hook_items.hook_made_key(issuer, project_id)})

    def _do(self, action: str, request: Mapping[str, Any]) -> Any:
        try:
            return self._call("dynamodb", action, {"TableName": self._table, **request})
        except AWSError as exc:
            if exc.code == "ConditionalCheckFailedException":
                raise Conflict("a project's webhook is being written by somebody else") from exc
            raise Unavailable(f"the table's webhooks can't be had: {exc.code}") from exc
