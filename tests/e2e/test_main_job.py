"""The main job on real parts: kubectl, the deployed functions, kube-apiserver, git push."""

from __future__ import annotations

import hashlib
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from local.installation import (
    AGENTS,
    AUDIENCE,
    AUDIT,
    AUDITOR,
    GROUP,
    OPS,
    SHOP,
    STRANGER,
    WEB,
    Installation,
    context,
)
from local.job import JobShell
from local.kubernetes.audit import audit_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stack import Stack

pytestmark = pytest.mark.stack

_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


@pytest.fixture
def job(stack: Stack, installation: Installation) -> Iterator[JobShell]:
    """A running job of the web project, with its kubeconfig, in the namespace of its rights."""
    shell = _started(stack, installation, WEB)
    yield shell
    stack.gitlab.control.finish_job(shell.job)


def _started(stack: Stack, installation: Installation, project: str, **options: Any) -> JobShell:
    shell = JobShell.start(stack, project, **options)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    if project == WEB:
        name = f"kubectl config set-context --current --namespace={installation.namespace}"
        assert shell.run(name).code == 0
    return shell


def _identity_in_audit_log(stack: Stack, shell: JobShell, marker: str) -> dict[str, Any]:
    """Who the API server saw in the request for a config map of this name."""
    after = stack.cluster.audit_log.stat().st_size
    shell.run(f"kubectl get configmap {marker}")
    (event,) = [
        event
        for event in audit_events(stack.cluster.audit_log, after=after)
        if event.get("objectRef", {}).get("name") == marker
    ]
    return event


def test_a_ci_job_is_seen_with_exactly_its_user_groups_and_extras(
    stack: Stack, installation: Installation
) -> None:
    stack.gitlab.control.create_environment(WEB, "review/one", tier="staging")
    shell = _started(stack, installation, WEB, environment="review/one", tier="staging")
    event = _identity_in_audit_log(stack, shell, "as-job")
    group, shop = (installation.groups[path] for path in (GROUP, SHOP))
    project = installation.projects[WEB]
    slug = "review-one-" + _slug_suffix("review/one")
    assert event["impersonatedUser"] == {
        "username": f"gitlab:ci_job:{shell.job.id}",
        "groups": [
            "gitlab:ci_job",
            f"gitlab:group:{group}",
            f"gitlab:group_env_tier:{group}:staging",
            f"gitlab:group:{shop}",
            f"gitlab:group_env_tier:{shop}:staging",
            f"gitlab:project:{project}",
            f"gitlab:project_env:{project}:{slug}",
            f"gitlab:project_env_tier:{project}:staging",
            "system:authenticated",
        ],
        "extra": {
            "agent.gitlab.com/id": [str(_agent_id(installation, "production"))],
            "agent.gitlab.com/config_project_id": [str(installation.projects[AGENTS])],
            "agent.gitlab.com/project_id": [str(project)],
            "agent.gitlab.com/ci_pipeline_id": [str(shell.job.pipeline_id)],
            "agent.gitlab.com/ci_job_id": [str(shell.job.id)],
            "agent.gitlab.com/username": ["root"],
            "agent.gitlab.com/environment_slug": [slug],
            "agent.gitlab.com/environment_tier": ["staging"],
        },
    }


def test_a_fixed_identity_is_seen_as_the_file_names_it(
    stack: Stack, installation: Installation
) -> None:
    event = _identity_in_audit_log(stack, _started(stack, installation, AUDIT), "as-auditor")
    assert event["impersonatedUser"] == {
        "username": AUDITOR,
        "groups": ["auditors", "system:authenticated"],
    }


def test_in_agent_mode_the_account_itself_is_seen_and_nobody_is_impersonated(
    stack: Stack, installation: Installation
) -> None:
    event = _identity_in_audit_log(stack, _started(stack, installation, OPS), "as-agent")
    assert "impersonatedUser" not in event
    account = f"system:serviceaccount:{installation.access_namespace}:jobgate-agent"
    assert event["user"]["username"] == account


def test_a_job_that_no_file_names_gets_a_reason_and_no_file(stack: Stack) -> None:
    shell = JobShell.start(stack, STRANGER)
    result = shell.fetch()
    assert result.code != 0
    assert json.loads(result.output.split("curl:")[0])["reason"] == "not_listed"
    assert not shell.kubeconfig.exists()


@pytest.mark.parametrize("cache", ["empty", "full"])
def test_kubectl_prints_why_another_agent_refuses(
    stack: Stack, installation: Installation, cache: str
) -> None:
    shell = _started(stack, installation, OPS)
    if cache == "full":
        assert shell.run("kubectl get deployments").code == 0
    own, other = (_agent_id(installation, name) for name in ("staging", "production"))
    shell.run(f"sed -i 's|/agents/{own}|/agents/{other}|' $KUBECONFIG")
    if cache == "full":
        # kubectl keys its cache by the server's address, so the other agent's is filled by hand.
        folder = ".kube/cache/discovery/*/live/agents"
        shell.run(f"cp -r {folder}/{own} $(echo {folder})/{other}")
    result = shell.run("kubectl get pods --request-timeout=20s")
    assert result.code == 1
    lines = [line for line in result.output.splitlines() if "memcache.go" not in line]
    assert len(lines) == 1, result.output
    assert "Jobgate: No agent's configuration lets this job use this cluster. Add" in lines[0]
    assert "reason not_listed" in lines[0]


@pytest.mark.parametrize("cache", ["empty", "full"])
@pytest.mark.parametrize("helm_command", ["helm list", "helm status nothing"])
def test_helm_prints_why_it_is_refused(
    stack: Stack, job: JobShell, helm_command: str, cache: str
) -> None:
    if cache == "full":
        assert job.run("helm list").code == 0
        assert job.run("kubectl get deployments").code == 0
    stack.gitlab.control.finish_job(job.job)
    result, _ = job.until(
        helm_command, lambda result: "reason job_finished" in result.output, seconds=30
    )
    assert result.code == 1


@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
def test_access_ends_with_the_job(stack: Stack, installation: Installation, status: str) -> None:
    shell = _started(stack, installation, WEB)
    assert shell.run("kubectl get pods").code == 0
    stack.gitlab.control.finish_job(shell.job, status)
    result, _ = shell.until("kubectl get pods", lambda result: result.code != 0, seconds=30)
    assert "reason job_finished" in result.output
    assert "job_finished" in shell.fetch().output


def test_a_job_that_was_skipped_may_still_run(stack: Stack, installation: Installation) -> None:
    gitlab = stack.gitlab.control
    job = gitlab.create_job(WEB, audience=AUDIENCE, status="skipped")
    gitlab.settle()
    shell = JobShell.open(stack, gitlab.set_job_status(job, "running"))
    assert shell.fetch().code == 0


def test_a_watch_shows_an_event_while_it_goes_on(job: JobShell) -> None:
    name = f"seen-{job.job.id}"
    result = job.run(
        f"(sleep 1; kubectl create configmap {name} >/dev/null) & "
        "timeout 6 kubectl get configmaps --watch --output=name"
    )
    assert result.code == 124
    assert f"configmap/{name}" in result.output


def test_rbac_refuses_in_kubernetes_own_words(job: JobShell) -> None:
    result = job.run("kubectl get pods --namespace=kube-system")
    assert result.code == 1
    assert f'pods is forbidden: User "gitlab:ci_job:{job.job.id}" cannot list' in result.output


def test_a_client_may_not_choose_an_identity(job: JobShell) -> None:
    result = job.run("kubectl get pods --as=system:admin --as-group=system:masters")
    assert result.code == 1
    assert "reason client_impersonation" in result.output


@pytest.mark.parametrize("command", ["exec {pod} -- true", "port-forward {pod} 8080"])
def test_what_is_not_carried_says_so(job: JobShell, command: str) -> None:
    applied = job.run(
        "kubectl create deployment x --image=nginx && kubectl rollout status deploy/x"
    )
    assert applied.code == 0 or "already exists" in applied.output
    pod = job.run("kubectl get pods -l app=x -o name").output.split()[0]
    result = job.run("kubectl " + command.format(pod=pod))
    assert result.code == 1
    assert "reason unsupported" in result.output


def test_the_token_endpoint_answers_as_rfc_8693_says(stack: Stack, job: JobShell) -> None:
    form = {
        "grant_type": _GRANT_TYPE,
        "subject_token": job.job.id_token,
        "subject_token_type": _ID_TOKEN,
    }
    status, headers, answer = _post(stack, "/token", form)
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    assert answer.keys() == {"access_token", "issued_token_type", "token_type", "expires_in"}
    assert answer["token_type"] == "Bearer"
    assert 0 < answer["expires_in"] <= 3600


def test_the_bearer_form_of_the_kubeconfig_has_the_same_context(
    stack: Stack, job: JobShell
) -> None:
    request = urllib.request.Request(
        f"{stack.gateway.url}/kubeconfig",
        headers={"Authorization": f"Bearer {job.job.id_token}"},
    )
    with urllib.request.urlopen(request, context=_trust(stack), timeout=30) as answer:
        config = json.load(answer)
    assert [entry["name"] for entry in config["contexts"]] == [context("production")]
    assert config["current-context"] == context("production")


def test_a_token_is_good_for_the_asked_agent_alone(
    stack: Stack, installation: Installation
) -> None:
    shell = JobShell.start(stack, OPS)
    status, _, answer = _post(
        stack,
        "/token",
        {
            "grant_type": _GRANT_TYPE,
            "subject_token": shell.job.id_token,
            "subject_token_type": _ID_TOKEN,
            "resource": context("production"),
        },
    )
    assert (status, answer["error"]) == (400, "invalid_target")


def test_no_secret_is_in_any_log(stack: Stack, installation: Installation, job: JobShell) -> None:
    assert job.run("kubectl get pods").code == 0
    secrets = {
        "ID token": job.job.id_token,
        "run-time token": (stack.folder / "operator" / "gitlab-token").read_text(),
    }
    store = boto3.client("secretsmanager", **stack.aws.client_options)
    prefix = f"{stack.aws.outputs['ClusterSecretPrefix']}main"
    for agent in json.loads(installation.jobgate("agent", "list", "--json"))[:2]:
        name = f"{prefix}/{agent['id']}/relay"
        stored = json.loads(store.get_secret_value(SecretId=name)["SecretString"])
        secrets[f"relay credential {agent['context']}"] = stored["token"]
    view = "kubectl config view --raw -o jsonpath='{.users[0].user.token}'"
    secrets["access token"] = job.run(view).output
    hooks = store.get_secret_value(SecretId=stack.aws.outputs["GitLabHooksArn"])
    for hook in json.loads(hooks["SecretString"])["main"]:
        secrets |= {name: hook[name] for name in ("secret_token", "signing_token") if hook[name]}
    assert all(len(value) > 15 for value in secrets.values())
    logs = {str(log): log.read_text(errors="replace") for log in stack.folder.rglob("*.log")}
    logs |= {name: "\n".join(lines) for name, lines in stack.aws.log_messages().items()}
    assert any("TokenExchange" in name for name in logs)
    assert any("Relay" in name for name in logs)
    leaks = [
        (what, name)
        for what, value in secrets.items()
        for name, text in logs.items()
        # A token's signature is enough to know it by, and a log may show a part only.
        if value in text or value[-40:] in text
    ]
    assert leaks == []


def _agent_id(installation: Installation, name: str) -> int:
    agents = json.loads(installation.jobgate("agent", "list", "--json"))
    (found,) = [agent["id"] for agent in agents if agent["context"] == context(name)]
    return int(found)


def _slug_suffix(name: str) -> str:
    """GitLab's six digits of a changed environment name, computed a second way."""
    number, digits = int(hashlib.sha256(name.encode()).hexdigest(), 16), ""
    while len(digits) < 6:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def _trust(stack: Stack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(stack.authority.certificate))


def _post(
    stack: Stack, path: str, form: dict[str, str]
) -> tuple[int, dict[str, str], dict[str, Any]]:
    request = urllib.request.Request(
        stack.gateway.url + path, data=urllib.parse.urlencode(form).encode()
    )
    try:
        with urllib.request.urlopen(request, context=_trust(stack), timeout=30) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)
