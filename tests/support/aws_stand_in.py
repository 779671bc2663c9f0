"""DynamoDB and Secrets Manager as the relay asks them, on a real socket, with faults on demand."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_PATIENCE_SECONDS = 20
Answer = tuple[int, bytes]


class HangUp(Exception):  # noqa: N818  a way to answer, not an error of ours
    """A fault: end the connection without an answer."""


@dataclass
class AWSStandIn:
    """Use it as a context manager; `url` is for AWS_ENDPOINT_URL.

    `faults` has, by operation, what happens instead of an answer: it gets the request, and may
    return an answer of its own, raise HangUp, or return None to let the real answer be given.
    """

    items: dict[tuple[str, str], Any]
    secrets: dict[str, str]
    faults: dict[str, Callable[[Mapping[str, Any]], Answer | None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._server, *tuple(self._open)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def put(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Store items in DynamoDB's attribute form."""
        for item in items:
            self.items[item["pk"]["S"], item["sk"]["S"]] = item

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, HangUp), sock, sock.makefile("rb") as stream:
            while stream.readline():
                headers = {}
                while line := stream.readline().strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                request = json.loads(stream.read(int(headers["content-length"])))
                status, body = self._answer(headers["x-amz-target"].rpartition(".")[2], request)
                head = f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\n"
                sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self._open.discard(sock)

    def _answer(self, operation: str, request: Mapping[str, Any]) -> Answer:
        self.calls.append(operation)
        fault = self.faults.get(operation)
        instead = fault(request) if fault else None
        if instead is not None:
            return instead
        match operation:
            case "GetItem":
                item = self._item(request["Key"])
                answer: Any = {"Item": item} if item else {}
            case "BatchGetItem":
                ((table, asked),) = request["RequestItems"].items()
                found = [item for key in asked["Keys"] if (item := self._item(key))]
                answer = {"Responses": {table: found}, "UnprocessedKeys": {}}
            case "Query":
                partition = request["ExpressionAttributeValues"][":pk"]["S"]
                answer = {
                    "Items": [item for key, item in self.items.items() if key[0] == partition]
                }
            case "GetSecretValue" if request["SecretId"] in self.secrets:
                answer = {"SecretString": self.secrets[request["SecretId"]]}
            case "GetSecretValue":
                return failure(400, "ResourceNotFoundException")
            case _:
                return failure(400, "UnknownOperationException")
        return 200, json.dumps(answer, default=_base64).encode()

    def _item(self, key: Mapping[str, Any]) -> Any:
        return self.items.get((key["pk"]["S"], key["sk"]["S"]))


def failure(status: int, kind: str) -> Answer:
    """An error as AWS writes it."""
    return status, json.dumps({"__type": f"com.amazonaws#{kind}", "message": "no"}).encode()


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)
