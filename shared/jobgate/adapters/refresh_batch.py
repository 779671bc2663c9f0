"""The queue's messages as Lambda delivers them (AWS, "Using Lambda with Amazon SQS")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import SqsFifoPartialProcessor, process_partial_response

from jobgate.adapters.log import failure_text
from jobgate.adapters.refresh_queue import JobMessage, RefreshMessage, message_of
from jobgate.core.backoff import seconds_until_next_try
from jobgate.core.errors import JobgateError, OutOfTime, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

    from jobgate.adapters.refresh_queue import SQSRefreshQueue
    from jobgate.usecases.hook_events import HookEvents
    from jobgate.usecases.refresh import Refresh


class RefreshBatch:
    """Works through a batch; a message that fails, and those behind it in its group, come again.

    It comes soon: as long as it is hidden it holds its project's other messages back, and the
    queue's own time is for a function that was killed.
    """

    def __init__(
        self,
        refresh: Refresh,
        events: HookEvents,
        queue: SQSRefreshQueue,
        *,
        log: Callable[[str], None],
    ) -> None:
        self._refresh = refresh
        self._events = events
        self._queue = queue
        self._log = log

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer with the messages that failed (`batchItemFailures`)."""
        processor = SqsFifoPartialProcessor(skip_group_on_error=True)
        # A batch that failed whole is still an answer: Lambda reads which messages to give again.
        processor.raise_on_entire_batch_failure = False
        return dict(
            process_partial_response(
                event=event, record_handler=self._one, processor=processor, context=context
            )
        )

    def _one(self, record: SQSRecord) -> None:
        try:
            match message_of(record.body):
                case RefreshMessage(issuer, project_id):
                    self._refreshed(issuer, project_id)
                case JobMessage(issuer, event, scope):
                    self._log(self._events.job_seen(issuer, event, scope))
        except JobgateError as exc:
            self._log(f"message {record.message_id}: {type(exc).__name__}: {exc}")
            self._postpone(record, exc)
            raise
        except Exception as exc:
            self._log(failure_text(record.message_id, exc))
            self._postpone(record, exc)
            raise

    def _refreshed(self, issuer: str, project_id: int) -> None:
        try:
            self._refresh.run(issuer, project_id)
        except OutOfTime as exc:
            # Not this message again: a try that has done a part is none of the five that may fail.
            self._log(f"project {project_id}: {exc}")
            self._queue.send(issuer, project_id, deduplication_id=None)

    def _postpone(self, record: SQSRecord, exc: Exception) -> None:
        received = int(record.attributes.approximate_receive_count)
        try:
            seconds = seconds_until_next_try(exc, received=received)
            self._queue.postpone(record.receipt_handle, seconds)
        except Unavailable as late:
            # It comes all the same, when the queue shows it again by itself.
            self._log(f"message {record.message_id}: {late}")
