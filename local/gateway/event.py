"""A request as the event of a REST API's Lambda proxy integration.

Shape: API Gateway's "Input format of a Lambda function for proxy integration". The path and the
path parameters stay percent-encoded, the query is decoded, and every header and parameter appears
twice: once with its last value, once with all of them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.gateway.request import parse_query

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from local.gateway.request import Request
    from local.gateway.routing import Match

_ACCOUNT = "000000000000"
_API_ID = "local"
# Concern one connection, or are made anew by API Gateway, so that a function never sees them.
_NOT_PASSED_ON = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-port",
        "x-forwarded-proto",
    }
)


@dataclass(frozen=True, slots=True)
class Identifiers:
    """What API Gateway makes up for each request."""

    request_id: str
    extended_request_id: str
    trace_id: str


def build_event(
    request: Request,
    match: Match,
    *,
    body: bytes,
    binary_media_types: tuple[str, ...],
    identifiers: Identifiers,
    now: dt.datetime,
) -> dict[str, Any]:
    """The event for one request."""
    headers = _headers(request, identifiers)
    query = parse_query(request.target.query)
    binary = bool(body) and is_binary(request.header("content-type"), binary_media_types)
    text = base64.b64encode(body).decode() if binary else body.decode(errors="replace")
    return {
        "resource": match.route.resource,
        "path": request.target.path,
        "httpMethod": request.method,
        "headers": _last(headers),
        "multiValueHeaders": headers,
        "queryStringParameters": _last(query) or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": dict(match.parameters) or None,
        "stageVariables": None,
        "requestContext": _context(request, match, identifiers, now),
        "body": text or None,
        "isBase64Encoded": binary,
    }


def is_binary(media_type: str | None, binary_media_types: tuple[str, ...]) -> bool:
    """Whether API Gateway treats a body of this content type as bytes; none sent means JSON."""
    plain = (media_type or "application/json").partition(";")[0].strip().lower()
    major = plain.partition("/")[0]
    return any(declared in (plain, f"{major}/*", "*/*") for declared in binary_media_types)


def _headers(request: Request, identifiers: Identifiers) -> dict[str, list[str]]:
    """Values by name; the first spelling of a name stands for all of them."""
    headers: dict[str, list[str]] = {}
    spelling: dict[str, str] = {}
    for name, value in request.headers:
        if name.lower() not in _NOT_PASSED_ON:
            headers.setdefault(spelling.setdefault(name.lower(), name), []).append(value)
    forwarded = headers.pop(spelling.get("x-forwarded-for", ""), [])
    headers["X-Forwarded-For"] = [", ".join([*forwarded, request.source_ip])]
    headers["X-Forwarded-Port"] = ["443"]
    headers["X-Forwarded-Proto"] = ["https"]
    headers.setdefault(spelling.get("x-amzn-trace-id", "X-Amzn-Trace-Id"), [identifiers.trace_id])
    return headers


def _context(
    request: Request, match: Match, identifiers: Identifiers, now: dt.datetime
) -> dict[str, Any]:
    host = (request.header("host") or "").partition(":")[0]
    return {
        "accountId": _ACCOUNT,
        "apiId": _API_ID,
        "authorizer": None,
        "deploymentId": "local",
        "domainName": host,
        "domainPrefix": host.partition(".")[0],
        "extendedRequestId": identifiers.extended_request_id,
        "httpMethod": request.method,
        "identity": _identity(request),
        "path": f"/{request.target.stage}{request.target.path}",
        "protocol": request.protocol,
        "requestId": identifiers.request_id,
        "requestTime": now.strftime("%d/%b/%Y:%H:%M:%S %z"),
        "requestTimeEpoch": int(now.timestamp() * 1000),
        "resourceId": "local",
        "resourcePath": match.route.resource,
        "stage": request.target.stage,
    }


def _identity(request: Request) -> dict[str, str | None]:
    return {
        "accessKey": None,
        "accountId": None,
        "caller": None,
        "cognitoAuthenticationProvider": None,
        "cognitoAuthenticationType": None,
        "cognitoIdentityId": None,
        "cognitoIdentityPoolId": None,
        "principalOrgId": None,
        "sourceIp": request.source_ip,
        "user": None,
        "userAgent": request.header("user-agent"),
        "userArn": None,
    }


def _last(values: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: given[-1] for name, given in values.items()}
