"""`jobgate queue`: messages that failed too often, given back to the refresh queue."""

import uuid
from typing import Any

import typer

from jobgate.cli.connect import AsJSON, Connected, StackName, connect

commands = typer.Typer(help="The queue of refreshes.", no_args_is_help=True)

_BATCH = 10  # SQS's own limit
_MESSAGES_MAX = 10_000
_HIDDEN_SECONDS = 60  # a message that is being moved; a broken run shows it again after that


@commands.command("redrive")
def redrive_command(context: typer.Context, stack: StackName, as_json: AsJSON = False) -> None:
    """Give every message of the dead-letter queue to the refresh queue again.

    Each is sent before it's deleted, so a run that breaks off loses nothing; it may send one twice,
    and a refresh that comes twice does nothing.
    """
    connected = connect(context, stack, as_json=as_json)
    moved = redrive(connected)
    connected.output.say(f"Gave {moved} messages to the refresh queue again.")
    connected.output.result({"moved": moved})


def redrive(connected: Connected) -> int:
    """How many messages were moved; SQS's own move task wouldn't be testable on one machine."""
    source = connected.stack.refresh_dead_letter_queue_url
    moved = 0
    while moved < _MESSAGES_MAX:
        request = {
            "QueueUrl": source,
            "MaxNumberOfMessages": _BATCH,
            "VisibilityTimeout": _HIDDEN_SECONDS,
            "WaitTimeSeconds": 1,
            "MessageSystemAttributeNames": ["MessageGroupId"],
        }
        messages = connected.aws("sqs", "ReceiveMessage", request).get("Messages") or []
        if not messages:
            break
        for message in messages:
            _move(connected, source, message)
            moved += 1
    return moved


def _move(connected: Connected, source: str, message: dict[str, Any]) -> None:
    connected.aws(
        "sqs",
        "SendMessage",
        {
            "QueueUrl": connected.stack.refresh_queue_url,
            "MessageBody": message["Body"],
            "MessageGroupId": message["Attributes"]["MessageGroupId"],
            # Its own id: what failed within the last five minutes would be dropped as a duplicate.
            "MessageDeduplicationId": str(uuid.uuid4()),
        },
    )
    handle = {"QueueUrl": source, "ReceiptHandle": message["ReceiptHandle"]}
    connected.aws("sqs", "DeleteMessage", handle)
