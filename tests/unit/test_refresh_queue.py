from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.refresh_batch import RefreshBatch
from jobgate.adapters.refresh_queue import (
    JobMessage,
    RefreshMessage,
    SQSRefreshQueue,
    message_of,
)
from jobgate.core.errors import Conflict, InvalidRequest, OutOfTime, Throttled, Unavailable
from jobgate.core.hook import HookScope
from jobgate.core.webhook_event import JobSeen
from jobgate.usecases.hook_events import HookEvents

from tests.support import builders as b
from tests.support.fakes import FakeClock, FakeJobStates, FakePlaceMarks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.usecases.refresh import Refresh

STATE = b.a_state("success", finished_at=b.NOW)
JOB = JobSeen(b.APP, 9001, STATE)
SCOPE = HookScope("instance", 0)


class SQS:
    def __init__(self, *, code: str | None = None) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.postponed: list[Mapping[str, Any]] = []
        self._code = code

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        assert (service, operation) in {("sqs", "SendMessage"), ("sqs", "ChangeMessageVisibility")}
        if self._code is not None:
            raise AWSError(self._code)
        if operation == "SendMessage":
            self.sent.append(request)
        else:
            self.postponed.append(request)
        return {}


def test_messages_are_read_back_as_they_were_sent() -> None:
    sqs = SQS()
    queue = SQSRefreshQueue(sqs, "url")

    queue.send("main", 50, deduplication_id="k")
    queue.send_job("main", JOB, SCOPE, deduplication_id="k")
    queue.send_job("main", JOB, None, deduplication_id="k")

    assert [message_of(sent["MessageBody"]) for sent in sqs.sent] == [
        RefreshMessage("main", 50),
        JobMessage("main", JOB, SCOPE),
        JobMessage("main", JOB, None),
    ]


def test_a_projects_messages_are_one_group_and_no_other_projects() -> None:
    sqs = SQS()
    queue = SQSRefreshQueue(sqs, "url")

    for issuer, project_id in (("main", 50), ("main", 50), ("main", 51), ("other", 50)):
        queue.send(issuer, project_id, deduplication_id=None)
    queue.send_job("main", JobSeen(50, 50, STATE), SCOPE, deduplication_id=None)

    groups = [sent["MessageGroupId"] for sent in sqs.sent]
    assert groups[0] == groups[1]
    assert len(set(groups)) == 4


def test_one_key_of_gitlabs_is_one_message_and_none_is_always_a_new_one() -> None:
    sqs = SQS()
    queue = SQSRefreshQueue(sqs, "url")

    for key in ("k", "k", "another", None, None, "ü" * 500):
        queue.send("main", 50, deduplication_id=key)

    unique = [sent["MessageDeduplicationId"] for sent in sqs.sent]
    assert unique[0] == unique[1]
    assert len(set(unique)) == 5
    assert all(len(one) <= 128 and one.isalnum() for one in unique)


def test_a_queue_that_refuses_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        SQSRefreshQueue(SQS(code="AccessDenied"), "url").send("main", 1, deduplication_id=None)


def _a_job(**changes: Any) -> str:
    state = {"status": "success", "source": "hook", "seen_at": 1.0, "finished_at": 1.0}
    job = {"issuer": "main", "project_id": 100, "job_id": 1, "state": state, "scope": None}
    return json.dumps({"v": 1, "job": job | changes})


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"v": 2, "refresh": {"issuer": "main", "project_id": 50}}',
        '{"v": 1, "refresh": {"issuer": "main", "project_id": "50"}}',
        '{"v": 1, "refresh": {"issuer": 7, "project_id": 50}}',
        '{"v": 1, "job": {"issuer": "main", "job_id": 1, "state": {"status": "x"}}}',
        _a_job(state={"status": "x"}),
        _a_job(state=[]),
        _a_job(state={"unknown": 1}),
        _a_job(scope=[]),
        _a_job(scope={"kind": "group"}),
        _a_job(project_id="100"),
    ],
)
def test_a_message_of_another_form_is_refused(body: str) -> None:
    with pytest.raises(InvalidRequest):
        message_of(body)


class Refreshes:
    """A refresh whose projects fail as they are told."""

    def __init__(self, failing: dict[int, Exception]) -> None:
        self.ran: list[int] = []
        self._failing = failing

    def run(self, issuer: str, project_id: int) -> None:
        self.ran.append(project_id)
        if project_id in self._failing:
            raise self._failing[project_id]


def _batch(*messages: tuple[str, dict[str, Any]], received: int = 1) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": f"r{number}",
                "body": json.dumps({"v": 1, **body}),
                "attributes": {
                    "MessageGroupId": group,
                    "ApproximateReceiveCount": str(received),
                },
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-central-1:000000000000:q.fifo",
                "awsRegion": "eu-central-1",
            }
            for number, (group, body) in enumerate(messages)
        ]
    }


def refresh(project_id: int) -> tuple[str, dict[str, Any]]:
    return f"main#{project_id}", {"refresh": {"issuer": "main", "project_id": project_id}}


def run(
    event: dict[str, Any], failing: dict[int, Exception] | None = None, *, sqs: SQS | None = None
) -> tuple[list[str], list[int], list[str], FakeJobStates]:
    """What is to come again, what ran, what was logged, and the jobs' states."""
    refreshes, jobs, logged = Refreshes(failing or {}), FakeJobStates(), list[str]()
    queue = SQSRefreshQueue(sqs or SQS(), "url")
    events = HookEvents(
        places=FakePlaceMarks(), jobs=jobs, queue=queue, chain_fresh=300, clock=FakeClock()
    )
    batch = RefreshBatch(cast("Refresh", refreshes), events, queue, log=logged.append)
    answer = batch(event, None)
    return (
        [one["itemIdentifier"] for one in answer["batchItemFailures"]],
        refreshes.ran,
        logged,
        jobs,
    )


@pytest.mark.parametrize(
    "failure", [Unavailable("GitLab answered 500"), Conflict("late"), ValueError("a mistake")]
)
def test_a_message_that_fails_comes_again_with_those_behind_it_and_no_others(
    failure: Exception,
) -> None:
    event = _batch(refresh(1), refresh(2), refresh(1), refresh(3))

    failed, ran, logged, _ = run(event, {1: failure})

    assert failed == ["m0", "m2"]
    assert ran == [1, 2, 3]
    assert len(logged) == 1


def test_a_batch_that_fails_whole_is_still_answered() -> None:
    failed, _, _, _ = run(_batch(refresh(1)), {1: Unavailable("away")})

    assert failed == ["m0"]


def test_a_jobs_end_in_the_queue_is_written() -> None:
    sqs = SQS()
    SQSRefreshQueue(sqs, "url").send_job("main", JOB, SCOPE, deduplication_id=None)
    event = _batch((sqs.sent[0]["MessageGroupId"], json.loads(sqs.sent[0]["MessageBody"])))

    failed, _, _, jobs = run(event)

    assert (failed, jobs.states) == ([], {b.a_job().key: b.a_life(STATE)})


def test_a_message_of_another_form_comes_again_until_it_is_put_aside() -> None:
    failed, _, logged, _ = run(_batch(("g", {"unknown": 1})))

    assert failed == ["m0"]
    assert "InvalidRequest" in logged[0]


def test_a_try_that_has_done_a_part_is_no_failure_and_another_message_goes_on() -> None:
    sqs = SQS()

    failed, _, _, _ = run(_batch(refresh(1), received=5), {1: OutOfTime("more")}, sqs=sqs)

    assert (failed, sqs.postponed) == ([], [])
    assert [(m["MessageGroupId"], message_of(m["MessageBody"])) for m in sqs.sent] == [
        ("main#1", RefreshMessage("main", 1))
    ]


def test_a_part_that_is_done_comes_again_where_no_message_can_go_on() -> None:
    failed, _, _, _ = run(_batch(refresh(1)), {1: OutOfTime("more")}, sqs=SQS(code="AccessDenied"))

    assert failed == ["m0"]


# --- When it comes again ---


@pytest.mark.parametrize(
    ("failure", "received", "seconds"),
    [
        (Unavailable("away"), 1, 2),
        (Unavailable("away"), 2, 8),
        (Unavailable("away"), 3, 32),
        (Unavailable("away"), 4, 120),
        (Unavailable("away"), 99, 120),
        (Conflict("overtaken"), 1, 2),
        (ValueError("a mistake"), 1, 2),
        (Throttled("slower", retry_after=60), 1, 61),
        (Throttled("slower", retry_after=0), 3, 32),
        (InvalidRequest("never"), 1, 0),
        (InvalidRequest("never"), 4, 0),
    ],
)
def test_a_message_that_failed_is_shown_again_soon_and_ever_later(
    failure: Exception, received: int, seconds: int
) -> None:
    sqs = SQS()

    failed, _, _, _ = run(_batch(refresh(1), received=received), {1: failure}, sqs=sqs)

    assert failed == ["m0"]
    assert sqs.postponed == [
        {"QueueUrl": "url", "ReceiptHandle": "r0", "VisibilityTimeout": seconds}
    ]


def test_a_message_that_is_done_is_not_shown_again() -> None:
    sqs = SQS()

    run(_batch(refresh(1)), sqs=sqs)

    assert sqs.postponed == []


def test_a_message_that_cannot_be_postponed_comes_by_the_queues_own_time() -> None:
    failed, _, logged, _ = run(
        _batch(refresh(1)), {1: Unavailable("away")}, sqs=SQS(code="AccessDenied")
    )

    assert failed == ["m0"]
    assert logged == [
        "message m0: Unavailable: away",
        "message m0: the message can't be postponed: AccessDenied",
    ]
