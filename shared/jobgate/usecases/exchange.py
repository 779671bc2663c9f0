"""Exchange: a CI job's ID token becomes an access token for the agents that it may use.

verify -> decide on each agent that may concern the job -> sign. What can't be known denies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from jobgate.core import access_token, record
from jobgate.core.access_token import AccessToken
from jobgate.core.agent_decision import names_job
from jobgate.core.authorization import Allowed, Denied
from jobgate.core.errors import Unavailable
from jobgate.core.impersonation import identity_of
from jobgate.core.kubeconfig import relay_url
from jobgate.core.reasons import Reason
from jobgate.usecases.job_decisions import nearest_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobgate.core.authorization import Grant
    from jobgate.core.bounds import Bounds
    from jobgate.core.issuer import Issuer
    from jobgate.core.job import VerifiedJob
    from jobgate.ports import Clock, Deployment
    from jobgate.ports.exchange import RedeemedTokens, TokenSigner
    from jobgate.usecases.job_decisions import JobDecisions, Judged, JudgedJob
    from jobgate.usecases.presented_token import Presented, PresentedTokens, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a job may use now, in the order of the contexts' names."""

    grants: tuple[Grant, ...]
    base_url: str
    decision_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged(Granted):
    """An access token besides; `expires_at` in epoch seconds, `expires_in` in seconds."""

    token: str
    expires_at: int
    expires_in: int


@dataclass(frozen=True, slots=True)
class _Choice:
    """The agents that a job gets, none where it's refused; `is_bound`: it asked for one alone."""

    judged: JudgedJob
    agents: tuple[Judged, ...]
    grants: tuple[Grant, ...]
    is_bound: bool


G = TypeVar("G", bound=Granted)

_REDEEMED_BEFORE = (
    "This ID token was redeemed before, and those of its GitLab are good once. "
    "Fetch one kubeconfig in a job, and keep it."
)
_GOOD_ONCE = (
    "The ID tokens of this GitLab are good once, so kubectl couldn't fetch another credential. "
    "Leave out format=exec."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The exchange and what it needs."""

    deployment: Callable[[], Deployment]
    tokens: PresentedTokens
    decisions: JobDecisions
    redeemed: RedeemedTokens
    signer: TokenSigner
    bounds: Bounds
    clock: Clock
    new_id: Callable[[], str]

    def redeem(self, subject_token: str, *, targets: Sequence[str] = ()) -> Exchanged | Refused:
        """Exchange an ID token; each of `targets` names the one agent that it's wanted for.

        A target is a relay URL or a context; the whole relay's audience asks for no single one.
        """
        return self.tokens.decide(
            subject_token, lambda presented: self._outcome(presented, targets, self._signed)
        )

    def grants(self, subject_token: str, *, targets: Sequence[str] = ()) -> Granted | Refused:
        """What `redeem` would give tokens for, again and again, without one.

        Refused where the ID token is good once.
        """

        def decided(presented: Presented) -> Granted | Refused:
            if self._issuer(presented.verified.job.issuer).single_use:
                return presented.refuse(Reason.UNSUPPORTED, sentence=_GOOD_ONCE)
            return self._outcome(presented, targets, self._granted)

        return self.tokens.decide(subject_token, decided)

    def _outcome(
        self,
        presented: Presented,
        targets: Sequence[str],
        granted: Callable[[Presented, _Choice], G | Refused],
    ) -> G | Refused:
        judged = self.decisions.of(presented.verified)
        if isinstance(judged, Denied):
            return presented.refuse(judged.reason)
        choice = self._choice(judged, targets)
        if not choice.grants:
            denied, about = nearest_refusal(choice.agents, groups_unknown=judged.groups_unknown)
            return presented.refuse(denied.reason, _of_refusal(denied, about))
        identities = [self._identity(judged, grant) for grant in choice.grants]
        outcome = granted(presented, choice)
        if not isinstance(outcome, Granted):
            return outcome
        for grant, identity in zip(choice.grants, identities, strict=True):
            presented.allow(record.of_grant(grant) | {"identity": identity})
        return outcome

    def _choice(self, judged: JudgedJob, targets: Sequence[str]) -> _Choice:
        base_url = self._base_url()
        wanted = [target for target in targets if target != access_token.audience(base_url)]
        agents = tuple(a for a in judged.agents if all(_is(t, a, base_url) for t in wanted))
        decisions = (agent.decision for agent in agents)
        grants = [decision.grant for decision in decisions if isinstance(decision, Allowed)]
        by_context = sorted(grants, key=lambda grant: grant.context)
        return _Choice(judged, agents, tuple(by_context), is_bound=bool(wanted))

    def _base_url(self) -> str:
        base_url = self.deployment().base_url
        if base_url is None:
            raise Unavailable("the deployment has no base URL yet: run `jobgate setup`")
        return base_url

    def _granted(self, presented: Presented, choice: _Choice) -> Granted:
        return Granted(
            grants=choice.grants, base_url=self._base_url(), decision_id=presented.decision_id
        )

    def _signed(self, presented: Presented, choice: _Choice) -> Exchanged | Refused:
        now = self.clock()
        token = AccessToken(
            job=choice.judged.job,
            decision_id=presented.decision_id,
            jti=self.new_id(),
            expires_at=access_token.expiry(
                ends_at=choice.judged.ends_at,
                observed=choice.judged.observed,
                bounds=self.bounds,
                now=now,
            ),
            agent_id=choice.grants[0].agent_id if choice.is_bound else None,
        )
        base_url = self._base_url()
        signed = self.signer.sign(access_token.claims_of(token, base_url=base_url, now=now))
        # Taken once nothing else can fail: a signing key that is away doesn't use the ID token up.
        # Of many at once each may sign, and one is answered; a signature that nobody gets is none.
        if not self._is_first_use(presented.verified):
            return presented.refuse(Reason.TOKEN_INVALID, sentence=_REDEEMED_BEFORE)
        return Exchanged(
            token=signed,
            expires_at=token.expires_at,
            expires_in=int(token.expires_at - now),
            grants=choice.grants,
            base_url=base_url,
            decision_id=presented.decision_id,
        )

    def _is_first_use(self, verified: VerifiedJob) -> bool:
        if not self._issuer(verified.job.issuer).single_use:
            return True
        until = verified.expires_at + self.bounds.leeway
        return self.redeemed.claim(verified.job.issuer, verified.jti, expires_at=until)

    def _issuer(self, alias: str) -> Issuer:
        issuer = self.deployment().issuers.get(alias)
        if issuer is None:
            raise Unavailable("the job's issuer was removed meanwhile")
        return issuer

    def _identity(self, judged: JudgedJob, grant: Grant) -> dict[str, Any] | None:
        """As whom the grant lets the job act, for the record; None as the agent itself."""
        issuer = self._issuer(judged.job.issuer)
        return record.of_identity(identity_of(judged.job, grant, issuer=issuer, chain=judged.chain))


def _is(target: str, agent: Judged, base_url: str) -> bool:
    """Whether a target names this agent, of which the job may know."""
    if agent.snapshot is None or not names_job(agent.decision):
        return False
    return target in (agent.snapshot.context, relay_url(base_url, agent.agent_id))


def _of_refusal(denied: Denied, about: Judged | None) -> dict[str, Any]:
    """A record's values about the agent that the job came nearest to."""
    if about is None or about.snapshot is None:
        return {}
    values = record.of_agent(about.snapshot)
    return values if denied.rule is None else values | {"rule": record.of_rule(denied.rule)}
