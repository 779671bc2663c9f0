"""API Gateway's own answers, and how a template's gateway responses change them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.gateway.answer import Answer, Head

if TYPE_CHECKING:
    from local.gateway.api import API, GatewayResponse
    from local.gateway.event import Identifiers

_CONTEXT = re.compile(r"\$context\.([A-Za-z.]+)")


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    message: str
    error_type: str


# API Gateway, "Gateway response types"; the last ones are what a failed invocation gives. AWS
# documents the budget of 10,240 bytes for a request's head, not its answer: 431 is RFC 6585's.
_KINDS = {
    "BAD_REQUEST_PARAMETERS": _Kind(400, "Bad Request", "BadRequestException"),
    "MISSING_AUTHENTICATION_TOKEN": _Kind(
        403, "Missing Authentication Token", "MissingAuthenticationTokenException"
    ),
    "UNKNOWN_STAGE": _Kind(403, "Forbidden", "ForbiddenException"),
    "REQUEST_TOO_LARGE": _Kind(413, "Request Too Long", "RequestTooLongException"),
    "HEADERS_TOO_LARGE": _Kind(431, "Request Header Fields Too Large", "BadRequestException"),
    "INTEGRATION_TIMEOUT": _Kind(504, "Endpoint request timed out", "InternalServerErrorException"),
    # A throttled function: API Gateway answers 500, not 429, to the client of a proxy integration.
    "FUNCTION_THROTTLED": _Kind(500, "Internal server error", "InternalServerErrorException"),
    "INTERNAL_FAULT": _Kind(500, "Internal server error", "InternalServerErrorException"),
    "FUNCTION_FAILED": _Kind(502, "Internal server error", "InternalServerErrorException"),
    "RESULT_MALFORMED": _Kind(502, "Internal server error", "InternalServerErrorException"),
}


def refusal(api: API, kind: str, identifiers: Identifiers) -> Answer:
    """The answer of one kind, in the template's words if it has any for this kind."""
    known = _KINDS[kind]
    given = _chosen(api, kind, known.status)
    status = (given and given.status) or known.status
    headers = [("x-amzn-ErrorType", known.error_type)]
    content_type, body = "application/json", json.dumps({"message": known.message})
    if given:
        headers.extend(
            (name, _fill(value, kind, known, identifiers)) for name, value in given.headers.items()
        )
        if given.templates:
            content_type, template = next(iter(given.templates.items()))
            body = _fill(template, kind, known, identifiers)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", content_type))
    return Answer(Head(status, tuple(headers)), body.encode())


def _chosen(api: API, kind: str, status: int) -> GatewayResponse | None:
    default = "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
    return api.gateway_responses.get(kind) or api.gateway_responses.get(default)


def _fill(template: str, kind: str, known: _Kind, identifiers: Identifiers) -> str:
    values = {
        "error.message": known.message,
        "error.messageString": json.dumps(known.message),
        "error.responseType": kind,
        "extendedRequestId": identifiers.extended_request_id,
        "requestId": identifiers.request_id,
    }
    return _CONTEXT.sub(lambda found: values.get(found[1].rstrip("."), ""), template)
