"""Conditional writes to the table, also on condition that a reading is the newest of its project.

A configuration project counts its readings (ADR 12): what one of them found is written only while
no other has begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall

_CONDITION_FAILED = "ConditionalCheckFailedException"
_OVERTAKEN = frozenset({_CONDITION_FAILED, "ConditionalCheckFailed", "TransactionConflict"})


class ConditionalWrites:
    """Writes of one table; raise Unavailable where it takes none."""

    def __init__(self, call: AWSCall, table: str) -> None:
        self._call = call
        self._table = table

    def update(
        self, request: dict[str, Any], *, while_newest: dict[str, Any] | None = None
    ) -> bool:
        """Update one item; false where the request's own condition didn't hold.

        `while_newest` is a `newest_check`; raises Conflict where that doesn't hold.
        """
        request = {"TableName": self._table, **request}
        try:
            if while_newest is None:
                self._call("dynamodb", "UpdateItem", request)
            else:
                self._transact({"Update": request}, while_newest)
        except AWSError as exc:
            if exc.code == _CONDITION_FAILED or exc.reasons == ("ConditionalCheckFailed", "None"):
                return False
            raise _refused(exc) from exc
        return True

    def put(self, request: dict[str, Any], *, while_newest: dict[str, Any]) -> None:
        """Put one item; raises Conflict where a condition doesn't hold."""
        try:
            self._transact({"Put": {"TableName": self._table, **request}}, while_newest)
        except AWSError as exc:
            raise _refused(exc) from exc

    def _transact(self, action: dict[str, Any], check: dict[str, Any]) -> None:
        actions = [action, {"ConditionCheck": {"TableName": self._table, **check}}]
        self._call("dynamodb", "TransactWriteItems", {"TransactItems": actions})


def newest_check(issuer: str, project_id: int, reading: int) -> dict[str, Any]:
    """The condition, as an action of a transaction, that no other reading has begun since."""
    check: dict[str, Any] = {
        "Key": items.config_project_key(issuer, project_id),
        "ConditionExpression": is_newest(reading),
    }
    return check | {"ExpressionAttributeValues": newest(reading)} if reading else check


def is_newest(reading: int) -> str:
    """The condition that no other reading has begun since this one; 0 is before the first."""
    return "reading = :reading" if reading else "attribute_not_exists(reading)"


def newest(reading: int) -> dict[str, Any]:
    """The value in `is_newest`."""
    return {":reading": {"N": str(reading)}} if reading else {}


def _refused(exc: AWSError) -> Conflict | Unavailable:
    if _OVERTAKEN.intersection(exc.reasons):
        return Conflict("another refresh has overtaken this one")
    reasons = ", ".join(reason for reason in exc.reasons if reason != "None")
    return Unavailable(f"the table takes no write: {reasons or exc.code}")
