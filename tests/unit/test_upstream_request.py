from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobgate.core.agent import AccessAs, AsIdentity
from jobgate.core.impersonation import Identity
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import UNFAITHFUL, UNSUPPORTED_METHOD, Refusal
from jobgate.core.upstream_request import (
    UpstreamRequest,
    agent_route,
    downstream_headers,
    upstream_request,
)

from tests.support.relay_parts import (
    AGENT,
    AS_AGENT,
    AS_CI_JOB,
    AS_IDENTITY,
    a_cluster,
    a_grant,
    a_request,
)

JOB = Identity(
    username="gitlab:ci_job:42",
    groups=("gitlab:ci_job", "gitlab:group:23", "gitlab:project:150"),
    extra=(("agent.gitlab.com/id", ("501",)), ("agent.gitlab.com/username", ("dana",))),
)
JOB_LINES = (
    ("Impersonate-User", "gitlab:ci_job:42"),
    ("Impersonate-Group", "gitlab:ci_job"),
    ("Impersonate-Group", "gitlab:group:23"),
    ("Impersonate-Group", "gitlab:project:150"),
    ("Impersonate-Extra-agent.gitlab.com%2fid", "501"),
    ("Impersonate-Extra-agent.gitlab.com%2fusername", "dana"),
)


def _built(
    request: Any = None,
    *,
    access_as: AccessAs = AS_CI_JOB,
    identity: Identity | None = JOB,
    server: str = "https://cluster.test:6443",
    bearer: str | None = "cluster-token",
) -> UpstreamRequest | Refusal:
    return upstream_request(
        request or a_request(),
        a_grant(access_as),
        identity=identity,
        cluster=a_cluster(server=server),
        bearer=bearer,
        decision_id="d-1",
        seconds=600,
    )


def _sent(request: Any = None, **options: Any) -> UpstreamRequest:
    built = _built(request, **options)
    assert isinstance(built, UpstreamRequest), built
    return built


def test_a_job_is_sent_with_its_identity_one_line_a_value() -> None:
    assert _sent().headers == (
        ("Host", "cluster.test:6443"),
        ("Authorization", "Bearer cluster-token"),
        ("Audit-ID", "d-1"),
        *JOB_LINES,
    )


def test_agent_mode_is_sent_without_an_identity() -> None:
    assert _sent(access_as=AS_AGENT, identity=None).headers == (
        ("Host", "cluster.test:6443"),
        ("Authorization", "Bearer cluster-token"),
        ("Audit-ID", "d-1"),
    )


def test_a_fixed_identity_is_sent_in_the_order_of_the_file() -> None:
    identity = Identity(
        username=AS_IDENTITY.username,
        uid=AS_IDENTITY.uid,
        groups=AS_IDENTITY.groups,
        extra=AS_IDENTITY.extra,
    )
    assert _sent(access_as=AS_IDENTITY, identity=identity).headers[3:] == (
        ("Impersonate-User", "deployer"),
        ("Impersonate-Uid", "u-1"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Extra-team%2fname", "a"),
        ("Impersonate-Extra-team%2fname", "b"),
    )


def test_a_client_certificate_goes_without_an_authorization_line() -> None:
    assert "Authorization" not in dict(_sent(bearer=None).headers)


@pytest.mark.parametrize(
    ("access_as", "identity"), [(AS_CI_JOB, None), (AS_IDENTITY, None), (AS_AGENT, JOB)]
)
def test_a_grant_and_an_identity_that_disagree_send_nothing(
    access_as: AccessAs, identity: Identity | None
) -> None:
    with pytest.raises(ValueError, match="agent mode"):
        _built(access_as=access_as, identity=identity)


@pytest.mark.parametrize("name", ["system:masters", "SYSTEM:nodes", "gitlab:ci_job", "gitlab@b:x"])
@pytest.mark.parametrize("where", ["username", "groups"])
def test_a_reserved_identity_is_refused_where_the_header_is_written(name: str, where: str) -> None:
    fixed = AsIdentity(name) if where == "username" else AsIdentity("bot", groups=("ops", name))
    identity = Identity(username=fixed.username, groups=fixed.groups)
    built = _built(access_as=fixed, identity=identity)
    assert isinstance(built, Refusal)
    assert built.reason is Reason.RESERVED_IDENTITY


@pytest.mark.parametrize("value", ["", " x", "x\t", "x\r\nImpersonate-Group: system:masters", "\0"])
def test_an_identity_that_can_not_travel_unchanged_sends_nothing(value: str) -> None:
    with pytest.raises(ValueError, match="identity"):
        _built(identity=Identity(username="u", groups=(value,)))


@pytest.mark.parametrize("bearer", ["", "a b", "a\r\nX: y", "\u00fc"])
def test_a_token_that_can_not_travel_sends_nothing(bearer: str) -> None:
    with pytest.raises(ValueError, match="token"):
        _built(bearer=bearer)


# --- The header matrix of the threat model: no leak, no loss ---

_SET_BY_US = ("Host", "Authorization", "Audit-ID", "Content-Length")
_IDENTITY = (
    "Impersonate-User",
    "Impersonate-Uid",
    "Impersonate-Group",
    "Impersonate-Extra-agent.gitlab.com%2fid",
    "Impersonate-Extra-x",
    "Impersonate-Whatever-Comes-Next",
)
_NEVER_CARRIED = (
    "Cookie",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-User",
    "X-Remote-User",
    "X-Remote-Group",
    "X-Remote-Extra-x",
    "Proxy-Authorization",
    "Via",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Expect",
    "Origin",
    "Sec-WebSocket-Protocol",
    "X-Stream-Protocol-Version",
    "Traceparent",
)
_SPELLINGS = {
    "as it is": lambda name: [(name, "evil")],
    "lower case": lambda name: [(name.lower(), "evil")],
    "upper case": lambda name: [(name.upper(), "evil")],
    "underscores": lambda name: [(name.replace("-", "_"), "evil")],
    "twice": lambda name: [(name, "evil"), (name, "evil too")],
    "twice in two cases": lambda name: [(name, "evil"), (name.lower(), "evil too")],
    "a space behind it": lambda name: [(f"{name} ", "evil")],
    "a space before it": lambda name: [(f" {name}", "evil")],
    "a tab behind it": lambda name: [(f"{name}\t", "evil")],
}


@pytest.mark.parametrize("spelling", _SPELLINGS)
@pytest.mark.parametrize("name", [*_SET_BY_US, *_NEVER_CARRIED])
def test_no_header_of_the_callers_is_added_or_replaces_ours(name: str, spelling: str) -> None:
    lines = tuple(_SPELLINGS[spelling](name))
    assert _sent(a_request(headers=lines)) == _sent()


@pytest.mark.parametrize("spelling", _SPELLINGS)
@pytest.mark.parametrize("name", _IDENTITY)
@pytest.mark.parametrize(("access_as", "identity"), [(AS_AGENT, None), (AS_CI_JOB, JOB)])
def test_a_callers_identity_is_refused_in_every_mode(
    access_as: AccessAs, identity: Identity | None, name: str, spelling: str
) -> None:
    lines = tuple(_SPELLINGS[spelling](name))
    built = _built(a_request(headers=lines), access_as=access_as, identity=identity)
    assert built == Refusal(reason=Reason.CLIENT_IMPERSONATION)


@pytest.mark.parametrize("named", [*_SET_BY_US, *_IDENTITY, "close", "keep-alive, Audit-ID"])
@pytest.mark.parametrize("connection", ["Connection", "connection", "Proxy-Connection"])
def test_what_connection_names_is_not_lost(connection: str, named: str) -> None:
    assert _sent(a_request(headers=((connection, named),))) == _sent()


@pytest.mark.parametrize(
    "line",
    [
        ("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
        ("Accept-Encoding", "gzip"),
        ("Content-Type", "application/apply-patch+yaml"),
        ("Content-Encoding", "gzip"),
        ("User-Agent", "kubectl/v1.36.4 (linux/amd64) kubernetes/abc"),
        ("Kubectl-Command", "kubectl apply"),
        ("Kubectl-Session", "6f0b3c1e-1111-2222-3333-444455556666"),
    ],
)
def test_what_kubectl_needs_is_carried_whatever_its_case(line: tuple[str, str]) -> None:
    name, value = line
    for spelled in (name, name.lower(), name.upper()):
        sent = _sent(a_request(method="POST", headers=((spelled, f" {value} "),)))
        assert sent.headers[1] == line
        assert len(sent.headers) == len(_sent(a_request(method="POST", headers=())).headers) + 1


@pytest.mark.parametrize("name", ["If-None-Match", "If-Modified-Since"])
def test_no_request_is_conditional_since_a_304_would_lose_its_content_type(name: str) -> None:
    assert _sent(a_request(headers=((name, '"abc"'),))) == _sent()


def test_repeated_accept_lines_stay_lines() -> None:
    lines = (("Accept", "a/b"), ("accept", "c/d"))
    assert _sent(a_request(headers=lines)).headers[1:3] == (("Accept", "a/b"), ("Accept", "c/d"))


@pytest.mark.parametrize("name", ["Content-Type", "content-encoding"])
def test_a_repeated_line_that_servers_read_differently_is_refused(name: str) -> None:
    assert _built(a_request(headers=((name, "a"), (name.upper(), "b")))) == UNFAITHFUL


@pytest.mark.parametrize("value", ["a\r\nImpersonate-User: x", "a\0b", "a\nb", "\u00fc"])
def test_a_header_that_can_not_travel_unchanged_is_refused(value: str) -> None:
    assert _built(a_request(headers=(("Accept", value),))) == UNFAITHFUL


_NAMES = st.one_of(
    st.sampled_from([*_SET_BY_US, *_IDENTITY, *_NEVER_CARRIED, "Accept", "Connection"]),
    st.text(alphabet="iImMpersonate-_ uU", max_size=20),
    st.text(max_size=10),
)


@given(st.lists(st.tuples(_NAMES, st.text(max_size=20)), max_size=8))
def test_whatever_comes_in_exactly_our_identity_goes_out(lines: list[tuple[str, str]]) -> None:
    built = _built(a_request(headers=tuple(lines)))
    if isinstance(built, UpstreamRequest):
        folded = [(n.lower(), v) for n, v in built.headers]
        assert [v for n, v in folded if n == "authorization"] == ["Bearer cluster-token"]
        assert tuple(line for line in built.headers if line[0].startswith("Imp")) == JOB_LINES
        assert {n for n, _ in folded} <= {n.lower() for n, _ in JOB_LINES} | {
            "host",
            "accept",
            "authorization",
            "audit-id",
        }


# --- Path ---


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/v1/namespaces/default/pods/a-b.c",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
        "/api/v1/namespaces/x/services/https:web:8443/proxy/a%20b/",
        "/api/v1/namespaces/x/configmaps/100%25",
        "/api/v1/namespaces/x/configmaps/%CE%BB",
        "/openapi/v3/apis/apps/v1",
        "/api/v1/namespaces/x/pods/a..b/log",
        "/api/v1/namespaces/x/configmaps/%252e%252e",
    ],
)
def test_a_path_travels_byte_for_byte(path: str) -> None:
    assert _sent(a_request(path)).target == path


def test_the_servers_own_path_comes_first() -> None:
    sent = _sent(a_request("/api/v1/pods"), server="https://rancher.test/k8s/clusters/c-1")
    assert sent.target == "/k8s/clusters/c-1/api/v1/pods"
    assert sent.headers[0] == ("Host", "rancher.test")


def test_no_path_behind_the_agent_is_the_root() -> None:
    assert _sent(a_request("")).target == "/"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default%2Fconfigmaps/small",
        "/api/v1/namespaces/default%2fconfigmaps/small",
        "//api/v1/pods",
        "/api//v1/pods",
        "/api/v1/pods//",
        "/../api/v1/pods",
        "/api/v1/../v1/pods",
        "/api/./v1/pods",
        "/api/v1/..",
        "/api/%2e%2e/v1",
        "/api/%2E./v1",
        "/api/.%2e",
        "/api/v1/pods?watch=1",
        "/api/v1/pods#x",
        "/api/v1/po ds",
        "/api/v1/po\tds",
        "/api/v1/pods\r\nX: y",
        "/api/v1/pods\n",
        "/api/v1/pods%0d%0aX:%20y",
        "/api/v1/pods%00",
        "/api/v1/pods%7F",
        "/api/v1/pods%",
        "/api/v1/pods%2",
        "/api/v1/pods%zz",
        "/api/v1/pods%ff",
        "/api/v1/pods%C0%AF",
        "/api/v1/\u03bb",
        "/api\\v1",
        '/api/v1/"',
        "/api/v1/" + "a" * 10_240,
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    assert _built(a_request(path)) == UNFAITHFUL


@given(st.text(alphabet="/%2eEfF.a5\\ \n", max_size=24))
def test_no_path_that_travels_names_something_else_once_decoded(path: str) -> None:
    built = _built(a_request(f"/{path}"))
    if isinstance(built, UpstreamRequest):
        assert built.target == f"/{path}"
        decoded = unquote(built.target)
        assert decoded.count("/") == built.target.count("/")
        assert not {".", ".."} & set(decoded.split("/"))
        assert "//" not in decoded
        assert decoded.isprintable()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/agents/{AGENT}", (AGENT, "/")),
        (f"/agents/{AGENT}/", (AGENT, "/")),
        (f"/agents/{AGENT}/api/v1", (AGENT, "/api/v1")),
        ("/agents/5/agents/6/api", (5, "/agents/6/api")),
        ("/agents/05/api", (None, "/")),
        ("/agents/0/api", (None, "/")),
        ("/agents/-5/api", (None, "/")),
        ("/agents/5x/api", (None, "/")),
        ("/agents/%35/api", (None, "/")),
        ("/agents/\u0665/api", (None, "/")),
        ("/agents/99999999999999999999/api", (None, "/")),
        ("/agents/5\n", (None, "/")),
        ("/agents//api", (None, "/")),
        ("https://evil.test/agents/5/api", (None, "/")),
        ("/live/agents/5/api", (None, "/")),
        ("", (None, "/")),
    ],
)
def test_the_agents_id_is_plain_digits(path: str, expected: tuple[int | None, str]) -> None:
    assert agent_route(path) == expected


# --- Query ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ((("watch", "true"), ("timeoutSeconds", "30")), "watch=true&timeoutSeconds=30"),
        ((("labelSelector", "a in (b,c),d!=e"),), "labelSelector=a%20in%20%28b%2Cc%29%2Cd%21%3De"),
        ((("p", "1"), ("p", "2")), "p=1&p=2"),
        ((("continue", "a+b/c=="),), "continue=a%2Bb%2Fc%3D%3D"),
        ((("watch", "true"), ("timeoutSeconds", "601")), "watch=true&timeoutSeconds=600"),
        ((("timeoutSeconds", "0"), ("watch", "1")), "timeoutSeconds=600&watch=1"),
        ((("watch", ""),), "watch=&timeoutSeconds=600"),
        ((("watch", "false"), ("timeoutSeconds", "601")), "watch=false&timeoutSeconds=601"),
        ((("x", "a&Impersonate-User=b\r\n"),), "x=a%26Impersonate-User%3Db%0D%0A"),
        ((("x", "100%"),), "x=100%25"),
        ((("x", "\u03bb"),), "x=%CE%BB"),
    ],
)
def test_a_query_is_encoded_anew(query: tuple[tuple[str, str], ...], expected: str) -> None:
    assert _sent(a_request(query=query)).target == f"/api/v1/pods?{expected}"


@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text(max_size=9)), max_size=5))
def test_the_cluster_reads_the_query_that_the_front_read(pairs: list[tuple[str, str]]) -> None:
    built = _built(a_request(query=tuple(pairs)))
    if isinstance(built, UpstreamRequest):
        _, _, query = built.target.partition("?")
        assert parse_qsl(query, keep_blank_values=True) == pairs


@pytest.mark.parametrize(
    "query", [(("", "x"),), (("x", "a\ufffd"),), (("\ufffd", "a"),), (("x", "\ud800"),)]
)
def test_a_query_that_the_front_could_not_read_is_refused(
    query: tuple[tuple[str, str], ...],
) -> None:
    assert _built(a_request(query=query)) == UNFAITHFUL


def test_a_target_that_is_too_long_is_refused() -> None:
    assert _built(a_request(query=(("labelSelector", "a" * 10_230),))) == UNFAITHFUL


# --- Method, body, upgrades ---


@pytest.mark.parametrize("method", ["OPTIONS", "CONNECT", "TRACE", "get", "GE T", "GET\r\n", ""])
def test_other_methods_are_refused(method: str) -> None:
    assert _built(a_request(method=method)) == UNSUPPORTED_METHOD


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_travels_with_its_length(method: str) -> None:
    sent = _sent(a_request(method=method, body=b"\0\xff{}", headers=()))
    assert sent.body == b"\0\xff{}"
    assert sent.headers[-1] == ("Content-Length", "4")


def test_an_empty_body_has_a_length_too() -> None:
    assert _sent(a_request(method="POST")).headers[-1] == ("Content-Length", "0")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_where_none_belongs_is_refused(method: str) -> None:
    assert _built(a_request(method=method, body=b"x")) == UNFAITHFUL


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward", "e%78ec"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_exec_and_its_kin_are_refused_by_the_request_alone(method: str, subresource: str) -> None:
    request = a_request(f"/api/v1/namespaces/x/pods/p/{subresource}", method=method)
    assert _built(request) == Refusal(reason=Reason.UNSUPPORTED)


@pytest.mark.parametrize(
    "line",
    [
        ("Upgrade", "websocket"),
        ("upgrade", "SPDY/3.1"),
        ("Connection", "Upgrade"),
        ("connection", "keep-alive, upgrade"),
    ],
)
def test_an_upgrade_is_refused_anywhere(line: tuple[str, str]) -> None:
    request = a_request("/api/v1/namespaces/x/services/s/proxy/ws", headers=(line,))
    assert _built(request) == Refusal(reason=Reason.UNSUPPORTED)


def test_a_watch_may_take_its_time() -> None:
    assert _sent(a_request(query=(("watch", "1"),))).long_running
    assert not _sent().long_running


def test_neither_request_shows_a_secret_when_it_is_printed() -> None:
    request = a_request(
        method="POST", headers=(("Authorization", "Bearer canary"),), body=b"canary"
    )
    assert "canary" not in repr(request)
    assert "canary" not in repr(_sent(request, bearer="canary"))


# --- The way back ---


def test_the_api_servers_headers_travel_back_line_by_line() -> None:
    lines = (
        ("Audit-Id", "1"),
        ("Content-Type", "application/json"),
        ("Warning", '299 - "a"'),
        ("warning", '299 - "b"'),
        ("X-Kubernetes-Pf-Flowschema-Uid", "2"),
        ("Retry-After", "1"),
    )
    assert downstream_headers(lines) == lines


@pytest.mark.parametrize(
    "line",
    [
        ("Set-Cookie", "a=b"),
        ("Access-Control-Allow-Origin", "*"),
        ("Location", "https://evil.test/"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Jobgate-Decision", "forged"),
        ("WWW-Authenticate", "Basic"),
        ("Server", "x"),
        ("Strict-Transport-Security", "max-age=1"),
        ("Content_Type", "text/html"),
        ("Warning", "a\r\nSet-Cookie: b"),
    ],
)
def test_other_headers_of_an_answer_stay_behind(line: tuple[str, str]) -> None:
    assert downstream_headers((line, ("Etag", "x"))) == (("Etag", "x"),)
