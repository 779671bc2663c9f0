"""What a function returned, as the HTTP answer that API Gateway makes of it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from local.gateway.event import is_binary

PRELUDE_END = b"\0" * 8
"""Separates a streamed answer's prelude (JSON: status and headers) from its body."""

# API Gateway, "Important notes for REST APIs", and what its answers are seen to hold.
_REMAPPED = frozenset(
    {"connection", "content-length", "date", "server", "www-authenticate", "x-amzn-requestid"}
)
_DROPPED = frozenset(
    {"expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Headers = tuple[tuple[str, str], ...]


class MalformedResultError(ValueError):
    """The function's result isn't what a proxy integration has to return."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer, renamed as API Gateway renames them."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    head: Head
    body: bytes


def buffered_answer(
    payload: bytes, *, accept: str | None, binary_media_types: tuple[str, ...]
) -> Answer:
    """Read a buffered result (status, headers, body); raises MalformedResultError."""
    result = _object(payload)
    body = result.get("body")
    if not isinstance(body, str | None):
        raise MalformedResultError("body isn't a string")
    content = (body or "").encode()
    if _flag(result, "isBase64Encoded") and _wants_binary(accept, binary_media_types):
        try:
            content = base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise MalformedResultError("body isn't base64") from error
    if "statusCode" not in result:
        raise MalformedResultError("statusCode is missing")
    return Answer(_head(result), content)


def streamed_head(prelude: bytes) -> Head:
    """Read a streamed answer's prelude; no status means 200. Raises MalformedResultError."""
    result = _object(prelude)
    head = _head({"statusCode": 200, **result})
    cookies = result.get("cookies", [])
    if not isinstance(cookies, list):
        raise MalformedResultError("cookies isn't a list")
    return Head(head.status, (*head.headers, *(_header("Set-Cookie", each) for each in cookies)))


def _head(result: dict[str, Any]) -> Head:
    """A name that is in both forms counts in the multi-value one."""
    headers: list[tuple[str, str]] = []
    multiple = _mapping(result, "multiValueHeaders")
    names = {name.lower() for name in multiple}
    for name, value in _mapping(result, "headers").items():
        if name.lower() not in names and value is not None:
            headers.append(_header(name, value))
    for name, values in multiple.items():
        if not isinstance(values, list):
            raise MalformedResultError("multiValueHeaders holds something else than lists")
        headers.extend(_header(name, value) for value in values)
    kept = [(name, value) for name, value in headers if name.lower() not in _DROPPED]
    if not any(name.lower() == "content-type" for name, _ in kept):
        kept.append(("Content-Type", "application/json"))
    return Head(_status(result["statusCode"]), tuple(kept))


def _header(name: str, value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise MalformedResultError("a header's value isn't a scalar")
    text = str(value)
    if not _NAME.fullmatch(name) or _CONTROL.search(text):
        raise MalformedResultError("a header can't be written")
    return (f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED else name), text


def _status(value: Any) -> int:
    digits = isinstance(value, str) and value.isascii() and value.isdigit()
    if isinstance(value, bool) or not (digits or isinstance(value, int)):
        raise MalformedResultError("statusCode isn't a number")
    status = int(value)
    if not 200 <= status <= 599:
        raise MalformedResultError("statusCode isn't the status of a final answer")
    return status


def _object(payload: bytes) -> dict[str, Any]:
    try:
        result = json.loads(payload)
    except ValueError as error:
        raise MalformedResultError("the result isn't JSON") from error
    if not isinstance(result, dict):
        raise MalformedResultError("the result isn't an object")
    return result


def _mapping(result: dict[str, Any], name: str) -> dict[str, Any]:
    value = result.get(name)
    if not isinstance(value, dict | None):
        raise MalformedResultError(f"{name} isn't an object")
    return value or {}


def _flag(result: dict[str, Any], name: str) -> bool:
    value = result.get(name, False)
    if not isinstance(value, bool | None):
        raise MalformedResultError(f"{name} isn't a boolean")
    return bool(value)


def _wants_binary(accept: str | None, binary_media_types: tuple[str, ...]) -> bool:
    """API Gateway looks at the first media type of Accept alone."""
    return is_binary((accept or "*/*").partition(",")[0], binary_media_types)
