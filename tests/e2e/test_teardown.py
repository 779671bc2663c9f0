"""`jobgate teardown` of a deployment in use, killed on the way: what goes, and what stays."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError

from local.installation import GROUP, WEB, CommandFailedError, Installation
from local.job import JobShell
from local.kubernetes.progress import TerminalProgress
from local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.stack, pytest.mark.long]

OURS = "--selector=app.kubernetes.io/part-of=jobgate"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, since it's taken away."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack.start(folder, progress=TerminalProgress(sys.stderr)) as running:
        yield running


@pytest.fixture(scope="module")
def installation(stack: Stack) -> Installation:
    installed = Installation.create(stack, namespace="shop", tell=lambda _command, _output: None)
    installed.grant()
    installed.configure()
    return installed


def test_a_teardown_that_is_killed_is_completed_and_leaves_what_it_says(
    stack: Stack, installation: Installation
) -> None:
    job = JobShell.start(stack, WEB)
    assert job.fetch().code == 0
    token = stack.gitlab.control.create_token(["api"], group=GROUP, role="owner")
    context, kubeconfig, namespace = (installation.cluster_options[number] for number in (1, 3, 5))
    command = ["teardown", "--context", context, "--kubeconfig", kubeconfig]
    command += ["--namespace", namespace]
    with pytest.raises(CommandFailedError, match="Nothing was removed"):
        installation.jobgate(*command)
    assert hooks_of(stack) != []
    assert ours(stack) != ""

    kill_once_it_works(stack, installation, [*command, "--yes"], token)
    told = json.loads(installation.jobgate(*command, "--yes", "--json", GITLAB_TOKEN=token))

    assert hooks_of(stack) == []
    assert ours(stack) == ""
    account = ("get", "serviceaccount", "jobgate-relay", "--namespace=shop")
    assert stack.admin.run(*account).code == 1
    assert credentials(stack) == []
    assert is_gone(stack)
    left = {each["what"] for each in told["left"]}
    table, keys = stack.aws.outputs["TableName"], ("SigningKeyAArn", "SigningKeyBArn")
    assert f"the table {table}, protected from deletion" in left
    assert {f"the signing key {stack.aws.outputs[key]}" for key in keys} <= left
    described = boto3.client("dynamodb", **stack.aws.client_options).describe_table(TableName=table)
    assert described["Table"]["TableStatus"] == "ACTIVE"


def kill_once_it_works(
    stack: Stack, installation: Installation, command: list[str], token: str
) -> None:
    """Run it, and kill it when the webhooks are gone."""
    environment = {
        **stack.aws.environment,
        "GITLAB_TOKEN": token,
        "JOBGATE_STACK": stack.aws.stack_name,
        "PATH": str(Path(sys.executable).parent),
        "HOME": str(stack.folder / "operator"),
    }
    program = Path(sys.executable).parent / "jobgate"
    running = subprocess.Popen([program, *command], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while hooks_of(stack) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    assert running.wait() == -9


def hooks_of(stack: Stack) -> list[str]:
    return [hook["url"] for hook in stack.gitlab.control.hooks()]


def ours(stack: Stack) -> str:
    """What is left in the cluster of what was made for the relay."""
    kinds = "clusterroles,clusterrolebindings"
    return stack.admin.must("get", kinds, OURS, "--output=name").strip()


def credentials(stack: Stack) -> list[str]:
    listed = boto3.client("secretsmanager", **stack.aws.client_options).list_secrets()["SecretList"]
    prefix = stack.aws.outputs["ClusterSecretPrefix"]
    return [each["Name"] for each in listed if each["Name"].startswith(prefix)]


def is_gone(stack: Stack) -> bool:
    cloudformation = boto3.client("cloudformation", **stack.aws.client_options)
    try:
        found = cloudformation.describe_stacks(StackName=stack.aws.stack_name)["Stacks"]
    except ClientError:
        return True
    return [each["StackStatus"] for each in found] == ["DELETE_COMPLETE"]
