"""Child processes that never outlive this one, with their output in a log file each."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOG_TAIL_LINES = 20


class ChildFailedError(Exception):
    """A child process ended or never became ready; the text tells a person what it last said."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running child process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ChildFailedError if the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise ChildFailedError(f"{self.name} ended with exit code {code}.\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines that the process wrote, indented, under the name of its log file."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join([f"The last lines of {self.log}:", *(f"  {line}" for line in lines)])

    def stop(self, *, seconds: float = 10) -> None:
        """End the process and its own children: SIGTERM first, SIGKILL after `seconds`."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        # The child leads a session of its own, so what it left behind is still in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def spawn(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    orphan_signal: signal.Signals = signal.SIGTERM,
) -> Child:
    """Start `argv` in a session of its own (Ctrl-C reaches only us), output appended to `log`.

    `env` is the child's whole environment. On Linux the kernel sends the child `orphan_signal` when
    the calling thread ends, so call it on the main thread.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(arg) for arg in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=functools.partial(_end_with_parent, orphan_signal),  # noqa: PLW1509  no threads run yet when children start
        )
    return Child(name, process, log)


def wait_until(
    ready: Callable[[], bool], *, children: Iterable[Child], what: str, seconds: float = 60
) -> None:
    """Poll `ready` until it is true; raises ChildFailedError when a child ends or time runs out."""
    children = tuple(children)
    deadline = time.monotonic() + seconds
    while not ready():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            tails = "\n".join(child.log_tail() for child in children)
            raise ChildFailedError(f"{what} was not ready after {seconds:g} s.\n{tails}")
        time.sleep(0.05)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_parent(orphan_signal: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, orphan_signal)
