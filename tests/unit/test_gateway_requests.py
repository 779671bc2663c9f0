"""The local gateway's pure parts: routing, targets, queries, media types, its own answers."""

from __future__ import annotations

import pytest

from local.gateway.api import API, GatewayResponse, Route
from local.gateway.event import Identifiers, is_binary
from local.gateway.refusals import refusal
from local.gateway.request import RequestRefusedError, Target, parse_query, parse_target
from local.gateway.routing import match

_IDENTIFIERS = Identifiers("request-1", "extended-1", "Root=1")
_API = API(
    "live",
    tuple(
        Route(resource, method, f"{method} {resource}")
        for resource, method in [
            ("/a/{b}", "GET"),
            ("/a/{b}", "ANY"),
            ("/a/fixed", "POST"),
            ("/a/{b}/{proxy+}", "ANY"),
            ("/a/{b}/c", "GET"),
            ("/", "GET"),
        ]
    ),
)


@pytest.mark.parametrize(
    ("method", "path", "function", "parameters"),
    [
        ("GET", "/a/1", "GET /a/{b}", {"b": "1"}),
        ("PUT", "/a/1", "ANY /a/{b}", {"b": "1"}),
        ("POST", "/a/fixed", "POST /a/fixed", {}),
        ("GET", "/a/fixed", "GET /a/{b}", {"b": "fixed"}),
        ("GET", "/a/1/", "GET /a/{b}", {"b": "1"}),
        ("GET", "/a/1/c", "GET /a/{b}/c", {"b": "1"}),
        ("PUT", "/a/1/c", "ANY /a/{b}/{proxy+}", {"b": "1", "proxy": "c"}),
        ("GET", "/a/1/c/d", "ANY /a/{b}/{proxy+}", {"b": "1", "proxy": "c/d"}),
        ("GET", "/a/1//", "ANY /a/{b}/{proxy+}", {"b": "1", "proxy": "/"}),
        ("GET", "/a/../b", "ANY /a/{b}/{proxy+}", {"b": "..", "proxy": "b"}),
        ("GET", "/a/x%2Fy", "GET /a/{b}", {"b": "x%2Fy"}),
        ("GET", "/", "GET /", {}),
    ],
)
def test_the_most_specific_route_takes_the_request(
    method: str, path: str, function: str, parameters: dict[str, str]
) -> None:
    found = match(_API, method, path)
    assert found is not None
    assert (found.route.function, found.parameters) == (function, parameters)


@pytest.mark.parametrize("path", ["/a", "/a/", "/a//", "/a//c", "/b/1", "//a/1", "/%61/1", "/A/1"])
def test_no_route_takes_another_path(path: str) -> None:
    assert match(_API, "GET", path) is None


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/live/a", Target("live", "/a", "")),
        ("/live", Target("live", "/", "")),
        ("/live/", Target("live", "/", "")),
        ("/live//a/../b?c=%7B", Target("live", "//a/../b", "c=%7B")),
        ("/live/a{b}|c", Target("live", "/a{b}|c", "")),
        ("//a", Target("", "/a", "")),
        ("/live/a?b?c", Target("live", "/a", "b?c")),
    ],
)
def test_a_target_is_split_and_nothing_else(raw: str, target: Target) -> None:
    assert parse_target(raw) == target


@pytest.mark.parametrize(
    "raw", ["", "*", "a", "http://x/live/a", "/live/a#b", "/live/a b", "/live/é", "/live/a?b=|"]
)
def test_a_target_that_cant_be_carried_is_refused(raw: str) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        parse_target(raw)
    assert refused.value.kind == "BAD_REQUEST_PARAMETERS"


def test_a_query_keeps_the_order_within_one_key_and_sorts_the_keys() -> None:
    parsed = parse_query("z=1&a=2&z=0;m&&=x&p=a%26b%3Bc+d")
    assert list(parsed.items()) == [
        ("", ["x"]),
        ("a", ["2"]),
        ("m", [""]),
        ("p", ["a&b;c d"]),
        ("z", ["1", "0"]),
    ]


@pytest.mark.parametrize(
    ("media_type", "declared", "binary"),
    [
        ("image/png", ("image/png",), True),
        ("image/png; a=b", ("image/png",), True),
        ("IMAGE/PNG", ("image/*",), True),
        ("text/plain", ("image/*",), False),
        (None, ("application/json",), True),
        (None, (), False),
        ("anything", ("*/*",), True),
    ],
)
def test_binary_media_types(
    media_type: str | None, declared: tuple[str, ...], *, binary: bool
) -> None:
    assert is_binary(media_type, declared) is binary


def test_an_answer_of_the_gateways_own_is_json_by_default() -> None:
    answer = refusal(_API, "MISSING_AUTHENTICATION_TOKEN", _IDENTIFIERS)
    assert answer.head.status == 403
    assert answer.head.headers == (
        ("x-amzn-ErrorType", "MissingAuthenticationTokenException"),
        ("Content-Type", "application/json"),
    )
    assert answer.body == b'{"message": "Missing Authentication Token"}'


def test_the_template_words_a_kind_of_answer_before_its_class() -> None:
    worded = {
        "DEFAULT_5XX": GatewayResponse(None, {}, {"text/plain": "class"}),
        "INTEGRATION_TIMEOUT": GatewayResponse(
            503,
            {"x-a": "b", "x-id": "$context.requestId"},
            {"application/json": '{"m": $context.error.messageString, "r": "$context.requestId"}'},
        ),
    }
    api = API("live", (), (), worded)
    late = refusal(api, "INTEGRATION_TIMEOUT", _IDENTIFIERS)
    failed = refusal(api, "FUNCTION_FAILED", _IDENTIFIERS)
    assert late.head.status == 503
    assert {("x-a", "b"), ("x-id", "request-1")} <= set(late.head.headers)
    assert late.body == b'{"m": "Endpoint request timed out", "r": "request-1"}'
    assert (failed.head.status, failed.body) == (502, b"class")
