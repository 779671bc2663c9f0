"""A handler for the stock runtime: what it does is named by the query's `do`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_LONGEST_WAIT_SECONDS = 20


def handler(event: dict[str, Any], context: Any) -> Any:
    query = event["queryStringParameters"] or {}
    match query.get("do", "event"):
        case "event":
            return _json(event)
        case "context":
            return _json(_context(context))
        case "crash":
            os._exit(3)
        case "raise":
            raise RuntimeError("on purpose")
        case "return":
            return json.loads(query["value"])
        case "big":
            return {"statusCode": 200, "body": "x" * int(query["bytes"])}
        case "meet":
            return _meet(Path(query["folder"]), query["me"], query["other"])
        case "wait":
            _wait_for(Path(query["file"]))
            return _json({"pid": os.getpid()})
    raise ValueError("unknown wish")


def _context(context: Any) -> dict[str, Any]:
    return {
        "arn": context.invoked_function_arn,
        "boto3": importlib.import_module("boto3").__file__,
        "environment": dict(os.environ),  # noqa: TID251  what the test asks for
        "layer": importlib.import_module("layer_module").PLACE,
        "milliseconds": context.get_remaining_time_in_millis(),
        "path": sys.path,
        "pid": os.getpid(),
        "request_id": context.aws_request_id,
        "working_folder": str(Path.cwd()),
    }


def _meet(folder: Path, me: str, other: str) -> dict[str, Any]:
    """Return only once the other request is being handled too."""
    (folder / me).touch()
    _wait_for(folder / other)
    return _json({"pid": os.getpid()})


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(str(path))
        time.sleep(0.01)


def _json(value: Any) -> dict[str, Any]:
    return {"statusCode": 200, "body": json.dumps(value)}
