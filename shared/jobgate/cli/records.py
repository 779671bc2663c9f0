"""Decision records of the operators' command, in a log group beside those of the functions."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import JobgateError, Unavailable

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected


def write_record(connected: Connected, line: str) -> None:
    """Write a record; raises Unavailable where it isn't kept, though what it tells was done."""
    # A stream of its own: commands run at once, and nobody needs to know the last one's place.
    stream = {"logGroupName": connected.stack.operator_log, "logStreamName": str(uuid.uuid4())}
    event = {"timestamp": int(connected.outside.clock() * 1000), "message": line}
    try:
        connected.aws("logs", "CreateLogStream", stream)
        answer = connected.aws("logs", "PutLogEvents", {**stream, "logEvents": [event]})
    except JobgateError as exc:
        why = exc.code if isinstance(exc, AWSError) else exc
        raise Unavailable(f"It is done, but its record couldn't be written: {why}") from exc
    if "rejectedLogEventsInfo" in answer:
        raise Unavailable("It is done, but its record wasn't taken: this machine's clock is wrong.")
