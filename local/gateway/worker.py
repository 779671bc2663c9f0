"""One worker: a process that handles one invocation after another, as a Lambda environment does."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING

from local.gateway.environment import command, variables
from local.gateway.runtime_api import RuntimeAPI

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local.gateway.environment import Runtime
    from local.gateway.functions import Function
    from local.gateway.invocation import Invocation
    from local.gateway.limits import Limits

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 2
# Loaded before any fork: a child may not wait for the loader's lock.
_LIBC = ctypes.CDLL(None)


class Worker:
    """A process with a Runtime API of its own. `on_idle` and `on_end` tell its pool."""

    def __init__(
        self,
        function: Function,
        limits: Limits,
        *,
        on_idle: Callable[[Worker], None],
        on_end: Callable[[Worker], None],
    ) -> None:
        self._function = function
        self._limits = limits
        self._on_idle = on_idle
        self._on_end = on_end
        self._api = RuntimeAPI(
            limits, on_ready=self._ready, on_dispatch=self._dispatched, on_init_error=self._failed
        )
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._why = "Runtime.ExitError"

    async def start(self, runtime: Runtime, *, version: str, log: Path, log_stream: str) -> None:
        """Start the process; raises OSError where the interpreter or wrapper can't be run."""
        address = await self._api.start()
        with log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *command(self._function, runtime),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._function.task_root,
                env=variables(
                    self._function,
                    runtime,
                    runtime_api=address,
                    log_stream=log_stream,
                    version=version,
                ),
                start_new_session=True,
                preexec_fn=_end_with_gateway,
            )
        self._watch = asyncio.create_task(self._wait(self._process))

    def give(self, invocation: Invocation) -> None:
        """Let it handle `invocation`; only for a new worker or one that said it is idle."""
        # Until it asks for the event. A slow init is repeated within the first invocation's time.
        self._bound(self._limits.init_seconds + self._function.timeout_seconds)
        self._api.give(invocation)

    def fail(self, kind: str) -> None:
        """Settle what it was given as a failure."""
        self._api.fail(kind)

    async def stop(self) -> None:
        """End the process and its children; returns when they are gone."""
        self._unbound()
        if self._process and self._process.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        self._signal(signal.SIGKILL)
        if self._watch:
            await self._watch
        else:
            self._api.close()

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._unbound()
        # What it started may still hold its connections.
        self._signal(signal.SIGKILL)
        self._api.fail(self._why)
        self._api.close()
        self._on_end(self)

    def _ready(self) -> None:
        self._bound(self._limits.worker_idle_seconds)
        self._on_idle(self)

    def _dispatched(self, invocation: Invocation) -> None:
        self._bound(invocation.timeout_seconds)

    def _failed(self, kind: str) -> None:
        self._why = kind

    def _bound(self, seconds: float) -> None:
        self._unbound()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _unbound(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _expire(self) -> None:
        # First out of the pool, so that nobody gives it work while it ends.
        self._on_end(self)
        self._api.fail("Sandbox.Timedout")
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _end_with_gateway() -> None:
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
