"""`ci_access` on real parts: each filter in both directions, forks, numeric groups, transfers."""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from local.installation import AUDIENCE, GROUP, Installation
from local.job import JobShell
from local.repository import push

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.stack import Stack

pytestmark = pytest.mark.stack

TREE = f"{GROUP}/filters"
CONFIG = f"{TREE}/agents"
APP = f"{TREE}/app"
FORK = f"{TREE}/fork"
YEAR = f"{GROUP}/2024"
ARCHIVED = f"{YEAR}/app"
_SECONDS = 60.0
_WHO = "kubectl auth whoami -o jsonpath='{.status.userInfo.username}'"
_RUNNING = ("job_project_id", "job_project_path", "job_namespace_id", "job_namespace_path")

FILES = {
    "open": f"{{projects: [{{id: {APP}, access_as: {{ci_job: {{}}}}}}]}}",
    "by-environment": f"{{projects: [{{id: {APP.upper()}, access_as: {{ci_job: {{}}}}, "
    "environments: [production, review/*]}]}",
    "by-ref": f"{{projects: [{{id: {APP}, access_as: {{ci_job: {{}}}}, "
    "protected_branches_only: true}]}",
    "by-year": f"{{groups: [{{id: {YEAR}, access_as: {{ci_job: {{}}}}}}]}}",
    "as-anyone": f"{{projects: [{{id: {APP}}}]}}",
}


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents of this page's own configuration project, by name."""

    ids: Mapping[str, int]

    def turned(self, shell: JobShell, name: str) -> None:
        """Point the job's kubectl at another agent, whatever its kubeconfig lists."""
        shell.run(f"sed -i -E 's|/agents/[0-9]+|/agents/{self.ids[name]}|' $KUBECONFIG")


@pytest.fixture(scope="module")
def agents(stack: Stack, installation: Installation) -> Agents:
    """Everything below a group of its own, so that no other test is disturbed."""
    gitlab = stack.gitlab.control
    for group in (TREE, YEAR):
        gitlab.create_group(group)
    for project in (CONFIG, APP, FORK, ARCHIVED):
        gitlab.create_project(project)
    files = {
        f".gitlab/agents/{name}/config.yaml": f"ci_access: {text}\n" for name, text in FILES.items()
    }
    push(stack, CONFIG, files, "Allow by filters")
    ids = {name: _registered(installation, name) for name in FILES}
    deadline = time.monotonic() + _SECONDS
    while not all(_listed(installation, agent_id) for agent_id in ids.values()):
        if time.monotonic() > deadline:
            raise TimeoutError("The pushed configurations have no effect.")
    return Agents(ids)


def _registered(installation: Installation, name: str) -> int:
    arguments = list(installation.cluster_options)
    if name == "as-anyone":
        arguments += ["--allow-client-impersonation"]
    else:
        arguments += ["--no-agent-mode"]
    answer = installation.jobgate("agent", "register", CONFIG, name, *arguments, "--json")
    return int(json.loads(answer)["id"])


def _listed(installation: Installation, agent_id: int) -> bool:
    shown = json.loads(installation.jobgate("agent", "show", str(agent_id), "--json"))
    snapshot = shown["snapshot"]
    return snapshot is not None and snapshot["projects"] + snapshot["groups"] == 1


def _started(stack: Stack, project: str = APP, **options: Any) -> JobShell:
    shell = JobShell.start(stack, project, **options)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    if project == APP:
        # Of several contexts none is chosen for a job.
        assert shell.run(f"kubectl config use-context {CONFIG}:open").code == 0
    return shell


def _reason(shell: JobShell) -> str:
    """Why kubectl is refused; it must be."""
    result = shell.run("kubectl get pods --request-timeout=20s")
    assert result.code == 1, result.output
    assert "reason " in result.output, result.output
    return result.output.rpartition("reason ")[2].split()[0].strip(".,;)")


def _works_as_job(shell: JobShell) -> bool:
    result = shell.run(_WHO)
    assert result.code == 0, result.output
    return result.output == f"gitlab:ci_job:{shell.job.id}"


@pytest.mark.parametrize("environment", ["production", "review/one"])
def test_an_environment_that_matches_lets_kubectl_in(
    stack: Stack, agents: Agents, environment: str
) -> None:
    shell = _started(stack, environment=environment)
    agents.turned(shell, "by-environment")

    assert _works_as_job(shell)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ("staging", "environment_mismatch"),
        ("not/review/one", "environment_mismatch"),
        (None, "no_environment"),
    ],
)
def test_an_environment_that_does_not_match_keeps_kubectl_out(
    stack: Stack, agents: Agents, environment: str | None, reason: str
) -> None:
    shell = _started(stack, environment=environment)
    assert _works_as_job(shell)

    agents.turned(shell, "by-environment")

    assert _reason(shell) == reason


def test_a_protected_ref_lets_kubectl_in(stack: Stack, agents: Agents) -> None:
    shell = _started(stack, ref_protected=True)
    agents.turned(shell, "by-ref")

    assert _works_as_job(shell)


def test_an_unprotected_ref_keeps_kubectl_out(stack: Stack, agents: Agents) -> None:
    shell = _started(stack, ref_protected=False)
    assert _works_as_job(shell)

    agents.turned(shell, "by-ref")

    assert _reason(shell) == "ref_not_protected"


JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "without environment": (APP, {}),
    "unprotected": (APP, {"ref": "feature", "ref_protected": False}),
    "production": (APP, {"environment": "production", "ref_protected": True}),
    "a review app": (APP, {"environment": "review/Ä b-1", "source": "merge_request_event"}),
    "staging": (APP, {"environment": "staging", "ref_protected": False}),
    "a fork's": (APP, {"source_project": FORK, "source": "merge_request_event"}),
    "the year's": (ARCHIVED, {"environment": "production"}),
    "the configuration project's": (CONFIG, {}),
    "a stranger's": (FORK, {}),
}


@pytest.mark.parametrize("name", JOBS)
def test_offline_and_online_decide_alike(
    stack: Stack, agents: Agents, installation: Installation, name: str
) -> None:
    project, options = JOBS[name]
    shell = JobShell.start(stack, project, **options)

    offline = _decided_offline(stack, installation, agents, shell)

    allowed = {a["context"]: a for a in offline if a["allowed"]}
    if shell.fetch().code:
        assert allowed == {}
        return
    contexts = json.loads(shell.run("kubectl config view -o json").output)["contexts"]
    online = {
        c["name"]: c["context"].get("namespace")
        for c in contexts
        if c["name"].startswith(f"{CONFIG}:")
    }
    assert online == {context: agent["namespace"] for context, agent in allowed.items()}
    for context, agent in allowed.items():
        if agent["identity"] is not None:
            whoami = shell.run(f"kubectl --context {context} auth whoami -o json").output
            seen = json.loads(whoami)["status"]["userInfo"]
            identity = agent["identity"]
            assert (seen["username"], seen["extra"]) == (identity["user"], identity["extra"])
            assert seen["groups"] == [*identity["groups"], "system:authenticated"]


def _decided_offline(
    stack: Stack, installation: Installation, agents: Agents, shell: JobShell
) -> list[dict[str, Any]]:
    """What `jobgate decide` says of this page's agents and a job, from its token's payload."""
    gitlab = stack.gitlab
    token = gitlab.control.create_token(["read_api"])
    trust = ssl.create_default_context(cafile=stack.authority.certificate)

    def get(target: str) -> Any:
        url, headers = f"{gitlab.url}/api/v4{target}", {"PRIVATE-TOKEN": token}
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, context=trust, timeout=20) as answer:
            return json.load(answer)

    groups = get("/groups?all_available=true&per_page=100")
    projects = get("/projects?per_page=100")
    ids = {project["path_with_namespace"]: project["id"] for project in projects}
    instance = {
        "v": 1,
        "settings": {},
        "groups": [
            {key: group[key] for key in ("id", "full_path", "parent_id")} for group in groups
        ],
        "users": [],
        "projects": [
            {
                **{key: project[key] for key in ("id", "path_with_namespace")},
                "namespace_id": project["namespace"]["id"],
            }
            for project in projects
            if project["namespace"]["kind"] == "group"
        ],
        "agents": [
            {"id": agent_id, "name": name, "project_id": ids[CONFIG]}
            for name, agent_id in agents.ids.items()
        ],
    }
    payload = shell.job.id_token.split(".")[1]
    claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    for file, text in (("instance", json.dumps(instance)), ("claims", claims)):
        (shell.home / f"{file}.json").write_text(text)
    files = [f"--{file}={shell.home / file}.json" for file in ("instance", "claims")]
    folder = stack.folder / "clones" / CONFIG / ".gitlab/agents"
    answer = installation.jobgate("decide", f"--agents={CONFIG}={folder}", *files, "--json")
    decided: list[dict[str, Any]] = json.loads(answer)["agents"]
    return decided


def test_a_group_whose_path_is_a_number_is_that_group(stack: Stack, agents: Agents) -> None:
    shell = _started(stack, ARCHIVED)

    assert _works_as_job(shell)
    assert f"{CONFIG}:by-year" in shell.run("kubectl config get-contexts -o name").output


def test_a_forks_job_in_the_parent_has_the_parents_access(stack: Stack, agents: Agents) -> None:
    shell = _started(stack, source_project=FORK, source="merge_request_event")

    assert _works_as_job(shell)


@pytest.mark.parametrize("source", ["merge_request_event", "parent_pipeline"])
def test_a_review_app_works_on_a_gitlab_that_does_not_tell_the_running_project(
    stack: Stack, agents: Agents, source: str
) -> None:
    job = stack.gitlab.control.create_job(APP, source=source, environment="review/two")
    token = stack.gitlab.control.mint_id_token(job, AUDIENCE, without=_RUNNING)

    status = _exchanged(stack, token)

    assert status == "200"


@pytest.mark.parametrize("source", ["merge_request_event", "parent_pipeline"])
def test_a_forks_job_on_such_a_gitlab_is_not_taken_for_the_forks_own(
    stack: Stack, agents: Agents, source: str
) -> None:
    gitlab = stack.gitlab.control
    job = gitlab.create_job(APP, source_project=FORK, source=source)
    token = gitlab.mint_id_token(job, AUDIENCE, without=_RUNNING)

    assert _exchanged(stack, token) == "503 job_unknown"


@pytest.mark.parametrize("source", ["merge_request_event", "parent_pipeline"])
def test_on_such_a_gitlab_the_parents_hook_ends_its_own_job_and_vouches_for_no_forks(
    stack: Stack, agents: Agents, source: str
) -> None:
    gitlab = stack.gitlab.control
    own = gitlab.create_job(APP, source=source)
    forks = gitlab.create_job(APP, source_project=FORK, source=source)
    tokens = [gitlab.mint_id_token(job, AUDIENCE, without=_RUNNING) for job in (own, forks)]
    gitlab.settle()

    while_running = [_exchanged(stack, token) for token in tokens]
    for job in (own, forks):
        gitlab.finish_job(job)
    gitlab.settle()
    afterwards = [_exchanged(stack, token) for token in tokens]

    assert while_running == ["200", "503 job_unknown"]
    assert afterwards == ["403 job_finished", "503 job_unknown"]


def _exchanged(stack: Stack, token: str) -> str:
    """The status of an exchange, and its reason where it is refused."""
    shell = JobShell.start(stack, APP)
    command = (
        f"curl -sS --data-urlencode token={token} -o answer -w '%{{http_code}}' "
        '"$JOBGATE_URL/kubeconfig"'
    )
    status = shell.run(command).output.strip()
    if status == "200":
        return status
    return f"{status} {json.loads((shell.home / 'answer').read_text())['reason']}"


@pytest.fixture
def right_to_be_dana(stack: Stack, installation: Installation) -> Iterator[None]:
    """The agent's own account may impersonate one user."""
    account = f"--serviceaccount={installation.access_namespace}:jobgate-agent"
    role = ("create", "clusterrole", "as-dana", "--verb=impersonate", "--resource=users")
    stack.admin.must(*role, "--resource-name=dana")
    stack.admin.must("create", "clusterrolebinding", "as-dana", "--clusterrole=as-dana", account)
    yield
    stack.admin.must("delete", "clusterrole,clusterrolebinding", "as-dana")


@pytest.mark.usefixtures("right_to_be_dana")
def test_in_agent_mode_the_client_may_choose_where_operator_and_cluster_allow_it(
    stack: Stack, agents: Agents
) -> None:
    shell = _started(stack)
    agents.turned(shell, "as-anyone")

    chosen, _ = shell.until(f"{_WHO} --as=dana", lambda result: result.code == 0, seconds=30)
    another = shell.run("kubectl get --raw /api/v1/nodes --as=erin")

    assert chosen.output == "dana"
    assert another.code == 1
    assert 'users "erin" is forbidden' in another.output


def test_elsewhere_the_client_may_not_choose(stack: Stack, agents: Agents) -> None:
    shell = _started(stack)

    refused = shell.run("kubectl get pods --as=dana")

    assert refused.code == 1
    assert "reason client_impersonation" in refused.output


def test_a_reserved_name_is_not_for_the_client_to_choose(stack: Stack, agents: Agents) -> None:
    shell = _started(stack)
    agents.turned(shell, "as-anyone")

    refused = shell.run("kubectl get pods --as=dana --as-group=system:masters")

    assert refused.code == 1
    assert "reason reserved_identity" in refused.output
