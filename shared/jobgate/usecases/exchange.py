"""Exchange: a CI job's ID token becomes an access token for the agents that it may use.

verify -> read what is stored about the job -> where its project is -> candidate agents -> decide on
each one's snapshot -> sign. What can't be known denies.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core import access_token, record
from jobgate.core.access_token import AccessToken
from jobgate.core.authorization import Allowed, Denied, authorize, fork_refusal, trusted_chain
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
    from jobgate.core.settings import Settings
    from jobgate.ports import (
        Clock,
        Deployment,
        ExchangeFacts,
        ExchangeStore,
        JobLookup,
        Lookups,
        Recorder,
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


@dataclass(frozen=True, slots=True)
class _Decided:
    """A job as GitLab knows it, what it's granted, and what was known of it."""

    job: JobIdentity
    grants: tuple[Grant, ...]
    facts: ExchangeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The exchange and what it needs."""

    deployment: Callable[[], Deployment]
    verifier: TokenVerifier
    store: ExchangeStore
    lookups: Lookups
    signer: TokenSigner
    recorder: Recorder
    settings: Settings
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
            exchanged = self._signed(verified, outcome, resource=resource, decision_id=decision_id)
        except Unavailable as exc:
            return self._refused(Reason.JOB_UNKNOWN, decision_id, cause=str(exc), **details)
        for grant in outcome.grants:
            self._record("allowed", decision_id, **details, **record.of_grant(grant))
        return exchanged

    def _decide(self, verified: VerifiedJob, resource: str | None) -> _Decided | Denied:
        job = verified.job
        if reason := self._token_refusal(verified):
            return Denied(reason)
        facts = self.store.exchange_facts(job)
        if reason := self._life_refusal(job, facts, None):
            return Denied(reason)
        lookup = self.lookups.of(job)
        if not (verified.project_is_certain or lookup.project_runs_job()):
            return Denied(Reason.JOB_UNKNOWN)
        job = dataclasses.replace(job, environment_slug=lookup.environment_slug())
        surroundings = lookup.surroundings(facts.place, facts.chain)
        decisions = self._decisions(job, facts, surroundings, lookup)
        grants = [decision.grant for decision in decisions if isinstance(decision, Allowed)]
        if resource is not None:
            grants = [grant for grant in grants if self._is(resource, grant)]
            return _Decided(job, tuple(grants), facts) if grants else Denied(Reason.NOT_LISTED)
        if grants:
            by_context = sorted(grants, key=lambda grant: grant.context)
            return _Decided(job, tuple(by_context), facts)
        return self._nearest(job, decisions, surroundings)

    def _decisions(
        self,
        job: JobIdentity,
        facts: ExchangeFacts,
        surroundings: Surroundings,
        lookup: JobLookup,
    ) -> list[Decision]:
        now = self.clock()
        chain = trusted_chain(job, surroundings, bounds=self.bounds, now=now)
        group_ids = [group.namespace_id for group in chain.groups] if chain else []
        candidates = facts.project_agents | self.store.agents_of_groups(job.issuer, group_ids)
        agents = self.store.snapshots(job.issuer, candidates)
        config_projects = {a.config_project.project_id for a in agents.values() if a is not None}
        where = dataclasses.replace(
            surroundings, config_places=lookup.config_places(config_projects)
        )
        decisions: list[Decision] = []
        for agent_id, agent in agents.items():
            if reason := self._life_refusal(job, facts, agent_id):
                decisions.append(Denied(reason))
            elif agent is None:
                decisions.append(Denied(Reason.CONFIG_UNKNOWN))
            else:
                decision = authorize(
                    job, agent, where, settings=self.settings, bounds=self.bounds, now=now
                )
                decisions.append(decision)
        return decisions

    def _token_refusal(self, verified: VerifiedJob) -> Reason | None:
        if verified.expires_at <= self.clock():
            # Good by the leeway alone; what is made of it now would already have ended.
            return Reason.TOKEN_EXPIRED
        return fork_refusal(verified, self.settings)

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
        decided: _Decided,
        *,
        resource: str | None,
        decision_id: str,
    ) -> Exchanged:
        now = self.clock()
        token = AccessToken(
            job=decided.job,
            decision_id=decision_id,
            jti=self.new_id(),
            expires_at=access_token.expiry(
                subject_expires_at=verified.expires_at,
                state=decided.facts.state,
                bounds=self.bounds,
                now=now,
            ),
            agent_id=decided.grants[0].agent_id if resource is not None else None,
        )
        base_url = self._base_url()
        signed = self.signer.sign(access_token.claims_of(token, base_url=base_url, now=now))
        return Exchanged(
            token=signed,
            expires_in=int(token.expires_at - now),
            grants=decided.grants,
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
