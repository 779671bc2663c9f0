"""API Gateway's REST proxy event and answer (AWS, "Lambda proxy integrations in API Gateway")."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

Event = dict[str, Any]

_FORM_MAX_FIELDS = 20


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

    def form(self) -> dict[str, str]:
        """The form fields of the body (RFC 6749, appendix B); none may stand twice (3.2)."""
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
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise InvalidRequest("A form field was sent more than once.")
        return {name: value for name, value in fields.items() if value}


def request_of(event: Event, *, max_body_bytes: int) -> Request:
    """Read an event; raises InvalidRequest for a body that is too long or not base64."""
    body = event.get("body") or ""
    if len(body) > max_body_bytes * 4 // 3 + 4:
        raise InvalidRequest("The body is too long.")
    try:
        data = base64.b64decode(body, validate=True) if event["isBase64Encoded"] else body.encode()
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest("The body can't be read.") from exc
    if len(data) > max_body_bytes:
        raise InvalidRequest("The body is too long.")
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
    return {
        "statusCode": status,
        "headers": {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        },
        "body": json.dumps(value, indent=2) + "\n",
        "isBase64Encoded": False,
    }
