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
# As Go's ParseInt reads one: zeros before it, however many, change nothing.
_WHOLE_NUMBER = re.compile(r"([+-]?)0*([0-9]{1,19})")
_INT64_MAX = 2**63 - 1


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
            given = _WHOLE_NUMBER.fullmatch(value)
            # Of its digits alone: Python refuses to read thousands of zeros.
            asked = _INT64_MAX + 1 if given is None else int(given[2])
            is_negative = given is not None and given[1] == "-" and asked > 0
            # A negative one ends at once, and one beyond 64 bits is refused.
            if is_negative or 0 < asked <= most or asked > _INT64_MAX:
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
