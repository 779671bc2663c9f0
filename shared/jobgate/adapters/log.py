"""Lines on standard output, which Lambda hands to CloudWatch Logs: one JSON object each."""

from __future__ import annotations

import json
import sys


def write_line(line: str) -> None:
    """Write a record, whole or not at all."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def log(text: str) -> None:
    """Write something for the operators, never for a caller; control characters are escaped."""
    write_line(json.dumps({"message": text}))


def failure_line(request_id: str, kind: str, exc: BaseException | None = None) -> str:
    """A failure as a line for `write_line`: what and where, never an error's own text.

    The text of an error may quote what must not be logged.
    """
    line = {"type": "failure", "request_id": request_id, "error": kind}
    return json.dumps(line if exc is None else {**line, "where": place_of(exc)})


def failure_text(request_id: str, exc: BaseException) -> str:
    """The same for `log`."""
    return f"failure {request_id}: {type(exc).__name__} at {place_of(exc)}"


def place_of(exc: BaseException) -> str:
    """File and line of the innermost frame that raised an error."""
    trace, place = exc.__traceback__, "unknown"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
