"""A table that is restored from a backup, on a stack of its own: nothing of before comes back."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import boto3
import pytest

from local.installation import AGENTS, OPS, WEB, CommandFailedError, Installation
from local.job import JobShell, Result
from local.kubernetes.progress import TerminalProgress
from local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.stack, pytest.mark.long]

IN_SHOP = "kubectl --namespace=shop get pods --request-timeout=20s"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, since its table is deleted."""
    with Stack.start(
        tmp_path_factory.mktemp("stack"),
        progress=TerminalProgress(sys.stderr),
        parameters={"IssuersMaxAgeSeconds": "1", "LeewaySeconds": "1"},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def installation(stack: Stack) -> Installation:
    installed = Installation.create(stack, namespace="shop", tell=lambda _command, _output: None)
    installed.grant()
    installed.configure()
    return installed


def test_a_restored_table_denies_all_until_it_is_reconciled_and_brings_nothing_back(
    stack: Stack, installation: Installation
) -> None:
    ended, running = JobShell.start(stack, WEB), JobShell.start(stack, WEB)
    for shell in (ended, running):
        assert shell.fetch().code == 0
        assert shell.run(IN_SHOP).code == 0
    web = str(installation.projects[WEB])
    installation.jobgate("revoke", "project", web, "--why", "lifted after the backup")
    restore = backed_up(stack)
    installation.jobgate("restore", "project", web)
    stack.gitlab.control.finish_job(ended.job)
    ended.until(IN_SHOP, lambda result: "job_finished" in result.output, seconds=30)
    agents = json.loads(installation.jobgate("agent", "list", "--json"))
    (staging,) = [agent["id"] for agent in agents if agent["context"] == f"{AGENTS}:staging"]
    installation.jobgate("agent", "remove", str(staging))

    restore()

    for shell in (ended, running):
        shell.until(IN_SHOP, lambda result: "job_unknown" in result.output, seconds=30)
    fresh = JobShell.start(stack, WEB)
    assert "job_unknown" in fresh.fetch().output
    with pytest.raises(CommandFailedError, match="jobgate reconcile"):
        installation.jobgate("setup")

    told = json.loads(installation.jobgate("reconcile", "--json"))

    assert told["agents_removed"] == [["main", staging]]
    assert told["stops_changed"] == ["main"]
    for shell in (ended, running):
        shell.until(IN_SHOP, lambda result: "token_expired" in result.output, seconds=30)
    for shell in (ended, running, fresh):
        assert until_fetched(shell, "token_expired").code != 0
    assert json.loads(installation.jobgate("restore", "--json")) == []
    wait_for(told["settings"]["not_before"])
    later = JobShell.start(stack, WEB)
    assert later.fetch().code == 0
    assert later.run(IN_SHOP).code == 0
    assert "not_listed" in JobShell.start(stack, OPS).fetch().output, "its agent was removed"


def backed_up(stack: Stack) -> Callable[[], None]:
    """Take a backup of the table; what it returns restores it under the same name."""
    dynamodb = boto3.client("dynamodb", **stack.aws.client_options)
    table = stack.aws.outputs["TableName"]
    backup = dynamodb.create_backup(TableName=table, BackupName="before")

    def restore() -> None:
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
        dynamodb.delete_table(TableName=table)
        arn = backup["BackupDetails"]["BackupArn"]
        dynamodb.restore_table_from_backup(TargetTableName=table, BackupArn=arn)

    return restore


def wait_for(moment: float) -> None:
    """Until GitLab's clock, which is this machine's, says so."""
    while time.time() < moment:  # noqa: TID251  see above
        time.sleep(0.1)


def until_fetched(shell: JobShell, reason: str) -> Result:
    """Fetch until the answer has this reason: a warm function believes for a second."""
    deadline = time.monotonic() + 30
    while reason not in (fetched := shell.fetch()).output:
        assert time.monotonic() < deadline, fetched
    return fetched
