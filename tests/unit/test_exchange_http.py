"""The exchange's routes, event in and answer out, with the use case on fakes behind them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import yaml
from jobgate.adapters.exchange_http import ExchangeHTTP
from jobgate.adapters.exchange_request import ACCESS_TOKEN_TYPE, GRANT_TYPE
from jobgate.core.errors import InvalidToken, JobgateError, Unavailable
from jobgate.core.settings import Settings

from tests.support import builders as b
from tests.support.exchanges import an_exchange, explain_of
from tests.support.fakes import FakeClock, FakeExchangeStore, FakeTokenVerifier

if TYPE_CHECKING:
    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports import Deployment
    from jobgate.ports.exchange import ExchangeFacts

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
        settings: Settings | None = None,
        broken: bool = False,
    ) -> None:
        clock = FakeClock()
        self.logged: list[str] = []
        self.records: list[str] = []
        self.deployment = deployment or b.a_deployment(keys=[b.a_public_key()])
        agent = agent or b.an_agent(projects={b.APP: b.an_entry(namespace="payments")})
        exchange = an_exchange(
            deployment=lambda: self.deployment,
            verifier=FakeTokenVerifier(
                {} if refusal else {TOKEN: b.a_verified_job()}, refusal=refusal
            ),
            store=FakeExchangeStore(facts or b.some_facts(), [agent]),
            recorder=self.break_off if broken else self.records.append,
            settings=settings,
            clock=clock,
            new_id=lambda: "decision-1",
        )
        self.handler = ExchangeHTTP(
            exchange,
            explain_of(exchange),
            lambda: self.deployment,
            clock=clock,
            log=self.logged.append,
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
        "Jobgate-Decision": "decision-1",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"requested_token_type": ACCESS_TOKEN_TYPE},
        {"requested_token_type": ""},
        {"scope": ""},
        {"audience": f"{b.BASE_URL}/agents"},
        {"audience": "top/sub1/agents:prod"},
        {"resource": f"{b.BASE_URL}/agents/501"},
        {"resource": "top/sub1/agents:prod"},
        {"unknown": "ignored"},
        {"client_id": "ignored", "agent": "ignored"},
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
        {"subject_token": None},
        {"subject_token": ""},
        {"subject_token_type": None},
        {"subject_token_type": ACCESS_TOKEN_TYPE},
        {"subject_token_type": "id_token"},
        {"requested_token_type": ID_TOKEN_TYPE},
        {"actor_token": "x"},
        {"actor_token_type": ID_TOKEN_TYPE},
    ],
)
def test_a_request_that_rfc_8693_does_not_know_is_invalid(fields: dict[str, str | None]) -> None:
    assert error(Routes().token(**fields)) == (400, "invalid_request")


@pytest.mark.parametrize("grant_type", ["client_credentials", GRANT_TYPE.upper(), GRANT_TYPE + " "])
def test_another_grant_type_is_not_supported(grant_type: str) -> None:
    answer = Routes().token(grant_type=grant_type)

    assert error(answer) == (400, "unsupported_grant_type")


def test_there_are_no_scopes_to_ask_for() -> None:
    assert error(Routes().token(scope="openid")) == (400, "invalid_scope")


def test_a_token_that_is_asked_for_as_a_jwt_is_issued_as_one() -> None:
    jwt_type = "urn:ietf:params:oauth:token-type:jwt"

    answer = json.loads(Routes().token(requested_token_type=jwt_type)["body"])

    assert (answer["issued_token_type"], answer["token_type"]) == (jwt_type, "Bearer")


@pytest.mark.parametrize(
    ("targets", "answered"),
    [
        ([("resource", "top/sub1/agents:prod"), ("resource", f"{b.BASE_URL}/agents/501")], 200),
        ([("resource", "top/sub1/agents:prod"), ("audience", f"{b.BASE_URL}/agents/501")], 200),
        ([("audience", f"{b.BASE_URL}/agents"), ("resource", "top/sub1/agents:prod")], 200),
        ([("resource", "top/sub1/agents:prod"), ("resource", "top/sub1/agents:other")], 400),
        ([("resource", f"{b.BASE_URL}/agents/501"), ("audience", "top/sub1/agents:other")], 400),
        ([("resource", "top/sub1/agents:other"), ("audience", f"{b.BASE_URL}/agents")], 400),
        ([("audience", b.BASE_URL)], 400),
        ([("audience", "https://kubernetes.default.svc")], 400),
        ([("resource", "https://evil.example.test/agents/501")], 400),
    ],
)
def test_several_targets_must_all_be_the_same_agent(
    targets: list[tuple[str, str]], answered: int
) -> None:
    answer = Routes().form(urlencode([*REQUEST.items(), *targets]))

    assert answer["statusCode"] == answered
    if answered != 200:
        assert error(answer) == (400, "invalid_target")


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
        urlencode(REQUEST) + "".join(f"&f{i}=1" for i in range(64)),
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

    assert error(routes.token(subject_token="A" * 70_000)) == (413, "invalid_request")
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
    ["Bearer", "Bearer ", f"Bearer {TOKEN} x", f"Bearer {TOKEN}\n", "Bearer é"],
)
def test_what_is_no_bearer_token_is_invalid(authorization: str) -> None:
    assert error(Routes().kubeconfig(authorization)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "authorization", ["", TOKEN, f"Basic {TOKEN}", f"Bearer\t{TOKEN}", f"Bearer,{TOKEN}"]
)
@pytest.mark.parametrize("path", ["/kubeconfig", "/credential"])
def test_without_a_bearer_the_answer_is_401_and_says_which_scheme(
    path: str, authorization: str
) -> None:
    answer = Routes().send("GET", path, headers={"authorization": [authorization]})

    assert error(answer) == (401, "invalid_token")
    assert answer["headers"]["WWW-Authenticate"] == "Bearer"


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


def test_no_header_at_all_is_401() -> None:
    assert error(Routes().send("GET", "/kubeconfig")) == (401, "invalid_token")


def test_a_token_too_long_for_a_header_is_told_to_be_posted() -> None:
    routes = Routes()

    assert error(routes.kubeconfig("Bearer " + "A" * 8186)) == (431, "invalid_request")
    assert "POST" in routes.kubeconfig("Bearer " + "A" * 8186)["body"]
    assert routes.kubeconfig("Bearer " + "A" * 8185)["statusCode"] == 401


def test_a_token_may_be_posted_as_a_form_field() -> None:
    answer = Routes().form(urlencode({"token": TOKEN}), path="/kubeconfig")

    assert answer["statusCode"] == 200


@pytest.mark.parametrize("body", [f"token={TOKEN}&token={TOKEN}", "token=%ff", "token"])
def test_a_posted_form_that_cannot_be_read_is_invalid(body: str) -> None:
    assert error(Routes().form(body, path="/kubeconfig")) == (400, "invalid_request")


@pytest.mark.parametrize("body", ["other=x", "token="])
def test_a_posted_form_without_a_token_is_401(body: str) -> None:
    assert error(Routes().form(body, path="/kubeconfig")) == (401, "invalid_token")


def test_a_token_in_the_form_and_another_in_the_header_are_invalid() -> None:
    answer = Routes().send(
        "POST",
        "/kubeconfig",
        body=urlencode({"token": TOKEN}),
        headers={"Content-Type": [FORM], "Authorization": [f"Bearer {TOKEN}"]},
    )

    assert error(answer) == (400, "invalid_request")


@pytest.mark.parametrize(("agent", "status"), [("top/sub1/agents:prod", 200), ("other", 403)])
def test_the_agent_may_be_a_form_field(agent: str, status: int) -> None:
    answer = Routes().form(urlencode({"token": TOKEN, "agent": agent}), path="/kubeconfig")

    assert answer["statusCode"] == status


def test_an_agent_in_the_form_and_another_in_the_query_are_invalid() -> None:
    answer = Routes().send(
        "POST",
        "/kubeconfig",
        body=urlencode({"token": TOKEN, "agent": "top/sub1/agents:prod"}),
        headers={"Content-Type": [FORM]},
        query={"agent": ["top/sub1/agents:prod"]},
    )

    assert error(answer) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ([], "application/json"),
        (["*/*"], "application/json"),
        (["application/yaml"], "application/yaml"),
        (["text/yaml"], "text/yaml"),
        (["application/x-yaml"], "application/x-yaml"),
        (["application/yaml;q=0.5, application/json"], "application/json"),
        (["application/yaml, application/json;q=0.9"], "application/yaml"),
        (["application/yaml", "application/json;q=0.9"], "application/yaml"),
        (["application/json;q=0, */*"], "application/yaml"),
        (["text/*"], "text/yaml"),
        (["text/html"], "application/json"),
        (["application/yaml;q=x"], "application/json"),
        ([";;,,q=1;"], "application/json"),
    ],
)
def test_the_kubeconfig_is_json_and_yaml_at_once(accept: list[str], media_type: str) -> None:
    answer = Routes().send(
        "GET", "/kubeconfig", headers={"authorization": [f"Bearer {TOKEN}"], "Accept": accept}
    )

    assert answer["headers"]["Content-Type"] == media_type
    assert yaml.safe_load(answer["body"]) == json.loads(answer["body"])


@pytest.mark.parametrize("value", ["", "yaml", "EXEC"])
def test_another_format_is_invalid(value: str) -> None:
    assert error(Routes().kubeconfig(query={"format": [value]})) == (400, "invalid_request")


def test_the_exec_form_holds_no_token_and_signs_none() -> None:
    routes = Routes()

    answer = routes.kubeconfig(query={"format": ["exec"]})

    (user,) = json.loads(answer["body"])["users"]
    assert user["user"].keys() == {"exec"}
    assert user["user"]["exec"]["interactiveMode"] == "Never"
    assert user["user"]["exec"]["env"] == [
        {
            "name": "JOBGATE_CREDENTIAL_URL",
            "value": f"{b.BASE_URL}/credential?agent=top%2Fsub1%2Fagents%3Aprod",
        }
    ]
    assert "signed-" not in answer["body"]
    assert [json.loads(line)["outcome"] for line in routes.records] == ["allowed"]


def test_the_exec_form_is_refused_as_the_other_is() -> None:
    answer = Routes(NEITHER).kubeconfig(query={"format": ["exec"]})

    assert error(answer) == (403, "access_denied")


# --- /credential ---


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_credential_is_what_kubectl_expects_of_its_plugin(method: str) -> None:
    answer = Routes().send(method, "/credential", headers={"authorization": [f"Bearer {TOKEN}"]})

    assert (answer["statusCode"], json.loads(answer["body"])) == (
        200,
        {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"expirationTimestamp": "2026-09-21T14:27:20Z", "token": "signed-1"},
        },
    )
    assert answer["headers"]["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("agent", "answered"),
    [("top/sub1/agents:prod", None), ("top/sub1/agents:other", (403, "access_denied"))],
)
def test_a_credential_may_be_for_one_agent(agent: str, answered: tuple[int, str] | None) -> None:
    answer = Routes().form(urlencode({"token": TOKEN, "agent": agent}), path="/credential")

    assert (None if answer["statusCode"] == 200 else error(answer)) == answered


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

    assert error(answer) == (403, "access_denied")
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


# --- /explain ---


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("text/html", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        ("text/plain;q=0.1, application/json", "application/json"),
    ],
)
def test_an_explanation_is_text_unless_json_is_asked_for(
    accept: str | None, media_type: str, method: str
) -> None:
    headers = {"authorization": [f"Bearer {TOKEN}"]} | ({"accept": [accept]} if accept else {})

    answer = Routes().send(method, "/explain", headers=headers)

    assert (answer["statusCode"], answer["headers"]["Content-Type"]) == (200, media_type)
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert answer["headers"]["Jobgate-Decision"] == "decision-1"
    assert "top/sub1/agents:prod" in answer["body"]
    assert "signed-" not in answer["body"]


def test_an_explanation_of_one_agent_shows_no_other() -> None:
    answer = Routes().send(
        "GET",
        "/explain",
        headers={"authorization": [f"Bearer {TOKEN}"], "accept": ["application/json"]},
        query={"agent": ["top/sub1/agents:other"]},
    )

    body = json.loads(answer["body"])
    assert (answer["statusCode"], body["reason"], body["agents"]) == (200, "not_listed", [])


def test_an_explanation_needs_a_good_token() -> None:
    routes = Routes(refusal=InvalidToken("canary"))

    answer = routes.send("GET", "/explain", headers={"authorization": [f"Bearer {TOKEN}"]})

    assert error(answer) == (401, "invalid_token")
    assert error(Routes().send("GET", "/explain")) == (401, "invalid_token")


def test_a_refusal_for_one_agent_that_names_the_job_says_what_is_missing() -> None:
    routes = Routes(b.an_agent(projects={b.APP: b.an_entry(environments=["production"])}))

    named = routes.kubeconfig(query={"agent": ["top/sub1/agents:prod"]})
    other = routes.kubeconfig(query={"agent": ["top/sub1/agents:other"]})

    assert json.loads(named["body"])["reason"] == "no_environment"
    assert json.loads(other["body"])["reason"] == "not_listed"


# --- Limits ---


def test_a_throttled_job_is_told_so_by_429() -> None:
    routes = Routes(settings=Settings(project_rate=1))
    assert routes.token()["statusCode"] == 200

    for answer in (routes.token(), routes.kubeconfig()):
        assert error(answer) == (429, "temporarily_unavailable")
        assert json.loads(answer["body"])["reason"] == "throttled"


def test_the_exec_form_is_refused_where_an_id_token_is_good_once() -> None:
    deployment = b.a_deployment(b.an_issuer(single_use=True))

    answer = Routes(deployment=deployment).kubeconfig(query={"format": ["exec"]})

    assert error(answer) == (400, "invalid_request")
    assert "Leave out format=exec." in answer["body"]


def test_a_token_that_was_redeemed_before_is_401_and_says_so() -> None:
    routes = Routes(deployment=b.a_deployment(b.an_issuer(single_use=True)))
    assert routes.kubeconfig()["statusCode"] == 200

    answer = routes.kubeconfig()

    assert error(answer) == (401, "invalid_token")
    assert "was redeemed before" in answer["body"]
    assert error(routes.token()) == (400, "invalid_request")
