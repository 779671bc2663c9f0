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
    write_line(json.dumps({"level": "ERROR", "message": text}))
