"""The REST API that a translated template declares: stage, routes, binary types, error texts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DEFAULT_TIMEOUT_SECONDS = 29.0
_LONGEST_BUFFERED_SECONDS = 29.0
_LONGEST_STREAM_SECONDS = 900.0
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch"})
_ANY_METHOD = "x-amazon-apigateway-any-method"
_INTEGRATION = "x-amazon-apigateway-integration"
_HEADER_VALUE = re.compile(r"'(.*)'|(context\.requestId)")
_FUNCTION_IN_URI = re.compile(
    r"/functions/\$\{(?P<id>[A-Za-z0-9]+?)(\.Arn|Alias[a-z]+)?\}/(response-streaming-)?invocations"
)


class UnsupportedTemplateError(ValueError):
    """The template declares something that this gateway doesn't carry as AWS would."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one resource; `method` is upper case or ANY, `function` a logical id."""

    resource: str
    method: str
    function: str
    streaming: bool = False
    timeout_seconds: float = _DEFAULT_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """How API Gateway words one kind of answer of its own (`AWS::ApiGateway::GatewayResponse`).

    `headers` are literal values or `$context.…`; `templates` is keyed by content type and may hold
    `$context.…`.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class API:
    """One stage of one REST API."""

    stage: str
    routes: tuple[Route, ...]
    binary_media_types: tuple[str, ...] = ()
    gateway_responses: Mapping[str, GatewayResponse] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> API:
        """The API that `dataclasses.asdict` and JSON wrote."""
        return cls(
            value["stage"],
            tuple(Route(**route) for route in value["routes"]),
            tuple(value["binary_media_types"]),
            {kind: GatewayResponse(**given) for kind, given in value["gateway_responses"].items()},
        )


def read_api(template: Mapping[str, Any]) -> API:
    """Read the one REST API of a translated template; raises UnsupportedTemplateError."""
    body = _only(template, "AWS::ApiGateway::RestApi")["Body"]
    stage = resolve(_only(template, "AWS::ApiGateway::Stage")["StageName"], template)
    declared = body.get("x-amazon-apigateway-binary-media-types", [])
    responses = {
        kind: _gateway_response(
            given.get("statusCode"),
            given.get("responseParameters", {}),
            given.get("responseTemplates", {}),
        )
        for kind, given in body.get("x-amazon-apigateway-gateway-responses", {}).items()
    }
    for given in _properties(template, "AWS::ApiGateway::GatewayResponse"):
        responses[given["ResponseType"]] = _gateway_response(
            given.get("StatusCode"),
            given.get("ResponseParameters", {}),
            given.get("ResponseTemplates", {}),
        )
    return API(
        stage,
        tuple(_routes(body, template)),
        tuple(str(media_type).replace("~1", "/") for media_type in declared),
        responses,
    )


def _routes(body: Mapping[str, Any], template: Mapping[str, Any]) -> Iterator[Route]:
    for resource, methods in body["paths"].items():
        for method, operation in methods.items():
            # OPTIONS may be a mock of SAM's CORS setting; this gateway carries functions alone.
            if method in _METHODS or method == _ANY_METHOD:
                name = "ANY" if method == _ANY_METHOD else method.upper()
                yield _route(resource, name, operation[_INTEGRATION], template)


def _route(
    resource: str, method: str, integration: Mapping[str, Any], template: Mapping[str, Any]
) -> Route:
    where = f"{method} {resource}"
    if integration["type"] != "aws_proxy":
        raise UnsupportedTemplateError(f"{where} isn't a Lambda proxy integration.")
    uri = str(integration["uri"]["Fn::Sub"])
    found = _FUNCTION_IN_URI.search(uri)
    if found is None:
        raise UnsupportedTemplateError(f"{where}: no function in {uri}.")
    # API Gateway needs both: the transfer mode, and the Lambda action that streams.
    streaming = integration.get("responseTransferMode", "BUFFERED") == "STREAM"
    if streaming != uri.endswith("/response-streaming-invocations"):
        raise UnsupportedTemplateError(f"{where}: transfer mode and Lambda action differ.")
    seconds = integration.get("timeoutInMillis", _DEFAULT_TIMEOUT_SECONDS * 1000) / 1000
    longest = _LONGEST_STREAM_SECONDS if streaming else _LONGEST_BUFFERED_SECONDS
    if seconds > longest:
        raise UnsupportedTemplateError(f"{where}: AWS refuses a time-out above {longest:g} s.")
    return Route(resource, method, _function(found["id"], template), streaming, seconds)


def _function(logical_id: str, template: Mapping[str, Any]) -> str:
    """The function that a URI names, either by itself or by its alias."""
    resource = template["Resources"][logical_id]
    if resource["Type"] == "AWS::Lambda::Alias":
        return str(resource["Properties"]["FunctionName"]["Ref"])
    return logical_id


def _gateway_response(
    status: str | int | None, parameters: Mapping[str, Any], templates: Mapping[str, str]
) -> GatewayResponse:
    headers = {}
    for place, value in parameters.items():
        name = place.removeprefix("gatewayresponse.header.")
        found = _HEADER_VALUE.fullmatch(value) if isinstance(value, str) else None
        if name == place or found is None:
            raise UnsupportedTemplateError(f"Gateway response: {place}: {value}.")
        literal, variable = found.groups()
        headers[name] = f"${variable}" if literal is None else literal
    return GatewayResponse(None if status is None else int(status), headers, dict(templates))


def resolve(value: Any, template: Mapping[str, Any]) -> str:
    """A literal, or the value of the parameter that it refers to, as text."""
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, dict) and value.keys() == {"Ref"}:
        return str(template["Parameters"][value["Ref"]]["Default"])
    raise UnsupportedTemplateError(f"A string or a reference to a parameter is needed: {value}")


def _only(template: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = list(_properties(template, kind))
    if len(found) != 1:
        raise UnsupportedTemplateError(f"The template declares {len(found)} of {kind}, not one.")
    return found[0]


def _properties(template: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    for resource in template["Resources"].values():
        if resource["Type"] == kind:
            yield resource["Properties"]
