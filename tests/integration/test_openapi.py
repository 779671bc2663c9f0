"""Schemathesis: good and bad requests over HTTP, each answered as docs/openapi.yaml says.

What the document leaves open (an ID token, an agent) is narrowed to what the job behind the test
has, so that a good request is really accepted; everything else is Schemathesis's own choice.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, assume, settings
from schemathesis.core.parameters import ParameterLocation

from local.certificates import CertificateAuthority
from tests.support import builders as b
from tests.support.exchange_server import exchange_server
from tests.support.https_server import https_server
from tests.support.id_tokens import SigningKey, gitlab_claims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.exchange_server import ExchangeServer

ROOT = Path(__file__).parents[2]
AGENT = "top/sub1/agents:prod"
KEY = SigningKey.generate("key-1")
# Stands for the running test's ID token, which isn't known when the tests are collected.
ID_TOKEN = "ID-TOKEN-OF-THE-JOB"
PUBLIC = "public, max-age=300"


def _narrowed() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    components = document["components"]
    components["schemas"]["IDToken"] = {"type": "string", "enum": [ID_TOKEN]}
    components["parameters"]["Agent"]["schema"] = {"type": "string", "enum": [AGENT]}
    # Any agent may be asked about, though only some are told of.
    anything = {"name": "agent", "in": "query", "schema": {"type": "string"}}
    document["paths"]["/explain"]["parameters"] = [anything]
    for name in ("resource", "audience"):
        components["schemas"]["TokenRequest"]["properties"][name]["items"] = {
            "enum": [AGENT, ""]  # empty: as if it were left out (RFC 6749, 3.1)
        }
    return document


schema = schemathesis.openapi.from_dict(_narrowed())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeServer]:
    folder = tmp_path_factory.mktemp("issuer")
    authority = CertificateAuthority.create(folder)
    with https_server(authority.issue("gitlab", folder), authority.certificate) as gitlab:
        keys = f"{gitlab.url}/oauth/discovery/keys"
        gitlab.answer("/.well-known/openid-configuration", {"issuer": gitlab.url, "jwks_uri": keys})
        gitlab.answer("/oauth/discovery/keys", {"keys": [KEY.jwk]})
        issuer = b.an_issuer(url=gitlab.url, ca=gitlab.ca)
        agent = b.an_agent(projects={b.APP: b.an_entry()})
        with exchange_server(issuer, agents=(agent,)) as serving:
            yield serving


@pytest.fixture(scope="module")
def id_token(server: ExchangeServer) -> str:
    return KEY.sign(gitlab_claims(iss=server.issuers[0].url))


def negated(case: schemathesis.Case) -> set[ParameterLocation]:
    """The parts of a request that break the document."""
    parts = case.meta.components if case.meta else {}
    return {location for location, part in parts.items() if part.mode.is_negative}


@schema.parametrize()
@settings(
    max_examples=60,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
def test_every_request_is_answered_as_the_document_says(
    case: schemathesis.Case, server: ExchangeServer, id_token: str
) -> None:
    # Schemathesis takes a parameter without a name for a violation; it's an unknown one as others.
    assume("" not in (case.query or {}))
    # A minute's limit is for a minute, and this test sends more.
    server.clock.now += 0.05
    server.counter.counts.clear()
    if isinstance(case.body, dict):
        for name, value in case.body.items():
            if value == ID_TOKEN:
                case.body[name] = id_token
    # Where the headers are what is wrong with a request they stay so.
    is_by_form = case.method == "POST" or ParameterLocation.HEADER in negated(case)
    headers = {} if is_by_form else {"Authorization": f"Bearer {id_token}"}

    response = case.call(base_url=server.url, headers=headers, timeout=30)
    if case.method.upper() != case.operation.method.upper():
        # API Gateway answers so for a method without a route, as it does for an unknown path.
        assert response.status_code == 403
        return
    case.validate_response(response, headers=headers)

    public = case.path.startswith("/.well-known/")
    assert response.headers["cache-control"] == [PUBLIC if public else "no-store"]
    assert id_token not in response.text
    assert "Traceback" not in response.text
    assert server.logged == []
