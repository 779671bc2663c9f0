"""API Gateway's REST proxy event and answer (AWS, "Lambda proxy integrations in API Gateway")."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Event = dict[str, Any]

_FORM_MAX_FIELDS = 64


class TooLong(InvalidRequest):
    """A body beyond the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to a buffered route; header names are lower-case, repeated headers a list."""

    method: str
    path: str
    headers: Mapping[str, list[str]]
    query: Mapping[str, list[str]]
    path_parameters: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        """The header's value; raises InvalidRequest where it was sent more than once."""
        values = self.headers.get(name, [])
        if len(values) > 1:
            raise InvalidRequest(f"The header {name} was sent more than once.")
        return values[0] if values else None

    def parameter(self, name: str) -> str | None:
        """The query's parameter; raises InvalidRequest where it was sent more than once."""
        values = self.query.get(name, [])
        if len(values) > 1:
            raise InvalidRequest(f"The parameter {name} was sent more than once.")
        return values[0] if values else None

    def preferred(self, offered: Sequence[str]) -> str:
        """The media type of `offered` that the caller likes best (RFC 9110, 12.5.1).

        The first one where it likes several alike, none of them, or doesn't say.
        """
        weights = _weights(",".join(self.headers.get("accept", [])))
        return max(offered, key=lambda media_type: _weight(media_type, weights))

    def fields(self) -> dict[str, list[str]]:
        """The form fields of the body (RFC 6749, appendix B); one without a value is left out."""
        media_type = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if media_type != "application/x-www-form-urlencoded":
            raise InvalidRequest("The body must be application/x-www-form-urlencoded.")
        try:
            pairs = parse_qsl(
                self.body.decode(),
                keep_blank_values=True,
                strict_parsing=bool(self.body),
                max_num_fields=_FORM_MAX_FIELDS,
                errors="strict",
            )
        except ValueError as exc:
            raise InvalidRequest("The body isn't a form that can be read.") from exc
        fields: dict[str, list[str]] = {}
        for name, value in pairs:
            fields.setdefault(name, []).append(value)
        return {name: values for name, values in fields.items() if any(values)}


def single(fields: Mapping[str, list[str]], names: Iterable[str]) -> dict[str, str]:
    """The form fields of these names, of which none may stand twice (RFC 6749, 3.2).

    All others are ignored (3.1). Raises InvalidRequest.
    """
    found = {name: fields[name] for name in names if name in fields}
    if any(len(values) > 1 for values in found.values()):
        raise InvalidRequest("A form field was sent more than once.")
    return {name: values[0] for name, values in found.items()}


def request_of(event: Event, *, max_body_bytes: int) -> Request:
    """Read an event; raises TooLong for its body, InvalidRequest where that isn't base64."""
    body = event.get("body") or ""
    if len(body) > max_body_bytes * 4 // 3 + 4:
        raise TooLong("The body is too long.")
    try:
        data = base64.b64decode(body, validate=True) if event["isBase64Encoded"] else body.encode()
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest("The body can't be read.") from exc
    if len(data) > max_body_bytes:
        raise TooLong("The body is too long.")
    headers: dict[str, list[str]] = {}
    for name, values in (event.get("multiValueHeaders") or {}).items():
        headers.setdefault(name.lower(), []).extend(values)
    return Request(
        method=event["httpMethod"],
        path=event["path"],
        headers=headers,
        query=event.get("multiValueQueryStringParameters") or {},
        path_parameters=event.get("pathParameters") or {},
        body=data,
    )


def request_id_of(event: Event) -> str:
    """API Gateway's id of the request, which the caller has too (x-amzn-RequestId)."""
    return str(event.get("requestContext", {}).get("requestId", ""))


def json_answer(
    status: int, value: object, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """An answer with a JSON body, not to be kept (RFC 6749, 5.1) unless `headers` allow it."""
    return text_answer(
        status,
        json.dumps(value, indent=2) + "\n",
        {"Content-Type": "application/json", **(headers or {})},
    )


def text_answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """An answer in plain text, not to be kept unless `headers` allow it."""
    return {
        "statusCode": status,
        "headers": {
            "Content-Type": "text/plain; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        },
        "body": text,
        "isBase64Encoded": False,
    }


def _weights(accept: str) -> dict[str, float]:
    """Media ranges with their weights; whatever can't be read counts as not said."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if media_range and re.fullmatch(r"[01](\.[0-9]{0,3})?", weight):
            weights[media_range] = float(weight)
    return weights


def _weight(media_type: str, weights: Mapping[str, float]) -> float:
    """The most specific range decides."""
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((weights[each] for each in ranges if each in weights), 0.0)
