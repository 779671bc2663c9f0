from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.relay_endpoint import RelayEndpoint, incoming_request
from jobgate.core.agent import AccessAs, Entry
from jobgate.core.bounds import Bounds
from jobgate.core.cluster_credential import BearerToken, ClientCertificate
from jobgate.core.errors import StreamCut, TimedOut, Unavailable
from jobgate.core.liveness import JobLife, Stop, StopKind
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import DECISION_HEADER
from jobgate.core.settings import Settings
from jobgate.core.upstream_request import IncomingRequest

from tests.support.relay_parts import (
    AGENT,
    AGENT_SECRET,
    AS_AGENT,
    AS_CI_JOB,
    AS_IDENTITY,
    ISSUER,
    NOW,
    RELAY_SECRET,
    Answer,
    Clusters,
    RelayParts,
    a_cluster,
    a_job,
    a_request,
    a_snapshot,
    a_token,
    some_facts,
)

if TYPE_CHECKING:
    from jobgate.core.job import JobIdentity
    from jobgate.ports.relay import RelayFacts, Response, UpstreamResponse


@pytest.fixture
def parts() -> RelayParts:
    return RelayParts()


def _ask(parts: RelayParts, request: IncomingRequest | None = None) -> Response:
    return parts.relay().answer(request or a_request(), decision_id="d-1", deadline=NOW + 900)


def _record(parts: RelayParts) -> dict[str, Any]:
    assert len(parts.lines) == 1
    record: dict[str, Any] = json.loads(parts.lines[0])
    return record


def _refusal(parts: RelayParts, request: IncomingRequest | None = None) -> tuple[int, str]:
    """Status and reason of a refused request; checks that nothing went to the cluster."""
    response = _ask(parts, request)
    body = json.loads(b"".join(response.body))
    assert body["kind"] == "Status"
    assert body["code"] == response.status
    assert parts.clusters.sent == []
    assert dict(response.headers)[DECISION_HEADER] == "d-1"
    record = _record(parts)
    assert record["outcome"] == "refused"
    assert record["status"] == response.status
    assert "d-1" in body["message"]
    assert record["reason"] in body["message"]
    return response.status, record["reason"]


# --- Carried ---


@pytest.mark.parametrize(
    ("access_as", "token", "lines"),
    [
        (AS_AGENT, "agent-token", []),
        (
            AS_CI_JOB,
            "relay-token",
            [
                ("Impersonate-User", "gitlab:ci_job:42"),
                ("Impersonate-Group", "gitlab:ci_job"),
                ("Impersonate-Group", "gitlab:group:23"),
                ("Impersonate-Group", "gitlab:group:25"),
                ("Impersonate-Group", "gitlab:project:150"),
                ("Impersonate-Extra-agent.gitlab.com%2fid", str(AGENT)),
                ("Impersonate-Extra-agent.gitlab.com%2fconfig_project_id", "5"),
                ("Impersonate-Extra-agent.gitlab.com%2fproject_id", "150"),
                ("Impersonate-Extra-agent.gitlab.com%2fci_pipeline_id", "7"),
                ("Impersonate-Extra-agent.gitlab.com%2fci_job_id", "42"),
                ("Impersonate-Extra-agent.gitlab.com%2fusername", "dana"),
            ],
        ),
        (
            AS_IDENTITY,
            "relay-token",
            [
                ("Impersonate-User", "deployer"),
                ("Impersonate-Uid", "u-1"),
                ("Impersonate-Group", "ops"),
                ("Impersonate-Group", "dev"),
                ("Impersonate-Extra-team%2fname", "a"),
                ("Impersonate-Extra-team%2fname", "b"),
            ],
        ),
    ],
)
def test_each_mode_sends_its_credential_and_exactly_its_identity(
    parts: RelayParts, access_as: AccessAs, token: str, lines: list[tuple[str, str]]
) -> None:
    parts.store.facts = some_facts(snapshot=a_snapshot(access_as))
    response = _ask(parts)
    assert (response.status, b"".join(response.body)) == (200, b"{}")
    (sent,) = parts.clusters.sent
    assert ("Authorization", f"Bearer {token}") in sent.headers
    assert [line for line in sent.headers if line[0].startswith("Impersonate")] == lines


def test_an_allowed_request_leaves_one_record_once_it_has_ended(parts: RelayParts) -> None:
    parts.clusters.answer = Answer(201, (), [b"", b"ab", b"", b"c"])
    request = a_request(
        "/apis/apps/v1/namespaces/x/deployments/d/scale", method="PATCH", body=b"12345"
    )
    response = _ask(parts, request)
    assert parts.lines == []
    assert b"".join(response.body) == b"abc"
    record = _record(parts)
    assert record.pop("token_sha256")
    assert record == {
        "v": 1,
        "type": "request",
        "at": "2027-01-15T08:00:00.000+00:00",
        "outcome": "allowed",
        "decision_id": "d-1",
        "agent_id": AGENT,
        "agent": "top/agents:production",
        "config_project_id": 5,
        "config_commit": "c0ffee",
        "rule": {"kind": "project", "id": 150, "path": "top/sub/app"},
        "issuer": "main",
        "project_id": 150,
        "project_path": "top/sub/app",
        "job_id": 42,
        "pipeline_id": 7,
        "user_login": "dana",
        "ref": "main",
        "ref_protected": True,
        "identity": {
            "user": "gitlab:ci_job:42",
            "groups": [
                "gitlab:ci_job",
                "gitlab:group:23",
                "gitlab:group:25",
                "gitlab:project:150",
            ],
        },
        "verb": "patch",
        "group": "apps",
        "resource": "deployments",
        "subresource": "scale",
        "namespace": "x",
        "name": "d",
        "status": 201,
        "bytes_in": 5,
        "bytes_out": 3,
        "ms_own": 0,
        "ms_connect": 0,
        "ms_upstream": 0,
        "ended": "complete",
    }


def test_a_token_for_one_agent_is_good_for_that_agent(parts: RelayParts) -> None:
    parts.tokens.known["good"] = a_token(agent_id=AGENT)
    assert _ask(parts).status == 200


def test_a_client_certificate_travels_beside_the_request(parts: RelayParts) -> None:
    certificate = ClientCertificate("cert", "key")
    parts.secrets.values = {RELAY_SECRET: certificate}
    _ask(parts)
    assert parts.clusters.certificates == [certificate]
    assert "Authorization" not in dict(parts.clusters.sent[0].headers)


def test_the_scheme_of_the_authorization_may_have_any_case(parts: RelayParts) -> None:
    assert _ask(parts, a_request(headers=(("authorization", "bearer good"),))).status == 200


def test_the_api_servers_own_refusal_is_passed_on_untouched(parts: RelayParts) -> None:
    parts.clusters.answer = Answer(403, (("Audit-Id", "7"), ("Set-Cookie", "x")), [b"no"])
    response = _ask(parts)
    assert (response.status, b"".join(response.body)) == (403, b"no")
    assert list(response.headers) == [("Audit-Id", "7")]


class _Refusing(Clusters):
    """Refuses every token but one."""

    def __init__(self, good: str) -> None:
        super().__init__()
        self.good = good

    def send(self, *args: Any, **options: Any) -> UpstreamResponse:
        answer = super().send(*args, **options)
        given = dict(self.sent[-1].headers).get("Authorization")
        if given == f"Bearer {self.good}":
            return answer
        self.refusal = Answer(401, (), [b"{}"])
        return self.refusal


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_renewed_credential_fails_no_request(parts: RelayParts, method: str) -> None:
    """The API server refuses before it does anything, so that the same may be sent again."""
    parts.clusters = _Refusing("new-token")
    parts.secrets.newer = {RELAY_SECRET: BearerToken("new-token")}
    response = _ask(parts, a_request(method=method))
    assert (response.status, b"".join(response.body)) == (200, b"{}")
    first, second = parts.clusters.sent
    assert ("Authorization", "Bearer relay-token") in first.headers
    assert ("Authorization", "Bearer new-token") in second.headers
    assert parts.clusters.refusal.closed
    assert [h for h in first.headers if h[0] != "Authorization"] == [
        h for h in second.headers if h[0] != "Authorization"
    ]


@pytest.mark.parametrize(
    ("newer", "tries"),
    [
        ({}, 1),
        ({RELAY_SECRET: BearerToken("relay-token")}, 1),
        ({RELAY_SECRET: BearerToken("x")}, 2),
    ],
)
def test_a_credential_that_stays_refused_is_our_fault_and_not_the_jobs(
    parts: RelayParts, newer: dict[Any, Any], tries: int
) -> None:
    """401 would tell kubectl to fetch a new token, which wouldn't help."""
    parts.clusters = _Refusing("another")
    parts.secrets.newer = newer
    response = _ask(parts)
    status = json.loads(b"".join(response.body))
    assert (response.status, status["code"]) == (502, 502)
    assert "The cluster refuses the credential" in status["message"]
    assert _record(parts)["reason"] == "upstream_unreachable"
    assert len(parts.clusters.sent) == tries


@pytest.mark.parametrize(
    "prefix", ["/api/v1/namespaces/x/services/s/proxy/", "/api/v1/proxy/nodes/n/"]
)
def test_a_backends_401_is_its_own_and_is_sent_once(parts: RelayParts, prefix: str) -> None:
    parts.clusters = _Refusing("another")
    parts.secrets.newer = {RELAY_SECRET: BearerToken("x")}
    assert _ask(parts, a_request(prefix, method="POST")).status == 401
    assert len(parts.clusters.sent) == 1


LOG = "/api/v1/namespaces/x/pods/p/log"


@pytest.mark.parametrize("query", [(), (("follow", "false"),), (("follow", "true"),)])
@pytest.mark.parametrize(
    ("path", "status", "pieces", "expected"),
    [
        (LOG, 200, [], (204, b"")),
        (LOG, 200, [b"", b""], (204, b"")),
        (LOG, 200, [b"", b"late", b"", b"r"], (200, b"later")),
        (LOG, 404, [], (404, b"")),
        ("/api/v1/pods", 200, [], (200, b"")),
        ("/api/v1/namespaces/x/services/s/proxy/", 200, [], (200, b"")),
    ],
)
def test_a_log_may_be_empty(
    parts: RelayParts,
    path: str,
    query: tuple[tuple[str, str], ...],
    status: int,
    pieces: list[bytes],
    expected: tuple[int, bytes],
) -> None:
    """Else `kubectl logs` of a silent pod shows the byte that a streamed answer must have."""
    parts.clusters.answer = Answer(status, (), pieces)
    response = _ask(parts, a_request(path, query=query))
    body = b"".join(response.body)
    assert (response.status, body) == expected
    record = _record(parts)
    assert (record["status"], record["bytes_out"], record["ended"]) == (
        *(expected[0], len(expected[1])),
        "complete",
    )


@pytest.mark.parametrize(
    ("error", "code"), [(Unavailable("reset"), 502), (TimedOut("silence"), 502)]
)
def test_a_log_that_breaks_off_before_its_first_byte_is_refused(
    parts: RelayParts, error: Exception, code: int
) -> None:
    parts.clusters.answer = Answer(200, (), [b"", error])
    assert _ask(parts, a_request(LOG)).status == code
    assert parts.clusters.answer.closed
    assert _record(parts)["reason"] == "upstream_unreachable"


def test_a_failure_of_our_own_before_a_logs_first_byte_lets_go_of_the_cluster(
    parts: RelayParts,
) -> None:
    parts.clusters.answer = Answer(200, (), [ValueError("canary")])
    with pytest.raises(ValueError, match="canary"):
        _ask(parts, a_request(LOG))
    assert parts.clusters.answer.closed


# --- Refused, and nothing sent ---


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), (401, "token_invalid")),
        ((("Authorization", "Bearer expired"),), (401, "token_expired")),
        ((("Authorization", "Bearer forged"),), (401, "token_invalid")),
        ((("Authorization", "Basic good"),), (401, "token_invalid")),
        ((("Authorization", "Bearer good x"),), (401, "token_invalid")),
        ((("Authorization", "Bearer \ud800"),), (401, "token_invalid")),
        ((("Authorization", "Bearer "),), (401, "token_invalid")),
        ((("Authorization", "good"),), (401, "token_invalid")),
        (
            (("Authorization", "Bearer good"), ("authorization", "Bearer good")),
            (401, "token_invalid"),
        ),
        ((("Proxy-Authorization", "Bearer good"),), (401, "token_invalid")),
    ],
)
def test_without_one_good_token_there_is_no_access(
    parts: RelayParts, headers: tuple[tuple[str, str], ...], expected: tuple[int, str]
) -> None:
    assert _refusal(parts, a_request(headers=headers)) == expected
    assert parts.store.reads == 0


def _stop(kind: StopKind, value: str) -> Stop:
    return Stop(kind=kind, value=value, until=None, by="ops", why="")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"snapshot": None}, (403, "not_listed")),
        ({"cluster": None}, (403, "not_listed")),
        ({"snapshot": a_snapshot(projects={})}, (403, "not_listed")),
        ({"snapshot": a_snapshot(valid=False)}, (403, "not_listed")),
        ({"snapshot": a_snapshot(issuer="other")}, (403, "not_listed")),
        ({"stops": None}, (403, "stopped")),
        ({"stops": (_stop(StopKind.JOB, "42"),)}, (403, "stopped")),
        ({"stops": (_stop(StopKind.AGENT, str(AGENT)),)}, (403, "stopped")),
        ({"stops": (_stop(StopKind.ALL, "*"),)}, (403, "stopped")),
        (
            {"state": JobLife(status="success", hook_at=NOW)},
            (403, "job_finished"),
        ),
        ({"place": None}, (503, "chain_unknown")),
        ({"chain": None}, (503, "chain_unknown")),
        (
            {"snapshot": a_snapshot(projects={150: Entry(path="a", environments=("prod",))})},
            (403, "no_environment"),
        ),
        (
            {
                "snapshot": a_snapshot(
                    projects={150: Entry(path="a", refused=Reason.RESERVED_IDENTITY)}
                )
            },
            (403, "reserved_identity"),
        ),
        (
            {"snapshot": a_snapshot(AS_AGENT), "cluster": a_cluster(agent_credential=None)},
            (403, "agent_mode_not_configured"),
        ),
    ],
)
def test_what_is_stored_decides(
    parts: RelayParts, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    parts.store.facts = some_facts(**changes)
    assert _refusal(parts) == expected


def test_a_token_for_another_agent_is_refused(parts: RelayParts) -> None:
    parts.tokens.known["good"] = a_token(agent_id=AGENT + 1)
    assert _refusal(parts) == (403, "wrong_agent")
    assert parts.store.reads == 0


def test_a_removed_issuer_is_refused(parts: RelayParts) -> None:
    parts.deployment = replace(parts.deployment, issuers={})
    assert _refusal(parts) == (403, "not_listed")


@pytest.mark.parametrize("path", ["/agents/x/api", "/agents/0/api", "/other", ""])
def test_a_path_without_an_agent_is_refused(parts: RelayParts, path: str) -> None:
    assert _refusal(parts, replace(a_request(), path=path)) == (403, "not_listed")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"headers": (("Authorization", "Bearer good"), ("Impersonate_User", "x"))},
            (400, "client_impersonation"),
        ),
        ({"path": f"/agents/{AGENT}/api/v1/namespaces/x/pods/p/exec"}, (501, "unsupported")),
        ({"path": f"/agents/{AGENT}/api/v1/pods/%2e%2e"}, (400, "unsupported")),
        ({"method": "OPTIONS"}, (501, "unsupported")),
    ],
)
def test_what_can_not_be_carried_is_refused(
    parts: RelayParts, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert _refusal(parts, replace(a_request(), **changes)) == expected


def test_a_table_that_can_not_be_asked_denies(parts: RelayParts) -> None:
    parts.store.facts = Unavailable("the table")
    assert _refusal(parts) == (503, "job_unknown")


def test_a_secret_that_can_not_be_had_sends_nothing(parts: RelayParts) -> None:
    parts.secrets.values = {}
    assert _refusal(parts) == (502, "upstream_unreachable")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unavailable("refused"), (502, "upstream_unreachable")),
        (TimedOut("slow"), (504, "upstream_timeout")),
    ],
)
def test_a_cluster_that_can_not_be_reached_is_told_apart_from_its_own_answers(
    parts: RelayParts, error: Exception, expected: tuple[int, str]
) -> None:
    parts.clusters.answer = error
    assert _refusal(parts) == expected


@pytest.mark.parametrize("secret", ["a b", "a\r\nImpersonate-User: root", ""])
def test_a_credential_that_can_not_be_sent_sends_nothing(parts: RelayParts, secret: str) -> None:
    parts.secrets.values = {RELAY_SECRET: BearerToken(secret)}
    with pytest.raises(ValueError, match="token"):
        _ask(parts)
    assert parts.clusters.sent == []
    assert (_record(parts)["outcome"], _record(parts)["ended"]) == ("refused", "failed")


@pytest.mark.parametrize(
    "path",
    [
        *("/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/openapi/v3"),
        *("/%61pi", "/ap%69s/apps", "/%76ersion"),
    ],
)
def test_where_no_resource_is_asked_for_a_refusal_is_plain_text(
    parts: RelayParts, path: str
) -> None:
    parts.store.facts = Unavailable("the table")
    response = _ask(parts, a_request(path))
    assert response.status == 403
    assert dict(response.headers)["Content-Type"] == "text/plain; charset=utf-8"
    body = b"".join(response.body).decode()
    assert body.startswith("Jobgate: ")
    assert "reason job_unknown, decision d-1" in body


@pytest.mark.parametrize(
    "path", ["/api/v1/pods", "/%61pi/v1/pods", "/apis/apps/v1/namespaces/x/deployments/d"]
)
def test_other_refusals_are_status_objects(parts: RelayParts, path: str) -> None:
    parts.store.facts = some_facts(snapshot=None)
    response = _ask(parts, a_request(path))
    assert dict(response.headers)["Content-Type"] == "application/json"
    assert json.loads(b"".join(response.body))["reason"] == "Forbidden"


@pytest.mark.parametrize("path", ["/api", "/version"])
def test_no_refusal_asks_kubectl_to_try_again(parts: RelayParts, path: str) -> None:
    parts.store.facts = Unavailable("the table")
    names = {name.lower() for name, _ in _ask(parts, a_request(path)).headers}
    assert "retry-after" not in names


# --- Streams ---


def test_a_body_that_breaks_off_is_no_end(parts: RelayParts) -> None:
    parts.clusters.answer = Answer(200, (), [b"half", Unavailable("reset")])
    body = _ask(parts).body
    assert next(body) == b"half"
    with pytest.raises(Unavailable):
        next(body)
    assert (_record(parts)["ended"], _record(parts)["bytes_out"]) == ("broken", 4)
    assert parts.clusters.answer.closed


def test_a_stream_is_cut_when_its_token_ends(parts: RelayParts) -> None:
    parts.clusters.answer = Answer(200, (), [b"one", b"", b"two"])
    body = _ask(parts).body
    assert next(body) == b"one"
    parts.clock.now = a_token().expires_at + parts.bounds.leeway
    with pytest.raises(StreamCut):
        next(body)
    assert _record(parts)["ended"] == "expired"
    assert parts.clusters.answer.closed


def test_a_stream_that_nobody_reads_on_is_closed_and_recorded(parts: RelayParts) -> None:
    parts.clusters.answer = Answer(200, (), [b"one", b"two"])
    body = _ask(parts).body
    next(body)
    body.close()  # type: ignore[attr-defined]  a generator, as the runtime knows
    assert _record(parts)["ended"] == "cut"
    assert parts.clusters.answer.closed


# --- What a warm relay believes ---


def test_what_was_read_is_believed_for_the_bound_and_no_longer(parts: RelayParts) -> None:
    relay = parts.relay()
    for after, reads in ((0, 1), (2.9, 1), (3.1, 2)):
        parts.clock.now = NOW + after
        relay.answer(a_request(), decision_id="d", deadline=NOW + 900)
        assert parts.store.reads == reads


def test_a_clock_that_was_set_back_makes_nothing_young(parts: RelayParts) -> None:
    relay = parts.relay()
    relay.answer(a_request(), decision_id="d", deadline=NOW + 900)
    parts.clock.now = NOW - 10
    relay.answer(a_request(), decision_id="d", deadline=NOW + 900)
    assert parts.store.reads == 2


def test_a_failed_read_is_not_remembered(parts: RelayParts) -> None:
    relay = parts.relay()
    parts.store.facts = Unavailable("the table")
    assert relay.answer(a_request(), decision_id="d", deadline=NOW + 900).status == 503
    parts.store.facts = some_facts()
    assert relay.answer(a_request(), decision_id="d", deadline=NOW + 900).status == 200


def test_an_entry_that_goes_takes_its_access_along(parts: RelayParts) -> None:
    parts.bounds = Bounds(relay_cache=0)
    relay = parts.relay()
    assert relay.answer(a_request(), decision_id="d", deadline=NOW + 900).status == 200
    parts.store.facts = some_facts(snapshot=a_snapshot(projects={}))
    assert relay.answer(a_request(), decision_id="d", deadline=NOW + 900).status == 403


def test_no_identity_bleeds_between_jobs_on_one_warm_relay(parts: RelayParts) -> None:
    """Two jobs, two agents, agent mode beside an identity, a failure now and then."""
    other = AGENT + 1
    parts.tokens.known = {
        "good": a_token(),
        "second": a_token(job=a_job(job_id=43, user_login="eve", project_id=151)),
    }
    parts.store.by_job = {
        42: some_facts(),
        43: some_facts(
            snapshot=a_snapshot(
                agent_id=other, projects={151: Entry(path="top/b", access_as=AS_AGENT)}
            ),
            cluster=a_cluster(agent_id=other, server="https://other.test"),
        ),
    }
    relay, good = parts.relay(), parts.clusters.answer
    for turn in range(1000):
        parts.clock.now = NOW + turn * 0.01
        parts.clusters.answer = Unavailable("down") if turn % 7 == 3 else good
        token, agent = (("good", AGENT), ("second", other))[turn % 2]
        request = a_request(headers=(("Authorization", f"Bearer {token}"),))
        request = replace(request, path=f"/agents/{agent}/api/v1/pods")
        relay.answer(request, decision_id=str(turn), deadline=NOW + 900)
    seen = {
        (
            cluster.server,
            dict(sent.headers)["Authorization"],
            dict(sent.headers).get("Impersonate-User"),
        )
        for cluster, sent in zip(parts.clusters.to, parts.clusters.sent, strict=True)
    }
    assert seen == {
        ("https://cluster.test:6443", "Bearer relay-token", "gitlab:ci_job:42"),
        ("https://other.test", "Bearer agent-token", None),
    }
    assert AGENT_SECRET in parts.secrets.values


def test_one_job_at_two_agents_reaches_each_agents_cluster(parts: RelayParts) -> None:
    """Within the time that what was read is believed."""

    def relay_facts(_: JobIdentity, agent_id: int) -> RelayFacts:
        return some_facts(
            snapshot=a_snapshot(agent_id=agent_id),
            cluster=a_cluster(agent_id=agent_id, server=f"https://{agent_id}.test"),
        )

    parts.store.relay_facts = relay_facts  # type: ignore[method-assign]  facts by agent
    relay, agents = parts.relay(), (AGENT, AGENT + 1, AGENT)
    for agent in agents:
        request = replace(a_request(), path=f"/agents/{agent}/api/v1/pods")
        relay.answer(request, decision_id="d", deadline=NOW + 900)
    assert [cluster.server for cluster in parts.clusters.to] == [
        f"https://{a}.test" for a in agents
    ]


def test_whom_the_issuer_makes_of_a_job_is_decided_anew_once_that_changes(
    parts: RelayParts,
) -> None:
    """Also within the time that what was read is believed."""
    relay = parts.relay()
    for issuer in (ISSUER, replace(ISSUER, is_default=False)):
        parts.deployment = replace(parts.deployment, issuers={"main": issuer})
        relay.answer(a_request(), decision_id="d", deadline=NOW + 900)
    assert [dict(sent.headers)["Impersonate-User"] for sent in parts.clusters.sent] == [
        "gitlab:ci_job:42",
        "gitlab@main:ci_job:42",
    ]
    assert parts.store.reads == 1


def test_stops_and_the_jobs_life_are_judged_at_each_request(parts: RelayParts) -> None:
    """What is believed may stay; whether it still counts is asked of the clock."""
    heard = JobLife(status="running", probe_at=NOW - parts.bounds.probe_grace + 1)
    stop = Stop(kind=StopKind.JOB, value="42", until=NOW + 0.5, by="me", why="because")
    parts.settings = Settings(job_end="probe")
    parts.store.facts = some_facts(stops=(stop,), state=heard)
    relay = parts.relay()
    statuses = []
    for after in (0, 0.6, 1.1):
        parts.clock.now = NOW + after
        statuses.append(relay.answer(a_request(), decision_id="d", deadline=NOW + 900).status)
    assert statuses == [403, 200, 503]
    assert parts.store.reads == 1


# --- Behind API Gateway ---


@dataclass
class _Context:
    aws_request_id: str = "r-1"
    deadline: float = NOW + 900


def _event(**changes: Any) -> dict[str, Any]:
    event = {
        "httpMethod": "GET",
        "path": f"/agents/{AGENT}/api/v1/pods",
        "headers": {"Authorization": "Bearer good"},
        "multiValueHeaders": {"Authorization": ["Bearer good"]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "body": None,
        "isBase64Encoded": False,
    }
    return {**event, **changes}


def test_an_event_is_read_with_every_repeated_value() -> None:
    event = _event(
        httpMethod="POST",
        multiValueHeaders={"accept": ["a/b", "c/d"], "Accept": ["e/f"]},
        queryStringParameters={"p": "2"},
        multiValueQueryStringParameters={"p": ["1", "2"], "q": [""]},
        body=base64.b64encode(b"\0\xff").decode(),
        isBase64Encoded=True,
    )
    assert incoming_request(event) == IncomingRequest(
        method="POST",
        path=f"/agents/{AGENT}/api/v1/pods",
        query=(("p", "1"), ("p", "2"), ("q", "")),
        headers=(("accept", "a/b"), ("accept", "c/d"), ("Accept", "e/f")),
        body=b"\0\xff",
    )


def test_a_text_body_is_read_as_utf_8() -> None:
    read = incoming_request(_event(body="\u03bb"))
    assert read is not None
    assert read.body == "\u03bb".encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"httpMethod": None},
        {"path": None},
        {"path": 5},
        {"multiValueHeaders": {"a": "b"}},
        {"multiValueHeaders": {"a": [1]}},
        {"multiValueHeaders": []},
        {"multiValueQueryStringParameters": {"a": None}},
        {"queryStringParameters": {"a": "b"}},
        {"body": "*", "isBase64Encoded": True},
        {"body": {"a": 1}},
        {"body": "\ud800"},
    ],
)
def test_an_event_of_another_form_is_answered_and_sends_nothing(
    parts: RelayParts, changes: dict[str, Any]
) -> None:
    response = RelayEndpoint(parts.relay(), log=parts.lines.append, close=parts.lines.clear)(
        _event(**changes), _Context()
    )
    assert response.status == 400
    assert json.loads(b"".join(response.body))["reason"] == "BadRequest"
    assert [json.loads(line)["error"] for line in parts.lines] == ["UnreadableEvent"]
    assert parts.clusters.sent == []


def test_a_failure_of_our_own_is_an_answer_that_tells_nothing(parts: RelayParts) -> None:
    parts.store.facts = ValueError("canary")
    response = RelayEndpoint(parts.relay(), log=parts.lines.append, close=parts.lines.clear)(
        _event(), _Context()
    )
    body = b"".join(response.body).decode()
    assert response.status == 500
    assert "r-1" in body
    assert parts.clusters.sent == []
    assert "canary" not in body + "".join(parts.lines)
    assert any(json.loads(line).get("error") == "ValueError" for line in parts.lines)


def test_no_record_shows_a_token(parts: RelayParts) -> None:
    secret = "canary-of-a-token"
    parts.tokens.known[secret] = a_token()
    parts.secrets.values = {RELAY_SECRET: BearerToken("canary-of-the-cluster")}
    request = a_request(
        method="POST", headers=(("Authorization", f"Bearer {secret}"),), body=b"canary-of-a-body"
    )
    b"".join(_ask(parts, request).body)
    assert "canary" not in "".join(parts.lines)


def test_no_connection_is_taken_into_a_snapshot(parts: RelayParts) -> None:
    closed: list[str] = []
    endpoint = RelayEndpoint(
        parts.relay(), log=parts.lines.append, close=lambda: closed.append("all")
    )
    endpoint.before_snapshot()
    assert closed == ["all"]
