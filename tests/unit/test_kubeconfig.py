from __future__ import annotations

import json

import yaml
from jobgate.core.kubeconfig import kubeconfig

from tests.support import builders as b

STAGING = b.a_grant(b.STAGING, name="staging", context="top/sub1/agents:staging")


def test_one_grant_is_the_current_context() -> None:
    config = kubeconfig(
        [b.a_grant(namespace="payments")], access_token="secret", base_url=b.BASE_URL, ca=None
    )

    assert config == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "agent:501", "cluster": {"server": f"{b.BASE_URL}/agents/501"}},
        ],
        "users": [{"name": "agent:501", "user": {"token": "secret"}}],
        "contexts": [
            {
                "name": "top/sub1/agents:prod",
                "context": {"cluster": "agent:501", "user": "agent:501", "namespace": "payments"},
            }
        ],
        "current-context": "top/sub1/agents:prod",
    }


def test_several_grants_have_no_current_context() -> None:
    config = kubeconfig([b.a_grant(), STAGING], access_token="t", base_url=b.BASE_URL, ca=None)

    assert "current-context" not in config
    assert [context["name"] for context in config["contexts"]] == [
        "top/sub1/agents:prod",
        "top/sub1/agents:staging",
    ]


def test_names_in_each_list_are_unique() -> None:
    config = kubeconfig([b.a_grant(), STAGING], access_token="t", base_url=b.BASE_URL, ca=None)

    for part in ("clusters", "users", "contexts"):
        names = [entry["name"] for entry in config[part]]
        assert len(names) == len(set(names))


def test_a_context_without_a_namespace_names_none() -> None:
    config = kubeconfig([b.a_grant()], access_token="t", base_url=b.BASE_URL, ca=None)

    assert "namespace" not in config["contexts"][0]["context"]


def test_a_private_authority_travels_with_every_cluster() -> None:
    config = kubeconfig([b.a_grant(), STAGING], access_token="t", base_url=b.BASE_URL, ca="PEM\n")

    authorities = [c["cluster"]["certificate-authority-data"] for c in config["clusters"]]
    assert authorities == ["UEVNCg==", "UEVNCg=="]


def test_the_json_is_yaml() -> None:
    config = kubeconfig([b.a_grant()], access_token="t", base_url=b.BASE_URL, ca=None)

    assert yaml.safe_load(json.dumps(config, indent=2)) == config
