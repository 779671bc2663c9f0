"""Where projects and namespaces are; of two writes the newest fetch wins, and a mark any older."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.batch_get import batch_get
from jobgate.core.errors import Unavailable
from jobgate.ports.lookups import PlaceMarks, PlaceStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.namespace import NamespaceChain, ProjectPlace

_CLOCKS_DIFFER_SECONDS = 300.0  # far more than two functions' clocks do, and than a call takes


class DynamoDBPlaces(PlaceStore, PlaceMarks):
    """Places and chains in the table."""

    def __init__(self, call: AWSCall, table: str) -> None:
        self._call = call
        self._table = table

    def places(self, issuer: str, project_ids: Sequence[int]) -> Mapping[int, ProjectPlace]:
        keys = {project_id: items.place_key(issuer, project_id) for project_id in project_ids}
        found = batch_get(self._call, self._table, list(keys.values()))
        read = {i: _readable(found(key)) for i, key in keys.items()}
        return {i: place for i, place in read.items() if place is not None}

    def save_place(self, issuer: str, project_id: int, place: ProjectPlace) -> None:
        self._put(items.place_item(issuer, project_id, place), place.fetched_at)

    def save_chain(self, issuer: str, chain: NamespaceChain) -> None:
        self._put(items.chain_item(issuer, chain), chain.fetched_at)

    def is_config_project(self, issuer: str, project_id: int) -> bool:
        return self._item(items.config_project_key(issuer, project_id)) is not None

    def place(self, issuer: str, project_id: int) -> ProjectPlace | None:
        return items.place_of(self._item(items.place_key(issuer, project_id)))

    def chain(self, issuer: str, namespace_id: int) -> NamespaceChain | None:
        return items.chain_of(self._item(items.chain_key(issuer, namespace_id)))

    def mark_place(self, issuer: str, project_id: int, *, at: float) -> None:
        self._mark(items.place_key(issuer, project_id), at)

    def mark_chain(self, issuer: str, namespace_id: int, *, at: float) -> None:
        self._mark(items.chain_key(issuer, namespace_id), at)

    def _mark(self, key: items.Item, at: float) -> None:
        request = {
            "TableName": self._table,
            "Key": key,
            "UpdateExpression": "SET marked_at = :at",
            # Of what isn't known there is nothing to take away.
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeValues": {":at": {"N": repr(at)}},
        }
        try:
            self._call("dynamodb", "UpdateItem", request)
        except AWSError as exc:
            if exc.code != "ConditionalCheckFailedException":
                raise Unavailable(f"a place can't be marked: {exc.code}") from exc

    def _item(self, key: items.Item) -> items.Item | None:
        request = {"TableName": self._table, "Key": key, "ConsistentRead": True}
        try:
            item: items.Item | None = self._call("dynamodb", "GetItem", request).get("Item")
        except AWSError as exc:
            raise Unavailable(f"a place can't be read: {exc.code}") from exc
        return item

    def _put(self, item: items.Item, fetched_at: float) -> None:
        number = {"N": repr(fetched_at)}
        try:
            self._call(
                "dynamodb",
                "PutItem",
                {
                    "TableName": self._table,
                    "Item": item | {"fetched_at": number},
                    # A slow writer must not put back what a faster one has just corrected, nor
                    # what an event has just taken away; one whose clock ran ahead must not keep
                    # all others out until then.
                    "ConditionExpression": (
                        "attribute_not_exists(pk) OR ("
                        "(fetched_at <= :at OR fetched_at > :ahead) AND "
                        "(attribute_not_exists(marked_at) OR marked_at < :at OR marked_at > :ahead)"
                        ")"
                    ),
                    "ExpressionAttributeValues": {
                        ":at": number,
                        ":ahead": {"N": repr(fetched_at + _CLOCKS_DIFFER_SECONDS)},
                    },
                },
            )
        except AWSError as exc:
            if exc.code != "ConditionalCheckFailedException":
                raise Unavailable(f"a place can't be kept: {exc.code}") from exc


def _readable(item: items.Item | None) -> ProjectPlace | None:
    """None for one that can't be read: GitLab is asked then, and its answer replaces it."""
    try:
        return items.place_of(item)
    except Unavailable:
        return None
