from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobgate.core.kubernetes_request import KubernetesRequest, kubernetes_request

_VECTORS = Path(__file__).parents[1] / "vectors" / "kubernetes_requests.json"


def _resource(verb: str, **values: str) -> KubernetesRequest:
    return KubernetesRequest(verb=verb, is_resource=True, **{"version": "v1", **values})


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", KubernetesRequest(verb="get")),
        ("GET", "/api", KubernetesRequest(verb="get")),
        ("GET", "/api/v1", KubernetesRequest(verb="get")),
        ("GET", "/apis/apps/v1", KubernetesRequest(verb="get")),
        ("POST", "/version", KubernetesRequest(verb="post")),
        ("GET", "/openapi/v3/apis/apps/v1", KubernetesRequest(verb="get")),
        ("GET", "/api/v1/pods", _resource("list", resource="pods")),
        ("HEAD", "/api/v1/pods/a", _resource("get", resource="pods", name="a")),
        (
            "POST",
            "/apis/apps/v1/namespaces/x/deployments",
            _resource("create", group="apps", namespace="x", resource="deployments"),
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/x/deployments/d/scale",
            _resource(
                "patch",
                group="apps",
                namespace="x",
                resource="deployments",
                name="d",
                subresource="scale",
            ),
        ),
        (
            "PUT",
            "/api/v1/nodes/n/status",
            _resource("update", resource="nodes", name="n", subresource="status"),
        ),
        ("DELETE", "/api/v1/pods", _resource("deletecollection", resource="pods")),
        ("DELETE", "/api/v1/pods/p", _resource("delete", resource="pods", name="p")),
        ("OPTIONS", "/api/v1/pods/p", _resource("", resource="pods", name="p")),
        ("GET", "/api/v1/namespaces", _resource("list", resource="namespaces")),
        (
            "GET",
            "/api/v1/namespaces/x",
            _resource("get", namespace="x", resource="namespaces", name="x"),
        ),
        (
            "PUT",
            "/api/v1/namespaces/x/finalize",
            _resource(
                "update", namespace="x", resource="namespaces", name="x", subresource="finalize"
            ),
        ),
        ("GET", "/api/v1/watch/pods", _resource("watch", resource="pods")),
        (
            "GET",
            "/api/v1/watch/namespaces/x/pods/p",
            _resource("watch", namespace="x", resource="pods", name="p"),
        ),
        ("GET", "/api/v1/watch", _resource("watch")),
        (
            "GET",
            "/api/v1/proxy/namespaces/x/pods/p/exec",
            _resource("proxy", namespace="x", resource="pods", name="p"),
        ),
        # As the API server, which decodes before it splits.
        (
            "GET",
            "/api/v1/namespaces/default%2Fconfigmaps/small",
            _resource("get", namespace="default", resource="configmaps", name="small"),
        ),
        (
            "GET",
            "/api/v1/namespaces/x/pods/p/e%78ec",
            _resource("get", namespace="x", resource="pods", name="p", subresource="exec"),
        ),
        (
            "GET",
            "/api/v1/namespaces/x/services/http:s:80/proxy/a/b",
            _resource(
                "get", namespace="x", resource="services", name="http:s:80", subresource="proxy"
            ),
        ),
    ],
)
def test_a_path_is_read_as_the_api_server_reads_it(
    method: str, path: str, expected: KubernetesRequest
) -> None:
    assert kubernetes_request(method, path, ()) == expected


@pytest.mark.parametrize(
    ("query", "verb", "name"),
    [
        ([], "list", ""),
        ([("watch", "true")], "watch", ""),
        ([("watch", "1")], "watch", ""),
        ([("watch", "")], "watch", ""),
        ([("watch", "0")], "list", ""),
        ([("watch", "False")], "list", ""),
        ([("watch", "0"), ("watch", "1")], "list", ""),
        ([("watch", "1"), ("fieldSelector", "metadata.name=a")], "watch", "a"),
        ([("fieldSelector", "metadata.name==a")], "list", "a"),
        ([("fieldSelector", "spec.nodeName=n,metadata.name=a")], "list", "a"),
        ([("fieldSelector", "metadata.name!=a")], "list", ""),
        ([("fieldSelector", "metadata.name=a/b")], "list", ""),
        ([("fieldSelector", "metadata.name=..")], "list", ""),
        ([("fieldSelector", r"metadata.name=a\,b")], "list", "a,b"),
        ([("fieldSelector", "metadata.name")], "list", ""),
        ([("fieldSelector", "metadata.name=a,=,")], "list", "a"),
    ],
)
def test_a_request_without_a_name_is_a_list_or_a_watch(
    query: list[tuple[str, str]], verb: str, name: str
) -> None:
    read = kubernetes_request("GET", "/api/v1/namespaces/x/pods", query)
    assert (read.verb, read.name) == (verb, name)


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_needs_an_upgrade_is_told_by_its_subresource(method: str, subresource: str) -> None:
    read = kubernetes_request(method, f"/api/v1/namespaces/x/pods/p/{subresource}", ())
    assert read.needs_upgrade


@pytest.mark.parametrize("path", ["/api/v1/pods/p", "/exec", "/api/v1/namespaces/exec/pods/exec"])
def test_a_name_that_reads_exec_needs_no_upgrade(path: str) -> None:
    assert not kubernetes_request("GET", path, ()).needs_upgrade


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/api/v1/pods", [("watch", "true")], True),
        ("/api/v1/namespaces/x/pods/p/log", [], True),
        ("/api/v1/namespaces/x/services/s/proxy", [], True),
        ("/api/v1/pods", [], False),
        ("/version", [("watch", "true")], False),
    ],
)
def test_long_running_requests_are_those_of_the_api_server(
    path: str, query: list[tuple[str, str]], *, expected: bool
) -> None:
    assert kubernetes_request("GET", path, query).is_long_running is expected


@given(
    st.text(max_size=8),
    st.text(alphabet="/%2Fexac.\n\u20ac", max_size=60),
    st.lists(st.tuples(st.sampled_from(["watch", "fieldSelector"]), st.text(max_size=20))),
)
def test_any_request_can_be_read(method: str, path: str, query: list[tuple[str, str]]) -> None:
    assert isinstance(kubernetes_request(method, path, query), KubernetesRequest)


def test_a_request_is_read_as_the_api_servers_own_code_reads_it() -> None:
    """The answers are those of k8s.io/apiserver 0.36.4, `RequestInfoFactory.NewRequestInfo`."""
    rows = json.loads(_VECTORS.read_text())
    assert len(rows) == 300
    for row in rows:
        path, _, query = row["target"].partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        read = asdict(kubernetes_request(row["method"], path, pairs))
        assert {name: value for name, value in read.items() if value or name == "is_resource"} == (
            row["reads_as"]
        ), row
