"""Whether a bearer of a token may use an agent's cluster now, and as whom.

Asked before each request, and again and again while an answer flows: the same question each time,
of facts that are at most RELAY_CACHE old.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.agent import AsAgent
from jobgate.core.authorization import Denied, authorize, trusted_chain
from jobgate.core.errors import InvalidToken
from jobgate.core.impersonation import identity_of
from jobgate.core.liveness import end_refusal, stop_refusal
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import CHANGED, TOKEN_INVALID, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.access_token import AccessToken
    from jobgate.core.agent import AgentSnapshot, ClusterConnection, ClusterCredential
    from jobgate.core.authorization import Grant
    from jobgate.core.bounds import Bounds
    from jobgate.core.impersonation import Identity
    from jobgate.core.issuer import Issuer
    from jobgate.core.job import JobIdentity
    from jobgate.core.namespace import Surroundings
    from jobgate.core.settings import Settings
    from jobgate.ports import Clock, Deployment
    from jobgate.ports.relay import AccessTokenVerifier
    from jobgate.usecases.relay_facts import RelayFactsCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A job that may use an agent's cluster, and as whom; None as the agent."""

    grant: Grant
    identity: Identity | None
    cluster: ClusterConnection

    @property
    def credential(self) -> ClusterCredential | None:
        """The credential that the grant calls for; None where the agent has none of its own."""
        if isinstance(self.grant.access_as, AsAgent):
            return self.cluster.agent_credential
        return self.cluster.relay_credential

    def is_as(self, other: Admitted) -> bool:
        """Whether a request that was sent for the one would be sent alike for the other."""
        return (self.identity, self.cluster) == (other.identity, other.cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The question, and whom it needs. Every method may raise Unavailable."""

    deployment: Callable[[], Deployment]
    verifier: AccessTokenVerifier
    facts: RelayFactsCache
    settings: Settings
    bounds: Bounds
    clock: Clock

    def verify(self, given: str) -> AccessToken | Refusal:
        """Read an access token."""
        try:
            return self.verifier.verify(given)
        except InvalidToken as exc:
            if exc.expired:
                return Refusal(reason=Reason.TOKEN_EXPIRED, cause=str(exc))
            return dataclasses.replace(TOKEN_INVALID, cause=str(exc))

    def admit(self, token: AccessToken, agent_id: int | None) -> Admitted | Refusal:
        """Decide on what is stored now; `agent_id` is None where the path names none."""
        job = token.job
        issuer = self.deployment().issuers.get(job.issuer)
        if agent_id is None or issuer is None:
            return Refusal(reason=Reason.NOT_LISTED)
        if token.agent_id not in (None, agent_id):
            return Refusal(reason=Reason.WRONG_AGENT)
        known = self.facts.of(job, agent_id)
        facts, now = known.facts, self.clock()
        if facts.snapshot is None or facts.cluster is None:
            return Refusal(reason=Reason.NOT_LISTED)
        ended = stop_refusal(job, agent_id=agent_id, stops=facts.stops, now=now) or end_refusal(
            facts.state, settings=self.settings, bounds=self.bounds, now=now
        )
        if ended is not None:
            return Refusal(reason=ended)
        decided = known.decided.get(issuer)
        if decided is None:
            decided = self._decided(job, facts.snapshot, facts.cluster, known.surroundings, issuer)
            known.decided[issuer] = decided
        return decided

    def _decided(
        self,
        job: JobIdentity,
        snapshot: AgentSnapshot,
        cluster: ClusterConnection,
        surroundings: Surroundings,
        issuer: Issuer,
    ) -> Admitted | Refusal:
        """Decide once on what was read; stops, the job's life and the token are asked each time."""
        now = self.clock()
        decision = authorize(
            job, snapshot, surroundings, settings=self.settings, bounds=self.bounds, now=now
        )
        if isinstance(decision, Denied):
            return Refusal(reason=decision.reason, rule=decision.rule)
        chain = trusted_chain(job, surroundings, bounds=self.bounds, now=now)
        return Admitted(
            grant=decision.grant,
            identity=identity_of(job, decision.grant, issuer=issuer, chain=chain),
            cluster=cluster,
        )

    def withdrawal(self, given: str, agent_id: int, before: Admitted) -> Refusal | None:
        """Why what `before` allowed may not go on, or None where it may."""
        token = self.verify(given)
        now = token if isinstance(token, Refusal) else self.admit(token, agent_id)
        if isinstance(now, Refusal):
            return now
        return None if now.is_as(before) else CHANGED
