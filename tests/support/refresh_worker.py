"""A process that plays Lambda's poller for the real handler of config_refresh.

Run as `python -m tests.support.refresh_worker`: takes one message, deletes it if it went well, and
ends; exit code 1 where it failed or none came. AWS_* and JOBGATE_* come from the environment.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import boto3
from jobgate import wiring

_WAIT_SECONDS = 10  # longer than the tests' visibility time-out


def main() -> int:
    environment = os.environ  # noqa: TID251  a program of its own
    handler = wiring.config_refresh(environment)
    queue = boto3.client("sqs")
    url = environment["JOBGATE_REFRESH_QUEUE_URL"]
    answer = queue.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=1,
        WaitTimeSeconds=_WAIT_SECONDS,
        MessageSystemAttributeNames=["All"],
    )
    messages = answer.get("Messages", [])
    failed = [m for m in messages if handler(queue_event(m), None)["batchItemFailures"]]
    for message in messages:
        if message not in failed:
            queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return int(bool(failed) or not messages)


def queue_event(message: Any) -> dict[str, Any]:
    """The event in which Lambda's poller hands over one message of SQS."""
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:000000000000:refresh.fifo",
        "awsRegion": "eu-central-1",
    }
    return {"Records": [record]}


if __name__ == "__main__":
    sys.exit(main())
