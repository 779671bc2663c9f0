"""What a verified job gets of each agent that may concern it: read, look up, decide.

The one way of the exchange and of its explanation, so that neither says what the other doesn't.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.authorization import Allowed, Denied, authorize, fork_refusal, trusted_chain
from jobgate.core.liveness import end_refusal, is_observed, stop_refusal, unasked_until
from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.authorization import Decision
    from jobgate.core.bounds import Bounds
    from jobgate.core.job import JobIdentity, VerifiedJob
    from jobgate.core.namespace import NamespaceChain, Surroundings
    from jobgate.core.settings import Settings
    from jobgate.ports import Clock, Deployment
    from jobgate.ports.exchange import ExchangeFacts, ExchangeStore
    from jobgate.ports.lookups import JobLookup, Lookups
    from jobgate.usecases.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision about one agent, whose snapshot is None where it can't be read."""

    agent_id: int
    snapshot: AgentSnapshot | None
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedJob:
    """A job as GitLab knows it, what was known of it, and every agent that may concern it.

    `chain` is the trusted one. `observed`: the job's end won't be missed. `ends_at`: no access goes
    on beyond (epoch seconds). `groups_unknown`: agents that only a group leads to may be missing.
    """

    job: JobIdentity
    facts: ExchangeFacts
    chain: NamespaceChain | None
    observed: bool
    ends_at: int
    agents: tuple[Judged, ...]
    groups_unknown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDecisions:
    """The decisions and what they need."""

    deployment: Callable[[], Deployment]
    throttle: Throttle
    store: ExchangeStore
    lookups: Lookups
    settings: Settings
    bounds: Bounds
    clock: Clock

    def of(self, verified: VerifiedJob) -> JudgedJob | Denied:
        """Decide on every agent, or refuse the job as a whole. Raises Unavailable."""
        job = verified.job
        if reason := fork_refusal(verified, self.settings):
            return Denied(reason)
        # Before anything is read or asked for this job.
        if not self.throttle.admits(job):
            return Denied(Reason.THROTTLED)
        lookup = self.lookups.of(job)
        facts = self._facts_of_running(job, lookup)
        if isinstance(facts, Denied):
            return facts
        if not (verified.project_is_certain or lookup.project_runs_job()):
            return Denied(Reason.JOB_UNKNOWN)
        job = dataclasses.replace(job, environment_slug=lookup.environment_slug())
        surroundings = lookup.surroundings(facts.place, facts.chain)
        chain = trusted_chain(job, surroundings, bounds=self.bounds, now=self.clock())
        unasked_ends = unasked_until(
            facts.state,
            issued_at=verified.issued_at,
            settings=self.settings,
            bounds=self.bounds,
            now=self.clock(),
        )
        agents = self._judged(job, facts, surroundings, chain, lookup)
        if self.clock() >= unasked_ends:
            agents = tuple(_without_access(agent) for agent in agents)
        return JudgedJob(
            job=job,
            facts=facts,
            chain=chain,
            observed=is_observed(
                facts.state, settings=self.settings, bounds=self.bounds, now=self.clock()
            ),
            ends_at=int(min(verified.expires_at, unasked_ends)),
            agents=agents,
            groups_unknown=chain is None and (job.issuer, job.root_path) in self.deployment().roots,
        )

    def _judged(
        self,
        job: JobIdentity,
        facts: ExchangeFacts,
        surroundings: Surroundings,
        chain: NamespaceChain | None,
        lookup: JobLookup,
    ) -> tuple[Judged, ...]:
        group_ids = [group.namespace_id for group in chain.groups] if chain else []
        candidates = facts.project_agents | self.store.agents_of_groups(job.issuer, group_ids)
        agents = self.store.snapshots(job.issuer, candidates)
        where = dataclasses.replace(
            surroundings,
            config_places=lookup.config_places(agent for agent in agents.values() if agent),
        )
        return tuple(
            Judged(agent_id, agent, self._decision(job, facts, agent_id, agent, where))
            for agent_id, agent in agents.items()
        )

    def _decision(
        self,
        job: JobIdentity,
        facts: ExchangeFacts,
        agent_id: int,
        agent: AgentSnapshot | None,
        where: Surroundings,
    ) -> Decision:
        if agent is None:
            return Denied(Reason.CONFIG_UNKNOWN)
        decision = authorize(
            job, agent, where, settings=self.settings, bounds=self.bounds, now=self.clock()
        )
        # After the configuration's word: a stop tells of no agent that doesn't name the job.
        if isinstance(decision, Allowed) and (reason := self._stop_refusal(job, facts, agent_id)):
            return Denied(reason, decision.grant.rule)
        return decision

    def _facts_of_running(self, job: JobIdentity, lookup: JobLookup) -> ExchangeFacts | Denied:
        """What is known of a job that still runs and that no operator has stopped."""
        facts = self.store.exchange_facts(job)
        if reason := self._stop_refusal(job, facts, None):
            return Denied(reason)
        life, now = lookup.life(facts.state), self.clock()
        if reason := end_refusal(life, settings=self.settings, bounds=self.bounds, now=now):
            return Denied(reason)
        return dataclasses.replace(facts, state=life)

    def _stop_refusal(
        self, job: JobIdentity, facts: ExchangeFacts, agent_id: int | None
    ) -> Reason | None:
        return stop_refusal(job, agent_id=agent_id, stops=facts.stops, now=self.clock())


def _without_access(agent: Judged) -> Judged:
    """Refused after the configuration's word too, so that who isn't named is told just that."""
    if not isinstance(agent.decision, Allowed):
        return agent
    refused = Denied(Reason.JOB_UNKNOWN, agent.decision.grant.rule)
    return dataclasses.replace(agent, decision=refused)


def nearest_refusal(
    agents: Iterable[Judged], *, groups_unknown: bool
) -> tuple[Denied, Judged | None]:
    """Where none of `agents` lets a job in: the refusal that tells its author most, and whose."""
    for agent in agents:
        if isinstance(agent.decision, Denied) and agent.decision.reason is not Reason.NOT_LISTED:
            return agent.decision, agent
    return Denied(Reason.CHAIN_UNKNOWN if groups_unknown else Reason.NOT_LISTED), None
