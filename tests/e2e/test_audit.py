"""From what kubectl prints to the records of that decision, by one command."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import time
from typing import IO, TYPE_CHECKING

import pytest

from local.installation import WEB, CommandFailedError, Installation
from local.job import JobShell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stack import Stack

pytestmark = pytest.mark.stack


def test_the_id_that_kubectl_prints_finds_the_requests_record(
    stack: Stack, installation: Installation
) -> None:
    job = JobShell.start(stack, WEB)
    assert job.fetch().code == 0
    refused = job.run("kubectl --namespace=shop --as=somebody get pods --request-timeout=20s")
    printed = re.search(r"reason client_impersonation, decision ([0-9a-f-]{36})", refused.output)
    assert printed is not None, refused.output

    (record,) = audited(installation, printed[1])

    assert (record["type"], record["outcome"]) == ("request", "refused")
    assert record["reason"] == "client_impersonation"
    assert record["decision_id"] == printed[1]
    assert (record["job_id"], record["project_path"]) == (job.job.id, WEB)
    assert job.job.id_token not in json.dumps(record)


def test_the_id_of_a_refused_exchange_finds_its_record(
    stack: Stack, installation: Installation
) -> None:
    job = JobShell.start(stack, WEB)
    stack.gitlab.control.finish_job(job.job)
    refused, _ = job.until(
        "curl -sSi --data-urlencode token=$JOBGATE_ID_TOKEN $JOBGATE_URL/kubeconfig",
        lambda result: "job_finished" in result.output,
        seconds=30,
    )
    printed = re.search(r"(?i)jobgate-decision: *([0-9a-f-]{36})", refused.output)
    assert printed is not None, refused.output

    (record,) = audited(installation, printed[1])

    assert (record["type"], record["reason"]) == ("exchange", "job_finished")
    assert record["job_id"] == job.job.id


def test_records_are_searched_and_followed_by_what_they_hold(
    stack: Stack, installation: Installation
) -> None:
    job = JobShell.start(stack, WEB)
    assert job.fetch().code == 0
    with following(
        installation, "--job", str(job.job.id), "--since", "1m", "--until", "2m"
    ) as lines:
        refused = job.run("kubectl --as=somebody get --raw /version --request-timeout=20s")
        (printed,) = re.findall(r"decision ([0-9a-f-]{36})", refused.output)
        (record,) = audited(installation, printed)
        while (followed := json.loads(lines.readline()))["decision_id"] != printed:
            assert (followed["type"], followed["job_id"]) == ("exchange", job.job.id)

    assert followed == record
    wanted = ("--job", str(job.job.id), "--outcome", "refused", "--json")
    assert json.loads(installation.jobgate("audit", *wanted)) == [record]
    with pytest.raises(CommandFailedError, match="No record"):
        installation.jobgate("audit", "--job", str(job.job.id), "--reason", "stopped")


@contextlib.contextmanager
def following(installation: Installation, *options: str) -> Iterator[IO[str]]:
    """The lines of `jobgate audit --follow --json`, which ends well by Ctrl-C."""
    command = [installation.program, "audit", "--follow", "--json", *options]
    with subprocess.Popen(
        command, env=installation.environment(), stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            yield child.stdout
        finally:
            child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0


def audited(installation: Installation, decision_id: str) -> list[dict[str, object]]:
    """What `jobgate audit` finds, once Lambda has sent the line to the logs."""
    deadline = time.monotonic() + 60
    while True:
        try:
            printed = installation.jobgate("audit", decision_id, "--json")
        except CommandFailedError:
            if time.monotonic() > deadline:
                raise
            continue
        found: list[dict[str, object]] = json.loads(printed)
        return found
