"""From what kubectl prints to the records of that decision, by one command."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import subprocess
import time
from typing import IO, TYPE_CHECKING

import boto3
import pytest

from local.installation import WEB, CommandFailedError, Installation
from local.job import JobShell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.stack import Stack

pytestmark = pytest.mark.stack

TRIES = 8
LOGS = {"TokenExchangeFunction": "TokenExchangeLogName", "RelayFunction": "RelayLogName"}


def test_the_id_that_kubectl_prints_finds_the_requests_record(
    stack: Stack, installation: Installation
) -> None:
    job = JobShell.start(stack, WEB)
    assert job.fetch().code == 0
    refused = job.run("kubectl --namespace=shop --as=somebody get pods --request-timeout=20s")
    printed = re.search(r"reason client_impersonation, decision ([0-9a-f-]{36})", refused.output)
    assert printed is not None, refused.output

    (record,) = audited(stack, installation, printed[1])

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

    (record,) = audited(stack, installation, printed[1])

    assert (record["type"], record["reason"]) == ("exchange", "job_finished")
    assert record["job_id"] == job.job.id


def test_records_are_searched_and_followed_by_what_they_hold(
    stack: Stack, installation: Installation
) -> None:
    job = JobShell.start(stack, WEB)
    assert job.fetch().code == 0
    records: dict[str, dict[str, object]] = {}
    with following(installation, "--job", str(job.job.id)) as lines:
        # What was decided before it looks for the first time isn't shown.
        for _ in range(TRIES):
            refused = job.run("kubectl --as=somebody get --raw /version --request-timeout=20s")
            (printed,) = re.findall(r"decision ([0-9a-f-]{36})", refused.output)
            records[printed] = audited(stack, installation, printed)[0]
            if select.select([lines], [], [], 3)[0]:
                break
        while (followed := json.loads(lines.readline()))["decision_id"] not in records:
            assert (followed["type"], followed["job_id"]) == ("exchange", job.job.id)

    assert followed == records[followed["decision_id"]]
    wanted = ("--job", str(job.job.id), "--outcome", "refused", "--json")
    found = {
        each["decision_id"]: each for each in json.loads(installation.jobgate("audit", *wanted))
    }
    assert found == records
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


def audited(stack: Stack, installation: Installation, decision_id: str) -> list[dict[str, object]]:
    """What `jobgate audit` finds, once the functions' lines are where Lambda would put them."""
    deadline = time.monotonic() + 20
    while not any(decision_id in log.read_text() for log in logs(stack)):
        assert time.monotonic() < deadline, "no function has written a line about it"
        time.sleep(0.1)
    for log in logs(stack):
        deliver(stack, log)
    found: list[dict[str, object]] = json.loads(
        installation.jobgate("audit", decision_id, "--json")
    )
    return found


def logs(stack: Stack) -> list[Path]:
    return [p for name in LOGS for p in (stack.folder / "gateway").rglob(f"*-{name}-*.log")]


def deliver(stack: Stack, log: Path) -> None:
    """Put a local function's lines into its log group."""
    client = boto3.client("logs", **stack.aws.client_options)
    (output,) = (group for name, group in LOGS.items() if f"-{name}-" in log.name)
    stream = f"local-{time.monotonic_ns()}"
    group = stack.aws.outputs[output]
    client.create_log_stream(logGroupName=group, logStreamName=stream)
    at = int(time.time() * 1000)  # noqa: TID251  CloudWatch takes the moment of delivery
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    for start in range(0, len(lines), 1000):
        events = [{"timestamp": at, "message": line} for line in lines[start : start + 1000]]
        client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
