"""What the exchange writes: a project's requests of a minute, and ID tokens that are good once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import Unavailable
from jobgate.ports.exchange import ExchangeCounter, RedeemedTokens

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall

# Long enough that no clock of ours still counts in it.
_KEPT_SECONDS = 600


class DynamoDBExchangeCounter(ExchangeCounter):
    """One conditional update a request: a count at its limit is never raised."""

    def __init__(self, call: AWSCall, table: str) -> None:
        self._call = call
        self._table = table

    def count(
        self, issuer: str, project_id: int, *, window: int, limit: int, ends_at: float
    ) -> bool:
        return _written(
            self._call,
            "UpdateItem",
            {
                "TableName": self._table,
                "Key": items.exchanges_key(issuer, project_id, window),
                "UpdateExpression": "ADD #n :one SET expires_at = :end",
                "ConditionExpression": "attribute_not_exists(#n) OR #n < :limit",
                "ExpressionAttributeNames": {"#n": "count"},
                "ExpressionAttributeValues": {
                    ":one": {"N": "1"},
                    ":limit": {"N": str(limit)},
                    ":end": {"N": str(int(ends_at) + _KEPT_SECONDS)},
                },
            },
        )


class DynamoDBRedeemedTokens(RedeemedTokens):
    """One conditional put an ID token."""

    def __init__(self, call: AWSCall, table: str) -> None:
        self._call = call
        self._table = table

    def claim(self, issuer: str, jti: str, *, expires_at: float) -> bool:
        return _written(
            self._call,
            "PutItem",
            {
                "TableName": self._table,
                "Item": items.redeemed_key(issuer, jti)
                | {
                    "v": {"N": str(items.VERSION)},
                    "count": {"N": "1"},
                    "expires_at": {"N": str(int(expires_at) + _KEPT_SECONDS)},
                },
                "ConditionExpression": "attribute_not_exists(pk)",
            },
        )


def _written(call: AWSCall, operation: str, request: dict[str, Any]) -> bool:
    """Whether the condition held; raises Unavailable where the table doesn't say."""
    try:
        call("dynamodb", operation, request)
    except AWSError as exc:
        if exc.code == "ConditionalCheckFailedException":
            return False
        raise Unavailable(f"the table can't count: {exc.code}") from exc
    return True
