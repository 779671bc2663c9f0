from __future__ import annotations

import pytest
from jobgate.cli.cluster_rules import Form, Holder, manifests, of_any_agent

RBAC = "rbac.authorization.k8s.io"


@pytest.mark.parametrize("form", ["constrained", "legacy"])
def test_the_relays_account_may_create_the_two_accounts_tokens_and_that_in_its_namespace_alone(
    form: Form,
) -> None:
    objects = manifests(Holder(name="jobgate", namespace="gate"), of_any_agent(), form)

    role, binding = (each for each in objects if each["kind"] in ("Role", "RoleBinding"))
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["serviceaccounts/token"],
            "resourceNames": ["jobgate-relay", "jobgate-agent"],
            "verbs": ["create"],
        }
    ]
    assert {each["metadata"]["namespace"] for each in (role, binding)} == {"gate"}
    assert binding["roleRef"] == {
        "apiGroup": RBAC,
        "kind": "Role",
        "name": role["metadata"]["name"],
    }
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "jobgate-relay", "namespace": "gate"}
    ]


@pytest.mark.parametrize("form", ["constrained", "legacy"])
def test_what_is_bound_over_the_whole_cluster_is_about_acting_as_others_alone(form: Form) -> None:
    objects = manifests(Holder(name="jobgate", namespace="gate"), of_any_agent(), form)

    (role,) = (each for each in objects if each["kind"] == "ClusterRole")
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert {verb for verb in verbs if not verb.startswith("impersonate")} == set()


def test_a_group_of_awss_gets_no_right_to_tokens() -> None:
    objects = manifests(Holder(name="jobgate", group="relays"), of_any_agent(), "constrained")

    assert {each["kind"] for each in objects} == {"ClusterRole", "ClusterRoleBinding"}
