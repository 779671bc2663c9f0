"""What `jobgate rbac` prints, on a real API server: what is refused there, and what isn't."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml
from jobgate.cli import cluster_rules
from jobgate.cli.app import app
from jobgate.cli.cluster_rules import AGENT_ACCOUNT, RELAY_ACCOUNT, Holder
from jobgate.core.agent import AsAgent, AsCIJob, AsIdentity
from typer.testing import CliRunner

from local.kubernetes.audit import audit_events
from local.kubernetes.clients import Client
from local.kubernetes.credentials import kubeconfig
from tests.support.builders import an_agent, an_entry
from tests.support.kubernetes import Kubernetes, running_kubernetes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jobgate.core.agent import AccessAs

pytestmark = pytest.mark.stack

FORMS = ("constrained", "legacy")
JOB = ("--as=gitlab:ci_job:42", "--as-group=gitlab:ci_job", "--as-group=gitlab:project:7")
EXTRAS = {
    "id": "1000000001",
    "config_project_id": "50",
    "project_id": "7",
    "ci_pipeline_id": "70",
    "ci_job_id": "42",
    "username": "alice",
    "environment_slug": "review-1",
    "environment_tier": "production",
}
WHOLE_JOB = (
    *JOB,
    "--as-group=gitlab:group:1",
    "--as-group=gitlab:project_env_tier:7:production",
    *(f"--as-user-extra=agent.gitlab.com/{key}={value}" for key, value in EXTRAS.items()),
)


@dataclass(frozen=True, slots=True)
class Accounts:
    """The two accounts of one namespace, signed in with tokens of theirs."""

    relay: Client
    agent: Client
    namespace: str


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


def printed(*options: str) -> str:
    found = CliRunner().invoke(app, ["rbac", *options])
    assert found.exit_code == 0, found.stderr
    return found.stdout


def applied(kubernetes: Kubernetes, folder: Path, namespace: str, manifests: str) -> Accounts:
    kubectl = kubernetes.kubectl
    kubectl.must("apply", "--server-side", "--filename=-", stdin=manifests)

    def signed_in(account: str) -> Client:
        token = kubectl.must("create", "token", account, f"--namespace={namespace}").strip()
        home = folder / f"{namespace}-{account}"
        home.mkdir()
        path, cluster = home / "kubeconfig", kubernetes.cluster
        path.write_text(json.dumps(kubeconfig(url=cluster.url, ca=cluster.ca, token=token)))
        return Client(kubectl.program, path, home)

    return Accounts(signed_in(RELAY_ACCOUNT), signed_in(AGENT_ACCOUNT), namespace)


@pytest.fixture(scope="module")
def accounts(
    kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Accounts]:
    """Those of each form, in namespaces of their own."""
    folder = tmp_path_factory.mktemp("accounts")
    return {
        form: applied(
            kubernetes, folder, form, printed("--impersonation", form, "--namespace", form)
        )
        for form in FORMS
    }


def of_configuration(
    kubernetes: Kubernetes, folder: Path, name: str, form: cluster_rules.Form, *ways: AccessAs
) -> Accounts:
    """The accounts of an agent whose file has an entry for each of `ways`."""
    entries = {number: an_entry(access_as=way) for number, way in enumerate(ways, 1)}
    whom = cluster_rules.of_agent(501, 50, an_agent(projects=entries), alias=None)
    holder = Holder(name=f"jobgate-relay:{name}", namespace=name)
    text = yaml.safe_dump_all(cluster_rules.manifests(holder, whom, form))
    return applied(kubernetes, folder, name, text)


def whoami(client: Client, *identity: str) -> str | None:
    """The user's name, or None where the identity was refused."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = client.run(
        "create", f"--raw={path}", "--filename=-", *identity, stdin=json.dumps(review)
    )
    if answer.code == 0:
        name: str = json.loads(answer.out)["status"]["userInfo"]["username"]
        return name
    assert "(Forbidden)" in answer.err, answer.err
    return None


@pytest.mark.parametrize("form", FORMS)
def test_relay_acts_as_a_job_with_all_that_a_job_has(
    accounts: Mapping[str, Accounts], form: str
) -> None:
    assert whoami(accounts[form].relay, *WHOLE_JOB) == "gitlab:ci_job:42"


@pytest.mark.parametrize("form", FORMS)
def test_a_jobs_own_rights_decide_what_it_may_do(
    kubernetes: Kubernetes, accounts: Mapping[str, Accounts], form: str
) -> None:
    relay, namespace = accounts[form].relay, f"--namespace={form}"
    binding = ("--clusterrole=edit", "--group=gitlab:project:7")
    kubernetes.kubectl.must("create", "rolebinding", "job", *binding, namespace)

    relay.must("create", "configmap", "mine", namespace, *WHOLE_JOB)
    relay.must("label", "configmap", "mine", "a=b", namespace, *WHOLE_JOB)
    relay.must("delete", "configmap", "mine", namespace, *WHOLE_JOB)
    relay.must("delete", "configmaps", "--all", namespace, *WHOLE_JOB)
    relay.must("get", "--raw=/version", *WHOLE_JOB)
    refused = relay.run("get", "configmaps", "--namespace=kube-system", *WHOLE_JOB)

    assert 'User "gitlab:ci_job:42" cannot list resource "configmaps"' in refused.err


ALWAYS_REFUSED = {
    "a ServiceAccount": ["--as=system:serviceaccount:kube-system:namespace-controller"],
    "a ServiceAccount with groups": [
        "--as=system:serviceaccount:kube-system:namespace-controller",
        "--as-group=system:serviceaccounts",
    ],
    "the agent's own account": ["--as=system:serviceaccount:{form}:jobgate-agent"],
    "an extra key of nobody's": [*JOB, "--as-user-extra=unlisted.example/key=1"],
    "a tier that GitLab hasn't": [*JOB, "--as-user-extra=agent.gitlab.com/environment_tier=x"],
    "a uid": [*JOB, "--as-uid=1"],
}
CONSTRAINED_REFUSED = {
    "system:masters": ["--as=anybody", "--as-group=system:masters"],
    "system:masters among a job's groups": [*WHOLE_JOB, "--as-group=system:masters"],
    "a node": ["--as=system:node:local"],
    "a node with its group": ["--as=system:node:local", "--as-group=system:nodes"],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("identity", ALWAYS_REFUSED.values(), ids=ALWAYS_REFUSED.keys())
def test_cluster_refuses_in_either_form(
    accounts: Mapping[str, Accounts], form: str, identity: list[str]
) -> None:
    asked = [part.format(form=form) for part in identity]

    assert whoami(accounts[form].relay, *asked) is None


@pytest.mark.parametrize("identity", CONSTRAINED_REFUSED.values(), ids=CONSTRAINED_REFUSED.keys())
def test_constrained_impersonation_refuses_what_the_legacy_form_leaves_to_the_relay(
    accounts: Mapping[str, Accounts], identity: list[str]
) -> None:
    assert whoami(accounts["constrained"].relay, *identity) is None
    # What the command says of the legacy form is so.
    assert whoami(accounts["legacy"].relay, *identity) is not None
    assert "may act as system:masters and as a node" in printed("--impersonation", "legacy")
    assert "may act as system:masters" not in printed("--impersonation", "constrained")


def test_one_legacy_grant_reopens_everything(kubernetes: Kubernetes, tmp_path: Path) -> None:
    options = ("--impersonation", "constrained", "--namespace", "reopened")
    accounts = applied(kubernetes, tmp_path, "reopened", printed(*options))
    masters = CONSTRAINED_REFUSED["system:masters"]
    before = whoami(accounts.relay, *masters)

    kubernetes.kubectl.must(
        *("create", "clusterrole", "legacy-grant", "--verb=impersonate"),
        "--resource=users,groups",
    )
    kubernetes.kubectl.must(
        *("create", "clusterrolebinding", "legacy-grant", "--clusterrole=legacy-grant"),
        "--serviceaccount=reopened:jobgate-relay",
    )

    assert (before, whoami(accounts.relay, *masters)) == (None, "anybody")


@pytest.mark.parametrize("form", FORMS)
def test_fixed_identities_are_the_only_ones_where_an_agent_has_no_others(
    kubernetes: Kubernetes, tmp_path: Path, form: cluster_rules.Form
) -> None:
    static = AsIdentity("deployer", "u-1", ("team-a",), (("team.example/Name", ("blue",)),))
    accounts = of_configuration(kubernetes, tmp_path, f"static-{form}", form, static, AsAgent())
    group, extra = "--as-group=team-a", "--as-user-extra=team.example/name="

    exact = ("--as=deployer", "--as-uid=u-1", group, f"{extra}blue")
    assert whoami(accounts.relay, *exact) == "deployer"
    assert whoami(accounts.relay, "--as=other", group) is None
    assert whoami(accounts.relay, "--as=deployer", "--as-group=team-b") is None
    assert whoami(accounts.relay, "--as=deployer", "--as-group=system:masters") is None
    assert whoami(accounts.relay, "--as=deployer", "--as-uid=u-2") is None
    assert whoami(accounts.relay, "--as=deployer", f"{extra}red") is None
    assert whoami(accounts.relay, *JOB) is None


def test_agents_id_is_fixed_where_it_is_known(kubernetes: Kubernetes, tmp_path: Path) -> None:
    accounts = of_configuration(kubernetes, tmp_path, "one-agent", "constrained", AsCIJob())
    key = "--as-user-extra=agent.gitlab.com/id="

    assert whoami(accounts.relay, *JOB, f"{key}501") == "gitlab:ci_job:42"
    assert whoami(accounts.relay, *JOB, f"{key}502") is None


def test_agent_without_impersonation_needs_no_right_to_it(
    kubernetes: Kubernetes, tmp_path: Path
) -> None:
    accounts = of_configuration(kubernetes, tmp_path, "agent-mode", "constrained", AsAgent())

    assert whoami(accounts.relay, *JOB) is None
    assert accounts.relay.must("create", "token", AGENT_ACCOUNT, "--namespace=agent-mode")


@pytest.mark.parametrize("form", FORMS)
def test_relay_has_no_right_but_to_impersonate_and_to_renew_the_two_tokens(
    accounts: Mapping[str, Accounts], form: str
) -> None:
    relay, namespace = accounts[form].relay, f"--namespace={form}"

    assert relay.must("create", "token", RELAY_ACCOUNT, namespace)
    assert relay.must("create", "token", AGENT_ACCOUNT, namespace)
    assert relay.run("create", "token", "default", namespace).code == 1
    assert relay.run("create", "token", RELAY_ACCOUNT, "--namespace=default").code == 1
    assert "cannot list resource" in relay.run("get", "pods", namespace).err
    assert "cannot get resource" in relay.run("get", "secret", "x", namespace).err


@pytest.mark.parametrize("form", FORMS)
def test_agents_account_has_what_is_bound_to_it_and_nothing_else(
    kubernetes: Kubernetes, accounts: Mapping[str, Accounts], form: str
) -> None:
    agent, namespace = accounts[form].agent, f"--namespace={form}"
    account = f"--serviceaccount={form}:{AGENT_ACCOUNT}"
    kubernetes.kubectl.must(
        *("create", "rolebinding", "own", "--clusterrole=view", account, namespace)
    )

    agent.must("get", "pods", namespace)

    assert agent.run("get", "pods", "--namespace=default").code == 1
    assert whoami(agent, *JOB) is None
    assert whoami(agent, "--as=x") is None
    assert agent.run("create", "token", AGENT_ACCOUNT, namespace).code == 1
    assert agent.run("create", "token", RELAY_ACCOUNT, namespace).code == 1


def test_the_audit_log_shows_who_is_impersonated(
    kubernetes: Kubernetes, accounts: Mapping[str, Accounts]
) -> None:
    accounts["constrained"].relay.run(
        *("get", "pods", "--namespace=kube-public", *JOB),
        "--as-user-extra=agent.gitlab.com/project_id=7",
    )

    (event,) = (
        event
        for event in audit_events(kubernetes.cluster.audit_log)
        if event["requestURI"].startswith("/api/v1/namespaces/kube-public/pods?")
        and "impersonatedUser" in event
    )
    assert event["user"]["username"] == "system:serviceaccount:constrained:jobgate-relay"
    assert event["impersonatedUser"] == {
        "username": "gitlab:ci_job:42",
        "groups": ["gitlab:ci_job", "gitlab:project:7", "system:authenticated"],
        "extra": {"agent.gitlab.com/project_id": ["7"]},
    }


def test_secrets_and_tokens_are_not_in_the_audit_log(
    kubernetes: Kubernetes, accounts: Mapping[str, Accounts]
) -> None:
    kubernetes.kubectl.must(
        *("create", "secret", "generic", "s", "--from-literal=k=canary-4711", "--namespace=legacy")
    )

    log = kubernetes.cluster.audit_log.read_text()

    assert "/namespaces/legacy/secrets" in log
    assert "Y2FuYXJ5LTQ3MTE=" not in log
    signed_in = json.loads(accounts["legacy"].relay.kubeconfig.read_text())
    assert signed_in["users"][0]["user"]["token"] not in log
    assert kubernetes.cluster.admin_kubeconfig.stat().st_mode & 0o077 == 0


def test_form_is_the_clusters_own_where_a_context_is_named(kubernetes: Kubernetes) -> None:
    file = str(kubernetes.cluster.admin_kubeconfig)

    found = json.loads(printed("--context", "local", "--kubeconfig", file, "--json"))

    assert found["impersonation"] == "constrained"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--impersonation", "legacy", "--context", "local"),
        ("--impersonation", "legacy", "--namespace", "a\nkind: x"),
        ("--impersonation", "legacy", "--agent", "501"),
        ("--context", "nobody"),
    ],
)
def test_bad_input_prints_no_objects(
    kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.cluster.admin_kubeconfig))
    monkeypatch.delenv("JOBGATE_STACK", raising=False)

    found = CliRunner().invoke(app, ["rbac", *options])

    assert (found.exit_code, found.stdout) == (2, "")
