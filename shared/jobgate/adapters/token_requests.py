"""TokenRequests at the clusters' API servers, over the relay's own connections."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jobgate.core.bound_token import requested_token, token_request
from jobgate.core.cluster_credential import BearerToken
from jobgate.core.errors import NotForUs, TimedOut, Unavailable
from jobgate.core.upstream_request import UpstreamRequest
from jobgate.ports.renewal import TokenRequests

if TYPE_CHECKING:
    from jobgate.core.agent import ClusterConnection
    from jobgate.core.bound_token import BoundToken
    from jobgate.core.cluster_credential import ClusterSecret
    from jobgate.ports import Clock
    from jobgate.ports.relay import ClusterGateway, UpstreamResponse

_SECONDS = 7.0
_MAX_BYTES = 64 * 1024
_REFUSALS = {
    401: "the cluster refuses the relay's credential, which has ended or was revoked",
    403: "the relay's account may not create a token for {account}: apply `jobgate rbac`",
    404: "the cluster has no account {account} any more",
}


class ClusterTokenRequests(TokenRequests):
    """Asks through a `ClusterGateway`, so that the same server, name and CA are believed."""

    def __init__(self, clusters: ClusterGateway, *, clock: Clock) -> None:
        self._clusters = clusters
        self._clock = clock

    def another(self, cluster: ClusterConnection, token: BoundToken, *, by: ClusterSecret) -> str:
        deadline = self._clock() + _SECONDS
        answer = self._clusters.send(
            cluster,
            _request(cluster, token, by),
            certificate=None if isinstance(by, BearerToken) else by,
            deadline=deadline,
            meanwhile=lambda: None,
        )
        try:
            return self._token(answer, token, deadline)
        finally:
            answer.close()

    def _token(self, answer: UpstreamResponse, token: BoundToken, deadline: float) -> str:
        if answer.status in _REFUSALS:
            account = f"{token.namespace}/{token.account}"
            raise NotForUs(_REFUSALS[answer.status].format(account=account))
        if answer.status not in (200, 201):
            raise Unavailable(f"the cluster answered {answer.status} to a TokenRequest")
        body = b""
        for piece in answer.chunks():
            body += piece
            if self._clock() >= deadline:
                raise TimedOut("the cluster's answer took too long")
            if len(body) > _MAX_BYTES:
                raise Unavailable("the cluster's answer is too long")
        try:
            return requested_token(body, like=token)
        except ValueError as exc:
            raise Unavailable(str(exc)) from exc


def _request(cluster: ClusterConnection, token: BoundToken, by: ClusterSecret) -> UpstreamRequest:
    path, body = token_request(token)
    parts = urlsplit(cluster.server)
    headers = [
        ("Host", parts.netloc),
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("User-Agent", "jobgate-reconcile"),
    ]
    if isinstance(by, BearerToken):
        headers.append(("Authorization", f"Bearer {by.token}"))
    return UpstreamRequest(
        method="POST",
        target=f"{parts.path}{path}",
        headers=tuple(headers),
        body=body,
        long_running=False,
        proxied=False,
    )
