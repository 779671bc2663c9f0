"""What is compared: our function as built, its peers, and the way without a relay.

A subject is started, called, and ended. Those on Lambda get their events from a Runtime API; nginx
and the direct way are asked over HTTP, so their figures hold no Runtime API.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

from benchmarks.relay.runtime_api import Answer, RuntimeAPI
from local.gateway.environment import Runtime, command, variables
from local.gateway.functions import Function
from local.process import free_port, spawn
from tests.support.relay_world import BASE_URL, RELAY_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.process import Child

ROOT = Path(__file__).parents[2]
_PEERS = ROOT / "benchmarks" / "peers"
_PATIENCE_SECONDS = 20.0
OURS = "Jobgate"
URLLIB3 = "awslambdaric + urllib3"
LEAN = "awslambdaric + urllib3, lean"
ADAPTER = "Lambda Web Adapter + uvicorn"
BARE = "bare socket loop"
NGINX = "nginx auth_request, cached"
DIRECT = "direct to the cluster"


@dataclass(frozen=True, slots=True)
class Setting:
    """What every subject is given: the neighbours' words, and our built artifacts."""

    told: Mapping[str, Any]
    runtime: Runtime
    relay: Path
    layer: Path
    adapter: Path | None
    folder: Path

    @property
    def peers_settings(self) -> str:
        """PEER_SETTINGS: what a peer's operators would configure."""
        names = ("cluster", "ca", "table", "jwk")
        own = {"credential": RELAY_TOKEN, "audience": f"{BASE_URL}/agents"}
        return json.dumps({name: self.told[name] for name in names} | own)

    def event(self, name: str) -> bytes:
        """An event as Lambda's Runtime API gives it."""
        return json.dumps(self.told["events"][name]).encode()


class Subject(Protocol):
    """Something that can be called; `pids` are the processes that do the work."""

    pids: tuple[int, ...]

    def call(self, name: str) -> Answer:
        """Ask for what a name stands for."""
        ...


class OnLambda:
    """A worker behind a Runtime API."""

    def __init__(self, setting: Setting, api: RuntimeAPI, pids: tuple[int, ...]) -> None:
        self._events = {name: setting.event(name) for name in setting.told["events"]}
        self._api = api
        self.pids = pids

    def call(self, name: str) -> Answer:
        """Let the worker answer one event."""
        return self._api.invoke(self._events[name])


class OverHTTP:
    """A server that is asked over one kept connection."""

    def __init__(
        self, url: str, setting: Setting, headers: Mapping[str, str], pids: tuple[int, ...]
    ) -> None:
        parts = urlsplit(url)
        self._sock: socket.socket = socket.create_connection((str(parts.hostname), parts.port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            trust = ssl.create_default_context(cafile=setting.told["ca"])
            self._sock = trust.wrap_socket(self._sock, server_hostname=parts.hostname)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._requests = {
            name: f"GET {_target(event)} HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode()
            for name, event in setting.told["events"].items()
        }
        self.pids = pids

    def call(self, name: str) -> Answer:
        """Ask and read the whole answer."""
        began = time.perf_counter()
        self._sock.sendall(self._requests[name])
        data = bytearray()
        first, end = 0.0, -1
        while True:
            data += self._sock.recv(1 << 20)
            if end < 0:
                end = data.find(b"\r\n\r\n")
            if not first and 0 <= end < len(data) - 4:
                first = time.perf_counter() - began
            if end >= 0 and _is_whole(data, end):
                status = int(data[9:12])
                return Answer(status, bytes(data[end + 4 :]), first, time.perf_counter() - began)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


def _target(event: Mapping[str, Any]) -> str:
    path = event["path"].split("/", 3)[3]
    query = event["queryStringParameters"]
    return f"/{path}" + ("?watch=true" if query else "")


def _is_whole(data: bytearray, end: int) -> bool:
    head = bytes(data[:end]).lower()
    if b"chunked" in head:
        return data.endswith(b"0\r\n\r\n")
    return len(data) >= end + 4 + int(head.split(b"content-length: ")[1].split(b"\r\n")[0])


@contextlib.contextmanager
def started(name: str, setting: Setting) -> Iterator[Subject]:
    """Start a subject, and end it."""
    if name == NGINX:
        with _nginx(setting) as subject:
            yield subject
    elif name == DIRECT:
        identity = {
            "Authorization": f"Bearer {RELAY_TOKEN}",
            "Impersonate-User": "gitlab:ci_job:42",
        }
        direct = OverHTTP(setting.told["cluster"], setting, identity, ())
        yield direct
        direct.close()
    else:
        with RuntimeAPI() as api, _Processes(setting.folder) as processes:
            _start_on_lambda(name, setting, api, processes)
            yield OnLambda(setting, api, processes.pids)


def _start_on_lambda(name: str, setting: Setting, api: RuntimeAPI, run: _Processes) -> None:
    function = _function(name, setting)
    environment = variables(
        function, setting.runtime, runtime_api=api.address, log_stream="s", version="3"
    )
    if name == BARE:
        run.start([str(setting.runtime.python), str(_PEERS / "bare_loop.py")], environment)
    elif name == ADAPTER:
        port = free_port()
        uvicorn = ["-m", "uvicorn", "asgi_app:app", "--port", str(port), "--no-access-log"]
        python = str(ROOT / ".venv-bench/bin/python")
        run.start([python, *uvicorn, "--log-level", "error", "--app-dir", str(_PEERS)], environment)
        own = {
            "AWS_LWA_PORT": str(port),
            "AWS_LWA_INVOKE_MODE": "response_stream",
            "AWS_LWA_READINESS_CHECK_PATH": "/ready",
        }
        run.start([str(setting.adapter)], environment | own)
    else:
        run.start(command(function, setting.runtime), environment)


def _function(name: str, setting: Setting) -> Function:
    own = {"PEER_SETTINGS": setting.peers_settings}
    given = {k: v for k, v in setting.told["environment"].items() if k.startswith("JOBGATE_")}
    streaming = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bin/streaming-runtime"}
    handler, task_root, environment = {
        OURS: ("app.handler", setting.relay, given | streaming),
        URLLIB3: ("urllib3_handler.handler", _PEERS, given),
    }.get(name, ("lean_handler.handler", _PEERS, own))
    return Function(
        name="relay",
        logical_id="Relay",
        handler=handler,
        task_root=task_root,
        layer=setting.layer,
        environment=environment,
        memory_mb=512,
    )


class _Processes:
    """Children of one subject, which don't outlive us, and their log."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "subjects.log"
        self._children: list[Child] = []

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(child.process.pid for child in self._children)

    def start(self, argv: list[str], environment: Mapping[str, str]) -> None:
        # A worker that waits for an event heeds no SIGTERM of its parent's end.
        child = spawn(argv[0], argv, log=self._log, env=environment, orphan_signal=signal.SIGKILL)
        self._children.append(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.stop()


@contextlib.contextmanager
def _nginx(setting: Setting) -> Iterator[Subject]:
    port, authorizer = free_port(), free_port()
    folder = setting.folder / "nginx"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    template = (_PEERS / "nginx.conf").read_text()
    text = template.format(
        folder=folder,
        user=getpass.getuser(),
        port=port,
        authorizer=authorizer,
        cluster=urlsplit(setting.told["cluster"]).netloc,
        credential=RELAY_TOKEN,
        ca=setting.told["ca"],
    )
    (folder / "nginx.conf").write_text(text)
    environment = {
        "PEER_SETTINGS": setting.peers_settings,
        "AWS_ENDPOINT_URL": setting.told["environment"]["AWS_ENDPOINT_URL"],
        "PATH": os.defpath,
    }
    with _Processes(setting.folder) as run:
        uvicorn = ["-m", "uvicorn", "authorizer:app", "--port", str(authorizer)]
        python = str(ROOT / ".venv-bench/bin/python")
        options = ["--no-access-log", "--log-level", "error", "--app-dir", str(_PEERS)]
        run.start([python, *uvicorn, *options], environment)
        run.start(
            [str(nginx_program()), "-c", str(folder / "nginx.conf"), "-p", str(folder)], environment
        )
        _wait_for(port)
        _wait_for(authorizer)
        token = {"Authorization": f"Bearer {setting.told['token']}"}
        subject = OverHTTP(f"http://127.0.0.1:{port}", setting, token, run.pids)
        yield subject
        subject.close()


def nginx_program() -> str | None:
    """Where nginx is, if it's installed."""
    return shutil.which("nginx", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")


def _wait_for(port: int) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
