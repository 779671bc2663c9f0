"""A partition is read whole, page by page, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.partition import items_of_partition
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


def item(number: int) -> dict[str, Any]:
    return {"pk": {"S": "KEYS"}, "sk": {"S": str(number)}}


class Pages:
    """A table's answers to a Query, an item a page; it ends where `last` says so."""

    def __init__(self, last: int | None) -> None:
        self._last = last
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(dict(request))
        number = int(request.get("ExclusiveStartKey", item(0))["sk"]["S"]) + 1
        more = {} if number == self._last else {"LastEvaluatedKey": item(number)}
        return {"Items": [item(number)], **more}


@pytest.mark.parametrize("consistent", [True, False])
def test_every_page_is_asked_for_in_the_same_way(*, consistent: bool) -> None:
    pages = Pages(last=3)

    assert list(items_of_partition(pages, "KEYS", consistent=consistent)) == [
        item(number) for number in (1, 2, 3)
    ]
    asked = {
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "KEYS"}},
        "ConsistentRead": consistent,
    }
    assert pages.asked == [asked] + [asked | {"ExclusiveStartKey": item(n)} for n in (1, 2)]


def test_an_empty_page_is_not_the_end() -> None:
    answers: Iterator[dict[str, Any]] = iter(
        [{"Items": [], "LastEvaluatedKey": item(7)}, {"Items": [item(8)]}]
    )

    found = items_of_partition(lambda _request: next(answers), "KEYS", consistent=True)

    assert list(found) == [item(8)]


def test_more_pages_than_are_read_are_unavailable_and_not_cut() -> None:
    found = items_of_partition(Pages(last=None), "KEYS", consistent=True)

    with pytest.raises(Unavailable, match="KEYS has more pages than can be read"):
        list(found)


def test_what_a_query_raises_is_passed_on() -> None:
    def refused(_request: dict[str, Any]) -> dict[str, Any]:
        raise AWSError("AccessDeniedException")

    with pytest.raises(AWSError, match="AccessDeniedException"):
        list(items_of_partition(refused, "KEYS", consistent=True))
