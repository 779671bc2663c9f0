"""AWS calls without boto3: for the functions that a job waits for.

One kept connection a service, own signature, JSON both ways. Binary values are bytes for the caller
and base64 on the wire: `{"B": …}` in DynamoDB, named fields elsewhere.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobgate.adapters import query_protocol
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.http_connection import KeptConnection, Origin, Timeouts
from jobgate.adapters.http_wire import WireError, request_head
from jobgate.adapters.own_credentials import own_credentials
from jobgate.adapters.signature_v4 import signed_headers
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.adapters.http_connection import Exchange
    from jobgate.ports import Clock


@dataclass(frozen=True, slots=True)
class _Service:
    target: str | None  # what X-Amz-Target begins with; None for the query protocol
    media_type: str


_SERVICES = {
    "dynamodb": _Service("DynamoDB_20120810", "application/x-amz-json-1.0"),
    "kms": _Service("TrentService", "application/x-amz-json-1.1"),
    "secretsmanager": _Service("secretsmanager", "application/x-amz-json-1.1"),
    "sts": _Service(None, "application/x-www-form-urlencoded; charset=utf-8"),
}
# Repeating one of these changes nothing.
_REPEATABLE = frozenset(
    {
        "AssumeRole",
        "BatchGetItem",
        "DescribeTable",
        "GetItem",
        "GetSecretValue",
        "Query",
        "Sign",
    }
)
_THROTTLED = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_BINARY_FIELDS = frozenset({"CiphertextBlob", "PublicKey", "SecretBinary", "Signature"})
_TIMEOUTS = Timeouts(connect=2, send=5, head=5)
_PAUSES_SECONDS = (0.05, 0.2)  # between the tries of a call that may be repeated
_ANSWER_MAX_BYTES = 20 * 1024 * 1024  # BatchGetItem gives 16 MB


class SignedAWS:
    """An `AWSCall`.

    `environment` is what Lambda gives: region, credentials, and perhaps AWS_ENDPOINT_URL and
    AWS_CA_BUNDLE, as AWS's own SDKs read them. `timeouts` are those of each try, of which a call
    that may be repeated has three. Raises ValueError naming what is missing.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        clock: Clock,
        pause: Callable[[float], None] = time.sleep,
        timeouts: Timeouts = _TIMEOUTS,
    ) -> None:
        self._region = _required(environment, "AWS_REGION")
        self.credentials = own_credentials(environment, clock=clock)
        self._endpoint = environment.get("AWS_ENDPOINT_URL") or None
        self._ca_file = environment.get("AWS_CA_BUNDLE") or None
        self._clock = clock
        self._pause = pause
        self._timeouts = timeouts
        self._tls: ssl.SSLContext | None = None
        self._connections: dict[str, tuple[str, KeptConnection]] = {}

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """See `AWSCall`."""
        body = _body(service, operation, request)
        pauses = _PAUSES_SECONDS if operation in _REPEATABLE else ()
        for pause in pauses:
            try:
                return self._call(service, operation, body)
            except Unavailable:
                self._pause(pause)
        return self._call(service, operation, body)

    def close(self) -> None:
        """Close the kept connections."""
        for _, connection in self._connections.values():
            connection.close()

    def _call(self, service: str, operation: str, body: bytes) -> dict[str, Any]:
        try:
            status, answer = self._exchange(service, operation, body)
        except (OSError, WireError) as exc:
            raise Unavailable(f"{service} {operation}: {type(exc).__name__}") from exc
        try:
            value, code = _read(service, operation, answer)
        except (ValueError, KeyError, TypeError, AttributeError):
            # Not "from": the library's text may quote what was given.
            raise Unavailable(f"{service} {operation}: an answer that can't be read") from None
        if status == 200:
            return value
        code = code or str(status)
        if status >= 500 or code in _THROTTLED:
            raise Unavailable(f"{service} {operation}: {code}")
        raise AWSError(code)

    def _exchange(self, service: str, operation: str, body: bytes) -> tuple[int, bytes]:
        host, connection = self._connection(service)
        form = _SERVICES[service]
        target = () if form.target is None else (("X-Amz-Target", f"{form.target}.{operation}"),)
        headers = signed_headers(
            (("Host", host), ("Content-Type", form.media_type), *target),
            body,
            credentials=self.credentials(),
            region=self._region,
            service=service,
            at=self._clock(),
        )
        exchange = connection.send(
            "POST",
            request_head("POST", "/", (*headers, ("Content-Length", str(len(body))))),
            body,
            timeouts=self._timeouts,
            repeatable=operation in _REPEATABLE,
        )
        try:
            return exchange.head.status, _whole(exchange, self._timeouts.head)
        finally:
            exchange.close()

    def _connection(self, service: str) -> tuple[str, KeptConnection]:
        known = self._connections.get(service)
        if known is None:
            parts = urlsplit(self._endpoint or _endpoint(service, self._region))
            if parts.scheme not in ("http", "https") or parts.hostname is None:
                raise ValueError("AWS_ENDPOINT_URL isn't a URL with a host")
            tls = self._trusted_tls() if parts.scheme == "https" else None
            port = parts.port or (443 if tls else 80)
            connection = KeptConnection(Origin(parts.hostname, port, tls), clock=self._clock)
            known = self._connections[service] = parts.netloc, connection
        return known

    def _trusted_tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_file)
        return self._tls


def _body(service: str, operation: str, request: Mapping[str, Any]) -> bytes:
    if _SERVICES[service].target is None:
        return query_protocol.form(operation, request)
    return json.dumps(request, default=_base64, separators=(",", ":")).encode()


def _read(service: str, operation: str, answer: bytes) -> tuple[dict[str, Any], str]:
    """An answer's object, and its error's code, empty for none; raises what a bad form raises."""
    if _SERVICES[service].target is None:
        given = query_protocol.answer(answer)
        if "ErrorResponse" in given:
            return {}, given["ErrorResponse"]["Error"]["Code"]
        return given[f"{operation}Response"][f"{operation}Result"], ""
    value = json.loads(answer or b"{}", object_hook=_bytes_of)
    return value, str(value.get("__type", "")).rpartition("#")[2]


def _endpoint(service: str, region: str) -> str:
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region}.{suffix}"


def _required(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise ValueError(f"{name} is missing")
    return environment[name]


def _whole(exchange: Exchange, seconds: float) -> bytes:
    until = time.monotonic() + seconds
    pieces, size = [], 0
    for piece in exchange.body(tick=min(seconds, 1)):
        pieces.append(piece)
        size += len(piece)
        if size > _ANSWER_MAX_BYTES:
            raise WireError("an answer that is too long")
        if not piece and time.monotonic() > until:
            raise TimeoutError
    return b"".join(pieces)


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} can't be sent to AWS")


def _bytes_of(value: dict[str, Any]) -> dict[str, Any]:
    """Turn base64 into bytes where AWS's API reference says binary."""
    for name, text in value.items():
        # An attribute that someone calls "B" is an object; only a value of type B is a string.
        if isinstance(text, str) and (name in _BINARY_FIELDS or (name == "B" and len(value) == 1)):
            value[name] = base64.b64decode(text)
        elif name == "BS" and isinstance(text, list):
            value[name] = [base64.b64decode(each) for each in text]
    return value
