"""Exchange: a CI job's ID token becomes an access token for the agents that it may use.

verify -> read what is stored about the job -> where its project is -> candidate agents -> decide on
each one's snapshot -> sign. What can't be known denies.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core import access_token, record
from jobgate.core.access_token import AccessToken
from jobgate.core.authorization import Allowed, Denied, authorize, trusted_chain
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.kubeconfig import relay_url
from jobgate.core.liveness import life_refusal
from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.authorization import Decision, Grant
    from jobgate.core.bounds import Bounds
    from jobgate.core.job import JobIdentity, VerifiedJob
    from jobgate.core.namespace import Surroundings
    from jobgate.ports import (
        Clock,
        Deployment,
        ExchangeFacts,
        ExchangeStore,
        Recorder,
        SurroundingsSource,
        TokenSigner,
        TokenVerifier,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """An access token and what it's good for; `expires_in` in seconds."""

    token: str
    expires_in: int
    grants: tuple[Grant, ...]
    base_url: str
    decision_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No access, with the reason that is nearest to being mended."""

    reason: Reason
    decision_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The exchange and what it needs."""

    deployment: Callable[[], Deployment]
    verifier: TokenVerifier
    store: ExchangeStore
    places: SurroundingsSource
    signer: TokenSigner
    recorder: Recorder
    bounds: Bounds
    clock: Clock
    new_id: Callable[[], str]

    def redeem(self, subject_token: str, *, resource: str | None = None) -> Exchanged | Refused:
        """Exchange an ID token; `resource` asks for one agent, by relay URL or by context.

        Never raises: an outside system that can't be asked is a refusal like any other, and none
        is recorded without its reason.
        """
        decision_id = self.new_id()
        token_hash = hashlib.sha256(subject_token.encode(errors="replace")).hexdigest()
        try:
            verified = self.verifier.verify(subject_token)
        except InvalidToken as exc:
            reason = Reason.TOKEN_EXPIRED if exc.expired else Reason.TOKEN_INVALID
            return self._refused(reason, decision_id, token_sha256=token_hash, cause=str(exc))
        except Unavailable as exc:
            return self._refused(
                Reason.JOB_UNKNOWN, decision_id, token_sha256=token_hash, cause=str(exc)
            )
        details = {"token_sha256": token_hash, **record.of_job(verified.job)}
        try:
            outcome = self._decide(verified, resource)
            if isinstance(outcome, Denied):
                return self._refused(outcome.reason, decision_id, **details)
            grants, facts = outcome
            exchanged = self._signed(
                verified, grants, facts, resource=resource, decision_id=decision_id
            )
        except Unavailable as exc:
            return self._refused(Reason.JOB_UNKNOWN, decision_id, cause=str(exc), **details)
        for grant in grants:
            self._record("allowed", decision_id, **details, **record.of_grant(grant))
        return exchanged

    def _decide(
        self, verified: VerifiedJob, resource: str | None
    ) -> tuple[tuple[Grant, ...], ExchangeFacts] | Denied:
        job = verified.job
        if not verified.project_is_certain:
            return Denied(Reason.JOB_UNKNOWN)
        if verified.expires_at <= self.clock():
            # Good by the leeway alone; what is made of it now would already have ended.
            return Denied(Reason.TOKEN_EXPIRED)
        facts = self.store.exchange_facts(job)
        if reason := self._life_refusal(job, facts, None):
            return Denied(reason)
        surroundings = self.places.surroundings(job, facts.place, facts.chain)
        decisions = self._decisions(job, facts, surroundings)
        grants = [decision.grant for decision in decisions if isinstance(decision, Allowed)]
        if resource is not None:
            grants = [grant for grant in grants if self._is(resource, grant)]
            return (tuple(grants), facts) if grants else Denied(Reason.NOT_LISTED)
        if grants:
            return tuple(sorted(grants, key=lambda grant: grant.context)), facts
        return self._nearest(job, decisions, surroundings)

    def _decisions(
        self, job: JobIdentity, facts: ExchangeFacts, surroundings: Surroundings
    ) -> list[Decision]:
        now = self.clock()
        chain = trusted_chain(job, surroundings, bounds=self.bounds, now=now)
        group_ids = [group.namespace_id for group in chain.groups] if chain else []
        candidates = facts.project_agents | self.store.agents_of_groups(job.issuer, group_ids)
        decisions: list[Decision] = []
        for agent_id, agent in self.store.snapshots(job.issuer, candidates).items():
            if reason := self._life_refusal(job, facts, agent_id):
                decisions.append(Denied(reason))
            elif agent is None:
                decisions.append(Denied(Reason.CONFIG_UNKNOWN))
            else:
                decisions.append(authorize(job, agent, surroundings, bounds=self.bounds, now=now))
        return decisions

    def _life_refusal(
        self, job: JobIdentity, facts: ExchangeFacts, agent_id: int | None
    ) -> Reason | None:
        return life_refusal(
            job, agent_id=agent_id, state=facts.state, stops=facts.stops, now=self.clock()
        )

    def _nearest(
        self, job: JobIdentity, decisions: list[Decision], surroundings: Surroundings
    ) -> Denied:
        """The refusal that tells the job's author most."""
        for decision in decisions:
            if isinstance(decision, Denied) and decision.reason is not Reason.NOT_LISTED:
                return decision
        chain = trusted_chain(job, surroundings, bounds=self.bounds, now=self.clock())
        if chain is None and (job.issuer, job.root_path) in self.deployment().roots:
            return Denied(Reason.CHAIN_UNKNOWN)
        return Denied(Reason.NOT_LISTED)

    def _is(self, resource: str, grant: Grant) -> bool:
        return resource in (grant.context, relay_url(self._base_url(), grant.agent_id))

    def _base_url(self) -> str:
        base_url = self.deployment().base_url
        if base_url is None:
            raise Unavailable("the deployment has no base URL yet: run `jobgate setup`")
        return base_url

    def _signed(
        self,
        verified: VerifiedJob,
        grants: tuple[Grant, ...],
        facts: ExchangeFacts,
        *,
        resource: str | None,
        decision_id: str,
    ) -> Exchanged:
        now = self.clock()
        token = AccessToken(
            job=verified.job,
            decision_id=decision_id,
            jti=self.new_id(),
            expires_at=access_token.expiry(
                subject_expires_at=verified.expires_at,
                state=facts.state,
                bounds=self.bounds,
                now=now,
            ),
            agent_id=grants[0].agent_id if resource is not None else None,
        )
        base_url = self._base_url()
        signed = self.signer.sign(access_token.claims_of(token, base_url=base_url, now=now))
        return Exchanged(
            token=signed,
            expires_in=int(token.expires_at - now),
            grants=grants,
            base_url=base_url,
            decision_id=decision_id,
        )

    def _record(self, outcome: str, decision_id: str, **values: Any) -> None:
        self.recorder(
            record.record(
                "exchange", at=self.clock(), outcome=outcome, decision_id=decision_id, **values
            )
        )

    def _refused(self, reason: Reason, decision_id: str, **values: Any) -> Refused:
        self._record("refused", decision_id, reason=reason, **values)
        return Refused(reason=reason, decision_id=decision_id)
