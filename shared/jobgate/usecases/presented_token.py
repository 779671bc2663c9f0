"""An ID token that was presented: verified first, and no decision about it without a record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from jobgate.core import record
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.core.job import VerifiedJob
    from jobgate.ports import Clock, Recorder
    from jobgate.ports.exchange import TokenVerifier

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No access, with the reason that is nearest to being mended.

    `sentence` stands for the reason's own where that one would mislead.
    """

    reason: Reason
    decision_id: str
    sentence: str | None = None


@dataclass(frozen=True, slots=True)
class Presented:
    """A verified token, and where the decision about it is recorded."""

    verified: VerifiedJob
    decision_id: str
    record: Callable[..., None]

    def allow(self, values: Mapping[str, Any]) -> None:
        """Record that the job is let in, and by what."""
        self.record("allowed", **values)

    def refuse(
        self,
        reason: Reason,
        values: Mapping[str, Any] | None = None,
        *,
        sentence: str | None = None,
    ) -> Refused:
        """Record a refusal, and answer with it."""
        self.record("refused", reason=reason, **(values or {}))
        return Refused(reason=reason, decision_id=self.decision_id, sentence=sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedTokens:
    """Verifies tokens and hands them on; the only place where a subject token is hashed."""

    verifier: TokenVerifier
    recorder: Recorder
    clock: Clock
    new_id: Callable[[], str]

    def decide(
        self, subject_token: str, decision: Callable[[Presented], T | Refused]
    ) -> T | Refused:
        """What `decision` makes of the token.

        Never raises: an outside system that can't be asked is a refusal like any other, and none
        is recorded without its reason.
        """
        decision_id = self.new_id()
        token_hash = hashlib.sha256(subject_token.encode(errors="replace")).hexdigest()
        details: dict[str, Any] = {"decision_id": decision_id, "token_sha256": token_hash}

        def write(outcome: str, **values: Any) -> None:
            self.recorder(
                record.record("exchange", at=self.clock(), outcome=outcome, **details, **values)
            )

        def refused(reason: Reason, cause: Exception) -> Refused:
            write("refused", reason=reason, cause=str(cause))
            return Refused(reason=reason, decision_id=decision_id)

        try:
            verified = self.verifier.verify(subject_token)
            details |= record.of_job(verified.job)
            if verified.expires_at <= self.clock():
                # By the leeway alone: what is made of it now would already have ended.
                return refused(Reason.TOKEN_EXPIRED, InvalidToken("the ID token has expired"))
            return decision(Presented(verified, decision_id, write))
        except InvalidToken as exc:
            return refused(Reason.TOKEN_EXPIRED if exc.expired else Reason.TOKEN_INVALID, exc)
        except Unavailable as exc:
            return refused(Reason.JOB_UNKNOWN, exc)
