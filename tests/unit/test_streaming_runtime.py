from __future__ import annotations

import base64
import contextlib
import json
import queue
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.http_wire import WireError
from jobgate.adapters.runtime_api import AnswerStream, RuntimeAPI, prelude
from jobgate.adapters.streaming_runtime import Context, StreamingRuntime
from jobgate.ports.relay import Response

from tests.support.relay_runtime_api import FakeRuntimeAPI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = 1_800_000_000.0
ROOT = Path(__file__).parents[2]


class Worker:
    """A runtime in a thread, with whatever handler a test sets."""

    def __init__(self, api: FakeRuntimeAPI) -> None:
        self.api = api
        self.handler: Callable[[Any, Context], Response] = lambda _event, _context: _answer(b"ok")
        self.environment: dict[str, str] = {}
        self.lines: list[str] = []
        self.now = NOW
        runtime = StreamingRuntime(
            RuntimeAPI(api.address, clock=lambda: self.now),
            self._handle,
            environment=self.environment,
            clock=lambda: self.now,
            log=self.lines.append,
        )
        self.thread = threading.Thread(target=_until_gone, args=(runtime,))
        self.thread.start()

    def _handle(self, event: Any, context: Context) -> Response:
        return self.handler(event, context)


def _until_gone(runtime: StreamingRuntime) -> None:
    with contextlib.suppress(OSError, WireError):
        runtime.run()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with FakeRuntimeAPI() as api:
        worker = Worker(api)
        yield worker
    worker.thread.join(20)
    assert not worker.thread.is_alive()


def _answer(*pieces: bytes, status: int = 200, headers: Any = ()) -> Response:
    return Response(status=status, headers=headers, body=iter(pieces))


def _failing(*pieces: bytes, error: Exception) -> Response:
    def body() -> Iterator[bytes]:
        yield from pieces
        raise error

    return Response(status=200, headers=(), body=body())


def test_an_answer_is_streamed_as_lambda_documents_it(worker: Worker) -> None:
    worker.handler = lambda _event, _context: _answer(
        b"a", b"", b"bc", status=201, headers=(("Content-Type", "text/plain"),)
    )
    worker.api.give({})
    posted = worker.api.answer()
    assert posted.line == "POST /2018-06-01/runtime/invocation/r-1/response HTTP/1.1"
    assert posted.headers == {
        "host": worker.api.address,
        "lambda-runtime-function-response-mode": "streaming",
        "content-type": "application/vnd.awslambda.http-integration-response",
        "transfer-encoding": "chunked",
        "trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    }
    assert posted.prelude == {
        "statusCode": 201,
        "multiValueHeaders": {"Content-Type": ["text/plain"]},
    }
    assert posted.chunks[1:] == [b"a", b"bc"]
    assert posted.complete
    assert posted.trailers == {}


def test_the_head_is_there_before_the_first_byte_of_the_body(worker: Worker) -> None:
    go: queue.Queue[None] = queue.Queue()

    def body() -> Iterator[bytes]:
        yield b""
        go.get(timeout=20)
        yield b"late"

    worker.handler = lambda _event, _context: Response(status=200, headers=(), body=body())
    worker.api.give({})
    assert worker.api.arrived.get(timeout=20).endswith(b"\0" * 8)
    assert worker.api.posted.empty()
    go.put(None)
    assert worker.api.answer().content == b"late"


def test_each_piece_goes_out_before_the_next_is_made(worker: Worker) -> None:
    go: queue.Queue[None] = queue.Queue()

    def body() -> Iterator[bytes]:
        for piece in (b"1", b"2", b"3"):
            yield piece
            go.get(timeout=20)

    worker.handler = lambda _event, _context: Response(status=200, headers=(), body=body())
    worker.api.give({})
    worker.api.arrived.get(timeout=20)
    for piece in (b"1", b"2", b"3"):
        assert worker.api.arrived.get(timeout=20) == piece
        go.put(None)
    assert worker.api.answer().complete


@pytest.mark.parametrize(
    ("status", "pieces", "content"),
    [
        (200, (), b"\n"),
        (200, (b"", b""), b"\n"),
        (404, (), b"\n"),
        (204, (), b""),
        (304, (), b""),
        (200, (b"x",), b"x"),
    ],
)
def test_an_answer_has_a_byte_unless_it_may_not(
    worker: Worker, status: int, pieces: tuple[bytes, ...], content: bytes
) -> None:
    worker.handler = lambda _event, _context: _answer(*pieces, status=status)
    worker.api.give({})
    assert worker.api.answer().content == content


def test_an_error_in_the_middle_is_a_broken_stream(worker: Worker) -> None:
    worker.handler = lambda _event, _context: _failing(b"half", error=ValueError("canary"))
    worker.api.give({})
    posted = worker.api.answer()
    assert posted.content == b"half"
    assert posted.trailers["lambda-runtime-function-error-type"] == "ValueError"
    body = base64.b64decode(posted.trailers["lambda-runtime-function-error-body"])
    assert json.loads(body)["errorType"] == "ValueError"
    assert "canary" not in body.decode() + "".join(worker.lines)


class _Sent:
    """A wire that keeps what is sent, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def send(self, data: bytes, **_: Any) -> None:
        self.writes.append(data)

    def head(self, *_: Any, **__: Any) -> None:
        """Taken."""

    def close(self) -> None:
        """Nothing to close."""


def _sent(length: int | None, *pieces: bytes) -> list[bytes]:
    wire: Any = _Sent()
    invocation: Any = SimpleNamespace(deadline=NOW + 60)
    stream = AnswerStream(wire, b"HEAD ", invocation, length=length, clock=lambda: NOW)
    stream.start(b"{}", pieces[0])
    for piece in pieces[1:]:
        stream.write(piece)
    stream.end()
    return wire.writes


_OPENING = b"HEAD a\r\n{}" + b"\0" * 8 + b"\r\n"


@pytest.mark.parametrize(
    ("length", "pieces", "writes"),
    [
        (2, (b"ab",), [_OPENING + b"2\r\nab\r\n0\r\n\r\n"]),
        (2, (b"", b"ab"), [_OPENING, b"2\r\nab\r\n0\r\n\r\n"]),
        (2, (b"a", b"b"), [_OPENING + b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"]),
        (3, (b"ab",), [_OPENING + b"2\r\nab\r\n", b"0\r\n\r\n"]),
        (None, (b"ab",), [_OPENING + b"2\r\nab\r\n", b"0\r\n\r\n"]),
        (0, (b"",), [_OPENING, b"0\r\n\r\n"]),
        (1, (b"a", b"b"), [_OPENING + b"1\r\na\r\n1\r\nb\r\n", b"0\r\n\r\n"]),
    ],
)
def test_only_what_completes_a_body_waits_for_its_end(
    length: int | None, pieces: tuple[bytes, ...], writes: list[bytes]
) -> None:
    assert _sent(length, *pieces) == writes


def test_what_fails_behind_the_last_byte_is_a_broken_stream(worker: Worker) -> None:
    response = replace(_failing(b"ab", error=RuntimeError("late")), length=2)
    worker.handler = lambda _event, _context: response
    worker.api.give({})
    posted = worker.api.answer()
    assert posted.content == b"ab"
    assert posted.trailers["lambda-runtime-function-error-type"] == "RuntimeError"


def test_a_crash_is_reported_and_the_next_event_is_served(worker: Worker) -> None:
    def crash(_event: Any, _context: Context) -> Response:
        raise RuntimeError("canary")

    worker.handler = crash
    worker.api.give({})
    posted = worker.api.answer()
    assert posted.line == "POST /2018-06-01/runtime/invocation/r-1/error HTTP/1.1"
    assert posted.headers["lambda-runtime-function-error-type"] == "RuntimeError"
    assert "canary" not in posted.body.decode() + "".join(worker.lines)
    worker.handler = lambda _event, _context: _answer(b"fine")
    worker.api.give({}, Lambda_Runtime_Aws_Request_Id="r-2")
    assert worker.api.answer().content == b"fine"


@pytest.mark.parametrize(
    "failing",
    [
        lambda _event, _context: None,
        lambda _event, _context: _answer(b"", status=101),
        lambda _event, _context: _answer(b"", headers=(("A", "b\r\nSet-Cookie: c"),)),
        lambda _event, _context: _answer(b"", headers=(("A b", "c"),)),
        lambda _event, _context: _failing(error=MemoryError()),
        lambda _event, _context: _failing(b"x", b"y", error=RecursionError()),
        lambda _event, _context: _answer("text"),  # type: ignore[arg-type]  on purpose
    ],
)
def test_nothing_that_a_handler_does_ends_the_next_event(worker: Worker, failing: Any) -> None:
    worker.handler = failing
    worker.api.give({})
    posted = worker.api.answer()
    assert "error" in posted.line or posted.trailers
    worker.handler = lambda _event, _context: _answer(b"fine")
    worker.api.give({})
    assert worker.api.answer().content == b"fine"


def test_an_event_that_is_not_json_is_reported(worker: Worker) -> None:
    worker.api.give(b"{")
    assert "/error " in worker.api.answer().line


def test_a_front_that_goes_away_ends_the_body_and_not_the_worker(worker: Worker) -> None:
    closed = threading.Event()

    def body() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
        finally:
            closed.set()

    worker.api.drop_after = 3
    worker.handler = lambda _event, _context: Response(status=200, headers=(), body=body())
    worker.api.give({})
    assert not worker.api.answer().complete
    assert closed.wait(20)
    worker.api.drop_after = None
    worker.handler = lambda _event, _context: _answer(b"fine")
    worker.api.give({})
    assert worker.api.answer().content == b"fine"


def test_a_body_is_broken_off_before_lambda_ends_the_invocation(worker: Worker) -> None:
    closed = threading.Event()

    def body() -> Iterator[bytes]:
        try:
            yield b"first"
            worker.now = NOW + 899.5
            while True:
                yield b""
        finally:
            closed.set()

    worker.handler = lambda _event, _context: Response(status=200, headers=(), body=body())
    worker.api.give({})
    posted = worker.api.answer()
    assert posted.content == b"first"
    assert posted.trailers["lambda-runtime-function-error-type"] == "Deadline"
    assert closed.wait(20)


def test_the_answer_finds_its_way_when_the_connection_was_closed_meanwhile(worker: Worker) -> None:
    def handler(_event: Any, _context: Context) -> Response:
        assert worker.api.hung_up.wait(20)
        return _answer(b"ok")

    worker.api.hang_up_after_next = True
    worker.handler = handler
    for _ in range(3):
        worker.api.hung_up.clear()
        worker.api.give({})
        assert worker.api.answer().content == b"ok"


def test_a_lost_wait_for_the_next_event_is_repeated(worker: Worker) -> None:
    worker.api.drop_next = 1
    worker.api.give({})
    worker.api.give({})
    assert worker.api.answer().content == b"ok"
    assert worker.api.answer().content == b"ok"


def test_the_context_and_the_trace_are_those_of_the_event(worker: Worker) -> None:
    seen: list[Any] = []

    def handler(event: Any, context: Context) -> Response:
        seen.append((event, context, worker.environment["_X_AMZN_TRACE_ID"]))
        return _answer(b"ok")

    worker.handler = handler
    worker.api.give(
        {"a": "\u03bb"}, Lambda_Runtime_Trace_Id="Root=1-2", Lambda_Runtime_Invocation_Id="i-1"
    )
    assert worker.api.answer().headers["lambda-runtime-invocation-id"] == "i-1"
    context = Context(
        aws_request_id="r-1", deadline=NOW + 900, invoked_function_arn="arn:aws:lambda:f"
    )
    assert seen == [({"a": "\u03bb"}, context, "Root=1-2")]


def test_an_event_without_a_trace_has_not_the_one_before_its(worker: Worker) -> None:
    worker.handler = lambda _event, _context: _answer(json.dumps(worker.environment).encode())
    worker.api.give({}, Lambda_Runtime_Trace_Id="Root=1-2")
    assert json.loads(worker.api.answer().content) == {"_X_AMZN_TRACE_ID": "Root=1-2"}
    worker.api.give({})
    assert worker.api.answer().content == b"{}"


def test_a_thousand_events_leave_no_connection_behind(worker: Worker) -> None:
    for number in range(1000):
        worker.api.give({}, Lambda_Runtime_Aws_Request_Id=f"r-{number}")
        assert f"/r-{number}/" in worker.api.answer().line
    assert len(worker.api._open) <= 2


def test_names_that_differ_in_case_are_one_header_with_many_values() -> None:
    written = json.loads(
        prelude(200, (("Warning", "a"), ("warning", "b"), ("Etag", "c"), ("Connection", "x")))
    )
    assert written["multiValueHeaders"] == {"Warning": ["a", "b"], "Etag": ["c"]}


@pytest.mark.parametrize("status", [100, 101, 199, 600, 0, -1])
def test_only_final_answers_have_a_prelude(status: int) -> None:
    with pytest.raises(ValueError, match="final"):
        prelude(status, ())


# --- As a process, the way Lambda starts it ---


_SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


def _started(tmp_path: Path, address: str, app: str, **environment: str) -> subprocess.Popen[bytes]:
    """A layer and a function's folder as deployed, started by the wrapper with nothing else set."""
    (tmp_path / "layer" / "bin").mkdir(parents=True)
    (tmp_path / "layer" / "python").mkdir()
    wrapper = tmp_path / "layer" / "bin" / "streaming-runtime"
    wrapper.write_bytes((ROOT / "shared" / "bin" / "streaming-runtime").read_bytes())
    wrapper.chmod(0o755)
    (tmp_path / "layer" / "python" / "jobgate").symlink_to(ROOT / "shared" / "jobgate")
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "app.py").write_text(app)
    # A stranger's file in the working directory must not be imported.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "json.py").write_text("raise SystemExit(7)")
    return subprocess.Popen(
        [wrapper, sys.executable, "/var/runtime/bootstrap.py"],
        cwd=tmp_path / "elsewhere",
        env={
            "AWS_LAMBDA_RUNTIME_API": address,
            "LAMBDA_TASK_ROOT": str(tmp_path / "task"),
            "_HANDLER": "app.handler",
            "PATH": "/usr/bin:/bin",
            **environment,
        },
        stdout=subprocess.PIPE,
    )


_APP = """
import os
from jobgate.ports.relay import Response
def handler(event, context):
    text = os.environ["_X_AMZN_TRACE_ID"] + " " + context.aws_request_id
    return Response(status=200, headers=(), body=iter((text.encode(),)))
"""


def test_the_wrapper_starts_the_runtime_with_lambdas_variables_alone(tmp_path: Path) -> None:
    with FakeRuntimeAPI() as api:
        process = _started(tmp_path, api.address, _APP)
        try:
            api.give({}, Lambda_Runtime_Trace_Id="Root=9")
            assert api.answer().content == b"Root=9 r-1"
        finally:
            process.kill()
            process.communicate(timeout=20)


def test_a_handler_that_can_not_be_loaded_is_an_init_error(tmp_path: Path) -> None:
    with FakeRuntimeAPI() as api:
        process = _started(tmp_path, api.address, "raise KeyError('JOBGATE_TABLE')")
        posted = api.answer()
        assert posted.line == "POST /2018-06-01/runtime/init/error HTTP/1.1"
        assert posted.headers["lambda-runtime-function-error-type"] == "Runtime.KeyError"
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "JOBGATE_TABLE" in output.decode()


# --- Restored from a snapshot (Lambda SnapStart) ---

_SNAP_APP = """
import os
from jobgate.ports.relay import Response
seen = []
def handler(event, context):
    return Response(status=200, headers=(), body=iter((",".join(seen).encode(),)))
handler.before_snapshot = lambda: seen.append("before")
handler.after_restore = lambda: seen.append("after")
"""


def test_a_snapshot_is_taken_between_the_hooks(tmp_path: Path) -> None:
    with FakeRuntimeAPI() as api:
        process = _started(tmp_path, api.address, _SNAP_APP, **_SNAP_START)
        try:
            assert api.asked_to_restore.wait(20)
            api.give({})
            assert api.answer().content == b"before,after"
        finally:
            process.kill()
            process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("hook", "path"), [("before_snapshot", "init/error"), ("after_restore", "restore/error")]
)
def test_a_hook_that_fails_is_reported_and_ends_it(tmp_path: Path, hook: str, path: str) -> None:
    app = _SNAP_APP + f"handler.{hook} = lambda: 1 / 0\n"
    with FakeRuntimeAPI() as api:
        process = _started(tmp_path, api.address, app, **_SNAP_START)
        posted = api.answer()
        assert posted.line == f"POST /2018-06-01/runtime/{path} HTTP/1.1"
        assert posted.headers["lambda-runtime-function-error-type"] == "Runtime.ZeroDivisionError"
        process.communicate(timeout=20)
        assert process.returncode == 1
