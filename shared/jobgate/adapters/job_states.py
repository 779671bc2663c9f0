"""A job's state in the table: conditional writes, so that a job that has ended never comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.batch_get import batch_get
from jobgate.core.errors import Unavailable
from jobgate.core.liveness import TERMINAL_STATUSES
from jobgate.ports.lookups import JobStates

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.bounds import Bounds
    from jobgate.core.job import JobKey
    from jobgate.core.liveness import JobLife, JobState
    from jobgate.ports import Clock

_TERMINAL = {f":t{n}": {"S": status} for n, status in enumerate(sorted(TERMINAL_STATUSES))}
_NOT_ENDED = f"(attribute_not_exists(#status) OR NOT #status IN ({', '.join(_TERMINAL)}))"


class DynamoDBJobStates(JobStates):
    """Job states in the table."""

    def __init__(self, call: AWSCall, table: str, *, bounds: Bounds, clock: Clock) -> None:
        self._call = call
        self._table = table
        self._bounds = bounds
        self._clock = clock

    def put(self, job: JobKey, word: JobState) -> bool:
        return self._update(
            items.job_key(job),
            items.job_word(word) | self._kept_from(word.seen_at),
            " REMOVE asked_since" if word.source == "probe" else "",
            _NOT_ENDED,
        )

    def get(self, job: JobKey) -> JobLife:
        key = items.job_key(job)
        found = batch_get(self._call, self._table, [key])
        return items.job_life_of(found(key), now=self._clock())

    def ask(self, job: JobKey, *, now: float) -> bool:
        return self._update(
            items.job_key(job),
            items.job_question(now) | self._kept_from(now),
            ", asked_since = if_not_exists(asked_since, :asked_at)",
            f"{_NOT_ENDED} AND (attribute_not_exists(#asked_at) "
            "OR #asked_at <= :floor OR #asked_at > :latest)",
            floor=items.number(now - self._bounds.probe_floor),
            latest=items.number(now + self._bounds.leeway),
        )

    def _kept_from(self, at: float) -> items.Item:
        return {"expires_at": items.number(int(at + self._bounds.job_kept))}

    def _update(
        self, key: items.Item, sets: items.Item, more: str, condition: str, **compared: items.Item
    ) -> bool:
        """Set attributes, and do `more`, where the condition is met; false where it isn't."""
        assignments = ", ".join(f"#{name} = :{name}" for name in sets)
        values = sets | compared
        request = {
            "TableName": self._table,
            "Key": key,
            "UpdateExpression": f"SET {assignments}{more}",
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {f"#{name}": name for name in ("status", *sets)},
            "ExpressionAttributeValues": {f":{name}": values[name] for name in values} | _TERMINAL,
        }
        try:
            self._call("dynamodb", "UpdateItem", request)
        except AWSError as exc:
            if exc.code == "ConditionalCheckFailedException":
                return False
            raise Unavailable(f"a job's state can't be written: {exc.code}") from exc
        return True
