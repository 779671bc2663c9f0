"""What goes wrong around the relay, and what its caller then sees; docs/relay-faults.md shows it.

    .venv/bin/python -m tests.support.relay_faults

prints the document's table. A fault is put into real parts: a TLS socket for the cluster, an HTTP
socket for AWS, the relay as it is deployed.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items, operator_items
from jobgate.core.liveness import EVERYTHING, JobState, Stop, StopKind

from tests.support.aws_stand_in import Answer, AWSStandIn, HangUp, failure
from tests.support.relay_parts import AGENT, a_job, a_snapshot
from tests.support.relay_upstream import OK, End, Left, Reset, Step
from tests.support.relay_world import SECRET, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Change = Callable[[AWSStandIn, World], object]
    Seen = tuple[int, str | None]

_CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
_HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"kind":'
_TABLE = ("BatchGetItem", "GetItem", "Query")
_LATE_SECONDS = 4  # beyond the relay's patience with AWS
_MEGABYTE = b"x" * 1_000_000


def api_status(code: int, reason: str) -> bytes:
    """An API server's own refusal."""
    body = json.dumps({"kind": "Status", "code": code, "reason": reason, "message": "no"}).encode()
    head = f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong, and what comes of it.

    `sees`: status and reason, the reason None where the answer is the cluster's own. `ended` is how
    the body ends: complete, or broken. `sent` is how many requests the cluster gets, `seconds` what
    Lambda leaves for the request.
    """

    where: str
    what: str
    sees: Seen
    ended: str = "complete"
    sent: int = 0
    aws: Change = lambda _aws, _world: None
    cluster: Sequence[bytes | Sequence[Step]] = (OK,)
    changes: Mapping[str, Any] = field(default_factory=dict)
    path: str = "/api/v1/namespaces/shop/pods"
    method: str = "GET"
    seconds: float = 30


def _always(operations: Sequence[str], answer: Callable[[Any], Answer | None]) -> Change:
    return lambda aws, _world: aws.faults.update(dict.fromkeys(operations, answer))


def _hang_up(_request: object) -> Answer:
    raise HangUp


def _late(_request: object) -> Answer:
    threading.Event().wait(_LATE_SECONDS)
    raise HangUp


def _unprocessed(request: Mapping[str, Any]) -> Answer:
    ((table, asked),) = request["RequestItems"].items()
    left = {"Responses": {table: []}, "UnprocessedKeys": {table: {"Keys": asked["Keys"]}}}
    return 200, json.dumps(left).encode()


def _put(*stored: Callable[[World], items.Item]) -> Change:
    return lambda aws, world: aws.put([each(world) for each in stored])


def _without(pk: str, sk: str) -> Change:
    return lambda aws, _world: aws.items.pop((pk, sk))


def _secret(text: str | None) -> Change:
    def change(aws: AWSStandIn, _world: World) -> None:
        aws.secrets.pop(SECRET)
        if text is not None:
            aws.secrets[SECRET] = text

    return change


def _finished(world: World) -> items.Item:
    state = JobState(status="success", source="hook", seen_at=world.now, finished_at=world.now)
    return world.job_item(state)


def _stopped(world: World) -> items.Item:
    stop = Stop(kind=StopKind.ALL, value=EVERYTHING, until=world.now + 999, by="ops", why="why")
    return operator_items.stops_item("main", (stop,))


def _of_unknown_form(item: items.Item) -> items.Item:
    return {**item, "v": {"N": "99"}}


_UNKNOWN = (503, "job_unknown")
_UNREACHABLE = (502, "upstream_unreachable")
_NOT_LISTED = (403, "not_listed")
_STOPPED = (403, "stopped")
_INVALID = (401, "token_invalid")


def _dynamodb(what: str, sees: Seen, aws: Change) -> Fault:
    return Fault(where="DynamoDB", what=what, sees=sees, aws=aws)


def _keys(what: str, sees: Seen, aws: Change, *, sent: int = 0) -> Fault:
    return Fault(where="KMS keys", what=what, sees=sees, aws=aws, sent=sent)


def _secrets_manager(what: str, sees: Seen, aws: Change) -> Fault:
    return Fault(where="Secrets Manager", what=what, sees=sees, aws=aws)


def _cluster(what: str, sees: Seen, *answers: bytes | Sequence[Step], **more: Any) -> Fault:
    given: dict[str, Any] = {"sent": 1, "cluster": answers or (OK,)} | more
    return Fault(where="Cluster", what=what, sees=sees, **given)


_TABLES = (
    _dynamodb(
        "answers 500", _UNKNOWN, _always(_TABLE, lambda _: failure(500, "InternalServerError"))
    ),
    _dynamodb(
        "throttles",
        _UNKNOWN,
        _always(
            ("BatchGetItem",), lambda _: failure(400, "ProvisionedThroughputExceededException")
        ),
    ),
    _dynamodb(
        "refuses the function's role",
        _UNKNOWN,
        _always(("BatchGetItem",), lambda _: failure(400, "AccessDeniedException")),
    ),
    _dynamodb("hangs up", _UNKNOWN, _always(_TABLE, _hang_up)),
    _dynamodb("doesn't answer in time", _UNKNOWN, _always(("BatchGetItem",), _late)),
    _dynamodb("leaves keys unprocessed, twice", _UNKNOWN, _always(("BatchGetItem",), _unprocessed)),
    _dynamodb(
        "gives what isn't JSON", _UNKNOWN, _always(("BatchGetItem",), lambda _: (200, b"<html>"))
    ),
    _dynamodb("has no settings yet", _UNKNOWN, _without("SETTINGS", "PUBLIC")),
    _dynamodb(
        "has no cluster connection of the agent",
        _NOT_LISTED,
        _without(f"CLUSTER#main#{AGENT}", "CONNECTION"),
    ),
    _dynamodb(
        "has no snapshot of the agent", _NOT_LISTED, _without(f"AGENT#main#{AGENT}", "SNAPSHOT")
    ),
    _dynamodb(
        "has a snapshot of an unknown form",
        _UNKNOWN,
        _put(lambda _: _of_unknown_form(agent_items.snapshot_item(a_snapshot()))),
    ),
    _dynamodb(
        "has a configuration that was never valid",
        _NOT_LISTED,
        _put(lambda _: agent_items.snapshot_item(a_snapshot(valid=False, projects={}))),
    ),
    _dynamodb("has no item of operators' stops", _STOPPED, _without("STOPS#main", "ACTIVE")),
    _dynamodb("has a stop of everything", _STOPPED, _put(_stopped)),
    _dynamodb("has the job's end", (403, "job_finished"), _put(_finished)),
    _dynamodb(
        "doesn't know where the job's project is, and GitLab is away",
        (503, "chain_unknown"),
        _without(f"PROJECT#main#{a_job().project_id}", "PLACE"),
    ),
)
_KEYS = (
    _keys(
        "KMS is away (only an exchange asks it)",
        (200, None),
        _always(("Sign", "GetPublicKey"), _hang_up),
        sent=1,
    ),
    _keys("the token's key isn't published", _INVALID, _without("KEYS", "k1")),
    _keys(
        "the token's key is retired",
        _INVALID,
        _put(
            lambda world: operator_items.public_key_item(
                world.public_key(retire_after=world.now - 1)
            )
        ),
    ),
    _keys(
        "a published key is of an unknown form",
        _UNKNOWN,
        _put(lambda world: _of_unknown_form(operator_items.public_key_item(world.public_key()))),
    ),
    _keys(
        "another key of the same name is published",
        _INVALID,
        _put(lambda _: operator_items.public_key_item(World(server="", ca="", now=0).public_key())),
    ),
)
_SECRETS = (
    _secrets_manager(
        "answers 500",
        _UNREACHABLE,
        _always(("GetSecretValue",), lambda _: failure(500, "InternalServiceError")),
    ),
    _secrets_manager(
        "refuses the function's role",
        _UNREACHABLE,
        _always(("GetSecretValue",), lambda _: failure(400, "AccessDeniedException")),
    ),
    _secrets_manager("doesn't answer in time", _UNREACHABLE, _always(("GetSecretValue",), _late)),
    _secrets_manager("has no such secret", _UNREACHABLE, _secret(None)),
    _secrets_manager("has a secret that isn't JSON", _UNREACHABLE, _secret("relay-credential")),
    _secrets_manager(
        "has a token that no header can hold",
        _UNREACHABLE,
        _secret(json.dumps({"token": "a\r\nImpersonate-User: root"})),
    ),
)
_CLUSTERS = (
    _cluster("isn't there", _UNREACHABLE, changes={"server": "https://127.0.0.1:9"}, sent=0),
    _cluster(
        "shows a certificate of another authority", _UNREACHABLE, changes={"ca": "other"}, sent=0
    ),
    _cluster("hangs up before it answers a read", _UNREACHABLE, [End()], [End()]),
    _cluster("hangs up before it answers a change", _UNREACHABLE, [End()], method="POST"),
    _cluster("resets the connection", _UNREACHABLE, [Reset()]),
    _cluster(
        "doesn't answer in time", (504, "upstream_timeout"), [Left(threading.Event())], seconds=3
    ),
    _cluster("doesn't speak HTTP/1.1", _UNREACHABLE, b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    _cluster(
        "gives two lengths",
        _UNREACHABLE,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    ),
    _cluster(
        "upgrades unasked",
        _UNREACHABLE,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n",
    ),
    _cluster("refuses Jobgate's credential", _UNREACHABLE, api_status(401, "Unauthorized")),
    _cluster("forbids it to the job (RBAC)", (403, None), api_status(403, "Forbidden")),
    _cluster("has no such object", (404, None), api_status(404, "NotFound")),
    _cluster("is overloaded", (429, None), api_status(429, "TooManyRequests")),
    _cluster("answers 500", (500, None), api_status(500, "InternalError")),
    _cluster(
        "redirects (never followed)",
        (307, None),
        b"HTTP/1.1 307 X\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    ),
    _cluster("sends 100 MB", (200, None), [_LONG, *[_MEGABYTE] * 100]),
    _cluster("gives more than it promised", (200, None), OK + OK),
    _cluster("breaks off in the middle of an answer", (200, None), [_HALF, End()], ended="broken"),
    _cluster(
        "ends a watch without its last chunk",
        (200, None),
        [_CHUNKED, b'c\r\n{"type":"A"}\r\n', End()],
        path="/api/v1/namespaces/shop/pods?watch=true",
        ended="broken",
    ),
    _cluster(
        "frames a chunk wrongly", (200, None), [_CHUNKED, b"2\r\n{}XX\r\n0\r\n\r\n"], ended="broken"
    ),
)
FAULTS = (*_TABLES, *_KEYS, *_SECRETS, *_CLUSTERS)


def table() -> str:
    """The document's table."""
    lines = ["| where | what | the caller sees | how it ends |", "|---|---|---|---|"]
    for fault in FAULTS:
        status, reason = fault.sees
        seen = f"{status}, the cluster's own answer" if reason is None else f"{status} `{reason}`"
        if (status, fault.sent) == (200, 1) and fault.ended == "complete":
            seen = "200, nothing of it"
        ended = "a broken stream" if fault.ended == "broken" else "complete"
        lines.append(f"| {fault.where} | {fault.what} | {seen} | {ended} |")
    return "\n".join(lines)


def world_with(fault: Fault, world: World) -> World:
    """The world as a fault changes it."""
    return replace(world, **fault.changes)


if __name__ == "__main__":
    print(table())  # noqa: T201  for the document
