"""What the local gateway reads of a template, and what it refuses to read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from local.gateway.api import API, GatewayResponse, Route, UnsupportedTemplateError, read_api
from local.sam_template import translate

_TEMPLATE = Path(__file__).parent.parent / "support" / "gateway_template.yaml"
_URI = "arn:aws:apigateway:${AWS::Region}:lambda:path/2021-11-15/functions/${F.Arn}/invocations"


def _template(**integration: Any) -> dict[str, Any]:
    merged = {"type": "aws_proxy", "uri": {"Fn::Sub": _URI}, **integration}
    body = {"paths": {"/a": {"get": {"x-amazon-apigateway-integration": merged}}}}
    return {
        "Resources": {
            "F": {"Type": "AWS::Lambda::Function", "Properties": {}},
            "Front": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Body": body}},
            "Stage": {"Type": "AWS::ApiGateway::Stage", "Properties": {"StageName": "live"}},
        }
    }


def test_routes_stage_and_texts_are_read_from_the_translated_template() -> None:
    api = read_api(translate(_TEMPLATE, {"StageName": "other"}))
    assert api.stage == "other"
    assert api.binary_media_types == ("*/*",)
    assert set(api.routes) == {
        Route("/stock/{item}", "POST", "Stock"),
        Route("/stock/{item}", "GET", "Stock"),
        Route("/stock/fixed", "GET", "Stock", timeout_seconds=1.5),
        Route("/reserved", "GET", "Reserved"),
        Route("/agents/{agent_id}", "ANY", "Relay", streaming=True, timeout_seconds=900),
        Route("/agents/{agent_id}/{proxy+}", "ANY", "Relay", streaming=True, timeout_seconds=900),
    }
    assert api.gateway_responses == {
        "INTEGRATION_TIMEOUT": GatewayResponse(
            504,
            {"x-worded-by": "the template"},
            {"text/plain": "late: $context.error.message ($context.error.responseType)"},
        )
    }


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter named Typo"):
        translate(_TEMPLATE, {"Typo": "x"})


def test_a_gateway_response_may_be_a_resource_of_its_own() -> None:
    template = _template()
    template["Resources"]["Late"] = {
        "Type": "AWS::ApiGateway::GatewayResponse",
        "Properties": {
            "ResponseType": "DEFAULT_5XX",
            "ResponseParameters": {"gatewayresponse.header.a": "'b'"},
            "ResponseTemplates": {"text/plain": "sorry"},
        },
    }
    responses = read_api(template).gateway_responses
    assert responses == {"DEFAULT_5XX": GatewayResponse(None, {"a": "b"}, {"text/plain": "sorry"})}


def test_an_integration_without_a_time_out_gets_29_seconds() -> None:
    assert read_api(_template()).routes == (Route("/a", "GET", "F", timeout_seconds=29),)


@pytest.mark.parametrize(
    "integration",
    [
        {"type": "http_proxy"},
        {"responseTransferMode": "STREAM"},
        {"uri": {"Fn::Sub": _URI.replace("/invocations", "/response-streaming-invocations")}},
        {"uri": {"Fn::Sub": "arn:aws:apigateway:lambda:nothing"}},
        {"timeoutInMillis": 29_001},
    ],
)
def test_an_integration_that_aws_would_refuse_or_run_otherwise_is_refused(
    integration: dict[str, Any],
) -> None:
    with pytest.raises(UnsupportedTemplateError):
        read_api(_template(**integration))


def test_two_apis_are_refused() -> None:
    template = _template()
    template["Resources"]["Second"] = template["Resources"]["Front"]
    with pytest.raises(UnsupportedTemplateError, match="declares 2 of"):
        read_api(template)


def test_a_computed_stage_name_is_refused() -> None:
    template = _template()
    template["Resources"]["Stage"]["Properties"]["StageName"] = {"Fn::Sub": "x"}
    with pytest.raises(UnsupportedTemplateError):
        read_api(template)


def test_an_api_survives_json() -> None:
    api = read_api(translate(_TEMPLATE, {}))
    assert API.from_json(json.loads(json.dumps(dataclasses.asdict(api)))) == api
