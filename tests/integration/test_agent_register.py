"""`jobgate agent register --from-context`: a real cluster, GitLab's stand-in, AWS by moto."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jobgate.adapters import agent_items, items
from moto import mock_aws

from local.certificates import CertificateAuthority
from local.gitlab.server import GitLab
from local.kubernetes.audit import audit_events
from local.process import free_port
from tests.support.kubernetes import Kubernetes, running_kubernetes
from tests.support.operators_stack import OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobgate.core.agent import ClusterConnection

    from tests.support.operators_stack import Answer

pytestmark = pytest.mark.stack

FIRST = 1_000_000_001


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    authority = CertificateAuthority.create(tmp_path_factory.mktemp("ca"))
    started = GitLab.start(tmp_path_factory.mktemp("gitlab"), authority=authority)
    started.control.create_group("top", id=7)
    started.control.create_project("top/agents", id=50)
    yield started
    started.stop()


@pytest.fixture
def stack(gitlab: GitLab, tmp_path: Path) -> Iterator[OperatorsStack]:
    token = tmp_path / "run-time"
    token.write_text(gitlab.control.create_token(["read_api"], group="top"))
    with mock_aws():
        made = OperatorsStack.deploy()
        made.json("setup")
        given = ("--audience", "https://jobs.test", "--ca", gitlab.control.ca)
        issuer = ("issuer", "add", "main", "--url", gitlab.url, *given, "--token-file", token)
        assert made.run(*issuer).code == 0
        yield made


def register(stack: OperatorsStack, kubernetes: Kubernetes, *options: object) -> Answer:
    file = kubernetes.cluster.admin_kubeconfig
    given = ("--from-context", "local", "--kubeconfig", file, "--namespace", "gate")
    given += ("--no-check",)
    return stack.run("agent", "register", "top/agents", "prod", *given, *options)


def connection(stack: OperatorsStack) -> ClusterConnection:
    found = agent_items.cluster_of(stack.table.get(items.cluster_key("main", FIRST)))
    assert found is not None
    return found


def stored_token(stack: OperatorsStack, name: str) -> str:
    secret = stack.secret(f"{stack.outputs['ClusterSecretPrefix']}main/{FIRST}/{name}")
    token: str = secret["token"]
    return token


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_server_ca_accounts_and_tokens_are_those_of_the_context(
    stack: OperatorsStack, kubernetes: Kubernetes
) -> None:
    answer = register(stack, kubernetes)

    assert answer.code == 0, answer.err
    made = connection(stack)
    assert (made.server, made.ca) == (kubernetes.cluster.url, kubernetes.cluster.ca.read_text())
    for name in ("relay", "agent"):
        found = claims(stored_token(stack, name))
        assert found["sub"] == f"system:serviceaccount:gate:jobgate-{name}"
        assert found["exp"] - found["iat"] == 24 * 3600
    assert "constrained impersonation" in answer.out


def test_no_token_is_shown_or_logged(stack: OperatorsStack, kubernetes: Kubernetes) -> None:
    shown = register(stack, kubernetes)
    again = register(stack, kubernetes, "--json")

    log = kubernetes.cluster.audit_log.read_text()
    for name in ("relay", "agent"):
        signature = stored_token(stack, name).rpartition(".")[2]
        for text in (shown.out, shown.err, again.out, again.err, log):
            assert signature not in text


def test_the_same_command_again_repairs(stack: OperatorsStack, kubernetes: Kubernetes) -> None:
    register(stack, kubernetes)
    before = stored_token(stack, "relay")
    role = f"jobgate-relay:gate:main:{FIRST}"
    kubernetes.kubectl.must("delete", "clusterrolebinding", role)
    kubernetes.kubectl.must(
        *("patch", "clusterrole", role, "--type=merge"),
        '--patch={"rules":[{"apiGroups":[""],"resources":["users"],"verbs":["impersonate"]}]}',
    )

    answer = register(stack, kubernetes, "--json")

    assert (answer.code, answer.json["id"]) == (0, FIRST)
    assert stored_token(stack, "relay") != before
    mended = json.loads(kubernetes.kubectl.must("get", "clusterrole", role, "--output=json"))
    assert "impersonate" not in {verb for rule in mended["rules"] for verb in rule["verbs"]}
    assert kubernetes.kubectl.must("get", "clusterrolebinding", role)


def test_run_that_is_killed_anywhere_is_completed_by_another(
    stack: OperatorsStack, kubernetes: Kubernetes
) -> None:
    broken = 0
    for survived in range(1, 40):
        stack.break_after = survived
        answer = register(stack, kubernetes)
        if answer.code == 0:
            break
        broken += 1
    stack.break_after = None

    assert broken > 10
    assert [row["id"] for row in stack.json("agent", "list")] == [FIRST]
    assert stack.json("agent", "show", str(FIRST))["state"] == "not refreshed yet"
    assert claims(stored_token(stack, "agent"))["sub"].endswith(":jobgate-agent")


def test_without_agent_mode_no_credential_of_the_agents_is_kept(
    stack: OperatorsStack, kubernetes: Kubernetes
) -> None:
    register(stack, kubernetes)

    assert register(stack, kubernetes, "--no-agent-mode").code == 0

    assert connection(stack).agent_credential is None
    assert stack.secret(f"{stack.outputs['ClusterSecretPrefix']}main/{FIRST}/agent") is None


def test_another_cluster_is_refused_before_anything_is_made_there(
    stack: OperatorsStack, kubernetes: Kubernetes
) -> None:
    register(stack, kubernetes)
    asked = len(kubernetes.cluster.audit_log.read_text())

    answer = register(stack, kubernetes, "--server", "https://other.example.test")

    assert answer.code == 4
    assert connection(stack).server == kubernetes.cluster.url
    assert not list(audit_events(kubernetes.cluster.audit_log, after=asked))


def altered(kubernetes: Kubernetes, folder: Path, part: str, **values: object) -> Path:
    """The administrator's kubeconfig with other values in its cluster or user."""
    content = yaml.safe_load(kubernetes.cluster.admin_kubeconfig.read_text())
    content[f"{part}s"][0][part] |= values
    path = folder / "kubeconfig"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("part", "values", "code", "said"),
    [
        ("user", {"token": "nobody"}, 4, "Unauthorized"),
        ("cluster", {"server": "http://127.0.0.1:1"}, 2, "isn't reached by https"),
        ("cluster", {"server": "https://127.0.0.1:{closed}"}, 3, "can't be reached"),
        (
            "cluster",
            {"insecure-skip-tls-verify": True},
            2,
            "doesn't verify its cluster's certificate",
        ),
    ],
)
def test_context_that_can_not_be_used_registers_nothing(
    stack: OperatorsStack,
    kubernetes: Kubernetes,
    tmp_path: Path,
    part: str,
    values: dict[str, object],
    code: int,
    said: str,
) -> None:
    closed = free_port()
    filled = {k: v.format(closed=closed) if isinstance(v, str) else v for k, v in values.items()}
    file = altered(kubernetes, tmp_path, part, **filled)

    answer = register(stack, kubernetes, "--kubeconfig", file)

    assert (answer.code, said in answer.err) == (code, True), answer.err
    assert stack.table.get(items.cluster_key("main", FIRST)) is None


def test_operator_without_the_right_to_give_rights_is_refused_in_the_clusters_words(
    stack: OperatorsStack, kubernetes: Kubernetes, tmp_path: Path
) -> None:
    kubectl = kubernetes.kubectl
    kubectl.must("create", "serviceaccount", "weak")
    kubectl.must(
        *("create", "clusterrolebinding", "weak", "--clusterrole=admin"),
        "--serviceaccount=default:weak",
    )
    token = kubectl.must("create", "token", "weak").strip()
    file = altered(kubernetes, tmp_path, "user", token=token)

    answer = register(stack, kubernetes, "--kubeconfig", file)

    assert answer.code == 4
    assert "is forbidden" in answer.err
    assert token not in answer.err


@pytest.mark.parametrize(
    "options",
    [
        ("--credential-file", "/dev/null"),
        ("--eks", "eu-central-1/production"),
        ("--agent-credential-file", "/dev/null"),
        ("--from-context", "nobody"),
        ("--namespace", "No"),
        ("--allow-client-impersonation", "--no-agent-mode"),
        ("--token-hours", "0"),
    ],
)
def test_options_that_contradict_make_nothing(
    stack: OperatorsStack, kubernetes: Kubernetes, options: tuple[str, ...]
) -> None:
    assert register(stack, kubernetes, *options).code == 2
    assert stack.json("agent", "list") == []
