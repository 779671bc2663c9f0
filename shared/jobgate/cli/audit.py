"""`jobgate audit`: the records of decisions, by the id that kubectl prints or by what they hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.cli import logs
from jobgate.core.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobgate.cli.connect import Connected

_DECISION_ID = re.compile(r"[0-9A-Za-z_-]{8,64}")
# Where a line states the id: a record, a function's failure, API Gateway's access log.
_NAMES = ("decision_id", "request_id")
_FIRST = ("type", "at", "outcome", "reason")
_POLL_SECONDS = 2.0
# CloudWatch Logs shows a line some seconds after its time, and not in the order of times.
_LATE_SECONDS = 30.0
_FAILURES_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a record must hold; a field of None may hold anything."""

    type: str | None = None
    outcome: str | None = None
    reason: str | None = None
    job_id: int | None = None
    project_id: int | None = None
    project_path: str | None = None
    agent_id: int | None = None
    agent: str | None = None
    user_login: str | None = None

    def fields(self) -> dict[str, str | int]:
        """Those that are wanted, by the record's names."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Span:
    """From when, until when (seconds since 1970); None is now, or without an end."""

    since: float
    until: float | None = None


def of_decision(connected: Connected, decision_id: str, span: Span) -> list[dict[str, Any]]:
    """Every line about a decision, the oldest first. Raises InvalidRequest for what is no id."""
    if not _DECISION_ID.fullmatch(decision_id):
        raise InvalidRequest("A decision's id has letters, digits and hyphens, such as a UUID has.")
    # A word anywhere in the line; which field it stands in is looked at here.
    events = sorted(_events(connected, f'"{decision_id}"', span), key=logs.by_time)
    lines = (line for event in events if (line := logs.line_of(event)) is not None)
    return [line for line in lines if any(line.get(name) == decision_id for name in _NAMES)]


def search(
    connected: Connected, wanted: Wanted, span: Span, *, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """The newest records of the span, the oldest first; whether there are more."""
    found = [record for _, record in _records(connected, wanted, span)]
    # A function writes a stream's record when the stream ends.
    newest = sorted(found[-limit:], key=lambda record: str(record.get("at", "")))
    return newest, len(found) > limit


def follow(connected: Connected, wanted: Wanted, span: Span) -> Iterator[dict[str, Any]]:
    """Records as they come, until the span is over; raises where five calls in a row fail.

    One that CloudWatch shows after the span isn't waited for.
    """
    clock = connected.outside.clock
    since, shown, failures = span.since, dict[str, int](), 0
    while True:
        asked = clock()
        try:
            found = _records(connected, wanted, Span(since, span.until))
            since, failures = max(span.since, asked - _LATE_SECONDS), 0
        except (AWSError, Unavailable):
            # CloudWatch limits how often it's asked; what it holds comes with a later answer.
            found, failures = [], failures + 1
            if failures == _FAILURES_MAX:
                raise
        for event, record in found:
            name = str(event.get("eventId") or (event["timestamp"], event["message"]))
            if name not in shown:
                shown[name] = event["timestamp"]
                yield record
        shown = {name: at for name, at in shown.items() if at >= int(since * 1000)}
        left = _POLL_SECONDS if span.until is None else span.until - asked
        if left <= 0:
            return
        connected.outside.sleep(min(_POLL_SECONDS, left))


def show(connected: Connected, records: list[dict[str, Any]]) -> None:
    """Print whole records, each value on a line of its own."""
    for record in records:
        first = {name: record[name] for name in _FIRST if name in record}
        rows = [[name, _text(value)] for name, value in {**first, **record}.items()]
        connected.output.table(["field", "value"], rows)
    connected.output.result(records)


def show_rows(connected: Connected, records: list[dict[str, Any]]) -> None:
    """Print records, each in a row."""
    connected.output.table(
        ("at", "type", "outcome", "reason", "agent", "job", "project", "asked", "decision"),
        [_row(record) for record in records],
    )
    connected.output.result(records)


def line_of(record: Mapping[str, Any]) -> str:
    """A record in a line for a person."""
    return "  ".join("-" if value is None else str(value) for value in _row(record))


def _row(record: Mapping[str, Any]) -> list[object]:
    what = [record.get(name) for name in ("verb", "resource", "namespace", "name")]
    stop = record.get("stop")
    if isinstance(stop, dict):
        what = [stop.get("kind"), stop.get("value"), "by", record.get("by"), record.get("why")]
    asked = " ".join(str(value) for value in what if value)
    named = ("at", "type", "outcome", "reason", "agent", "job_id", "project_path")
    return [*(record.get(name) for name in named), asked or None, record.get("decision_id")]


def _records(
    connected: Connected, wanted: Wanted, span: Span
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The events that hold a wanted record, each with it, the oldest first."""
    fields = wanted.fields()
    # What CloudWatch lets through is looked at again here: it has no way to quote a quotation mark.
    conditions = [f"$.{name} = {json.dumps(value)}" for name, value in fields.items()]
    pattern = "{ " + " && ".join(["$.decision_id = *", *conditions]) + " }"
    return [
        (event, record)
        for event in sorted(_events(connected, pattern, span), key=logs.by_time)
        if (record := logs.line_of(event)) is not None
        and "decision_id" in record
        and all(record.get(name) == value for name, value in fields.items())
    ]


def _events(connected: Connected, pattern: str, span: Span) -> Iterator[dict[str, Any]]:
    for group in connected.stack.logs:
        yield from logs.events(
            connected.aws, group, pattern=pattern, since=span.since, until=span.until
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
