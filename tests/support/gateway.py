"""A gateway over fixture functions, and a client that sends targets and headers as they are."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from local.certificates import CertificateAuthority
from local.gateway.api import read_api
from local.gateway.environment import Runtime
from local.gateway.functions import Function
from local.gateway.launch import Gateway
from local.gateway.limits import Limits
from local.gateway.runtime_folder import prepare_runtime
from local.gateway.settings import Settings
from local.sam_template import translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SUPPORT = Path(__file__).parent
_RUNTIMES = _SUPPORT.parent.parent / ".local" / "lambda-runtime"
_WRAPPER = '#!/bin/sh\nexec "$1" "$(dirname "$0")/streaming_worker.py"\n'
_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `headers` as they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def values(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class Client:
    """Speaks HTTP/1.1 over TLS to a gateway; every path is put behind the stage."""

    gateway: Gateway
    context: ssl.SSLContext

    def connect(self) -> http.client.HTTPSConnection:
        address = urlsplit(self.gateway.url)
        return http.client.HTTPSConnection(
            address.hostname or "", address.port, context=self.context, timeout=_SECONDS
        )

    @contextlib.contextmanager
    def open(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self.connect()
        try:
            connection.putrequest(
                method, f"{urlsplit(self.gateway.url).path}{path}", skip_accept_encoding=True
            )
            for name, value in headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            with contextlib.suppress(ConnectionError):
                connection.endheaders(body or None)
            yield connection.getresponse()
        finally:
            connection.close()

    def send(self, path: str, **options: Any) -> Reply:
        with self.open(path, **options) as response:
            body = response.read()
        return Reply(response.status, tuple(response.getheaders()), body)

    def raw(self, data: bytes) -> bytes:
        """Send bytes as they are; returns the first line that comes back."""
        connection = self.connect()
        try:
            connection.connect()
            connection.sock.sendall(data)
            with connection.sock.makefile("rb") as answer:
                return answer.readline()
        finally:
            connection.close()


def query(**values: object) -> str:
    """A query string whose values are percent-encoded."""
    return "?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in values.items())


def start_gateway(
    folder: Path,
    *,
    limits: Limits | None = None,
    timeout_seconds: float = 20,
    port: int = 0,
    streaming_environment: dict[str, str] | None = None,
) -> Client:
    """Start a gateway in `folder` over the fixture template and functions."""
    layer = folder / "layer"
    _write_layer(layer)
    stock = Function(
        name="stock-physical-name",
        logical_id="Stock",
        handler="stock.handler",
        task_root=_SUPPORT / "gateway_functions",
        layer=layer,
        environment={"OWN": "value", "POINTS_INTO_LAYER": "/opt/data"},
        timeout_seconds=timeout_seconds,
        memory_mb=256,
    )
    relay = Function(
        name="relay-physical-name",
        logical_id="Relay",
        handler="app.handler",
        task_root=folder,
        layer=layer,
        environment=streaming_environment or {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bin/streaming"},
        timeout_seconds=timeout_seconds,
        streaming=True,
    )
    reserved = Function(
        name="reserved-physical-name",
        logical_id="Reserved",
        handler="stock.handler",
        task_root=_SUPPORT / "gateway_functions",
        timeout_seconds=timeout_seconds,
        reserved_concurrency=1,
    )
    settings = Settings(
        read_api(translate(_SUPPORT / "gateway_template.yaml", {})),
        (stock, relay, reserved),
        Runtime(
            prepare_runtime(_RUNTIMES, Path(sys.executable)),
            endpoint="http://127.0.0.1:9",
        ),
        limits or Limits(),
        port,
    )
    authority = CertificateAuthority.create(folder)
    gateway = Gateway.start(folder / "gateway", settings, authority=authority)
    return Client(gateway, ssl.create_default_context(cafile=authority.certificate))


def _write_layer(layer: Path) -> None:
    (layer / "python").mkdir(parents=True)
    (layer / "python" / "layer_module.py").write_text("PLACE = __file__\n")
    (layer / "bin").mkdir()
    shutil.copy(_SUPPORT / "streaming_worker.py", layer / "bin")
    wrapper = layer / "bin" / "streaming"
    wrapper.write_text(_WRAPPER)
    wrapper.chmod(0o755)
