"""Watches: how long one may last, and how one is ended from the middle.

A watch of the API server's ends by its own clock (`timeoutSeconds`), and then the client goes on
from the last `resourceVersion`: nothing is lost and nothing comes twice. An answer that is cut by
whatever stands between may lose the event that was on its way. So a watch is given an end of its
own before every other end: Lambda's, and the access token's.

A JSON watch is a sequence of objects with a line feed after each (Kubernetes API concepts,
"Efficient detection of changes"), tables included. So it's known where one ends, something may
stand between two, and an `ERROR` event with a `Status` can tell a client why it ends. Protobuf and
CBOR frames aren't written here: such a watch is broken off.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEEPALIVE = b"\n"
"""White space between two JSON objects: no client takes notice, and every front sees a byte."""

_TIMEOUT = "timeoutSeconds"
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


def limited_watch(
    query: tuple[tuple[str, str], ...], *, seconds: float
) -> tuple[tuple[str, str], ...]:
    """A watch's decoded query with an end at most `seconds` from now; the rest stays as it is.

    The API server reads the first of several values, and takes none and zero for half an hour or
    more. What isn't a number is left to it to refuse.
    """
    most = max(int(seconds), 1)
    for at, (name, value) in enumerate(query):
        if name == _TIMEOUT:
            # A negative one ends at once.
            if not _WHOLE_NUMBER.fullmatch(value) or int(value) < 0 or 0 < int(value) <= most:
                return query
            return (*query[:at], (name, str(most)), *query[at + 1 :])
    return (*query, (_TIMEOUT, str(most)))


def is_json_watch(verb: str, status: int, headers: Iterable[tuple[str, str]]) -> bool:
    """Whether an answer is a watch of JSON objects, in plain; `headers` are the answer's."""
    given = {name.lower(): value for name, value in headers}
    media_type = given.get("content-type", "").partition(";")[0].strip().lower()
    return (
        verb == "watch"
        and status == 200
        and media_type == "application/json"
        and "content-encoding" not in given
    )


def error_event(status: Mapping[str, object]) -> bytes:
    """The event that ends a JSON watch and says why: a `Status` object."""
    event = {"type": "ERROR", "object": status}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
