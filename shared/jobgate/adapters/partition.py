"""Every item of one partition of the table, page by page (AWS, DynamoDB API, Query)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.adapters import items

    Query = Callable[[dict[str, Any]], dict[str, Any]]

_PAGES_MAX = 100  # of 1 MB each


def items_of_partition(query: Query, pk: str, *, consistent: bool) -> Iterator[items.Item]:
    """The partition's items, in the order of their sort keys.

    `query` makes one Query of the table, and what it raises is passed on. Raises Unavailable where
    there are more pages than are read.
    """
    request: dict[str, Any] = {
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": pk}},
        "ConsistentRead": consistent,
    }
    for _ in range(_PAGES_MAX):
        answer = query(request)
        yield from answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
    raise Unavailable(f"{pk} has more pages than can be read")
