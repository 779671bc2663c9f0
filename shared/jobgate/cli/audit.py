"""`jobgate audit`: the records of one decision, by the id that kubectl and the job's log show."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.cli.connect import Connected

_DECISION_ID = re.compile(r"[0-9A-Za-z_-]{8,64}")
# Where a line states the id: a record, a function's failure, API Gateway's access log.
_NAMES = ("decision_id", "request_id")
_PAGES_MAX = 1000
_FIRST = ("type", "at", "outcome", "reason")


def audit(connected: Connected, decision_id: str, *, hours: int) -> list[dict[str, Any]]:
    """Every record of a decision in the last `hours`, the oldest first.

    Raises InvalidRequest for what is no id.
    """
    if not _DECISION_ID.fullmatch(decision_id):
        raise InvalidRequest("A decision's id has letters, digits and hyphens, such as a UUID has.")
    since = int((connected.outside.clock() - hours * 3600) * 1000)
    found = [
        (at, line)
        for group in connected.stack.logs
        for at, line in _lines(connected, group, decision_id, since)
    ]
    return [line for _, line in sorted(found, key=lambda each: each[0])]


def show(connected: Connected, records: list[dict[str, Any]]) -> None:
    """Print the records, each value on a line of its own."""
    for record in records:
        first = {name: record[name] for name in _FIRST if name in record}
        rows = [[name, _text(value)] for name, value in {**first, **record}.items()]
        connected.output.table(["field", "value"], rows)
    connected.output.result(records)


def _lines(
    connected: Connected, group: str, decision_id: str, since: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a log group that are about the decision, each with its time."""
    request: dict[str, Any] = {
        "logGroupName": group,
        "startTime": since,
        # A word anywhere in the line; which field it stands in is looked at here.
        "filterPattern": f'"{decision_id}"',
    }
    for _ in range(_PAGES_MAX):
        page = connected.aws("logs", "FilterLogEvents", request)
        for event in page.get("events", ()):
            line = _parsed(event["message"])
            if any(line.get(name) == decision_id for name in _NAMES):
                yield event["timestamp"], line
        if not page.get("nextToken"):
            return
        request["nextToken"] = page["nextToken"]


def _parsed(message: str) -> dict[str, Any]:
    try:
        line = json.loads(message)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
