"""Relay: one Kubernetes API request of a job, decided, carried and streamed back.

verify -> what is stored about job and agent (believed for RELAY_CACHE) -> does the job still run ->
decide on the current snapshot -> identity -> credential -> upstream request -> the answer, head and
body, during which the decision is made again and again. Whatever goes wrong before the last step
sends nothing to the cluster.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core import record
from jobgate.core.client_impersonation import client_identity
from jobgate.core.errors import StreamCut, Unavailable
from jobgate.core.kubernetes_request import kubernetes_request
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import TOKEN_INVALID, Refusal, refusal_answer, withdrawn
from jobgate.core.upstream_request import agent_route, bearer, downstream_headers
from jobgate.core.watch import is_json_watch
from jobgate.ports.relay import Response
from jobgate.usecases.forwarding import Passage
from jobgate.usecases.ongoing_right import OngoingRight
from jobgate.usecases.relay_stream import RelayStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.core.upstream_request import IncomingRequest
    from jobgate.ports import Clock, Recorder
    from jobgate.ports.relay import UpstreamResponse
    from jobgate.usecases.admission import Admission, Admitted
    from jobgate.usecases.forwarding import Forwarding

_OK = 200


@dataclass(slots=True, kw_only=True)
class _Trail:
    """What the record of a request will say; filled in as it becomes known."""

    decision_id: str
    deadline: float
    began_at: float
    agent_id: int | None
    path: str
    is_log: bool
    values: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """The relay and what it needs."""

    admission: Admission
    forwarding: Forwarding
    recorder: Recorder
    clock: Clock

    def answer(self, incoming: IncomingRequest, *, decision_id: str, deadline: float) -> Response:
        """Carry a request, or refuse it; its record is written when the answer has ended.

        `decision_id` names this request, `deadline` (epoch seconds) is when it must have ended.
        """
        trail = self._trail(incoming, decision_id, deadline)
        stream: RelayStream | Refusal
        try:
            stream = self._carry(incoming, trail)
        except Unavailable as exc:
            stream = Refusal(reason=Reason.JOB_UNKNOWN, cause=str(exc))
        except Exception:
            self._record(trail, "refused", status=500, bytes_out=0, ended="failed")
            raise
        if isinstance(stream, Refusal):
            return self._refused(stream, trail)
        return Response(
            status=stream.status,
            headers=downstream_headers(stream.upstream.headers),
            body=self._streamed(stream, trail),
            # A watch may get bytes that aren't the cluster's.
            length=None if stream.is_json_watch else stream.upstream.length,
        )

    def _carry(self, incoming: IncomingRequest, trail: _Trail) -> RelayStream | Refusal:
        given = bearer(incoming)
        if given is None:
            return TOKEN_INVALID
        trail.values["token_sha256"] = hashlib.sha256(given.encode()).hexdigest()
        token = self.admission.verify(given)
        if isinstance(token, Refusal):
            return token
        trail.values |= record.of_job(token.job)
        admitted = self.admission.admit(token, trail.agent_id)
        if isinstance(admitted, Refusal):
            return admitted
        trail.values |= record.of_grant(admitted.grant)
        right = self._right(given, admitted, trail)
        if admitted.identity is None:
            asked = client_identity(incoming, admitted.cluster)
            if isinstance(asked, Refusal):
                return asked
            admitted = dataclasses.replace(admitted, identity=asked)
        trail.values["identity"] = record.of_identity(admitted.identity)
        passage = Passage(
            decision_id=trail.decision_id,
            began_at=trail.began_at,
            right=right,
            ends_at=min(trail.deadline, token.expires_at),
            times=trail.values,
        )
        sent = self.forwarding.send(incoming, admitted, passage)
        if isinstance(sent, Refusal):
            return sent
        stream = self._stream(sent, trail, right)
        # Nobody may take for a line what a streamed answer without a byte is given for one.
        return _begun(stream) if trail.is_log and sent.status == _OK else stream

    def _right(self, given: str, admitted: Admitted, trail: _Trail) -> OngoingRight:
        agent_id = admitted.grant.agent_id
        return OngoingRight(
            withdrawal=lambda: self.admission.withdrawal(given, agent_id, admitted),
            allowed_at=trail.began_at,
            deadline=trail.deadline,
            believed_seconds=self.admission.bounds.relay_cache,
            clock=self.clock,
        )

    def _stream(
        self, upstream: UpstreamResponse, trail: _Trail, right: OngoingRight
    ) -> RelayStream:
        return RelayStream(
            upstream=upstream,
            right=right,
            is_json_watch=is_json_watch(trail.values["verb"], upstream.status, upstream.headers),
            decision_id=trail.decision_id,
            keepalive_seconds=self.admission.bounds.stream_keepalive,
            clock=self.clock,
        )

    def _streamed(self, stream: RelayStream, trail: _Trail) -> Iterator[bytes]:
        try:
            yield from stream.pieces()
        finally:
            stream.upstream.close()
            refusal = stream.refusal
            self._record(
                trail,
                "allowed",
                reason=None if refusal is None else refusal.reason,
                cause=None if refusal is None else refusal.cause,
                status=stream.status,
                bytes_out=stream.bytes_out,
                ended=stream.ended,
            )

    def _refused(self, refusal: Refusal, trail: _Trail) -> Response:
        answer = refusal_answer(refusal, path=trail.path, decision_id=trail.decision_id)
        own = {"ms_own": record.milliseconds(self.clock() - trail.began_at)}
        trail.values = own | trail.values
        if refusal.rule is not None:
            trail.values["rule"] = record.of_rule(refusal.rule)
        self._record(
            trail,
            "allowed" if refusal.withdrawn else "refused",
            reason=refusal.reason,
            cause=refusal.cause,
            status=answer.status,
            bytes_out=len(answer.body),
            ended=refusal.ends_as if refusal.withdrawn else "complete",
        )
        return Response(
            status=answer.status,
            headers=answer.headers,
            body=iter((answer.body,)),
            length=len(answer.body),
        )

    def _trail(self, incoming: IncomingRequest, decision_id: str, deadline: float) -> _Trail:
        agent_id, path = agent_route(incoming.path)
        asked = kubernetes_request(incoming.method, path, incoming.query)
        return _Trail(
            decision_id=decision_id,
            deadline=deadline,
            began_at=self.clock(),
            agent_id=agent_id,
            path=path,
            is_log=asked.subresource == "log",
            values={
                "agent_id": agent_id,
                **record.of_request(asked),
                "bytes_in": len(incoming.body),
            },
        )

    def _record(self, trail: _Trail, outcome: str, **values: Any) -> None:
        self.recorder(
            record.record(
                "request",
                at=trail.began_at,
                outcome=outcome,
                decision_id=trail.decision_id,
                **(trail.values | values),
            )
        )


def _begun(stream: RelayStream) -> RelayStream | Refusal:
    """An answer of which the first byte, or the end, has come; else why there is none."""
    try:
        stream.begin()
    except StreamCut as exc:
        if stream.refusal is not None:
            return withdrawn(stream.refusal, changes=False)
        return Refusal(reason=Reason.UPSTREAM_TIMEOUT, cause=str(exc))
    except Unavailable as exc:
        return Refusal(reason=Reason.UPSTREAM_UNREACHABLE, cause=str(exc))
    return stream
