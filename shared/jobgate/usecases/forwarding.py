"""An admitted request on its way to the cluster: credential, upstream request, answer's head.

A credential may be renewed at any time, and a cluster refuses the old one. Nothing was done then,
so the request goes out once more with the new one, and no job notices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.cluster_credential import BearerToken, ClientCertificate
from jobgate.core.errors import TimedOut, Unavailable
from jobgate.core.reasons import Reason
from jobgate.core.record import milliseconds
from jobgate.core.relay_refusal import CREDENTIAL_REFUSED, Refusal
from jobgate.core.upstream_request import upstream_request

if TYPE_CHECKING:
    from jobgate.core.cluster_credential import ClusterSecret
    from jobgate.core.settings import Settings
    from jobgate.core.upstream_request import IncomingRequest
    from jobgate.ports import Clock, ClusterGateway, ClusterSecrets, UpstreamResponse
    from jobgate.usecases.admission import Admitted

_UNAUTHORIZED = 401
# A watch's own end comes so long before the others that it's on its way by then.
_MARGIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One request's way. `deadline` and `ends_at` (when a watch must have ended) in epoch seconds.

    `times` gets the record's milliseconds.
    """

    decision_id: str
    began_at: float
    deadline: float
    ends_at: float
    times: dict[str, Any]


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
        if credential is None:
            return Refusal(reason=Reason.AGENT_MODE_NOT_CONFIGURED, rule=rule)
        try:
            secret = self.secrets.fetch(credential)
            answer = self._sent(incoming, admitted, secret, passage)
            if answer is CREDENTIAL_REFUSED:
                renewed = self.secrets.renewed(credential, refused=secret)
                if renewed is not None:
                    answer = self._sent(incoming, admitted, renewed, passage)
        except TimedOut as exc:
            return Refusal(reason=Reason.UPSTREAM_TIMEOUT, rule=rule, cause=str(exc))
        except Unavailable as exc:
            return Refusal(reason=Reason.UPSTREAM_UNREACHABLE, rule=rule, cause=str(exc))
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
                admitted.cluster, request, certificate=certificate, deadline=passage.deadline
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
