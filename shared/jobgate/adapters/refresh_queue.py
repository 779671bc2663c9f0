"""The queue of work: in order for each configuration project, each message a hint (SQS FIFO)."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.liveness import JobState
from jobgate.ports import RefreshQueue

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall

_VERSION = 1


@dataclass(frozen=True, slots=True)
class RefreshMessage:
    """A configuration project is to be refreshed."""

    issuer: str
    project_id: int


@dataclass(frozen=True, slots=True)
class JobMessage:
    """A job's state is to be written."""

    issuer: str
    job_id: int
    state: JobState


def message_of(body: str) -> RefreshMessage | JobMessage:
    """Read a message; raises InvalidRequest for one that isn't ours."""
    try:
        match json.loads(body):
            case {"v": 1, "refresh": {"issuer": str(issuer), "project_id": int(project_id)}}:
                return RefreshMessage(issuer, project_id)
            case {"v": 1, "job": {"issuer": str(issuer), "job_id": int(job_id), "state": state}}:
                return JobMessage(issuer, job_id, JobState(**state))
    except (ValueError, TypeError) as exc:
        raise InvalidRequest("a message that can't be read") from exc
    raise InvalidRequest("a message of another form")


class SQSRefreshQueue(RefreshQueue):
    """A FIFO queue; a message's group is its project (or job), so that none waits for others."""

    def __init__(self, call: AWSCall, url: str) -> None:
        self._call = call
        self._url = url

    def send(self, issuer: str, project_id: int, *, deduplication_id: str | None) -> None:
        body = {"refresh": {"issuer": issuer, "project_id": project_id}}
        self._send(body, f"{issuer}#{project_id}", deduplication_id)

    def send_job_end(
        self, issuer: str, job_id: int, state: JobState, *, deduplication_id: str | None
    ) -> None:
        given = {
            "status": state.status,
            "source": state.source,
            "seen_at": state.seen_at,
            "finished_at": state.finished_at,
        }
        body = {"job": {"issuer": issuer, "job_id": job_id, "state": given}}
        self._send(body, f"{issuer}#job#{job_id}", deduplication_id)

    def postpone(self, receipt_handle: str, seconds: int) -> None:
        """Let a message that was received come again in so many seconds; raises Unavailable."""
        try:
            self._call(
                "sqs",
                "ChangeMessageVisibility",
                {
                    "QueueUrl": self._url,
                    "ReceiptHandle": receipt_handle,
                    "VisibilityTimeout": seconds,
                },
            )
        except AWSError as exc:
            raise Unavailable(f"the message can't be postponed: {exc.code}") from exc

    def _send(self, body: dict[str, Any], group: str, deduplication_id: str | None) -> None:
        unique = deduplication_id or str(uuid.uuid4())
        try:
            self._call(
                "sqs",
                "SendMessage",
                {
                    "QueueUrl": self._url,
                    "MessageBody": json.dumps({"v": _VERSION, **body}),
                    "MessageGroupId": group,
                    # Hashed: the caller's key may hold what SQS doesn't take here.
                    "MessageDeduplicationId": hashlib.sha256(unique.encode()).hexdigest(),
                },
            )
        except AWSError as exc:
            raise Unavailable(f"the queue takes no message: {exc.code}") from exc
