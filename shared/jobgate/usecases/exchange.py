"""Exchange: a CI job's ID token becomes an access token for the agents that it may use.

verify -> decide on each agent that may concern the job -> sign. What can't be known denies.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from jobgate.core import access_token, record
from jobgate.core.access_token import AccessToken
from jobgate.core.authorization import Allowed, Denied
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.impersonation import identity_of
from jobgate.core.kubeconfig import relay_url
from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobgate.core.authorization import Grant
    from jobgate.core.bounds import Bounds
    from jobgate.core.job import VerifiedJob
    from jobgate.ports import Clock, Deployment, Recorder, TokenSigner, TokenVerifier
    from jobgate.usecases.job_decisions import JobDecisions, Judged, JudgedJob


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


G = TypeVar("G", bound=Granted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No access, with the reason that is nearest to being mended."""

    reason: Reason
    decision_id: str


@dataclass(frozen=True, slots=True)
class _Choice:
    """The agents that an allowed job gets; `is_bound`: it asked for this one alone."""

    judged: JudgedJob
    grants: tuple[Grant, ...]
    is_bound: bool


@dataclass(frozen=True, slots=True)
class _Miss:
    """The refusal that tells the job's author most, and the agent that it is about."""

    denied: Denied
    about: Judged | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The exchange and what it needs."""

    deployment: Callable[[], Deployment]
    verifier: TokenVerifier
    decisions: JobDecisions
    signer: TokenSigner
    recorder: Recorder
    bounds: Bounds
    clock: Clock
    new_id: Callable[[], str]

    def redeem(self, subject_token: str, *, targets: Sequence[str] = ()) -> Exchanged | Refused:
        """Exchange an ID token; each of `targets` names the one agent that it's wanted for.

        A target is a relay URL or a context. Never raises: an outside system that can't be asked is
        a refusal like any other, and none is recorded without its reason.
        """
        return self._decided(subject_token, targets, self._signed)

    def grants(self, subject_token: str, *, targets: Sequence[str] = ()) -> Granted | Refused:
        """What `redeem` would give a token for, without one."""
        return self._decided(subject_token, targets, self._granted)

    def _decided(
        self,
        subject_token: str,
        targets: Sequence[str],
        outcome_of: Callable[[VerifiedJob, _Choice, str], G],
    ) -> G | Refused:
        decision_id = self.new_id()
        token_hash = hashlib.sha256(subject_token.encode(errors="replace")).hexdigest()
        details: dict[str, Any] = {"token_sha256": token_hash}
        try:
            verified = self.verifier.verify(subject_token)
            details |= record.of_job(verified.job)
            choice = self._choice(verified, targets)
            if isinstance(choice, _Miss):
                return self._refused(
                    choice.denied.reason, decision_id, **details, **_of_agent(choice)
                )
            outcome = outcome_of(verified, choice, decision_id)
        except InvalidToken as exc:
            reason = Reason.TOKEN_EXPIRED if exc.expired else Reason.TOKEN_INVALID
            return self._refused(reason, decision_id, cause=str(exc), **details)
        except Unavailable as exc:
            return self._refused(Reason.JOB_UNKNOWN, decision_id, cause=str(exc), **details)
        for grant in choice.grants:
            values = record.of_grant(grant) | {"identity": self._identity(choice.judged, grant)}
            self._record("allowed", decision_id, **details, **values)
        return outcome

    def _choice(self, verified: VerifiedJob, targets: Sequence[str]) -> _Choice | _Miss:
        judged = self.decisions.of(verified)
        if isinstance(judged, Denied):
            return _Miss(judged)
        decisions = [agent.decision for agent in judged.agents]
        grants = [decision.grant for decision in decisions if isinstance(decision, Allowed)]
        wanted = [target for target in targets if target != self._whole_relay()]
        if wanted:
            grants = [g for g in grants if all(self._is(target, g) for target in wanted)]
        if not grants:
            return _Miss(Denied(Reason.NOT_LISTED)) if wanted else _nearest(judged)
        by_context = sorted(grants, key=lambda grant: grant.context)
        return _Choice(judged, tuple(by_context), is_bound=bool(wanted))

    def _is(self, target: str, grant: Grant) -> bool:
        return target in (grant.context, relay_url(self._base_url(), grant.agent_id))

    def _whole_relay(self) -> str:
        return access_token.audience(self._base_url())

    def _base_url(self) -> str:
        base_url = self.deployment().base_url
        if base_url is None:
            raise Unavailable("the deployment has no base URL yet: run `jobgate setup`")
        return base_url

    def _granted(self, _verified: VerifiedJob, choice: _Choice, decision_id: str) -> Granted:
        return Granted(grants=choice.grants, base_url=self._base_url(), decision_id=decision_id)

    def _signed(self, verified: VerifiedJob, choice: _Choice, decision_id: str) -> Exchanged:
        now = self.clock()
        token = AccessToken(
            job=choice.judged.job,
            decision_id=decision_id,
            jti=self.new_id(),
            expires_at=access_token.expiry(
                subject_expires_at=verified.expires_at,
                state=choice.judged.facts.state,
                bounds=self.bounds,
                now=now,
            ),
            agent_id=choice.grants[0].agent_id if choice.is_bound else None,
        )
        base_url = self._base_url()
        signed = self.signer.sign(access_token.claims_of(token, base_url=base_url, now=now))
        return Exchanged(
            token=signed,
            expires_at=token.expires_at,
            expires_in=int(token.expires_at - now),
            grants=choice.grants,
            base_url=base_url,
            decision_id=decision_id,
        )

    def _identity(self, judged: JudgedJob, grant: Grant) -> dict[str, Any] | None:
        """As whom the grant lets the job act, for the record; None as the agent itself."""
        issuer = self.deployment().issuers.get(judged.job.issuer)
        if issuer is None:
            return None
        return record.of_identity(identity_of(judged.job, grant, issuer=issuer, chain=judged.chain))

    def _record(self, outcome: str, decision_id: str, **values: Any) -> None:
        self.recorder(
            record.record(
                "exchange", at=self.clock(), outcome=outcome, decision_id=decision_id, **values
            )
        )

    def _refused(self, reason: Reason, decision_id: str, **values: Any) -> Refused:
        self._record("refused", decision_id, reason=reason, **values)
        return Refused(reason=reason, decision_id=decision_id)


def _nearest(judged: JudgedJob) -> _Miss:
    for agent in judged.agents:
        if isinstance(agent.decision, Denied) and agent.decision.reason is not Reason.NOT_LISTED:
            return _Miss(agent.decision, agent)
    if judged.groups_unknown:
        return _Miss(Denied(Reason.CHAIN_UNKNOWN))
    return _Miss(Denied(Reason.NOT_LISTED))


def _of_agent(miss: _Miss) -> dict[str, Any]:
    """A record's values about the agent that the job came nearest to."""
    if miss.about is None or miss.about.snapshot is None:
        return {}
    rule = miss.denied.rule
    return record.of_agent(miss.about.snapshot) | (
        {} if rule is None else {"rule": record.of_rule(rule)}
    )
