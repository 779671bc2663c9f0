"""A function's workers: as many as there are concurrent invocations, reused while they are warm."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from local.gateway.invocation import Invocation
from local.gateway.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from local.gateway.environment import Runtime
    from local.gateway.functions import Function
    from local.gateway.limits import Limits

_ACCOUNT = "000000000000"


class ThrottledError(Exception):
    """All the workers that the function may have are busy."""


class Pool:
    """The workers of one function. `log` gets whatever they write, as a log group would."""

    def __init__(
        self, function: Function, runtime: Runtime, limits: Limits, *, version: str, log: Path
    ) -> None:
        self._function = function
        self._runtime = runtime
        self._limits = limits
        self._version = version
        self._log = log
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._drains = False

    async def invoke(
        self, event: bytes, *, request_id: str, trace_id: str, streaming: bool
    ) -> Invocation:
        """Give `event` to the worker that was used last, or to a new one.

        Returns at once; the invocation runs to its end whether or not anybody waits for it.
        Raises ThrottledError.
        """
        invocation = Invocation(
            request_id,
            event,
            f"arn:aws:lambda:{self._runtime.region}:{_ACCOUNT}:function:{self._function.name}",
            trace_id,
            self._function.timeout_seconds,
            streaming,
        )
        # A worker that ends may not get any work.
        if self._idle and not self._drains:
            self._idle.pop().give(invocation)
        else:
            await self._start(invocation)
        return invocation

    def drain(self) -> None:
        """End each worker as soon as it has nothing to do; what has begun runs to its end."""
        self._drains = True
        for worker in self._idle:
            self._end(worker)

    async def stop(self) -> None:
        """End all workers."""
        await asyncio.gather(*(worker.stop() for worker in tuple(self._workers)))

    async def _start(self, invocation: Invocation) -> None:
        most = self._function.reserved_concurrency
        if len(self._workers) >= (self._limits.unreserved_concurrency if most is None else most):
            raise ThrottledError
        worker = Worker(self._function, self._limits, on_idle=self._idle_again, on_end=self._forget)
        self._workers.add(worker)
        worker.give(invocation)
        try:
            await worker.start(
                self._runtime,
                version=self._version,
                log=self._log,
                log_stream=f"[$LATEST]{uuid.uuid4().hex}",
            )
        except OSError as error:
            with self._log.open("a") as log:
                log.write(f"The function's process can't be started: {error}\n")
            worker.fail("Runtime.InvalidEntrypoint")
            self._forget(worker)
            await worker.stop()

    def _idle_again(self, worker: Worker) -> None:
        if self._drains:
            self._end(worker)
        elif worker in self._workers and worker not in self._idle:
            self._idle.append(worker)

    def _end(self, worker: Worker) -> None:
        task = asyncio.get_running_loop().create_task(worker.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _forget(self, worker: Worker) -> None:
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
