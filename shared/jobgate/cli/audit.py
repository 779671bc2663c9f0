"""`jobgate audit`: the records of decisions, by the id that kubectl prints or by what they hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jobgate.cli.connect import Connected

_DECISION_ID = re.compile(r"[0-9A-Za-z_-]{8,64}")
# Where a line states the id: a record, a function's failure, API Gateway's access log.
_NAMES = ("decision_id", "request_id")
_PAGES_MAX = 1000
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


def of_decision(connected: Connected, decision_id: str, *, hours: int) -> list[dict[str, Any]]:
    """Every line about a decision in the last `hours`, the oldest first.

    Raises InvalidRequest for what is no id.
    """
    if not _DECISION_ID.fullmatch(decision_id):
        raise InvalidRequest("A decision's id has letters, digits and hyphens, such as a UUID has.")
    # A word anywhere in the line; which field it stands in is looked at here.
    events = _events(connected, connected.stack.logs, f'"{decision_id}"', _since(connected, hours))
    lines = ((event["timestamp"], _parsed(event["message"])) for event in events)
    found = [each for each in lines if any(each[1].get(n) == decision_id for n in _NAMES)]
    return [line for _, line in sorted(found, key=lambda each: each[0])]


def search(
    connected: Connected, wanted: Wanted, *, hours: int, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """The newest records of the last `hours`, the oldest first; whether there are more."""
    events = _records(connected, wanted, _since(connected, hours))
    found = sorted(events, key=lambda event: event["timestamp"])
    return [_parsed(event["message"]) for event in found[-limit:]], len(found) > limit


def follow(connected: Connected, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Records as they come, until somebody interrupts it, or five calls in a row fail."""
    started = connected.outside.clock()
    shown: dict[str, int] = {}
    failures = 0
    while True:
        since = int(max(started, connected.outside.clock() - _LATE_SECONDS) * 1000)
        try:
            events = sorted(_records(connected, wanted, since), key=lambda each: each["timestamp"])
            failures = 0
        except (AWSError, Unavailable):
            # CloudWatch limits how often it's asked; what it holds comes with a later answer.
            events, failures = [], failures + 1
            if failures == _FAILURES_MAX:
                raise
        for event in events:
            name = str(event.get("eventId") or (event["timestamp"], event["message"]))
            if name not in shown:
                shown[name] = event["timestamp"]
                yield _parsed(event["message"])
        shown = {name: at for name, at in shown.items() if at >= since}
        connected.outside.sleep(_POLL_SECONDS)


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
    what = (record.get(name) for name in ("verb", "resource", "namespace", "name"))
    asked = " ".join(str(value) for value in what if value)
    named = ("at", "type", "outcome", "reason", "agent", "job_id", "project_path")
    return [*(record.get(name) for name in named), asked or None, record.get("decision_id")]


def _since(connected: Connected, hours: int) -> int:
    return int((connected.outside.clock() - hours * 3600) * 1000)


def _records(connected: Connected, wanted: Wanted, since: int) -> Iterator[dict[str, Any]]:
    """The events that hold a wanted record, in no order."""
    fields = wanted.fields()
    # What CloudWatch lets through is looked at again here: it has no way to quote a quotation mark.
    conditions = [f"$.{name} = {json.dumps(value)}" for name, value in fields.items()]
    pattern = "{ " + " && ".join(["$.decision_id = *", *conditions]) + " }"
    for event in _events(connected, connected.stack.logs, pattern, since):
        record = _parsed(event["message"])
        if "decision_id" in record and all(record.get(n) == v for n, v in fields.items()):
            yield event


def _events(
    connected: Connected, groups: Iterable[str], pattern: str, since: int
) -> Iterator[dict[str, Any]]:
    """What matches in these log groups from a moment on (milliseconds); raises Unavailable."""
    for group in groups:
        request: dict[str, Any] = {"logGroupName": group, "startTime": since}
        request["filterPattern"] = pattern
        for _ in range(_PAGES_MAX):
            page = connected.aws("logs", "FilterLogEvents", request)
            yield from page.get("events", ())
            if not page.get("nextToken"):
                break
            request["nextToken"] = page["nextToken"]
        else:
            raise Unavailable("The logs have more pages than can be read: take fewer --hours.")


def _parsed(message: str) -> dict[str, Any]:
    try:
        line = json.loads(message)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
