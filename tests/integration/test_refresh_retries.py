"""Failed refreshes on a real queue: they come again soon, and hold nobody else back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.adapters.refresh_batch import RefreshBatch
from jobgate.adapters.refresh_queue import SQSRefreshQueue
from jobgate.cli.output import Output
from jobgate.cli.queue import redrive
from jobgate.core.errors import Throttled, Unavailable
from jobgate.usecases.hook_events import HookEvents

from local.aws.emulator import start_emulator
from local.certificates import CertificateAuthority
from tests.support.fakes import FakeClock, FakeJobStates, FakePlaceMarks
from tests.support.refresh_worker import queue_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.cli.connect import Connected
    from jobgate.usecases.refresh import Refresh

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
# As in template.yaml: what a failed message waited for before.
VISIBILITY_SECONDS, RECEIVED_MAX = 360, 5
SOON = 30


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AWSCall]:
    folder = tmp_path_factory.mktemp("ministack")
    authority = CertificateAuthority.create(folder)
    interpreter = ROOT / ".venv-ministack" / "bin" / "python"
    emulator = start_emulator(interpreter, folder, authority=authority)
    try:
        with pytest.MonkeyPatch.context() as patched:
            for name, value in emulator.environment.items():
                patched.setenv(name, value)
            yield BotoAWS(boto3.Session())
    finally:
        emulator.child.stop()


class Consumer:
    """Lambda's part: receives, hands over, and deletes what didn't fail. Projects fail as told."""

    def __init__(self, call: AWSCall, name: str) -> None:
        self.call = call
        self.dead = self._create(f"{name}-dead.fifo", {})
        arn = call("sqs", "GetQueueAttributes", {"QueueUrl": self.dead, "AttributeNames": ["All"]})
        redrive = {
            "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
            "maxReceiveCount": RECEIVED_MAX,
        }
        self.url = self._create(
            f"{name}.fifo",
            {
                "VisibilityTimeout": str(VISIBILITY_SECONDS),
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
                "RedrivePolicy": json.dumps(redrive),
            },
        )
        self.queue = SQSRefreshQueue(call, self.url)
        self.failing: dict[int, list[Exception]] = {}
        self.ran: list[int] = []
        self.done: list[int] = []
        events = HookEvents(
            places=FakePlaceMarks(),
            jobs=FakeJobStates(),
            queue=self.queue,
            chain_fresh=300,
            clock=FakeClock(),
        )
        self.batch = RefreshBatch(cast("Refresh", self), events, self.queue, log=lambda _line: None)

    def run(self, _issuer: str, project_id: int) -> None:
        """Stands for the refresh itself."""
        self.ran.append(project_id)
        if self.failing.get(project_id):
            raise self.failing[project_id].pop(0)
        self.done.append(project_id)

    def poll(self) -> None:
        """One message, if there is one."""
        request = {"QueueUrl": self.url, "AttributeNames": ["All"], "MaxNumberOfMessages": 1}
        for message in self.call("sqs", "ReceiveMessage", request).get("Messages", []):
            failed = self.batch(queue_event(message), None)["batchItemFailures"]
            if not failed:
                handle = {"QueueUrl": self.url, "ReceiptHandle": message["ReceiptHandle"]}
                self.call("sqs", "DeleteMessage", handle)

    def put_aside(self) -> list[str]:
        """The bodies in the dead-letter queue."""
        request = {"QueueUrl": self.dead, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0}
        found = self.call("sqs", "ReceiveMessage", request).get("Messages", [])
        return [message["Body"] for message in found]

    def _create(self, name: str, attributes: dict[str, str]) -> str:
        request = {"QueueName": name, "Attributes": {"FifoQueue": "true", **attributes}}
        url: str = self.call("sqs", "CreateQueue", request)["QueueUrl"]
        return url


def until(consumer: Consumer, done: Any) -> None:
    """Poll SOON at most."""
    deadline = time.monotonic() + SOON
    while not done():
        assert time.monotonic() < deadline
        consumer.poll()
        time.sleep(0.05)


def test_a_failed_refresh_comes_again_soon_in_its_order_and_holds_nobody_back(
    call: AWSCall,
) -> None:
    consumer = Consumer(call, "retries")
    consumer.failing[1] = [Unavailable("GitLab answered 502")]
    for project_id in (1, 1, 2):
        consumer.queue.send("main", project_id, deduplication_id=None)

    until(consumer, lambda: len(consumer.done) == 3)

    # The second message of project 1 waits for the first; project 2 waits for neither.
    assert consumer.ran == [1, 2, 1, 1]


def test_a_throttled_refresh_waits_as_long_as_gitlab_says(call: AWSCall) -> None:
    consumer = Consumer(call, "throttled")
    consumer.failing[1] = [Throttled("GitLab answered 429", retry_after=4)]
    consumer.queue.send("main", 1, deduplication_id=None)
    until(consumer, lambda: consumer.ran == [1])
    began = time.monotonic()

    until(consumer, lambda: consumer.done == [1])

    # A lower bound: earlier would be an answer of 429 again.
    assert time.monotonic() - began > 4


def test_what_nobody_can_read_is_put_aside_at_once_and_holds_nobody_back(call: AWSCall) -> None:
    consumer = Consumer(call, "poison")
    call(
        "sqs",
        "SendMessage",
        {
            "QueueUrl": consumer.url,
            "MessageBody": "poison",
            "MessageGroupId": "poison",
            "MessageDeduplicationId": "poison",
        },
    )
    consumer.queue.send("main", 2, deduplication_id=None)

    until(consumer, lambda: consumer.done == [2] and consumer.put_aside() == ["poison"])


def test_a_message_that_fails_again_at_once_is_given_back_once_a_run(call: AWSCall) -> None:
    consumer, sent = Consumer(call, "redriven"), list[str]()
    for body in ("poison", "other"):
        message = {"MessageBody": body, "MessageGroupId": body, "MessageDeduplicationId": body}
        call("sqs", "SendMessage", {"QueueUrl": consumer.dead, **message})

    def aws(service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        answer = call(service, operation, request)
        if operation == "DeleteMessage":
            sent.append("one")
            assert len(sent) <= 2
            # The refresh queue puts it aside again while the command still runs.
            until(consumer, lambda: len(consumer.put_aside()) == len(sent))
        return answer

    stack = SimpleNamespace(
        refresh_dead_letter_queue_url=consumer.dead, refresh_queue_url=consumer.url
    )
    output = Output(as_json=True)
    connected = cast("Connected", SimpleNamespace(aws=aws, stack=stack, output=output))

    assert redrive(connected) == (2, 2)
    # What stays is seen at once.
    assert sorted(consumer.put_aside()) == ["other", "poison"]


def test_one_key_of_gitlabs_is_one_refresh_and_no_key_is_always_one_more(call: AWSCall) -> None:
    consumer = Consumer(call, "keys")
    # A, B, A again: three pushes, of which GitLab repeats the first.
    for key in ("k-1", "k-2", "k-3", "k-1", None, None):
        consumer.queue.send("main", 1, deduplication_id=key)

    until(consumer, lambda: len(consumer.done) == 5)
    consumer.poll()

    assert consumer.done == [1] * 5
