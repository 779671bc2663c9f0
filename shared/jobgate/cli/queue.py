"""`jobgate queue`: messages that failed too often, given back to the refresh queue."""

import uuid
from typing import Any

import typer

from jobgate.cli.connect import AsJSON, Connected, StackName, connect
from jobgate.cli.errors import FINDINGS

commands = typer.Typer(help="The queue of refreshes.", no_args_is_help=True)

_BATCH = 10  # SQS's own limit
_MESSAGES_MAX = 10_000
_HIDDEN_SECONDS = 60  # a message that is being moved; a broken run shows it again after that
_RUN = "redrive"  # the attribute that names the run which gave a message back


@commands.command("redrive")
def redrive_command(context: typer.Context, stack: StackName, as_json: AsJSON = False) -> None:
    """Give every message of the dead-letter queue to the refresh queue again.

    Each is sent before it's deleted, so a run that breaks off loses nothing; it may send one twice,
    and a refresh that comes twice does nothing. Exit code 1 where some failed again at once: these
    stay where they are.
    """
    connected = connect(context, stack, as_json=as_json)
    moved, back = redrive(connected)
    connected.output.say(f"Gave {moved} messages to the refresh queue again.")
    if back:
        connected.output.say(f"{back} of them failed again and are back: see the refresh's log.")
    connected.output.result({"moved": moved, "back": back})
    if back:
        raise typer.Exit(FINDINGS)


def redrive(connected: Connected) -> tuple[int, int]:
    """How many messages were moved, and how many of these came back in the meantime.

    SQS's own move task wouldn't be testable on one machine.
    """
    source, run = connected.stack.refresh_dead_letter_queue_url, str(uuid.uuid4())
    moved, back = 0, dict[str, str]()  # of these the receipts, by the messages' ids
    while moved < _MESSAGES_MAX:
        request = {
            "QueueUrl": source,
            "MaxNumberOfMessages": _BATCH,
            "VisibilityTimeout": _HIDDEN_SECONDS,
            "WaitTimeSeconds": 1,
            "MessageSystemAttributeNames": ["MessageGroupId"],
            "MessageAttributeNames": [_RUN],
        }
        messages = connected.aws("sqs", "ReceiveMessage", request).get("Messages") or []
        if not messages:
            break
        for message in messages:
            given = message.get("MessageAttributes", {}).get(_RUN, {})
            if given.get("StringValue") == run:
                back[message["MessageId"]] = message["ReceiptHandle"]
                continue
            _move(connected, source, message, run)
            moved += 1
        connected.output.progress(f"{moved} messages are given back")
    for receipt in back.values():
        # What stays is there at once for whoever looks next.
        seen = {"QueueUrl": source, "ReceiptHandle": receipt, "VisibilityTimeout": 0}
        connected.aws("sqs", "ChangeMessageVisibility", seen)
    return moved, len(back)


def _move(connected: Connected, source: str, message: dict[str, Any], run: str) -> None:
    connected.aws(
        "sqs",
        "SendMessage",
        {
            "QueueUrl": connected.stack.refresh_queue_url,
            "MessageBody": message["Body"],
            "MessageGroupId": message["Attributes"]["MessageGroupId"],
            "MessageAttributes": {_RUN: {"DataType": "String", "StringValue": run}},
            # Its own id: what failed within the last five minutes would be dropped as a duplicate.
            "MessageDeduplicationId": str(uuid.uuid4()),
        },
    )
    handle = {"QueueUrl": source, "ReceiptHandle": message["ReceiptHandle"]}
    connected.aws("sqs", "DeleteMessage", handle)
