"""Writes a job's state: one conditional put, so that a job that has ended never comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import Unavailable
from jobgate.core.liveness import TERMINAL_STATUSES
from jobgate.ports import JobStates

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.bounds import Bounds
    from jobgate.core.liveness import JobState


class DynamoDBJobStates(JobStates):
    """Job states in the table."""

    def __init__(self, call: AWSCall, table: str, *, bounds: Bounds) -> None:
        self._call = call
        self._table = table
        self._bounds = bounds

    def put(self, issuer: str, job_id: int, state: JobState) -> bool:
        expires_at = int(state.seen_at + self._bounds.job_kept)
        terminal = {f":t{n}": {"S": s} for n, s in enumerate(sorted(TERMINAL_STATUSES))}
        try:
            self._call(
                "dynamodb",
                "PutItem",
                {
                    "TableName": self._table,
                    "Item": items.job_item(issuer, job_id, state, expires_at=expires_at),
                    "ConditionExpression": (
                        f"attribute_not_exists(pk) OR NOT #s IN ({', '.join(terminal)})"
                    ),
                    "ExpressionAttributeNames": {"#s": "status"},
                    "ExpressionAttributeValues": terminal,
                },
            )
        except AWSError as exc:
            if exc.code == "ConditionalCheckFailedException":
                return False
            raise Unavailable(f"a job's state can't be written: {exc.code}") from exc
        return True
