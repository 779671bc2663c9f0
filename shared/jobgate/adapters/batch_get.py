"""Many items of the table at once, read consistently (AWS, DynamoDB API, BatchGetItem)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobgate.adapters import items
    from jobgate.adapters.aws_api import AWSCall

_BATCH = 100  # BatchGetItem's limit


class Found:
    """The items of one or more batches, by key."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], items.Item] = {}

    def add(self, answer: Mapping[str, Any], table: str) -> list[items.Item]:
        """Take over an answer's items; returns the keys that it left."""
        for item in answer["Responses"].get(table, ()):
            self._items[item["pk"]["S"], item["sk"]["S"]] = item
        left: list[items.Item] = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        return left

    def __call__(self, key: items.Item) -> items.Item | None:
        return self._items.get((key["pk"]["S"], key["sk"]["S"]))


def batch_get(call: AWSCall, table: str, keys: Sequence[items.Item]) -> Found:
    """Read items, a round trip for each hundred keys.

    A key that stays unprocessed twice is unknown, not absent: raises Unavailable.
    """
    found = Found()
    for start in range(0, len(keys), _BATCH):
        left = found.add(_batch(call, table, keys[start : start + _BATCH]), table)
        if left and found.add(_batch(call, table, left), table):
            raise Unavailable("the table left keys unprocessed twice")
    return found


def _batch(call: AWSCall, table: str, keys: Sequence[items.Item]) -> dict[str, Any]:
    request = {"RequestItems": {table: {"Keys": list(keys), "ConsistentRead": True}}}
    try:
        return call("dynamodb", "BatchGetItem", request)
    except AWSError as exc:
        raise Unavailable(f"the table can't be read: {exc.code}") from exc
