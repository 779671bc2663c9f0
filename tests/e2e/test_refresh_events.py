"""Events and failures on the whole stack: what moves loses at once, what fails heals."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING

import boto3
import pytest

from local.installation import ALIAS, SHOP, WEB, Installation, context
from local.job import JobShell
from tests.support.hook_delivery import deliver, group_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.long]

ALLOWED = "kubectl get --raw /version"
# Far less than CHAIN_FRESH (300 s) and the queue's visibility (360 s), far more than is needed.
SOON = 60


@pytest.fixture(scope="module")
def elsewhere(stack: Stack, installation: Installation) -> str:
    """Another top-level group."""
    stack.gitlab.control.create_group("elsewhere")
    return "elsewhere"


@pytest.fixture(scope="module")
def system_hook(stack: Stack, installation: Installation) -> Iterator[None]:
    """A system hook, whose secret reaches the whole instance."""
    token = secrets.token_urlsafe(32)
    store = boto3.client("secretsmanager", **stack.aws.client_options)
    arn = stack.aws.outputs["GitLabHooksArn"]
    stored = json.loads(store.get_secret_value(SecretId=arn)["SecretString"])
    entry = {"secret_token": token, "signing_token": None, "scope": {"kind": "instance", "id": 0}}
    changed = stored | {ALIAS: [*stored[ALIAS], entry]}
    store.put_secret_value(SecretId=arn, SecretString=json.dumps(changed))
    url = f"{stack.gateway.url}/webhooks/gitlab/{ALIAS}"
    hook = stack.gitlab.control.create_hook(url, token=token)
    yield
    stack.gitlab.control.delete_hook(hook["id"])
    store.put_secret_value(SecretId=arn, SecretString=json.dumps(stored))


def started(stack: Stack, project: str) -> JobShell:
    """A running job that has its kubeconfig."""
    shell = JobShell.start(stack, project)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    return shell


def test_a_transferred_project_loses_its_access_by_event_at_once(
    stack: Stack, installation: Installation, elsewhere: str, system_hook: None
) -> None:
    stack.gitlab.control.create_project(f"{SHOP}/moving")
    shell = started(stack, f"{SHOP}/moving")
    assert shell.run(ALLOWED).code == 0

    stack.gitlab.control.transfer_project(f"{SHOP}/moving", elsewhere)

    result, _ = shell.until(ALLOWED, lambda result: result.code != 0, seconds=SOON)
    assert "reason chain_unknown" in result.output or "reason out_of_scope" in result.output


def test_a_transferred_configuration_project_loses_its_hold_by_event_at_once(
    stack: Stack, installation: Installation, elsewhere: str, system_hook: None
) -> None:
    project = "acme/clusters"
    stack.gitlab.control.create_project(project)
    register = ["agent", "register", project, "moving", "--no-agent-mode"]
    installation.jobgate(*register, *installation.cluster_options)
    entry = f"ci_access: {{projects: [{{id: {WEB}, access_as: {{ci_job: {{}}}}}}]}}\n"
    stack.gitlab.control.commit(project, {".gitlab/agents/moving/config.yaml": entry})
    asked = f"kubectl --context={project}:moving get --raw /version"
    shell = JobShell.start(stack, WEB)

    def has_it() -> bool:
        return shell.fetch().code == 0 and shell.run(asked).code == 0

    until(has_it)
    stack.gitlab.control.transfer_project(project, elsewhere)

    result, _ = shell.until(asked, lambda result: result.code != 0, seconds=SOON)
    assert "reason chain_unknown" in result.output or "reason out_of_scope" in result.output
    assert shell.run(f"kubectl --context={context('production')} get --raw /version").code == 0


def test_a_hook_of_a_group_ends_no_job_of_another_group(
    stack: Stack, installation: Installation, elsewhere: str
) -> None:
    # GitLab's stand-in sends only what is in the group, so this one is sent by hand.
    hook = group_hook(stack, ALIAS)
    shell = started(stack, WEB)
    forged = {"object_kind": "build", "build_id": shell.job.id, "build_status": "success"}
    project = stack.gitlab.control.create_project(f"{elsewhere}/forger")

    assert deliver(stack, ALIAS, hook, forged | {"project_id": project["id"]}) == 202

    assert not _has_ended(stack, shell)
    assert deliver(stack, ALIAS, hook, forged | {"project_id": shell.job.project_id}) == 202
    result, _ = shell.until(ALLOWED, lambda result: result.code != 0, seconds=SOON)
    assert "reason job_finished" in result.output
    assert _has_ended(stack, shell)


def test_a_refresh_that_failed_twice_is_done_within_seconds(
    stack: Stack, installation: Installation
) -> None:
    project = "acme/late"
    created = stack.gitlab.control.create_project(project)
    register = ["agent", "register", project, "late", "--no-agent-mode"]
    installation.jobgate(*register, *installation.cluster_options)
    branches = f"GET /api/v4/projects/{created['id']}/repository/branches/"
    stack.gitlab.control.fail_next(branches, status=502, times=2)

    content = f"ci_access: {{projects: [{{id: {WEB}}}]}}\n"
    stack.gitlab.control.commit(project, {".gitlab/agents/late/config.yaml": content})

    def is_active() -> bool:
        agents = json.loads(installation.jobgate("agent", "list", "--json"))
        return any(a["context"] == f"{project}:late" and a["state"] == "active" for a in agents)

    until(is_active)
    assert stack.gitlab.control.clear_faults() == 0


def test_a_message_that_nobody_can_read_is_put_aside_and_holds_nobody_back(
    stack: Stack, installation: Installation
) -> None:
    sqs = boto3.client("sqs", **stack.aws.client_options)
    queue, dead = (
        stack.aws.outputs[name] for name in ("RefreshQueueUrl", "RefreshDeadLetterQueueUrl")
    )
    poison = f"poison {secrets.token_hex(8)}"

    sqs.send_message(
        QueueUrl=queue, MessageBody=poison, MessageGroupId="poison", MessageDeduplicationId=poison
    )

    def is_put_aside() -> bool:
        found = sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10, VisibilityTimeout=1).get(
            "Messages", []
        )
        return any(message["Body"] == poison for message in found)

    until(is_put_aside)


def until(done: Callable[[], bool]) -> None:
    """Wait SOON at most."""
    deadline = time.monotonic() + SOON
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _has_ended(stack: Stack, shell: JobShell) -> bool:
    dynamodb = boto3.client("dynamodb", **stack.aws.client_options)
    key = {"pk": {"S": f"JOB#{ALIAS}#{shell.job.project_id}#{shell.job.id}"}, "sk": {"S": "STATE"}}
    item = dynamodb.get_item(
        TableName=stack.aws.outputs["TableName"], Key=key, ConsistentRead=True
    ).get("Item", {})
    return "finished_at" in item
