"""The few DynamoDB calls that the registries make, on one table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.partition import items_of_partition
from jobgate.core.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.adapters.items import Item


class Table:
    """Every read is consistent: an operator sees what the last command wrote."""

    def __init__(self, call: AWSCall, name: str) -> None:
        self._call = call
        self._name = name

    def id(self) -> str:
        """DynamoDB's own id of it; one that is made from a backup has another."""
        return str(self._dynamodb("DescribeTable", {})["Table"]["TableId"])

    def get(self, key: Item) -> Item | None:
        """An item, or None."""
        answer = self._dynamodb("GetItem", {"Key": key, "ConsistentRead": True})
        item: Item | None = answer.get("Item")
        return item

    def is_there(self) -> bool:
        """Whether there is such a table."""
        try:
            self.id()
        except AWSError as exc:
            if exc.code != "ResourceNotFoundException":
                raise
            return False
        return True

    def query(self, pk: str) -> Iterator[Item]:
        """Every item of a partition."""
        return items_of_partition(partial(self._dynamodb, "Query"), pk, consistent=True)

    def put(self, item: Item) -> None:
        """Write an item over whatever is there."""
        self._dynamodb("PutItem", {"Item": item})

    def put_new(self, item: Item) -> bool:
        """Write an item unless one is there; false where it was."""
        try:
            request = {"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
            self._dynamodb("PutItem", request)
        except Conflict:
            return False
        return True

    def replace(self, changes: Sequence[tuple[Item | None, Item]]) -> bool:
        """Write items over exactly what was read (None: nothing), all of them or none.

        False where somebody else wrote first. The items have a `body`.
        """
        puts = []
        for before, after in changes:
            put: dict[str, Any] = {"TableName": self._name, "Item": after}
            if before is None:
                put["ConditionExpression"] = "attribute_not_exists(pk)"
            else:
                put["ConditionExpression"] = "body = :before"
                put["ExpressionAttributeValues"] = {":before": before["body"]}
            puts.append({"Put": put})
        try:
            self._call("dynamodb", "TransactWriteItems", {"TransactItems": puts})
        except AWSError as exc:
            if exc.code in ("TransactionCanceledException", "TransactionConflictException"):
                return False
            raise
        return True

    def update(
        self,
        key: Item,
        expression: str,
        *,
        names: Mapping[str, str],
        values: Mapping[str, Any] | None = None,
        condition: str | None = None,
    ) -> Item:
        """Change an item and give it back whole; raises Conflict where the condition isn't met."""
        request: dict[str, Any] = {
            "Key": key,
            "UpdateExpression": expression,
            "ExpressionAttributeNames": dict(names),
            "ReturnValues": "ALL_NEW",
        }
        if values:
            request["ExpressionAttributeValues"] = dict(values)
        if condition is not None:
            request["ConditionExpression"] = condition
        item: Item = self._dynamodb("UpdateItem", request).get("Attributes", {})
        return item

    def delete(self, key: Item) -> None:
        """Delete an item, if it's there."""
        self._dynamodb("DeleteItem", {"Key": key})

    def delete_where_empty(self, key: Item, attribute: str) -> bool:
        """Delete an item if this map of its is empty; false where it isn't."""
        request = {
            "Key": key,
            "ConditionExpression": "#map = :empty",
            "ExpressionAttributeNames": {"#map": attribute},
            "ExpressionAttributeValues": {":empty": {"M": {}}},
        }
        try:
            self._dynamodb("DeleteItem", request)
        except Conflict:
            return False
        return True

    def _dynamodb(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._call("dynamodb", operation, {"TableName": self._name, **request})
        except AWSError as exc:
            if exc.code == "ConditionalCheckFailedException":
                raise Conflict("Somebody else wrote first; run the command again.") from exc
            raise
