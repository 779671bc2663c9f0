"""An operator's check of a connection: who may ask, what is asked of the cluster, what is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.relay_endpoint import RelayEndpoint
from jobgate.core.agent import AsCIJob, AsIdentity, Entry
from jobgate.core.connection_check import PATH, checked_agent, claims_of
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.usecases.connection_check import ConnectionCheck

from tests.support.relay_parts import (
    AGENT,
    NOW,
    Answer,
    Clusters,
    RelayParts,
    a_cluster,
    a_request,
    a_snapshot,
    some_facts,
)

if TYPE_CHECKING:
    from jobgate.core.upstream_request import IncomingRequest, UpstreamRequest

ACCOUNT = "system:serviceaccount:jobgate:jobgate-relay"


class Reviewers(Clusters):
    """A cluster that answers reviews; `refused` are users that nobody may act as."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.allows: set[str] = set()

    def send(self, cluster: Any, request: UpstreamRequest, **options: Any) -> Answer:
        self.answer = self._answer(request)
        super().send(cluster, request, **options)
        return self.answer

    def _answer(self, request: UpstreamRequest) -> Answer:
        headers = dict(request.headers)
        user = headers.get("Impersonate-User", ACCOUNT)
        if user in self.refused:
            body = {"kind": "Status", "message": f"cannot impersonate {user}"}
            return Answer(403, (), [json.dumps(body).encode()])
        asked = json.loads(request.body)
        if asked["kind"] == "SelfSubjectReview":
            return Answer(
                201, (), [json.dumps({"status": {"userInfo": {"username": user}}}).encode()]
            )
        attributes = asked["spec"]["resourceAttributes"]
        allowed = f"{headers['Authorization']} {attributes['verb']}" in self.allows
        return Answer(201, (), [json.dumps({"status": {"allowed": allowed}}).encode()])


@pytest.fixture
def parts() -> RelayParts:
    return RelayParts(clusters=Reviewers())


def verified(token: str) -> tuple[str, int]:
    if token != "check":
        raise InvalidToken("another kind")
    return "main", AGENT


def check_of(parts: RelayParts) -> ConnectionCheck:
    relay = parts.relay()
    return ConnectionCheck(
        verify=verified,
        deployment=lambda: parts.deployment,
        store=parts.store,
        forwarding=relay.forwarding,
        clock=parts.clock,
    )


def asked(token: str = "check") -> IncomingRequest:
    return a_request(PATH, method="POST", headers=(("Authorization", f"Bearer {token}"),))


def outcomes(parts: RelayParts) -> dict[str, Any]:
    found = check_of(parts).run(asked(), AGENT, decision_id="d")
    assert found is not None
    return {probe["name"]: probe["answer"] for probe in found["probes"]}


def test_every_right_of_both_credentials_is_asked_about(parts: RelayParts) -> None:
    assert outcomes(parts) == {
        "relay_account": ACCOUNT,
        "as_job": "gitlab:ci_job:0",
        "relay_may_be_masters": False,
        "relay_may_do_everything": False,
        "relay_may_renew": False,
        "agent_account": ACCOUNT,
        "agent_may_impersonate": False,
        "agent_may_impersonate_users": False,
        "agent_may_create_pods_beside_it": False,
        "agent_may_create_tokens": False,
    }
    # Nothing but reviews, which change nothing, whatever is asked.
    assert {r.target.rsplit("/", 1)[1] for r in parts.clusters.sent} == {
        "selfsubjectreviews",
        "selfsubjectaccessreviews",
    }


def test_as_a_job_means_with_all_that_a_job_may_have(parts: RelayParts) -> None:
    outcomes(parts)
    (sent,) = (r for r in parts.clusters.sent if "Impersonate-User" in dict(r.headers))
    names = [name for name, _ in sent.headers if name.startswith("Impersonate-")]
    assert len([name for name in names if name.startswith("Impersonate-Extra-")]) == 8
    assert "Impersonate-Group" in names


def test_fixed_identities_of_the_configuration_are_tried_too(parts: RelayParts) -> None:
    static = AsIdentity("deployer", None, ("team",), ())
    entries = {150: Entry(path="top/app", access_as=static)}
    parts.store.facts = some_facts(snapshot=a_snapshot(projects=entries))
    parts.clusters.refused = {"deployer"}
    found = check_of(parts).run(asked(), AGENT, decision_id="d")
    assert found is not None
    probe = next(p for p in found["probes"] if p["name"] == "as_identity_0")
    assert (probe["status"], probe["answer"], probe["cause"]) == (
        403,
        None,
        "cannot impersonate deployer",
    )


def test_each_credential_is_asked_about_its_own_rights(parts: RelayParts) -> None:
    parts.clusters.allows = {"Bearer agent-token impersonate", "Bearer relay-token create"}
    found = outcomes(parts)
    assert found["agent_may_impersonate"] is True
    assert found["relay_may_renew"] is True
    assert found["relay_may_be_masters"] is False
    assert found["agent_may_create_tokens"] is False


def test_namespaces_that_jobs_in_agent_mode_are_sent_to_are_asked_about(parts: RelayParts) -> None:
    entries = {
        1: Entry(path="a", default_namespace="shop"),
        2: Entry(path="b", default_namespace="shop"),
        3: Entry(path="c", default_namespace="other", access_as=AsCIJob()),
    }
    parts.store.facts = some_facts(snapshot=a_snapshot(projects=entries))
    parts.clusters.allows = {"Bearer agent-token create"}
    found = outcomes(parts)
    assert found["agent_may_create_tokens:shop"] is True
    assert found["agent_may_impersonate:shop"] is False
    assert not [name for name in found if name.endswith(":other")]


def test_a_cluster_that_does_not_answer_is_asked_no_more_by_this_credential(
    parts: RelayParts,
) -> None:
    parts.clusters = Clusters()
    parts.clusters.answer = Unavailable("the cluster: SSLCertVerificationError")
    parts.store.facts = some_facts(cluster=a_cluster(agent_credential=None))
    found = check_of(parts).run(asked(), AGENT, decision_id="d")
    assert found is not None
    assert found["probes"] == [
        {
            "name": "relay_account",
            "status": None,
            "answer": None,
            "cause": "the cluster: SSLCertVerificationError",
        }
    ]


def test_what_answers_otherwise_than_an_api_server_is_told_so(parts: RelayParts) -> None:
    parts.clusters = Clusters()
    found = outcomes(parts)
    assert found == {"relay_account": None, "agent_account": None}


@pytest.mark.parametrize("token", ["good", "expired", "", "checks"])
def test_no_other_token_is_good_for_a_check(parts: RelayParts, token: str) -> None:
    assert check_of(parts).run(asked(token), AGENT, decision_id="d") is None
    assert parts.clusters.sent == []


@pytest.mark.parametrize("agent_id", [AGENT + 1, None])
def test_a_check_is_good_for_its_own_agent(parts: RelayParts, agent_id: int | None) -> None:
    assert check_of(parts).run(asked(), agent_id, decision_id="d") is None
    assert parts.clusters.sent == []


def test_an_agent_that_is_not_registered_is_told_so(parts: RelayParts) -> None:
    parts.store.facts = some_facts(cluster=None)
    found = check_of(parts).run(asked(), AGENT, decision_id="d")
    assert found is not None
    assert (found["registered"], found["probes"]) == (False, [])


class _Context:
    aws_request_id = "r-1"
    deadline = NOW + 60


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [(PATH, "check", 200), (PATH, "good", 401), (f"{PATH}/x", "check", 401)],
)
def test_the_check_has_a_path_of_its_own_and_its_token_is_good_nowhere_else(
    parts: RelayParts, path: str, token: str, status: int
) -> None:
    endpoint = RelayEndpoint(
        parts.relay(), log=parts.lines.append, close=parts.lines.clear, check=check_of(parts).run
    )
    event = {
        "httpMethod": "POST",
        "path": f"/agents/{AGENT}{path}",
        "multiValueHeaders": {"Authorization": [f"Bearer {token}"]},
    }
    response = endpoint(event, _Context())
    body = b"".join(response.body).decode()
    assert response.status == status
    assert ("agent-token" in body, "relay-token" in body) == (False, False)


def claims(**changes: object) -> dict[str, object]:
    return claims_of("main", AGENT, base_url="https://j.test", jti="j", now=NOW) | changes


def test_claims_are_read_back() -> None:
    assert checked_agent(claims()) == ("main", AGENT)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"check": None},
        {"check": {"issuer": "main"}},
        {"check": {"issuer": 1, "agent": AGENT}},
        {"check": {"issuer": "main", "agent": str(AGENT)}},
        {"exp": int(NOW) + 3600},
    ],
)
def test_claims_of_another_form_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidToken):
        checked_agent(claims(**changes))
