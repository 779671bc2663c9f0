"""A streaming runtime on plain sockets that also misbehaves: the query's `do` says how.

Run by a wrapper in place of the stock bootstrap; it knows the Runtime API and nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

_ADDRESS = os.environ["AWS_LAMBDA_RUNTIME_API"]  # noqa: TID251  Lambda's own setting
_HOST, _PORT = _ADDRESS.split(":")
_ROOT = "/2018-06-01/runtime/invocation/"
_STREAMING = (
    "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
    "Content-Type: application/vnd.awslambda.http-integration-response\r\n"
    "Transfer-Encoding: chunked\r\n"
    "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
)
_FAILED = (
    b"0\r\nLambda-Runtime-Function-Error-Type: Function.OnPurpose\r\n"
    b"Lambda-Runtime-Function-Error-Body: e30=\r\n\r\n"
)
_LONGEST_WAIT_SECONDS = 20


def main() -> None:
    with socket.create_connection((_HOST, int(_PORT))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rwb")
        while True:
            request_id, event = _next(stream)
            _handle(stream, request_id, event, event["queryStringParameters"] or {})
            _read(stream)
            if "done" in (event["queryStringParameters"] or {}):
                Path(event["queryStringParameters"]["done"]).touch()


def _next(stream: Any) -> tuple[str, dict[str, Any]]:
    _write(stream, f"GET {_ROOT}next HTTP/1.1\r\nHost: {_ADDRESS}\r\n\r\n".encode())
    headers, body = _read(stream)
    return headers["lambda-runtime-aws-request-id"], json.loads(body)


def _read(stream: Any) -> tuple[dict[str, str], bytes]:
    stream.readline()
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return headers, stream.read(int(headers["content-length"]))


def _handle(stream: Any, request_id: str, event: dict[str, Any], query: dict[str, str]) -> None:
    wish = query.get("do", "event")
    if wish == "buffered":
        body = b'{"statusCode": 418, "body": "short and stout"}'
        head = f"POST {_ROOT}{request_id}/response HTTP/1.1\r\nHost: {_ADDRESS}\r\n"
        _write(stream, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return
    if wish == "exit":
        os._exit(4)
    if wish == "silent":
        _wait_for(Path(query["file"]))
    prelude = query.get("prelude", '{"statusCode": 200}').encode()
    head = f"POST {_ROOT}{request_id}/response HTTP/1.1\r\nHost: {_ADDRESS}\r\n{_STREAMING}"
    _write(stream, head.encode() + _chunk(prelude))
    if wish != "split":
        _write(stream, _chunk(b"\0" * 8))
    if wish == "trailer":
        _write(stream, _chunk(b"first") + _FAILED)
        return
    if wish == "event":
        _write(stream, _chunk(json.dumps({"event": event, "pid": os.getpid()}).encode()))
    else:
        _write_body(stream, wish, query)
    _write(stream, b"0\r\n\r\n")


def _write_body(stream: Any, wish: str, query: dict[str, str]) -> None:
    match wish:
        case "gate":
            _write(stream, _chunk(b"first"))
            _wait_for(Path(query["file"]))
            _write(stream, _chunk(b"second"))
        case "gate-first":
            _wait_for(Path(query["file"]))
            _write(stream, _chunk(b"only"))
        case "die":
            _write(stream, _chunk(b"first"))
            os._exit(5)
        case "long":
            for _ in range(int(query["chunks"])):
                _write(stream, _chunk(b"x" * 65536))
        case "drip":
            for _ in range(200):
                _write(stream, _chunk(b"x"))
                time.sleep(0.05)
        case "bytes":
            _write(stream, _chunk(bytes(range(256))))


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _write(stream: Any, data: bytes) -> None:
    stream.write(data)
    stream.flush()


if __name__ == "__main__":
    main()
