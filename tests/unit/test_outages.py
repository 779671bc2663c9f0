"""GitLab is away for an hour: the queue's tries and the schedule, second by second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.refresh_batch import RefreshBatch
from jobgate.adapters.refresh_queue import SQSRefreshQueue
from jobgate.core.errors import Throttled, Unavailable
from jobgate.usecases.hook_events import HookEvents
from jobgate.usecases.reconcile import Reconcile

from tests.support import builders as b
from tests.support.fakes import FakeJobStates, FakePlaceMarks
from tests.support.refresh_setting import APP_ENTRY, FILE, Setting, pushed
from tests.support.refresh_worker import queue_event

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR, ROUND = 3600, 300  # the outage; ReconcileSchedule
# As in template.yaml.
RECEIVED_MAX = 5


@dataclass
class Message:
    body: str
    group: str
    visible_at: float = 0
    received: int = 0


class FIFO:
    """SQS as a refresh's queue sees it: one group's messages in order, five tries each."""

    def __init__(self, setting: Setting) -> None:
        self._clock = setting.clock
        self.messages: list[Message] = []
        self.dead: list[Message] = []
        self.queue = SQSRefreshQueue(self, "url")
        events = HookEvents(
            places=FakePlaceMarks(),
            jobs=FakeJobStates(),
            queue=self.queue,
            chain_fresh=300,
            clock=setting.clock,
        )
        self._batch = RefreshBatch(setting.refresh, events, self.queue, log=lambda _line: None)

    def __call__(self, _service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "SendMessage":
            message = Message(request["MessageBody"], request["MessageGroupId"])
            self.messages.append(message)
        else:
            (message,) = self.messages[:1]
            message.visible_at = self._clock() + request["VisibilityTimeout"]
        return {}

    def poll(self) -> None:
        """Lambda takes the first message, if it may be seen."""
        if not self.messages or self.messages[0].visible_at > self._clock():
            return
        message = self.messages[0]
        if message.received == RECEIVED_MAX:
            self.dead.append(self.messages.pop(0))
            return
        message.received += 1
        attributes = {
            "ApproximateReceiveCount": str(message.received),
            "MessageGroupId": message.group,
        }
        received = {
            "MessageId": "m",
            "ReceiptHandle": "r",
            "Body": message.body,
            "Attributes": attributes,
        }
        if not self._batch(queue_event(received), None)["batchItemFailures"]:
            self.messages.remove(message)


@pytest.mark.parametrize(
    ("fault", "healed_within"),
    [
        (Unavailable("GitLab answered 502"), ROUND),
        (Throttled("GitLab answered 429", retry_after=900), 901),
    ],
    ids=["away", "throttling"],
)
def test_an_hour_without_gitlab_heals_by_the_schedule_alone(
    fault: Exception, healed_within: int
) -> None:
    setting = pushed(APP_ENTRY)
    began, fifo = setting.clock(), FIFO(setting)
    reconcile = Reconcile(projects=setting.store, queue=fifo.queue)
    head = setting.gitlab.push(b.CONFIG_PROJECT, {FILE: b"{}"})
    setting.gitlab.faults["head"] = fault
    healed_at = None

    for second in range(HOUR + healed_within + ROUND):
        if second == HOUR:
            setting.gitlab.faults.clear()
        if second % ROUND == 0:
            reconcile.run()
        fifo.poll()
        if second < HOUR:
            assert set(setting.snapshot.projects) == {b.APP}
        elif healed_at is None and setting.snapshot.commit == head:
            healed_at = second - HOUR
        setting.clock.advance(1)

    assert healed_at is not None
    assert healed_at <= healed_within
    assert (dict(setting.snapshot.projects), setting.snapshot.doubt_since) == ({}, None)
    assert (fifo.messages, setting.note) == ([], None)
    assert setting.clock() - began > HOUR
    # What the alarm is about; every one of them asks for nothing that the schedule didn't do.
    assert {json.loads(message.body)["refresh"]["project_id"] for message in fifo.dead} <= {
        b.CONFIG_PROJECT
    }
