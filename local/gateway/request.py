"""A client's request as it was sent, and the rules that API Gateway applies to it first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_plus

# API Gateway, "Important notes for REST APIs": these have to be sent percent-encoded.
_REFUSED_IN_QUERY = re.compile(r"[|{}]")
_PRINTABLE = re.compile(r"[!-~]+")


class RequestRefusedError(Exception):
    """The request can't be carried; `kind` is one of API Gateway's response types."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Target:
    """A request's target: stage, then path and query as they were sent."""

    stage: str
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `headers` in the order and with the letter case in which they came."""

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...]
    source_ip: str
    protocol: str

    def header(self, name: str) -> str | None:
        """The last value of a header, whatever its letter case."""
        values = [value for given, value in self.headers if given.lower() == name.lower()]
        return values[-1] if values else None


def parse_target(raw: str) -> Target:
    """Split a request target byte for byte; raises RequestRefusedError.

    Stricter than AWS where AWS says nothing: absolute form, fragments and bytes outside printable
    ASCII are refused.
    """
    path, _, query = raw.partition("?")
    if not path.startswith("/") or "#" in raw or not _PRINTABLE.fullmatch(raw):
        raise RequestRefusedError("BAD_REQUEST_PARAMETERS")
    if _REFUSED_IN_QUERY.search(query):
        raise RequestRefusedError("BAD_REQUEST_PARAMETERS")
    stage, slash, rest = path[1:].partition("/")
    return Target(stage, slash + rest or "/", query)


def parse_query(query: str) -> dict[str, list[str]]:
    """Decode a query as API Gateway does: `;` splits like `&`, `+` is a space, keys are sorted.

    AWS loses the order of different keys; sorting makes nobody rely on it. The order of one key's
    values is kept.
    """
    values: dict[str, list[str]] = {}
    for pair in re.split("[&;]", query):
        name, _, value = pair.partition("=")
        if pair:
            values.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return dict(sorted(values.items()))


def head_size(method: str, raw_target: str, headers: tuple[tuple[bytes, bytes], ...]) -> int:
    """Bytes of a request's line and headers, with what separates them."""
    line = len(f"{method} {raw_target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape"))
    return line + sum(len(name) + len(value) + len(b": \r\n") for name, value in headers)
