"""The right to an answer, looked at again and again until the answer has ended.

Whoever was allowed to begin isn't allowed to go on for ever: a job ends, an entry is removed, an
operator stops it. Every half second, whether anything has come or not, the same question is asked
as before the request, of facts that are at most RELAY_CACHE old: while the answer's head is awaited
as well as while its body flows.

While the facts can't be had, what is known counts until it's five seconds old, no longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobgate.core.errors import Unavailable
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.ports import Clock

_LOOK_SECONDS = 0.5
# How old what a right rests on may become; what is read may be RELAY_CACHE old already.
_FACTS_MAX_AGE_SECONDS = 5.0
# Before the runtime breaks off, which can't say why.
_MARGIN_SECONDS = 2.0


@dataclass(slots=True, kw_only=True)
class OngoingRight:
    """One request's right. `withdrawal` says why it may not go on.

    `allowed_at` is when that was decided last, `deadline` when Lambda's time is over, both in epoch
    seconds. `believed_seconds`: how old what `withdrawal` rests on may be.
    """

    withdrawal: Callable[[], Refusal | None]
    allowed_at: float
    deadline: float
    believed_seconds: float
    clock: Clock
    _looked_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._looked_at = self.allowed_at

    @property
    def is_out_of_time(self) -> bool:
        """Whether what is left of Lambda's time does for the last words alone."""
        return self.clock() >= self.deadline - _MARGIN_SECONDS

    def refusal(self) -> Refusal | None:
        """Why it may not go on, None where it may; to be asked as often as there is occasion."""
        now = self.clock()
        # A clock that was set back mustn't put the next look off.
        if 0 <= now - self._looked_at < _LOOK_SECONDS:
            return None
        try:
            refusal = self.withdrawal()
        except Unavailable as exc:
            self._looked_at = self.clock()
            patience = _FACTS_MAX_AGE_SECONDS - self.believed_seconds
            if 0 <= self._looked_at - self.allowed_at < patience:
                return None
            return Refusal(reason=Reason.JOB_UNKNOWN, cause=str(exc))
        self._looked_at, self.allowed_at = self.clock(), now
        return refusal
