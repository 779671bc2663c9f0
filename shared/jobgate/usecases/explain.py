"""Explain: what the exchange would say of each agent that names the job, without a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.agent_decision import agent_decision, names_job
from jobgate.core.authorization import Allowed, Denied
from jobgate.core.errors import Unavailable
from jobgate.core.explanation import Explanation
from jobgate.usecases.job_decisions import nearest_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.agent_decision import AgentDecision
    from jobgate.core.job import VerifiedJob
    from jobgate.ports import Deployment
    from jobgate.usecases.job_decisions import JobDecisions, JudgedJob
    from jobgate.usecases.presented_token import PresentedTokens, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """The explanation and what it needs: the exchange's own decisions."""

    deployment: Callable[[], Deployment]
    tokens: PresentedTokens
    decisions: JobDecisions

    def run(self, subject_token: str, *, context: str | None = None) -> Explanation | Refused:
        """Explain the access of an ID token's job to the agent of `context`, or to all.

        A token that isn't good, or a job that can't be judged at the moment, is refused.
        """
        return self.tokens.decide(
            subject_token,
            lambda presented: self.of(
                presented.verified, decision_id=presented.decision_id, context=context
            ),
        )

    def of(
        self, verified: VerifiedJob, *, decision_id: str, context: str | None = None
    ) -> Explanation:
        """Explain a verified job's access. Raises Unavailable.

        Agents that don't name the job's project, its groups or the instance stay invisible.
        """
        judged = self.decisions.of(verified)
        if isinstance(judged, Denied):
            return Explanation(
                job=verified.job, decision_id=decision_id, reason=judged.reason, agents=()
            )
        agents = tuple(a for a in self._agents(judged) if context in (None, a.context))
        refusal, _ = nearest_refusal(
            [a for a in judged.agents if a.agent_id in {shown.agent_id for shown in agents}],
            groups_unknown=judged.groups_unknown,
        )
        is_allowed = any(isinstance(agent.decision, Allowed) for agent in agents)
        return Explanation(
            job=judged.job,
            decision_id=decision_id,
            reason=None if is_allowed else refusal.reason,
            agents=agents,
        )

    def _agents(self, judged: JudgedJob) -> list[AgentDecision]:
        issuer = self.deployment().issuers.get(judged.job.issuer)
        if issuer is None:
            raise Unavailable("the job's issuer was removed meanwhile")
        agents = [
            agent_decision(
                judged.job, agent.snapshot, agent.decision, issuer=issuer, chain=judged.chain
            )
            for agent in judged.agents
            if agent.snapshot is not None and names_job(agent.decision)
        ]
        return sorted(agents, key=lambda agent: agent.context)
