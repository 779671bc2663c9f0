"""The queue's messages as Lambda delivers them (AWS, "Using Lambda with Amazon SQS")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import SqsFifoPartialProcessor, process_partial_response

from jobgate.adapters.log import failure_text
from jobgate.adapters.refresh_queue import JobMessage, RefreshMessage, message_of
from jobgate.core.errors import JobgateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

    from jobgate.ports import JobStates
    from jobgate.usecases.refresh import Refresh


class RefreshBatch:
    """Works through a batch; a message that fails, and those behind it in its group, come again."""

    def __init__(self, refresh: Refresh, jobs: JobStates, *, log: Callable[[str], None]) -> None:
        self._refresh = refresh
        self._jobs = jobs
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
                    self._refresh.run(issuer, project_id)
                case JobMessage(issuer, job_id, state):
                    self._jobs.put(issuer, job_id, state)
        except JobgateError as exc:
            self._log(f"message {record.message_id}: {type(exc).__name__}: {exc}")
            raise
        except Exception as exc:
            self._log(failure_text(record.message_id, exc))
            raise
