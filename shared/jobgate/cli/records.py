"""Decision records of the operators' command, in a log group beside those of the functions."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.cli import logs
from jobgate.core import record
from jobgate.core.errors import JobgateError, Unavailable

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected


def caller(connected: Connected) -> str:
    """Who AWS says that runs this command; nothing waits until it says so."""
    try:
        return str(connected.aws("sts", "GetCallerIdentity", {})["Arn"])
    except JobgateError as exc:
        return f"unknown ({exc.code if isinstance(exc, AWSError) else exc})"


def read_records(connected: Connected) -> list[dict[str, Any]]:
    """Every record of the operators' command that is kept, the oldest first.

    What somebody else has put there is left out.
    """
    found = sorted(logs.events(connected.aws, connected.stack.operator_log), key=logs.by_time)
    return [line for event in found if (line := logs.line_of(event)) is not None]


def write_record(connected: Connected, line: str, *, is_done: bool = True) -> None:
    """Write a record; raises Unavailable where it isn't kept.

    What it tells is then done all the same, or, without `is_done`, isn't.
    """
    said = "It is done, but its record" if is_done else "It isn't done, since its record"
    # A stream of its own: commands run at once, and nobody needs to know the last one's place.
    stream = {"logGroupName": connected.stack.operator_log, "logStreamName": str(uuid.uuid4())}
    event = {"timestamp": int(connected.outside.clock() * 1000), "message": line}
    try:
        connected.aws("logs", "CreateLogStream", stream)
        answer = connected.aws("logs", "PutLogEvents", {**stream, "logEvents": [event]})
    except JobgateError as exc:
        why = exc.code if isinstance(exc, AWSError) else exc
        raise Unavailable(f"{said} couldn't be written: {why}") from exc
    if "rejectedLogEventsInfo" in answer:
        raise Unavailable(f"{said} wasn't taken: this machine's clock is wrong.")


def removal_record(connected: Connected, issuer: str, agent_id: int, of: tuple[int, str]) -> str:
    """That an agent is removed, by whom; `of` is its project's id and its name."""
    project_id, name = of
    return record.record(
        "revocation",
        at=connected.outside.clock(),
        outcome="refused",
        decision_id=str(uuid.uuid4()),
        issuer=issuer,
        removed_agent_id=agent_id,
        agent=name,
        config_project_id=project_id,
        by=caller(connected),
    )
