"""Relay: one Kubernetes API request of a job, decided anew, carried and streamed back.

verify -> what is stored about job and agent (believed for RELAY_CACHE) -> does the job still run ->
decide on the current snapshot -> identity -> credential -> upstream request -> stream. Whatever
goes wrong before the last step sends nothing to the cluster.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core import record
from jobgate.core.agent import AsAgent
from jobgate.core.authorization import Denied, authorize, trusted_chain
from jobgate.core.client_impersonation import client_identity
from jobgate.core.cluster_credential import BearerToken, ClientCertificate
from jobgate.core.errors import InvalidToken, StreamCut, TimedOut, Unavailable
from jobgate.core.impersonation import identity_of
from jobgate.core.kubernetes_request import kubernetes_request
from jobgate.core.liveness import life_refusal
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import TOKEN_INVALID, Refusal, refusal_answer
from jobgate.core.upstream_request import agent_route, downstream_headers, upstream_request
from jobgate.ports import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.core.access_token import AccessToken
    from jobgate.core.agent import ClusterConnection, Credential
    from jobgate.core.authorization import Grant
    from jobgate.core.bounds import Bounds
    from jobgate.core.impersonation import Identity
    from jobgate.core.settings import Settings
    from jobgate.core.upstream_request import IncomingRequest, UpstreamRequest
    from jobgate.ports import (
        AccessTokenVerifier,
        Clock,
        ClusterGateway,
        ClusterSecrets,
        Deployment,
        Recorder,
        UpstreamResponse,
    )
    from jobgate.usecases.relay_facts import RelayFactsCache

_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    """A job that may use an agent's cluster, and as whom; None as the agent."""

    token: AccessToken
    grant: Grant
    identity: Identity | None
    cluster: ClusterConnection


@dataclass(slots=True, kw_only=True)
class _Trail:
    """What the record of a request will say; filled in as it becomes known."""

    decision_id: str
    deadline: float
    began_at: float
    agent_id: int | None
    path: str
    values: dict[str, Any]
    bytes_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """The relay and what it needs."""

    deployment: Callable[[], Deployment]
    verifier: AccessTokenVerifier
    facts: RelayFactsCache
    secrets: ClusterSecrets
    clusters: ClusterGateway
    recorder: Recorder
    settings: Settings
    bounds: Bounds
    clock: Clock

    def answer(self, incoming: IncomingRequest, *, decision_id: str, deadline: float) -> Response:
        """Carry a request, or refuse it; its record is written when the answer has ended.

        `decision_id` names this request, `deadline` (epoch seconds) is when it must have ended.
        """
        trail = self._trail(incoming, decision_id, deadline)
        try:
            outcome = self._carry(incoming, trail)
        except Unavailable as exc:
            trail.values["cause"] = str(exc)
            outcome = Refusal(reason=Reason.JOB_UNKNOWN)
        except Exception:
            self._record(trail, "refused", status=500, ended="failed")
            raise
        if isinstance(outcome, Refusal):
            return self._refused(outcome, trail)
        admitted, upstream = outcome
        return Response(
            status=upstream.status,
            headers=downstream_headers(upstream.headers),
            body=self._stream(admitted.token, upstream, trail),
        )

    def _carry(
        self, incoming: IncomingRequest, trail: _Trail
    ) -> tuple[_Admitted, UpstreamResponse] | Refusal:
        token = self._verified(incoming, trail)
        if isinstance(token, Refusal):
            return token
        trail.values |= record.of_job(token.job)
        admitted = self._admit(token, trail)
        if isinstance(admitted, Refusal):
            return admitted
        trail.values |= record.of_grant(admitted.grant)
        if admitted.identity is None:
            asked = client_identity(incoming, admitted.cluster)
            if isinstance(asked, Refusal):
                return asked
            admitted = dataclasses.replace(admitted, identity=asked)
        trail.values["identity"] = record.of_identity(admitted.identity)
        upstream = self._forward(incoming, admitted, trail)
        return upstream if isinstance(upstream, Refusal) else (admitted, upstream)

    def _verified(self, incoming: IncomingRequest, trail: _Trail) -> AccessToken | Refusal:
        given = incoming.values("authorization")
        match = _BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
        if match is None:
            return TOKEN_INVALID
        trail.values["token_sha256"] = hashlib.sha256(match[1].encode()).hexdigest()
        try:
            return self.verifier.verify(match[1])
        except InvalidToken as exc:
            trail.values["cause"] = str(exc)
            return Refusal(reason=Reason.TOKEN_EXPIRED) if exc.expired else TOKEN_INVALID

    def _admit(self, token: AccessToken, trail: _Trail) -> _Admitted | Refusal:
        job, agent_id = token.job, trail.agent_id
        issuer = self.deployment().issuers.get(job.issuer)
        if agent_id is None or issuer is None:
            return Refusal(reason=Reason.NOT_LISTED)
        if token.agent_id not in (None, agent_id):
            return Refusal(reason=Reason.WRONG_AGENT)
        known = self.facts.of(job, agent_id)
        facts, now = known.facts, self.clock()
        if facts.snapshot is None or facts.cluster is None:
            return Refusal(reason=Reason.NOT_LISTED)
        ended = life_refusal(job, agent_id=agent_id, state=facts.state, stops=facts.stops, now=now)
        if ended is not None:
            return Refusal(reason=ended)
        decision = authorize(
            job,
            facts.snapshot,
            known.surroundings,
            settings=self.settings,
            bounds=self.bounds,
            now=now,
        )
        if isinstance(decision, Denied):
            return Refusal(reason=decision.reason, rule=decision.rule)
        chain = trusted_chain(job, known.surroundings, bounds=self.bounds, now=now)
        return _Admitted(
            token=token,
            grant=decision.grant,
            identity=identity_of(job, decision.grant, issuer=issuer, chain=chain),
            cluster=facts.cluster,
        )

    def _forward(
        self, incoming: IncomingRequest, admitted: _Admitted, trail: _Trail
    ) -> UpstreamResponse | Refusal:
        credential = _credential(admitted)
        if credential is None:
            return Refusal(reason=Reason.AGENT_MODE_NOT_CONFIGURED, rule=admitted.grant.rule)
        try:
            secret = self.secrets.fetch(credential)
            request = upstream_request(
                incoming,
                admitted.grant,
                identity=admitted.identity,
                cluster=admitted.cluster,
                bearer=secret.token if isinstance(secret, BearerToken) else None,
                decision_id=trail.decision_id,
                allowed_identities=self.settings.allowed_identities,
            )
            if isinstance(request, Refusal):
                return request
            certificate = secret if isinstance(secret, ClientCertificate) else None
            upstream = self._sent(request, admitted.cluster, certificate, trail)
        except TimedOut as exc:
            trail.values["cause"] = str(exc)
            return Refusal(reason=Reason.UPSTREAM_TIMEOUT, rule=admitted.grant.rule)
        except Unavailable as exc:
            trail.values["cause"] = str(exc)
            return Refusal(reason=Reason.UPSTREAM_UNREACHABLE, rule=admitted.grant.rule)
        if upstream.status == _UNAUTHORIZED:
            self.secrets.forget(credential)
        return upstream

    def _sent(
        self,
        request: UpstreamRequest,
        cluster: ClusterConnection,
        certificate: ClientCertificate | None,
        trail: _Trail,
    ) -> UpstreamResponse:
        sent_at = self.clock()
        trail.values["ms_own"] = _milliseconds(sent_at - trail.began_at)
        upstream = self.clusters.send(
            cluster, request, certificate=certificate, deadline=trail.deadline
        )
        waited = self.clock() - sent_at - upstream.connect_seconds
        trail.values["ms_connect"] = _milliseconds(upstream.connect_seconds)
        trail.values["ms_upstream"] = _milliseconds(waited)
        return upstream

    def _stream(
        self, token: AccessToken, upstream: UpstreamResponse, trail: _Trail
    ) -> Iterator[bytes]:
        """The body, to its end or to the token's; the first item never waits."""
        ends_at = token.expires_at + self.bounds.leeway
        ended = "cut"
        try:
            for chunk in upstream.chunks():
                if self.clock() >= ends_at:
                    ended = "expired"
                    raise StreamCut("the access token has expired")
                trail.bytes_out += len(chunk)
                yield chunk
            ended = "complete"
        except Unavailable:
            ended = "broken"
            raise
        finally:
            upstream.close()
            self._record(trail, "allowed", status=upstream.status, ended=ended)

    def _refused(self, refusal: Refusal, trail: _Trail) -> Response:
        answer = refusal_answer(refusal, path=trail.path, decision_id=trail.decision_id)
        trail.bytes_out = len(answer.body)
        if refusal.rule is not None:
            trail.values["rule"] = record.of_rule(refusal.rule)
        self._record(
            trail, "refused", reason=refusal.reason, status=answer.status, ended="complete"
        )
        return Response(status=answer.status, headers=answer.headers, body=iter((answer.body,)))

    def _trail(self, incoming: IncomingRequest, decision_id: str, deadline: float) -> _Trail:
        agent_id, path = agent_route(incoming.path)
        asked = kubernetes_request(incoming.method, path, incoming.query)
        values: dict[str, Any] = {"verb": asked.verb, "bytes_in": len(incoming.body)}
        if asked.is_resource:
            values |= {
                "group": asked.group,
                "resource": asked.resource,
                "subresource": asked.subresource or None,
                "namespace": asked.namespace or None,
                "name": asked.name or None,
            }
        return _Trail(
            decision_id=decision_id,
            deadline=deadline,
            began_at=self.clock(),
            agent_id=agent_id,
            path=path,
            values={"agent_id": agent_id, **values},
        )

    def _record(self, trail: _Trail, outcome: str, **values: Any) -> None:
        self.recorder(
            record.record(
                "request",
                at=trail.began_at,
                outcome=outcome,
                decision_id=trail.decision_id,
                bytes_out=trail.bytes_out,
                **(trail.values | values),
            )
        )


def _credential(admitted: _Admitted) -> Credential | None:
    """The credential that the grant calls for; None where the agent has none of its own."""
    if isinstance(admitted.grant.access_as, AsAgent):
        return admitted.cluster.agent_credential
    return admitted.cluster.relay_credential


def _milliseconds(seconds: float) -> float:
    return round(max(seconds, 0) * 1000, 1)
