"""A gate before ministack that judges what ministack doesn't: a role's conditions.

It passes every request on as it came, signature and all, but for those that the conditions of the
caller's role don't allow; and it remembers who asked what.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.support.iam import LEADING_KEYS, Request, Statement, allows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from local.certificates import ServerCertificate

ACCOUNT = "000000000000"
_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")
_TRANSACTED = {"Put": "PutItem", "Update": "UpdateItem", "ConditionCheck": "ConditionCheckItem"}
_DENIED = {"__type": "AccessDeniedException", "message": "refused by a condition"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A role's request; `refused_by` is who refused it, ministack or the evaluator, if anybody."""

    role: str
    request: Request
    refused_by: str | None


@dataclass(slots=True)
class RoleGate:
    """`roles` names the role of each access key id, `statements` what each role's policies say."""

    url: str
    roles: dict[str, str] = field(default_factory=dict)
    statements: dict[str, Sequence[Statement]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def judge(self, role: str, requests: Sequence[Request]) -> bool:
        """Whether a condition, and nothing else, keeps one of these from being allowed."""
        statements = self.statements[role]
        plain = [statement.unconditional() for statement in statements]
        return any(
            allows(plain, request) and not allows(statements, request) for request in requests
        )


def requests_of(headers: Mapping[str, str], body: bytes) -> tuple[str, list[Request]]:
    """The access key id of a call to AWS, and what IAM would judge of it."""
    signed = _CREDENTIAL.search(headers.get("authorization", ""))
    if signed is None:
        raise ValueError("a request without a signature")
    key, region, service = signed.groups()
    arn = f"arn:aws:{service}:{region}:{ACCOUNT}:"
    target = headers.get("x-amz-target")
    if target is None:
        form = parse_qs(body.decode())
        return key, [Request(f"{service}:{form['Action'][0]}", form["RoleArn"][0])]
    operation, given = target.rpartition(".")[2], json.loads(body)
    match service:
        case "dynamodb":
            return key, list(_items(arn, operation, given))
        case "kms":
            return key, [Request(f"kms:{operation}", given["KeyId"])]
        case "secretsmanager":
            secret = given["SecretId"]
            # IAM judges by the whole ARN, which ends in six characters that nobody chose.
            named = secret if secret.startswith("arn:") else f"{arn}secret:{secret}-abcdef"
            return key, [Request(f"secretsmanager:{operation}", named)]
        case "sqs":
            return key, [Request(f"sqs:{operation}", arn + given["QueueUrl"].rpartition("/")[2])]
    raise ValueError(f"a call to {service}")


def _items(arn: str, operation: str, given: Mapping[str, Any]) -> Iterator[Request]:
    def request(action: str, table: str, keys: Sequence[str]) -> Request:
        context = {LEADING_KEYS: tuple(keys)} if keys else {}
        return Request(f"dynamodb:{action}", f"{arn}table/{table}", context)

    match operation:
        case "BatchGetItem":
            for table, asked in given["RequestItems"].items():
                yield request(operation, table, [key["pk"]["S"] for key in asked["Keys"]])
        case "TransactWriteItems":
            # Not an action of IAM's: each of its items is judged as what it does.
            for entry in given["TransactItems"]:
                ((kind, one),) = entry.items()
                yield request(_TRANSACTED[kind], one["TableName"], [_pk(one)])
        case "Query":
            yield request(
                operation, given["TableName"], [given["ExpressionAttributeValues"][":pk"]["S"]]
            )
        case "DescribeTable":
            yield request(operation, given["TableName"], [])
        case _:
            yield request(operation, given["TableName"], [_pk(given)])


def _pk(given: Mapping[str, Any]) -> str:
    return str((given.get("Key") or given["Item"])["pk"]["S"])


@contextmanager
def role_gate(endpoint: str, certificate: ServerCertificate, ca: Path) -> Iterator[RoleGate]:
    """Stand before the ministack at `endpoint`; `ca` verifies it."""
    trust = ssl.create_default_context(cafile=str(ca))
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    gate = RoleGate(f"https://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = _handler(gate, endpoint, trust)
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(certificate.certificate, certificate.key)
    server.socket = own.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(gate: RoleGate, endpoint: str, trust: ssl.SSLContext) -> type[BaseHTTPRequestHandler]:
    upstream = urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            key, requests = requests_of(headers, body)
            role = gate.roles[key]
            refused_by = "evaluator" if gate.judge(role, requests) else None
            if refused_by:
                status, answer, kind = 400, json.dumps(_DENIED).encode(), "application/json"
            else:
                status, answer, kind = self._pass_on(headers, body)
                if status >= 400 and b"AccessDenied" in answer:
                    refused_by = "ministack"
            gate.asked.extend(Asked(role, request, refused_by) for request in requests)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _pass_on(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, str]:
            connection = http.client.HTTPSConnection(
                str(upstream.hostname), upstream.port, context=trust, timeout=30
            )
            try:
                # The host's name is signed, so it stays the gate's.
                connection.request("POST", self.path, body, dict(headers))
                answer = connection.getresponse()
                return answer.status, answer.read(), answer.headers["Content-Type"]
            finally:
                connection.close()

        def log_message(self, *_: object) -> None:
            """Not to standard error."""

    return Handler
