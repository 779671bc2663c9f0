"""Lambda's runtime loop for a handler that streams; run by `bin/streaming-runtime`.

AWS's Python runtime collects an answer whole before it sends the first byte. This takes its place,
under the same managed Python (AWS_LAMBDA_EXEC_WRAPPER). A handler is
`handler(event, context) -> ports.Response`.

An answer is sent piece by piece as the handler gives it: head and first piece at once, an error in
the middle as a broken stream, never as an end. Whatever happens to one event, the next is taken.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from jobgate.adapters.http_wire import WireError
from jobgate.adapters.log import failure_line, place_of, write_line
from jobgate.adapters.runtime_api import FrontGoneError, RuntimeAPI, RuntimeAPIError, prelude

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from jobgate.adapters.runtime_api import AnswerStream, Invocation
    from jobgate.ports import Clock
    from jobgate.ports.relay import Response

    Handler = Callable[[dict[str, Any], "Context"], Response]

# Before Lambda's own end, so that the client sees a broken stream rather than whatever that leaves.
_MARGIN_SECONDS = 1.0
# Fronts hang or answer 502 on a streamed answer without a single byte.
_LEAST_BODY = b"\n"
_BODILESS = frozenset({204, 304})
_RUNTIME_API_TRIES = 3
_TEXT_MAX = 300
_SNAP_START = "snap-start"
_TRACE_ID = "_X_AMZN_TRACE_ID"


class Context(NamedTuple):
    """What a handler may know of its invocation; `deadline` in epoch seconds."""

    aws_request_id: str
    deadline: float
    invoked_function_arn: str


class StreamingRuntime:
    """Takes events from a Runtime API and streams a handler's answers."""

    def __init__(
        self,
        api: RuntimeAPI,
        handler: Handler,
        *,
        environment: MutableMapping[str, str],
        clock: Clock,
        log: Callable[[str], None],
    ) -> None:
        self._api = api
        self._handler = handler
        self._environment = environment
        self._clock = clock
        self._log = log

    def run(self) -> None:
        """Take events for ever; raises OSError or WireError once the Runtime API is gone."""
        failures = 0
        while True:
            try:
                invocation = self._api.next()
            except (OSError, WireError, RuntimeAPIError):
                failures += 1
                if failures == _RUNTIME_API_TRIES:
                    raise
                continue
            failures = 0
            self._serve(invocation)

    def _serve(self, invocation: Invocation) -> None:
        self._trace(invocation.trace_id)
        try:
            self._answer(invocation)
        except FrontGoneError:
            self._tell(invocation, "FrontGone")
        except Exception as exc:  # noqa: BLE001  one event's failure must not end the next
            self._tell(invocation, type(exc).__name__, exc)
            self._fail(invocation, type(exc).__name__)

    def _trace(self, trace_id: str | None) -> None:
        """Leave the id where X-Ray's own tools look for it; an earlier event's isn't this one's."""
        if trace_id is None:
            self._environment.pop(_TRACE_ID, None)
        else:
            self._environment[_TRACE_ID] = trace_id

    def _answer(self, invocation: Invocation) -> None:
        """Call the handler and stream; raises what happens before the first byte was sent."""
        context = Context(
            aws_request_id=invocation.request_id,
            deadline=invocation.deadline,
            invoked_function_arn=invocation.function_arn,
        )
        response = self._handler(json.loads(invocation.event), context)
        pieces = iter(response.body)
        try:
            first = next(pieces, b"")
            opening = prelude(response.status, response.headers)
            stream = self._api.begin(invocation, length=response.length)
            try:
                stream.start(opening, first)
                self._stream(invocation, stream, pieces, response.status)
            finally:
                stream.close()
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _stream(
        self, invocation: Invocation, stream: AnswerStream, pieces: Iterator[bytes], status: int
    ) -> None:
        try:
            for piece in pieces:
                if self._clock() >= invocation.deadline - _MARGIN_SECONDS:
                    stream.break_off("Deadline", "the invocation's time is over")
                    return
                stream.write(piece)
        except FrontGoneError:
            raise
        except Exception as exc:  # noqa: BLE001  whatever breaks a body breaks its stream
            self._tell(invocation, type(exc).__name__, exc)
            stream.break_off(type(exc).__name__, "the answer broke off")
            return
        if not stream.bytes_sent and status not in _BODILESS:
            stream.write(_LEAST_BODY)
        stream.end()

    def _fail(self, invocation: Invocation, kind: str) -> None:
        try:
            self._api.fail(invocation, kind, "the invocation failed")
        except (OSError, WireError):
            self._tell(invocation, "RuntimeAPIGone")

    def _tell(self, invocation: Invocation, kind: str, exc: BaseException | None = None) -> None:
        self._log(failure_line(invocation.request_id, kind, exc))


def load_handler(name: str, task_root: str) -> Handler:
    """Import `module.function` from the function's folder; raises whatever goes wrong there."""
    if task_root not in sys.path:
        sys.path.append(task_root)
    module, _, function = name.rpartition(".")
    handler: Handler = getattr(importlib.import_module(module.replace("/", ".")), function)
    return handler


def main(environment: MutableMapping[str, str]) -> int:
    """Run until the Runtime API is gone; the environment is Lambda's."""
    api = RuntimeAPI(environment["AWS_LAMBDA_RUNTIME_API"], clock=time.time)  # noqa: TID251  the clock comes in here
    try:
        handler = load_handler(environment["_HANDLER"], environment["LAMBDA_TASK_ROOT"])
    except Exception as exc:  # noqa: BLE001  a handler's module may fail in any way
        # No request's values can be in the text yet, and without it nobody finds a missing setting.
        line = {"type": "failure", "error": type(exc).__name__, "where": place_of(exc)}
        write_line(json.dumps(line | {"text": str(exc)[:_TEXT_MAX]}))
        api.fail_init(f"Runtime.{type(exc).__name__}", "the handler can't be loaded")
        return 1
    runtime = StreamingRuntime(
        api,
        handler,
        environment=environment,
        clock=time.time,  # noqa: TID251  the clock comes in here
        log=write_line,
    )
    try:
        if environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") == _SNAP_START:
            _snapshot(api, handler)
        runtime.run()
    except (OSError, WireError, RuntimeAPIError) as exc:
        write_line(failure_line("", type(exc).__name__, exc))
    return 1


def _snapshot(api: RuntimeAPI, handler: Handler) -> None:
    """Let Lambda take its snapshot here; returns in each environment that is made from it.

    A handler may have `before_snapshot` and `after_restore`, without arguments.
    """
    _call_hook(handler, "before_snapshot", api.fail_init)
    api.restore_next()
    _call_hook(handler, "after_restore", api.fail_restore)


def _call_hook(handler: Handler, name: str, report: Callable[[str, str], None]) -> None:
    try:
        getattr(handler, name, _nothing)()
    except Exception as exc:
        report(f"Runtime.{type(exc).__name__}", "a hook of the handler failed")
        raise RuntimeAPIError("a hook of the handler failed") from exc


def _nothing() -> None:
    """What a handler without a hook does."""


if __name__ == "__main__":
    sys.exit(main(os.environ))  # noqa: TID251  a runtime's entry point
