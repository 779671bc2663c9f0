"""The body of an allowed answer, decided about again and again while it flows.

Whoever was allowed to begin isn't allowed to go on for ever: a job ends, an entry is removed, an
operator stops it. Every half second, whether anything flows or not, the same question is asked as
before the request, of facts that are at most RELAY_CACHE old. Once the answer is no, nothing more
passes: a JSON watch ends with an `ERROR` event that says why, anything else breaks off, since an
end would look like success.

While the facts can't be had, what is known counts until it's five seconds old, no longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.errors import StreamCut, Unavailable
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import Refusal, ending_event
from jobgate.core.watch import KEEPALIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.ports import Clock, UpstreamResponse

_LOOK_SECONDS = 0.5
# How old what a stream's right rests on may become; what is read may be RELAY_CACHE old already.
_FACTS_MAX_AGE_SECONDS = 5.0
# Before the runtime breaks off, which can't say why.
_MARGIN_SECONDS = 2.0


@dataclass(slots=True, kw_only=True)
class RelayStream:
    """One answer's body. `withdrawal` says why it may not go on.

    `allowed_at` is when it was decided to ask for it (the answer may have been long in coming), and
    `deadline` when Lambda's time is over, both in epoch seconds.
    `keepalive_seconds`: a silent JSON watch then gets a byte. `believed_seconds`: how old what
    `withdrawal` rests on may be.

    `ended` is how it ended: complete, revoked, expired (the token), deadline (Lambda's), broken (by
    the cluster), failed (by us), or cut (nobody reads on). With revoked and expired
    `refusal` says why.
    """

    upstream: UpstreamResponse
    withdrawal: Callable[[], Refusal | None]
    is_json_watch: bool
    decision_id: str
    allowed_at: float
    deadline: float
    keepalive_seconds: float
    believed_seconds: float
    clock: Clock
    bytes_out: int = 0
    ended: str = "cut"
    refusal: Refusal | None = None
    _is_between: bool = True
    _looked_at: float = 0
    _sent_at: float = 0

    def pieces(self) -> Iterator[bytes]:
        """The body; an empty item means that nothing has come yet. The first never waits.

        Raises StreamCut and Unavailable, where the end of the items would look like success.
        """
        self._looked_at, self._sent_at = self.allowed_at, self.clock()
        try:
            for piece in self.upstream.chunks():
                refusal = self._refusal()
                if refusal is not None:
                    yield from self._last_words(piece, refusal)
                    return
                yield self._passed(piece)
            self.ended = "complete"
        except StreamCut:
            raise
        except Unavailable:
            self.ended = "broken"
            raise
        except Exception:
            self.ended = "failed"
            raise

    def _refusal(self) -> Refusal | None:
        now = self.clock()
        if now >= self.deadline - _MARGIN_SECONDS:
            self.ended = "deadline"
            raise StreamCut("Lambda's time is over")
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

    def _passed(self, piece: bytes) -> bytes:
        now = self.clock()
        if piece:
            self._is_between = piece.endswith(b"\n")
        elif self.is_json_watch and self._is_between and self._is_silent(now):
            piece = KEEPALIVE
        if piece:
            self._sent_at = now
            self.bytes_out += len(piece)
        return piece

    def _is_silent(self, now: float) -> bool:
        return not 0 <= now - self._sent_at < self.keepalive_seconds

    def _last_words(self, piece: bytes, refusal: Refusal) -> Iterator[bytes]:
        """The rest of an event that had begun, and why no other follows; else a broken stream."""
        self.refusal = refusal
        self.ended = "expired" if refusal.reason is Reason.TOKEN_EXPIRED else "revoked"
        rest = b"" if self._is_between else piece[: piece.find(b"\n") + 1]
        if not self.is_json_watch or not (self._is_between or rest):
            raise StreamCut(f"the right to it has ended: {refusal.reason}")
        last = rest + ending_event(refusal, decision_id=self.decision_id)
        self.bytes_out += len(last)
        yield last
