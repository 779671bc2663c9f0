"""The exchange's routes, event in and answer out, with the use case on fakes behind them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from jobgate.adapters.exchange_http import ACCESS_TOKEN_TYPE, GRANT_TYPE, ExchangeHTTP
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken, JobgateError, Unavailable
from jobgate.core.settings import Settings
from jobgate.usecases.exchange import Exchange

from tests.support import builders as b
from tests.support.fakes import (
    FakeClock,
    FakeExchangeStore,
    FakeLookups,
    FakeTokenSigner,
    FakeTokenVerifier,
)

if TYPE_CHECKING:
    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports import Deployment, ExchangeFacts

TOKEN = "eyJhbGciOi.canary-payload.canary-signature"
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"
FORM = "application/x-www-form-urlencoded"
REQUEST = {
    "grant_type": GRANT_TYPE,
    "subject_token": TOKEN,
    "subject_token_type": ID_TOKEN_TYPE,
}
NEITHER = b.an_agent(projects={101: b.an_entry()})


class Routes:
    def __init__(
        self,
        agent: AgentSnapshot | None = None,
        *,
        refusal: JobgateError | None = None,
        facts: ExchangeFacts | None = None,
        deployment: Deployment | None = None,
        broken: bool = False,
    ) -> None:
        clock = FakeClock()
        self.logged: list[str] = []
        self.records: list[str] = []
        self.deployment = deployment or b.a_deployment(keys=[b.a_public_key()])
        agent = agent or b.an_agent(projects={b.APP: b.an_entry(namespace="payments")})
        exchange = Exchange(
            deployment=lambda: self.deployment,
            verifier=FakeTokenVerifier(
                {} if refusal else {TOKEN: b.a_verified_job()}, refusal=refusal
            ),
            store=FakeExchangeStore(facts or b.some_facts(), [agent]),
            lookups=FakeLookups(),
            signer=FakeTokenSigner(),
            recorder=self.break_off if broken else self.records.append,
            settings=Settings(),
            bounds=Bounds(),
            clock=clock,
            new_id=lambda: "decision-1",
        )
        self.handler = ExchangeHTTP(
            exchange, lambda: self.deployment, clock=clock, log=self.logged.append
        )

    def break_off(self, line: str) -> None:
        raise RuntimeError("a mistake in the code")

    def send(
        self,
        method: str,
        path: str,
        *,
        body: str | None = None,
        headers: dict[str, list[str]] | None = None,
        query: dict[str, list[str]] | None = None,
        base64_encoded: bool = False,
    ) -> dict[str, Any]:
        answer = self.handler(
            {
                "httpMethod": method,
                "path": path,
                "multiValueHeaders": headers,
                "multiValueQueryStringParameters": query,
                "pathParameters": None,
                "body": body,
                "isBase64Encoded": base64_encoded,
            },
            None,
        )
        assert answer["isBase64Encoded"] is False
        return answer

    def token(self, **fields: str | None) -> dict[str, Any]:
        form = {k: v for k, v in {**REQUEST, **fields}.items() if v is not None}
        return self.form(urlencode(form))

    def form(self, body: str, *, path: str = "/token", media_type: str = FORM) -> dict[str, Any]:
        return self.send("POST", path, body=body, headers={"Content-Type": [media_type]})

    def kubeconfig(
        self, *authorization: str, query: dict[str, list[str]] | None = None
    ) -> dict[str, Any]:
        given = authorization or (f"Bearer {TOKEN}",)
        return self.send("GET", "/kubeconfig", headers={"authorization": list(given)}, query=query)


def error(answer: dict[str, Any]) -> tuple[int, str]:
    """Status and error code; whatever is refused isn't kept and says nothing of the token."""
    body = json.loads(answer["body"])
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert "Retry-After" not in answer["headers"]
    assert set(body) <= {"error", "error_description", "reason", "decision_id"}
    assert body["error_description"].isprintable()
    assert "canary" not in answer["body"]
    assert "Traceback" not in answer["body"]
    return answer["statusCode"], body["error"]


# --- POST /token (RFC 8693) ---


def test_a_token_exchange_answers_as_rfc_8693() -> None:
    answer = Routes().token()

    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == {
        "access_token": "signed-1",
        "issued_token_type": ACCESS_TOKEN_TYPE,
        "token_type": "Bearer",
        "expires_in": 900,
    }
    assert answer["headers"] == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"requested_token_type": ACCESS_TOKEN_TYPE},
        {"requested_token_type": ""},
        {"resource": f"{b.BASE_URL}/agents/501"},
        {"resource": "top/sub1/agents:prod"},
        {"unknown": "ignored"},
    ],
)
def test_other_forms_of_the_request_are_understood(fields: dict[str, str]) -> None:
    assert Routes().token(**fields)["statusCode"] == 200


def test_a_form_that_the_gateway_encoded_is_understood() -> None:
    body = base64.b64encode(urlencode(REQUEST).encode()).decode()

    answer = Routes().send(
        "POST",
        "/token",
        body=body,
        headers={"content-type": [f"{FORM}; charset=utf-8"]},
        base64_encoded=True,
    )

    assert answer["statusCode"] == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"grant_type": None},
        {"grant_type": ""},
        {"grant_type": "client_credentials"},
        {"grant_type": GRANT_TYPE.upper()},
        {"subject_token": None},
        {"subject_token": ""},
        {"subject_token_type": None},
        {"subject_token_type": ACCESS_TOKEN_TYPE},
        {"subject_token_type": "id_token"},
        {"requested_token_type": ID_TOKEN_TYPE},
        {"actor_token": "x"},
    ],
)
def test_a_request_that_rfc_8693_does_not_know_is_invalid(fields: dict[str, str | None]) -> None:
    assert error(Routes().token(**fields)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "&",
        "=",
        "grant_type",
        urlencode(REQUEST) + "&grant_type=x",
        urlencode(REQUEST) + f"&subject_token={TOKEN}",
        urlencode(REQUEST) + "&subject_token=",
        urlencode(REQUEST) + "&a=%ff",
        urlencode(REQUEST) + "".join(f"&f{i}=1" for i in range(20)),
        json.dumps(REQUEST),
    ],
    ids=range(10),
)
def test_a_body_that_is_no_plain_form_is_invalid(body: str) -> None:
    assert error(Routes().form(body)) == (400, "invalid_request")


@pytest.mark.parametrize("media_type", ["", "application/json", "text/plain", f"{FORM}x"])
def test_a_body_of_another_media_type_is_invalid(media_type: str) -> None:
    answer = Routes().form(urlencode(REQUEST), media_type=media_type)

    assert error(answer) == (400, "invalid_request")


def test_two_media_types_are_invalid() -> None:
    answer = Routes().send(
        "POST", "/token", body=urlencode(REQUEST), headers={"Content-Type": [FORM, FORM]}
    )

    assert error(answer) == (400, "invalid_request")


@pytest.mark.parametrize("body", ["!!!", "AA=A", "\u00e9"])
def test_a_body_that_is_not_the_base64_that_it_should_be_is_invalid(body: str) -> None:
    answer = Routes().send(
        "POST", "/token", body=body, headers={"Content-Type": [FORM]}, base64_encoded=True
    )

    assert error(answer) == (400, "invalid_request")


def test_a_body_beyond_the_bound_is_invalid() -> None:
    routes = Routes()

    assert error(routes.token(subject_token="A" * 70_000)) == (400, "invalid_request")
    assert routes.records == []


@pytest.mark.parametrize(
    ("refusal", "answered"),
    [
        (InvalidToken("canary: why"), (400, "invalid_request")),
        (InvalidToken("canary: late", expired=True), (400, "invalid_request")),
        (Unavailable("canary: no keys"), (503, "temporarily_unavailable")),
    ],
)
@pytest.mark.parametrize("resource", [None, "top/sub1/agents:prod"])
def test_a_subject_token_that_is_not_good_is_an_invalid_request_whatever_the_target(
    refusal: JobgateError, answered: tuple[int, str], resource: str | None
) -> None:
    assert error(Routes(refusal=refusal).token(resource=resource)) == answered


def test_an_agent_that_the_job_may_not_use_is_an_invalid_target() -> None:
    answer = Routes(NEITHER).token(resource="top/sub1/agents:prod")

    assert error(answer) == (400, "invalid_target")


def test_a_job_without_any_agent_is_an_invalid_request_with_its_reason() -> None:
    answer = Routes(NEITHER).token()

    assert error(answer) == (400, "invalid_request")
    body = json.loads(answer["body"])
    assert (body["reason"], body["decision_id"]) == ("not_listed", "decision-1")
    assert answer["headers"]["Jobgate-Decision"] == "decision-1"


# --- /kubeconfig ---


def test_a_kubeconfig_is_answered_to_the_bearer() -> None:
    answer = Routes().kubeconfig()

    config = json.loads(answer["body"])
    assert answer["statusCode"] == 200
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert answer["headers"]["Jobgate-Decision"] == "decision-1"
    assert config["current-context"] == "top/sub1/agents:prod"
    assert config["users"] == [{"name": "agent:501", "user": {"token": "signed-1"}}]


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_the_schemes_case_and_its_spaces_do_not_matter(scheme: str) -> None:
    assert Routes().kubeconfig(scheme + TOKEN)["statusCode"] == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN} x", f"Bearer\t{TOKEN}",
     f"Bearer,{TOKEN}", f"Bearer {TOKEN}\n", "Bearer é"],
)  # fmt: skip
def test_what_is_no_bearer_is_invalid(authorization: str) -> None:
    assert error(Routes().kubeconfig(authorization)) == (400, "invalid_request")


def test_two_authorization_headers_are_invalid_even_if_they_are_the_same() -> None:
    answer = Routes().kubeconfig(f"Bearer {TOKEN}", f"Bearer {TOKEN}")

    assert error(answer) == (400, "invalid_request")


def test_headers_of_two_spellings_are_one_header() -> None:
    answer = Routes().send(
        "GET",
        "/kubeconfig",
        headers={"Authorization": [f"Bearer {TOKEN}"], "authorization": ["Bearer other"]},
    )

    assert error(answer) == (400, "invalid_request")


def test_no_header_at_all_is_invalid() -> None:
    assert error(Routes().send("GET", "/kubeconfig")) == (400, "invalid_request")


def test_a_token_too_long_for_a_header_is_told_to_be_posted() -> None:
    routes = Routes()

    assert error(routes.kubeconfig("Bearer " + "A" * 8186)) == (431, "invalid_request")
    assert "POST" in routes.kubeconfig("Bearer " + "A" * 8186)["body"]
    assert routes.kubeconfig("Bearer " + "A" * 8185)["statusCode"] == 401


def test_a_token_may_be_posted_as_a_form_field() -> None:
    answer = Routes().form(urlencode({"token": TOKEN}), path="/kubeconfig")

    assert answer["statusCode"] == 200


@pytest.mark.parametrize("body", ["other=x", "token=", f"token={TOKEN}&token={TOKEN}", "token=%ff"])
def test_a_posted_form_without_one_token_is_invalid(body: str) -> None:
    assert error(Routes().form(body, path="/kubeconfig")) == (400, "invalid_request")


def test_a_post_without_a_body_is_read_as_a_bearer() -> None:
    answer = Routes().send("POST", "/kubeconfig", headers={"authorization": [f"Bearer {TOKEN}"]})

    assert answer["statusCode"] == 200


@pytest.mark.parametrize(
    ("agent", "status"), [("top/sub1/agents:prod", 200), ("top/sub1/agents:other", 403), ("", 403)]
)
def test_one_agent_may_be_asked_for(agent: str, status: int) -> None:
    assert Routes().kubeconfig(query={"agent": [agent]})["statusCode"] == status


def test_an_agent_that_is_asked_for_twice_is_invalid() -> None:
    answer = Routes().kubeconfig(query={"agent": ["top/sub1/agents:prod", "other"]})

    assert error(answer) == (400, "invalid_request")


def test_a_job_without_an_agent_gets_the_reason_and_no_file() -> None:
    answer = Routes(NEITHER).kubeconfig()

    assert error(answer) == (403, "invalid_request")
    body = json.loads(answer["body"])
    assert body["reason"] == "not_listed"
    assert "ci_access" in body["error_description"]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (InvalidToken("canary"), 401),
        (InvalidToken("canary", expired=True), 401),
        (Unavailable("canary"), 503),
    ],
)
def test_only_what_a_fresh_token_would_mend_is_401(refusal: JobgateError, status: int) -> None:
    assert error(Routes(refusal=refusal).kubeconfig())[0] == status


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (b.some_facts(stops=None), 403),
        (b.some_facts(state=b.a_state("success")), 403),
        (b.some_facts(place=b.a_place(root_id=9)), 403),
        (b.some_facts(chain=b.a_chain(fetched_at=0)), 200),
    ],
)
def test_other_refusals_are_403(facts: ExchangeFacts, status: int) -> None:
    assert Routes(facts=facts).kubeconfig()["statusCode"] == status


def test_a_private_authority_is_in_the_kubeconfig() -> None:
    deployment = b.a_deployment(ca="PEM\n")

    config = json.loads(Routes(deployment=deployment).kubeconfig()["body"])

    assert config["clusters"][0]["cluster"]["certificate-authority-data"] == "UEVNCg=="


# --- What is public, and what is nothing ---


def test_the_public_keys_are_public_and_may_be_kept() -> None:
    answer = Routes().send("GET", "/.well-known/jwks.json")

    assert answer["headers"]["Cache-Control"] == "public, max-age=300"
    assert [key["kid"] for key in json.loads(answer["body"])["keys"]] == ["key-1"]


def test_the_discovery_document_names_our_own_urls() -> None:
    document = json.loads(Routes().send("GET", "/.well-known/openid-configuration")["body"])

    assert document["issuer"] == b.BASE_URL
    assert document["jwks_uri"] == f"{b.BASE_URL}/.well-known/jwks.json"
    assert document["token_endpoint"] == f"{b.BASE_URL}/token"


def test_the_base_url_is_never_taken_from_the_host_header() -> None:
    answer = Routes().send(
        "GET", "/.well-known/openid-configuration", headers={"Host": ["evil.example.test"]}
    )

    assert "evil" not in answer["body"]


def test_before_the_first_set_up_nothing_is_answered() -> None:
    routes = Routes(deployment=b.a_deployment(base_url=None))

    for answer in (
        routes.send("GET", "/.well-known/openid-configuration"),
        routes.kubeconfig(),
        routes.token(),
    ):
        assert error(answer) == (503, "temporarily_unavailable")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/token"),
        ("PUT", "/token"),
        ("DELETE", "/kubeconfig"),
        ("POST", "/.well-known/jwks.json"),
        ("GET", "/"),
        ("GET", "/kubeconfig/"),
        ("GET", "/KUBECONFIG"),
    ],
)
def test_anything_else_is_nothing(method: str, path: str) -> None:
    answer = Routes().send(method, path, headers={"authorization": [f"Bearer {TOKEN}"]})

    assert error(answer)[0] == 404


def test_a_mistake_of_ours_is_logged_and_not_answered() -> None:
    routes = Routes(broken=True)

    assert error(routes.kubeconfig()) == (500, "server_error")
    assert "RuntimeError at " in routes.logged[0]
    assert "a mistake in the code" not in routes.logged[0]


def test_no_token_is_logged_or_recorded() -> None:
    for routes in (Routes(), Routes(NEITHER), Routes(refusal=InvalidToken("why"))):
        routes.kubeconfig()
        routes.token()
        routes.form(f"token={TOKEN}&token={TOKEN}", path="/kubeconfig")

        text = "".join(routes.logged + routes.records)
        assert "canary" not in text
        assert "signed-" not in text
