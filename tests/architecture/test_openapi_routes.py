"""docs/openapi.yaml says what the template's routes, the form's limits and the reasons are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jobgate.adapters import exchange_request
from jobgate.core.reasons import Reason

from local.gateway.api import read_api
from local.sam_template import translate

ROOT = Path(__file__).parents[2]
METHODS = {"get", "post", "put", "patch", "delete", "head", "options", "trace"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    return found


def test_the_document_has_the_exchanges_routes_and_no_other(document: dict[str, Any]) -> None:
    described = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in METHODS & item.keys()
    }
    routes = {
        (route.method, route.resource)
        for route in read_api(translate(ROOT / "template.yaml", {})).routes
        if route.function == "TokenExchangeFunction"
    }

    assert described == routes


def test_the_documents_reasons_are_the_closed_list(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["Reason"]["enum"] == [str(r) for r in Reason]


def test_the_documents_token_types_are_those_that_are_understood(document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"]["TokenRequest"]["properties"]

    assert properties["grant_type"]["enum"] == [exchange_request.GRANT_TYPE]
    assert set(properties["subject_token_type"]["enum"]) == {
        exchange_request.ID_TOKEN_TYPE,
        exchange_request.JWT_TYPE,
    }
    assert set(properties["requested_token_type"]["enum"]) == {
        exchange_request.ACCESS_TOKEN_TYPE,
        exchange_request.JWT_TYPE,
        "",  # as if it were left out (RFC 6749, 3.1)
    }
