"""The queue of work: in order for each configuration project, each message a hint (SQS FIFO)."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.hook import HookScope
from jobgate.core.liveness import JobState
from jobgate.core.webhook_event import JobSeen
from jobgate.ports.refresh import RefreshQueue

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
    """What a webhook of this scope said of a job is to be judged and written."""

    issuer: str
    event: JobSeen
    scope: HookScope | None


def message_of(body: str) -> RefreshMessage | JobMessage:
    """Read a message; raises InvalidRequest for one that isn't ours."""
    try:
        match json.loads(body):
            case {"v": 1, "refresh": {"issuer": str(issuer), "project_id": int(project_id)}}:
                return RefreshMessage(issuer, project_id)
            case {
                "v": 1,
                "job": {
                    "issuer": str(issuer),
                    "project_id": int(project_id),
                    "job_id": int(job_id),
                    "state": state,
                    "scope": scope,
                },
            }:
                event = JobSeen(project_id, job_id, JobState(**state))
                return JobMessage(issuer, event, None if scope is None else HookScope(**scope))
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

    def send_job(
        self,
        issuer: str,
        event: JobSeen,
        scope: HookScope | None,
        *,
        deduplication_id: str | None,
    ) -> None:
        job = {
            "issuer": issuer,
            "project_id": event.project_id,
            "job_id": event.job_id,
            "state": asdict(event.state),
            "scope": None if scope is None else asdict(scope),
        }
        self._send({"job": job}, f"{issuer}#job#{event.job_id}", deduplication_id)

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
