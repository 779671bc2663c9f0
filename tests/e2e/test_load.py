"""Much at once, over the whole stack: nothing is lost, the queue drains, figures are printed."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from jobgate.adapters import agent_items, items
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.cli import registration
from jobgate.cli.inputs import CredentialFile
from jobgate.cli.stack import read_stack
from jobgate.cli.table import Table
from jobgate.core.job import JobKey
from jobgate.ports.gitlab import GitLabProject

from local.installation import ALIAS, GROUP
from local.job import FETCH, JobShell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jobgate.ports.refresh import ConfigProjectItem

    from local.installation import Installation
    from local.stack import Stack as LocalStack

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(1500)]

AGENTS, ENTRIES, PROJECTS, JOBS = 300, 500, 50, 2000
LOAD = f"{GROUP}/load"


class Deployment:
    """The deployed stack's table and queues, as an operator reaches them."""

    def __init__(self, stack: LocalStack) -> None:
        self.aws = BotoAWS(boto3.Session())
        self.stack = read_stack(self.aws, stack.aws.stack_name)
        self.table = Table(self.aws, self.stack.table)
        # Of other tests on this stack.
        self.dead_before = self.waiting(self.stack.refresh_dead_letter_queue_url)

    def register(self, project: Mapping[str, Any], names: Iterable[str]) -> list[int]:
        """Agents of a project; nobody connects to their cluster."""
        found = GitLabProject(
            project_id=int(project["id"]),
            path=str(project["path_with_namespace"]),
            default_branch="main",
            namespace_id=int(project["namespace"]["id"]),
            namespace_path=LOAD,
            namespace_kind="group",
        )
        credentials = (CredentialFile("token", {"token": "unused"}), None)
        ids = []
        for name in names:
            agent = registration.NewAgent(
                issuer=ALIAS,
                project=found,
                name=name,
                server="https://cluster.example.test",
                ca=None,
            )
            agent_id = registration.reserve(self.table, agent)
            registration.register(
                self.aws, self.stack, self.table, agent, agent_id, credentials=credentials
            )
            ids.append(agent_id)
        return ids

    def config_project(self, project_id: int) -> ConfigProjectItem | None:
        return registration.config_project(self.table, ALIAS, project_id)

    def commits(self, agent_ids: Iterable[int]) -> list[str | None]:
        """The commit of each agent's snapshot."""
        found = []
        for agent_id in agent_ids:
            key = items.snapshot_key(ALIAS, agent_id)
            snapshot = agent_items.snapshot_of(self.table.get(key))
            found.append(None if snapshot is None else snapshot.commit)
        return found

    def waiting(self, url: str) -> int:
        """Messages that aren't done."""
        request = {"QueueUrl": url, "AttributeNames": ["All"]}
        found = self.aws("sqs", "GetQueueAttributes", request)["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(found[name]) for name in names)

    def assert_drained(self) -> None:
        until(lambda: self.waiting(self.stack.refresh_queue_url) == 0, seconds=120)
        assert self.waiting(self.stack.refresh_dead_letter_queue_url) == self.dead_before


@pytest.fixture(scope="module")
def deployment(stack: LocalStack, installation: Installation) -> Iterator[Deployment]:
    stack.gitlab.control.create_group(LOAD)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in stack.aws.environment.items():
            patched.setenv(name, value)
        yield Deployment(stack)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure, whatever pytest captures."""

    def write(figure: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"{figure}\n")

    return write


def until(is_done: Callable[[], bool], *, seconds: float) -> float:
    """Wait; how long it took. Raises TimeoutError."""
    began = time.monotonic()
    while not is_done():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not done within {seconds:g} s")
        time.sleep(0.5)
    return time.monotonic() - began


def test_three_hundred_agents_with_a_thousand_entries_each_within_gitlab_coms_limits(
    stack: LocalStack, deployment: Deployment, say: Callable[[str], None]
) -> None:
    control = stack.gitlab.control
    projects = [control.create_project(f"{LOAD}/p{n}") for n in range(ENTRIES)]
    groups = [control.create_group(f"{LOAD}/g{n}") for n in range(ENTRIES)]
    home = control.create_project(f"{LOAD}/agents")
    names = [f"agent-{n}" for n in range(AGENTS)]
    agents = deployment.register(home, names)
    entries = {
        "projects": [{"id": p["path_with_namespace"]} for p in projects],
        "groups": [{"id": g["full_path"]} for g in groups],
    }
    entries["projects"][0]["default_namespace"] = "NAME"  # no two files are the same blob
    file = json.dumps({"ci_access": entries})
    control.set_rate_limits(enabled=True)
    control.clear_requests()

    head = control.commit(
        f"{LOAD}/agents",
        {f".gitlab/agents/{n}/config.yaml": file.replace("NAME", n) for n in names},
    )
    began = time.monotonic()

    def is_done() -> bool:
        project = deployment.config_project(home["id"])
        return project is not None and project.last_commit == head and not project.last_error

    until(is_done, seconds=500)
    seconds = time.monotonic() - began

    control.set_rate_limits(enabled=False)
    assert deployment.commits(agents) == [head] * AGENTS
    deployment.assert_drained()
    asked = control.requests("/api/v4/")
    refused = [request for request in asked if request["status"] == 429]
    runs = [r for r in asked if r["path"] == f"/api/v4/projects/{home['id']}"]
    say(
        f"{AGENTS} agents, {ENTRIES} + {ENTRIES} entries each: {seconds:.0f} s from the push, "
        f"{len(asked)} calls of GitLab, {len(refused)} answered 429, {len(runs)} runs"
    )


def test_fifty_configuration_projects_pushed_at_once(
    stack: LocalStack, deployment: Deployment, say: Callable[[str], None]
) -> None:
    control = stack.gitlab.control
    homes = [control.create_project(f"{LOAD}/c{n}") for n in range(PROJECTS)]
    agents = [deployment.register(home, ["prod"])[0] for home in homes]
    entry = json.dumps({"ci_access": {"projects": [{"id": f"{GROUP}/ops"}]}})

    began = time.monotonic()
    heads = [
        control.commit(home["path_with_namespace"], {".gitlab/agents/prod/config.yaml": entry})
        for home in homes
    ]
    until(lambda: deployment.commits(agents) == heads, seconds=300)
    seconds = time.monotonic() - began

    deployment.assert_drained()
    say(f"{PROJECTS} configuration projects pushed at once: {seconds:.1f} s")


def test_two_thousand_job_hooks_in_a_burst(
    stack: LocalStack, deployment: Deployment, say: Callable[[str], None]
) -> None:
    control = stack.gitlab.control
    project = control.create_project(f"{LOAD}/jobs")
    control.commit(f"{LOAD}/jobs", {"README.md": "jobs\n"})
    # A group's hook tells of a project that an exchange has looked up.
    JobShell.start(stack, f"{LOAD}/jobs").run(FETCH)
    jobs = [control.create_job(f"{LOAD}/jobs") for _ in range(JOBS)]
    control.settle(seconds=60)
    before = len(control.deliveries())

    began = time.monotonic()
    for job in jobs:
        control.finish_job(job)
    told = time.monotonic() - began
    until(lambda: _settled(stack), seconds=300)
    seconds = time.monotonic() - began

    burst = control.deliveries()[before:]
    states = [
        (deployment.table.get(items.job_key(key)) or {}).get("status", {}).get("S")
        for key in (JobKey(ALIAS, int(project["id"]), job.id) for job in jobs)
    ]
    assert {d["state"] for d in burst} == {"delivered"}
    assert states == ["success"] * JOBS
    deployment.assert_drained()
    slowest = max(d["seconds"] for d in burst)
    say(
        f"{JOBS} Job Hooks told within {told:.1f} s: all taken after {seconds:.1f} s, "
        f"the slowest answer {slowest:.2f} s"
    )


def _settled(stack: LocalStack) -> bool:
    return bool(stack.gitlab.control.call("settle", seconds=10)["settled"])
