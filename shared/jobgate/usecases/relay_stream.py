"""The body of an allowed answer, whose right is looked at again and again while it flows.

Once the right has ended, nothing more passes: a JSON watch ends with an `ERROR` event that says
why, anything else breaks off, since an end would look like success.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobgate.core.errors import StreamCut, Unavailable
from jobgate.core.relay_refusal import ending_event
from jobgate.core.watch import KEEPALIVE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.core.relay_refusal import Refusal
    from jobgate.ports import Clock
    from jobgate.ports.relay import UpstreamResponse
    from jobgate.usecases.ongoing_right import OngoingRight

_NO_CONTENT = 204


@dataclass(slots=True, kw_only=True)
class RelayStream:
    """One answer: its status and its body.

    `keepalive_seconds`: a silent JSON watch then gets a byte.
    `ended` is how it ended: complete, revoked, expired (the token), deadline (Lambda's), broken (by
    the cluster), failed (by us), or cut (nobody reads on). With revoked and expired
    `refusal` says why.
    """

    upstream: UpstreamResponse
    right: OngoingRight
    is_json_watch: bool
    decision_id: str
    keepalive_seconds: float
    clock: Clock
    status: int = field(init=False)
    bytes_out: int = 0
    ended: str = "cut"
    refusal: Refusal | None = None
    _is_between: bool = True
    _sent_at: float = 0
    _first: bytes = b""
    _rest: Iterator[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.status, self._rest = self.upstream.status, self._flow()

    def begin(self) -> None:
        """Wait for the first byte, before which nothing is known to the caller.

        Without any the answer is one of no content. Lets go of what raises: StreamCut, Unavailable.
        """
        try:
            self._first = next(filter(None, self._rest), b"")
        except BaseException:
            self.upstream.close()
            raise
        if not self._first:
            self.status = _NO_CONTENT

    def pieces(self) -> Iterator[bytes]:
        """The body; an empty item means that nothing has come yet. The first never waits.

        Raises StreamCut and Unavailable, where the end of the items would look like success.
        """
        if self._first:
            yield self._first
        yield from self._rest

    def _flow(self) -> Iterator[bytes]:
        self._sent_at = self.clock()
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
        if self.right.is_out_of_time:
            self.ended = "deadline"
            raise StreamCut("Lambda's time is over")
        return self.right.refusal()

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
        self.ended = refusal.ends_as
        rest = b"" if self._is_between else piece[: piece.find(b"\n") + 1]
        if not self.is_json_watch or not (self._is_between or rest):
            raise StreamCut(f"the right to it has ended: {refusal.reason}")
        last = rest + ending_event(refusal, decision_id=self.decision_id)
        self.bytes_out += len(last)
        yield last
