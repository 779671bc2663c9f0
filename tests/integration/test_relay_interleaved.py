"""Jobs that take turns on one warm instance, with a failure at every step: no identity bleeds.

The relay's own parts and sockets are real. The cluster tells in its answer who asked, and behaves
as the request's `Kubectl-Command` says; the ports before it fail when they are told to.
"""

from __future__ import annotations

import json
import random  # noqa: TID251  the same turns each time
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.cluster import DirectClusterGateway
from jobgate.adapters.relay_endpoint import RelayEndpoint
from jobgate.core.agent import AsIdentity
from jobgate.core.bounds import Bounds
from jobgate.core.cluster_credential import BearerToken
from jobgate.core.errors import InvalidToken, StreamCut, Unavailable

from local.certificates import CertificateAuthority
from tests.support.relay_parts import (
    AGENT,
    AGENT_SECRET,
    AS_AGENT,
    AS_CI_JOB,
    NOW,
    RELAY_SECRET,
    RelayParts,
    Secrets,
    Store,
    Tokens,
    a_cluster,
    a_job,
    a_snapshot,
    a_token,
    some_facts,
)
from tests.support.relay_upstream import RawUpstream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from jobgate.core.access_token import AccessToken
    from jobgate.core.agent import Credential
    from jobgate.core.cluster_credential import ClusterSecret
    from jobgate.core.job import JobIdentity
    from jobgate.ports.relay import RelayFacts

    from tests.support.relay_parts import Clock

_MODES = {41: AS_CI_JOB, 42: AsIdentity("deployer", "u-1", ("ops",), ()), 43: AS_AGENT}
_WHO = {41: "gitlab:ci_job:41", 42: "deployer", 43: "nobody"}
_CREDENTIALS = {41: "relay-token", 42: "relay-token", 43: "agent-token"}
_AUDIT_ID = re.compile(rb"Audit-ID: [^\r]+\r\n")
_BY_PORTS = (
    "verify",
    "verify crashes",
    "facts",
    "facts crash",
    "secret",
    "secret crashes",
    "record",
)
_BY_CLUSTER = ("silent end", "no HTTP", "half a head", "half a body", "wrong chunk", "401", "101")
_BY_CALLER = ("leaves at once", "leaves in the middle", "asks as another", "two tokens")
_CACHE_SECONDS = 1.0
_TURN_SECONDS = 0.1  # so that what is believed serves many turns, and is read again now and then
_STEPS = (*_BY_PORTS, *_BY_CLUSTER, *_BY_CALLER)


class Crash(Exception):  # noqa: N818  stands for a fault of our own
    """Something that nobody expects."""


@dataclass
class Plan:
    """What fails next; a port that fails does it once."""

    step: str = ""

    def strike(self, name: str, exc: Exception) -> None:
        if self.step == name:
            self.step = ""
            raise exc


class FailingTokens(Tokens):
    plan: Plan

    def verify(self, access_token: str) -> AccessToken:
        self.plan.strike("verify", InvalidToken("no"))
        self.plan.strike("verify crashes", Crash())
        return super().verify(access_token)


class FailingStore(Store):
    plan: Plan

    def relay_facts(self, job: JobIdentity, agent_id: int) -> RelayFacts:
        self.plan.strike("facts", Unavailable("no"))
        self.plan.strike("facts crash", Crash())
        return super().relay_facts(job, agent_id)


class FailingSecrets(Secrets):
    plan: Plan

    def fetch(self, credential: Credential) -> ClusterSecret:
        self.plan.strike("secret", Unavailable("no"))
        self.plan.strike("secret crashes", Crash())
        return super().fetch(credential)


class FailingLines(list[str]):
    """The records; writing one fails after it was written."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def append(self, line: str) -> None:
        super().append(line)
        self.plan.strike("record", Crash())


class TellingUpstream(RawUpstream):
    """Answers with who asked, or as `Kubectl-Command` says."""

    def _answer(self, sock: ssl.SSLSocket) -> bool:
        head = self.requests[-1].decode()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        told = {
            "user": lines.get("Impersonate-User", "nobody"),
            "credential": lines["Authorization"].removeprefix("Bearer "),
            "padding": "x" * 2000,
        }
        body = json.dumps(told).encode()
        ok = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        chunked = ok + b"Transfer-Encoding: chunked\r\n\r\n"
        answers = {
            "silent end": b"",
            "no HTTP": b"220 smtp\r\n\r\n",
            "half a head": ok,
            "half a body": ok + b"Content-Length: 5000\r\n\r\n" + body,
            "wrong chunk": chunked + b"%x\r\n%b" % (len(body) - 9, body) + b"\r\n0\r\n\r\n",
            "401": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            "101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        }
        step = lines.get("Kubectl-Command", "")
        whole = ok + b"Content-Length: %d\r\n\r\n" % len(body) + body
        sock.sendall(answers.get(step, whole))
        return step not in answers or step == "401"


@dataclass
class Instance:
    """One warm function, and what its caller and its cluster see."""

    endpoint: RelayEndpoint
    upstream: TellingUpstream
    plan: Plan
    lines: list[str]
    clock: Clock
    heads: dict[int, bytes] = field(default_factory=dict)
    number: int = 0

    def turn(self, job_id: int, step: str) -> tuple[int, bytes, str]:
        """Status, body, and how it ended."""
        self.number += 1
        self.clock.now += _TURN_SECONDS
        self.plan.step = step if step in _BY_PORTS else ""
        headers = {"Authorization": [f"Bearer token-{job_id}"]}
        if step in _BY_CLUSTER:
            headers["Kubectl-Command"] = [step]
        if step == "asks as another":
            headers["Impersonate-User"] = ["somebody-else"]
        if step == "two tokens":
            headers["Authorization"] += [f"Bearer token-{other}" for other in _MODES]
        event = {
            "httpMethod": "GET",
            "path": f"/agents/{AGENT}/api/v1/namespaces/of-{job_id}/pods",
            "multiValueHeaders": headers,
        }
        response = self.endpoint(event, _Context(f"d-{self.number}", self.clock.now + 900))
        pieces: list[bytes] = []
        ended = "complete"
        try:
            for piece in response.body:
                pieces.append(piece)
                if step == "leaves at once" or (step == "leaves in the middle" and piece):
                    ended = "left"
                    close = getattr(response.body, "close", None)
                    if close is not None:
                        close()
                    break
        except (StreamCut, Unavailable, Crash) as exc:
            ended = type(exc).__name__
        return response.status, b"".join(pieces), ended


@dataclass(frozen=True, slots=True)
class _Context:
    aws_request_id: str
    deadline: float
    invoked_function_arn: str = "arn"


@pytest.fixture
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    authority = CertificateAuthority.create(tmp_path_factory.mktemp("ca"))
    certificate = authority.issue("cluster", authority.certificate.parent)
    with TellingUpstream(certificate) as upstream:
        plan = Plan()
        parts = _parts(plan, upstream, authority.certificate.read_text())
        gateway = DirectClusterGateway(clock=parts.clock)
        parts.clusters = gateway  # type: ignore[assignment]  the real one in the fake's place

        log = parts.lines.copy().append
        yield Instance(
            RelayEndpoint(parts.relay(), log=log, close=gateway.close),
            upstream,
            plan,
            parts.lines,
            parts.clock,
        )
        gateway.close()


def _parts(plan: Plan, upstream: RawUpstream, ca: str) -> RelayParts:
    tokens, store, secrets = FailingTokens(), FailingStore(), FailingSecrets()
    tokens.plan = store.plan = secrets.plan = plan
    secrets.values = {
        RELAY_SECRET: BearerToken("relay-token"),
        AGENT_SECRET: BearerToken("agent-token"),
    }
    cluster = a_cluster(server=upstream.url, ca=ca)
    for job_id, mode in _MODES.items():
        tokens.known[f"token-{job_id}"] = a_token(
            job=a_job(job_id=job_id), expires_at=int(NOW) + 99_999
        )
        store.by_job[job_id] = some_facts(snapshot=a_snapshot(mode), cluster=cluster)
    return RelayParts(
        tokens=tokens,
        store=store,
        secrets=secrets,
        lines=FailingLines(plan),
        bounds=Bounds(relay_cache=_CACHE_SECONDS),
    )


def _plain(request: bytes) -> bytes:
    lines = _AUDIT_ID.sub(b"", request)
    return re.sub(rb"Kubectl-Command: [^\r]+\r\n", b"", lines)


def _check(instance: Instance, job_id: int, step: str, seen: int, ended: Any) -> None:
    """Whatever reached the cluster is this job's whole request, and what came back is its own."""
    status, body, how = ended
    for request in instance.upstream.requests[seen:]:
        assert _plain(request) == instance.heads[job_id], (job_id, step)
    if status == 200 and how == "complete":
        told = json.loads(body)
        assert (told["user"], told["credential"]) == (_WHO[job_id], _CREDENTIALS[job_id])
    for other in _MODES.keys() - {job_id}:
        assert f"ci_job:{other}".encode() not in body
    for line in instance.lines:
        record = json.loads(line)
        if record.get("type") == "request" and "job_id" in record:
            assert record["job_id"] == job_id


@pytest.mark.parametrize(
    "count", [600, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_no_identity_bleeds_whatever_fails(instance: Instance, count: int) -> None:
    for job_id in _MODES:
        assert instance.turn(job_id, "")[0] == 200
        instance.heads[job_id] = _plain(instance.upstream.requests[-1])
    assert len(set(instance.heads.values())) == len(_MODES)
    chosen = random.Random(7)
    carried = dict.fromkeys(_MODES, 0)
    failed = dict.fromkeys(_STEPS, 0)
    for number in range(count):
        # In turn at first, then as chance has it.
        job_id = 41 + (number % 3 if number < count // 2 else chosen.randrange(3))
        step = chosen.choice(_STEPS) if chosen.random() < 0.5 else ""
        seen = len(instance.upstream.requests)
        instance.lines.clear()
        result = instance.turn(job_id, step)
        _check(instance, job_id, step, seen, result)
        if result[0] == 200 and result[2] == "complete":
            carried[job_id] += 1
        if step:
            failed[step] += 1
            by_cache = step in ("facts", "facts crash")  # believed, so not read
            assert by_cache or result[0] != 200 or result[2] != "complete", (step, result)
        else:
            assert (result[0], result[2]) == (200, "complete"), (job_id, result)
    assert min(carried.values()) > count / 8
    assert min(failed.values()) > 0
