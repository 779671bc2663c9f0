"""An admitted request on its way to the cluster: credential, upstream request, answer's head.

A credential may be renewed at any time, and a cluster refuses the old one. Nothing was done then,
so the request goes out once more with the new one, and no job notices.

The head may be long in coming (a log of a container that prints nothing, a slow backend). The right
to it is looked at all the while: once it has ended, the connection is closed, and the answer is a
refusal, since nothing of another was sent yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.cluster_credential import BearerToken, ClientCertificate
from jobgate.core.errors import OutOfTime, TimedOut, Unanswered, Unavailable
from jobgate.core.reasons import Reason
from jobgate.core.record import milliseconds
from jobgate.core.relay_refusal import CREDENTIAL_REFUSED, Refusal, in_doubt, withdrawn
from jobgate.core.upstream_request import changes_nothing, upstream_request

if TYPE_CHECKING:
    from jobgate.core.cluster_credential import ClusterSecret
    from jobgate.core.settings import Settings
    from jobgate.core.upstream_request import IncomingRequest
    from jobgate.ports import Clock
    from jobgate.ports.relay import ClusterGateway, ClusterSecrets, UpstreamResponse
    from jobgate.usecases.admission import Admitted
    from jobgate.usecases.ongoing_right import OngoingRight

_UNAUTHORIZED = 401
# A watch's own end comes so long before the others that it's on its way by then.
_MARGIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One request's way. `ends_at` is when a watch must have ended, in epoch seconds.

    `times` gets the record's milliseconds.
    """

    decision_id: str
    began_at: float
    right: OngoingRight
    ends_at: float
    times: dict[str, Any]


class _Withdrawn(Exception):  # noqa: N818  an event, not a mistake
    """The right to an answer ended while its head was awaited."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """Sends admitted requests."""

    secrets: ClusterSecrets
    clusters: ClusterGateway
    settings: Settings
    clock: Clock

    def send(
        self, incoming: IncomingRequest, admitted: Admitted, passage: Passage
    ) -> UpstreamResponse | Refusal:
        """The head of the cluster's answer, or why there is none."""
        credential, rule = admitted.credential, admitted.grant.rule
        changes = not changes_nothing(incoming.method)
        if credential is None:
            return Refusal(reason=Reason.AGENT_MODE_NOT_CONFIGURED, rule=rule)
        try:
            secret = self.secrets.fetch(credential)
            answer = self._sent(incoming, admitted, secret, passage)
            if answer is CREDENTIAL_REFUSED:
                renewed = self.secrets.renewed(credential, refused=secret)
                if renewed is not None:
                    answer = self._sent(incoming, admitted, renewed, passage)
        except _Withdrawn as exc:
            return withdrawn(exc.refusal, changes=changes)
        except Unavailable as exc:
            is_late = isinstance(exc, TimedOut | OutOfTime)
            reason = Reason.UPSTREAM_TIMEOUT if is_late else Reason.UPSTREAM_UNREACHABLE
            refusal = Refusal(reason=reason, rule=rule, cause=str(exc))
            return in_doubt(refusal) if changes and isinstance(exc, Unanswered) else refusal
        return answer

    def _sent(
        self, incoming: IncomingRequest, admitted: Admitted, secret: ClusterSecret, passage: Passage
    ) -> UpstreamResponse | Refusal:
        request = upstream_request(
            incoming,
            admitted.grant,
            identity=admitted.identity,
            cluster=admitted.cluster,
            bearer=secret.token if isinstance(secret, BearerToken) else None,
            decision_id=passage.decision_id,
            seconds=passage.ends_at - self.clock() - _MARGIN_SECONDS,
            allowed_identities=self.settings.allowed_identities,
        )
        if isinstance(request, Refusal):
            return request
        certificate = secret if isinstance(secret, ClientCertificate) else None
        sent_at, times = self.clock(), passage.times
        times.setdefault("ms_own", milliseconds(sent_at - passage.began_at))
        connect_seconds = 0.0
        try:
            answer = self.clusters.send(
                admitted.cluster,
                request,
                certificate=certificate,
                deadline=passage.right.deadline,
                meanwhile=lambda: _look(passage.right),
            )
            connect_seconds = answer.connect_seconds
        finally:
            times["ms_connect"] = milliseconds(connect_seconds)
            times["ms_upstream"] = milliseconds(self.clock() - sent_at - connect_seconds)
        # A backend behind the API server's proxy may have done something before it says so.
        if answer.status == _UNAUTHORIZED and not request.proxied:
            answer.close()
            return CREDENTIAL_REFUSED
        return answer


def _look(right: OngoingRight) -> None:
    if right.is_out_of_time:
        raise TimedOut("Lambda's time is over")
    refusal = right.refusal()
    if refusal is not None:
        raise _Withdrawn(refusal)
