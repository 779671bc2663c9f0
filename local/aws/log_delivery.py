"""What the local gateway's functions write goes to their log groups, as Lambda sends it there."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PAUSE_SECONDS = 0.5
# CloudWatch takes a mebibyte at once.
_MOST_LINES = 200


class LogDelivery:
    """Sends each whole line of some files to a log group each, until it is stopped.

    `groups` names the file for each group; a file may come later. What can't be sent is tried
    again: the files keep everything in any case.
    """

    def __init__(self, groups: Mapping[str, Path], client_options: Mapping[str, Any]) -> None:
        # What fails is tried again here, a little later.
        once = Config(retries={"max_attempts": 0})
        self._client = boto3.client("logs", **client_options, config=once)
        self._files = dict(groups)
        self._sent = dict.fromkeys(groups, 0)
        self._stream = f"local/{uuid.uuid4().hex}"
        self._has_stream: set[str] = set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send what is left, and end."""
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        ends = False
        while not ends:
            ends = self._ends.wait(_PAUSE_SECONDS)
            for group in self._files:
                with contextlib.suppress(BotoCoreError, ClientError):
                    self._send(group)

    def _send(self, group: str) -> None:
        while lines := self._next_lines(group):
            if group not in self._has_stream:
                self._client.create_log_stream(logGroupName=group, logStreamName=self._stream)
                self._has_stream.add(group)
            now = int(time.time() * 1000)  # noqa: TID251  about when the line was written
            events = [
                {"timestamp": now, "message": text}
                for line in lines
                if (text := line.decode(errors="replace").rstrip())
            ]
            if events:
                self._client.put_log_events(
                    logGroupName=group, logStreamName=self._stream, logEvents=events
                )
            self._sent[group] += sum(map(len, lines))

    def _next_lines(self, group: str) -> list[bytes]:
        """Those that are whole and weren't sent yet, in bytes as they stand in the file."""
        try:
            with self._files[group].open("rb") as file:
                file.seek(self._sent[group])
                lines = [file.readline() for _ in range(_MOST_LINES)]
        except FileNotFoundError:
            return []
        return [line for line in lines if line.endswith(b"\n")]
