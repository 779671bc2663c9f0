"""The deployment before is upgraded in place, under load, and back again: nothing fails or is lost.

What is upgraded from: the commit that JOBGATE_UPGRADE_FROM names, else the newest release's tag,
else the deployed code (template, functions, package) of twenty-five changes ago. It's deployed out
of a worktree of its own, by its own build and set up by its own command.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import yaml

from local.aws.build import build
from local.gateway import Gateway
from local.gitlab.server import GitLab
from local.installation import AGENTS, ALIAS, AUDIENCE, GROUP, PRODUCTION_FILE, WEB, Installation
from local.job import JobShell
from local.process import wait_until
from local.stack import ROOT, gateway_settings
from tests.support.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.aws.build import Build
    from local.aws.stack import AWS
    from local.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(1200)]

NAMESPACE = "upgraded"
CHANGES_AGO = 25
DEPLOYED = ("template.yaml", "functions", "shared/jobgate")
ENTRY = "ci_access: {groups: [{id: acme/shop, access_as: {ci_job: {}}}]}\n"
TWO_ENTRIES = """ci_access:
  groups: [{id: acme/shop, access_as: {ci_job: {}}}]
  projects: [{id: acme/shop/web, access_as: {ci_job: {}}}]
"""


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_before() -> str:
    named = os.environ.get("JOBGATE_UPGRADE_FROM")  # noqa: TID251  tests have no entry point
    if named:
        return git("rev-parse", named)
    if git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("The clone is shallow, so there is no older commit (git fetch --unshallow).")
    if tags := git("tag", "--list", "v*", "--merged", "HEAD", "--sort=-creatordate").split():
        return git("rev-parse", f"{tags[0]}^{{commit}}")
    found = git("rev-list", "-1", f"--skip={CHANGES_AGO}", "HEAD", "--", *DEPLOYED)
    if not found:
        pytest.skip(f"The history has fewer than {CHANGES_AGO} changes of what is deployed.")
    return found


@dataclass(frozen=True)
class Former:
    """The deployment before with its source; `installation` runs its own operators' command."""

    commit: str
    source: Path
    installation: Installation

    def jobgate(self, *arguments: str, **secrets: str) -> str:
        path = str(self.source / "shared")
        return self.installation.jobgate(*arguments, PYTHONPATH=path, **secrets)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """A worktree of the commit before, with this clone's programs."""
    folder = tmp_path / "before"
    git("worktree", "add", "--detach", str(folder), commit_before())
    for programs in (".venv", ".venv-sam"):
        (folder / programs).symlink_to(ROOT / programs)
    yield folder
    git("worktree", "remove", "--force", str(folder))


@pytest.fixture
def former(stack: Stack, source: Path, tmp_path: Path) -> Iterator[Former]:
    folder = tmp_path / "stack"
    (folder / "operator").mkdir(parents=True)
    gitlab = GitLab.start(folder / "gitlab", authority=stack.authority)
    built = build(stack.aws._build.target, folder / "build.log", repository=source)
    aws = replace(stack.aws, _build=built).beside("jobgate-upgraded", {})
    settings = gateway_settings(stack.authority, aws, template=source / "template.yaml")
    gateway = Gateway.start(folder / "gateway", settings, authority=stack.authority)
    second = replace(stack, folder=folder, gitlab=gitlab, aws=aws, gateway=gateway)
    groups = {path: int(gitlab.control.create_group(path)["id"]) for path in (GROUP, "acme/shop")}
    projects = {path: int(gitlab.control.create_project(path)["id"]) for path in (AGENTS, WEB)}
    gitlab.control.commit(AGENTS, {"README.md": "# agents\n"})
    yield Former(
        git("-C", str(source), "rev-parse", "HEAD"),
        source,
        Installation(second, NAMESPACE, groups, projects),
    )
    gateway.stop()
    gitlab.stop()
    built.release()


def set_up(former: Former) -> None:
    """By the command of the deployment before: all that it writes has the forms of then."""
    installation = former.installation
    stack, folder = installation.stack, installation.stack.folder / "operator"
    ca = str(stack.authority.certificate)
    token, credential = folder / "token", folder / "credential"
    control = stack.gitlab.control
    token.write_text(control.create_token(["read_api"], group=GROUP, role="reporter"))
    owner = control.create_token(["api"], group=GROUP, role="owner")
    manifests = installation.jobgate(
        "rbac", "--impersonation", "constrained", "--namespace", NAMESPACE
    )
    stack.admin.must("apply", "--server-side", "--filename=-", stdin=manifests)
    made = ("create", "token", "jobgate-relay", f"--namespace={NAMESPACE}", "--duration=2h")
    credential.write_text(stack.admin.must(*made))
    installation._bind("web", "edit", f"--group=gitlab:project:{installation.projects[WEB]}")
    former.jobgate("setup", "--base-url", stack.gateway.url, "--ca", ca)
    issuer = ("--url", stack.gitlab.url, "--audience", AUDIENCE, "--token-file", str(token))
    former.jobgate("issuer", "add", ALIAS, *issuer, "--ca", ca)
    former.jobgate("gitlab", "connect", GROUP, GITLAB_TOKEN=owner)
    cluster = ("--server", stack.cluster.url, "--credential-file", str(credential))
    trusted = ("--ca", str(stack.cluster.ca))
    former.jobgate("agent", "register", AGENTS, "production", *cluster, *trusted)
    control.commit(AGENTS, {PRODUCTION_FILE: ENTRY})
    wait_until(
        lambda: json.loads(former.jobgate("agent", "list", "--json"))[0]["state"] == "active",
        children=stack.children,
        what="The agent's configuration",
        seconds=60,
    )


def deploy(former: Former, build: Build, template: Path, stack: Stack) -> AWS:
    """Deploy this code into the same stack; the functions before the gateway follow."""
    second = former.installation.stack
    aws = replace(second.aws, _build=build)
    aws.deploy()
    aws = replace(aws, outputs=aws.read_outputs())
    second.gateway.update(gateway_settings(stack.authority, aws, template=template))
    return aws


def test_no_request_fails_and_no_state_is_lost_by_an_upgrade_and_by_going_back(
    former: Former, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(former)
    second, control = former.installation.stack, former.installation.stack.gitlab.control
    job = JobShell.start(second, WEB)
    fetched = job.fetch()
    assert fetched.code == 0, fetched.output
    kubeconfig = yaml.safe_load(job.kubeconfig.read_text())
    path = kubeconfig["clusters"][0]["cluster"]["server"].removeprefix(second.gateway.url)
    path += f"/api/v1/namespaces/{NAMESPACE}/pods?limit=1"
    keys = json.loads(former.jobgate("keys", "list", "--json"))

    def webhook() -> None:
        control.finish_job(control.create_job(WEB))

    def under_load(change: str, build: Build, template: Path) -> AWS:
        access_token = yaml.safe_load(job.kubeconfig.read_text())["users"][0]["user"]["token"]
        before = len(control.deliveries())
        with Load(second, job.job.id_token, access_token, path, webhook) as load:
            time.sleep(5)
            began = dict(load.done)
            aws = deploy(former, build, template, stack)
            switched = dict(load.done)
            time.sleep(10)
        control.settle(seconds=60)
        deliveries = control.deliveries()[before:]
        refused = [delivery for delivery in deliveries if delivery["state"] != "delivered"]
        with capsys.disabled():
            print(  # noqa: T201  the figures are the result
                f"\n{change} {former.commit[:9]}: {load.done}, {len(load.failed)} failed; "
                f"{len(deliveries)} webhooks, {len(refused)} refused; during it: "
                f"{ {kind: switched[kind] - began[kind] for kind in began} }"
            )
        assert (load.failed, refused) == ([], [])
        for kind in ("exchange", "relay", "webhook"):
            assert 0 < began[kind] < switched[kind] < load.done[kind]
        return aws

    aws = under_load("upgrade from", stack.aws._build, ROOT / "template.yaml")
    # What the deployment before has written is read: keys, the connection, the snapshot, the job.
    upgraded = replace(former.installation, stack=replace(second, aws=aws))
    assert json.loads(upgraded.jobgate("keys", "list", "--json")) == keys
    (agent,) = json.loads(upgraded.jobgate("agent", "list", "--json"))
    assert (agent["state"], agent["problems"]) == ("active", 0)
    listed = job.run(f"kubectl get pods --namespace={NAMESPACE}")
    assert listed.code == 0, listed.output

    # What this one writes now is read by the one before: a snapshot, a token, a job, an issuer.
    control.commit(AGENTS, {PRODUCTION_FILE: TWO_ENTRIES})
    shown = ("agent", "show", f"{AGENTS}:production", "--json")
    wait_until(
        lambda: json.loads(upgraded.jobgate(*shown))["snapshot"]["projects"] == 1,
        children=stack.children,
        what="The agent's second configuration",
        seconds=60,
    )
    later = JobShell.start(second, WEB)
    assert later.fetch().code == 0
    under_load("back to", second.aws._build, former.source / "template.yaml")
    (agent,) = json.loads(former.jobgate("agent", "list", "--json"))
    assert (agent["state"], agent["problems"]) == ("active", 0)
    for each in (job, later):
        listed = each.run(f"kubectl get pods --namespace={NAMESPACE}")
        assert listed.code == 0, listed.output
    # And a job's end has its effect.
    for each in (job, later):
        control.finish_job(each.job)
        _, seconds = each.until(
            f"kubectl get pods --namespace={NAMESPACE}", lambda r: "job_finished" in r.output
        )
        assert seconds < 60
