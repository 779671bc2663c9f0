"""What the relay needs: its facts, the cluster's credential, and the way to the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jobgate.core.access_token import AccessToken
    from jobgate.core.agent import AgentSnapshot, ClusterConnection, ClusterCredential
    from jobgate.core.cluster_credential import ClientCertificate, ClusterSecret
    from jobgate.core.job import JobIdentity
    from jobgate.core.liveness import JobLife, Stop
    from jobgate.core.namespace import NamespaceChain, ProjectPlace
    from jobgate.core.upstream_request import UpstreamRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFacts:
    """What is stored about a job and the agent that it asks for.

    `stops_read_at` (epoch seconds) is when the stops were read, None for now, like the rest.
    """

    snapshot: AgentSnapshot | None
    cluster: ClusterConnection | None
    place: ProjectPlace | None
    chain: NamespaceChain | None
    state: JobLife
    stops: tuple[Stop, ...] | None
    stops_read_at: float | None = None


class RelayStore(Protocol):
    """The relay's reads, in one round trip."""

    def relay_facts(self, job: JobIdentity, agent_id: int) -> RelayFacts: ...


class AccessTokenVerifier(Protocol):
    """Checks our own tokens, without a call."""

    def verify(self, access_token: str) -> AccessToken:
        """Raises InvalidToken."""
        ...

    def check(self, token: str) -> tuple[str, int]:
        """The issuer's alias and the agent of an operator's check; raises InvalidToken."""
        ...


class ClusterSecrets(Protocol):
    """The credentials that registration put into the secrets' store."""

    def fetch(self, credential: ClusterCredential) -> ClusterSecret: ...

    def renewed(
        self, credential: ClusterCredential, *, refused: ClusterSecret
    ) -> ClusterSecret | None:
        """Read it anew, since a cluster refused it; None where there is no other yet.

        Not more often than every few seconds, so that no caller can make us ask on and on.
        """
        ...


class UpstreamResponse(Protocol):
    """The head of a cluster's answer, and the way to its body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None  # the body's bytes, where they are known beforehand
    connect_seconds: float

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, never decoded.

        The first item never waits, and no wait is longer than half a second: an empty item means
        that nothing has come yet. Raises Unavailable where the body breaks off.
        """
        ...

    def close(self) -> None:
        """Let go of an answer, read to its end or not."""
        ...


class ClusterGateway(Protocol):
    """Sends requests to the clusters' API servers."""

    def send(
        self,
        cluster: ClusterConnection,
        request: UpstreamRequest,
        *,
        certificate: ClientCertificate | None,
        deadline: float,
        meanwhile: Callable[[], None],
    ) -> UpstreamResponse:
        """Send a request, and never twice what may change something; `deadline` in epoch seconds.

        While it's taken and the head of the answer is awaited, `meanwhile` is called every half
        second; what it raises ends the wait and the connection. Raises Unanswered (TimedOut among
        them) where it was sent and no head came, OutOfTime and Unavailable where nothing was.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a streaming handler answers. Of `body` the same holds as of `UpstreamResponse.chunks`.

    An exception out of `body` breaks the stream visibly, where its end would look like success. A
    body without a single byte gets a line feed, unless the status is 204 or 304: no other empty
    answer is carried by every front.
    With a `length`, the body's bytes, nothing waits behind the last one, so that the end travels
    with it.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: Iterator[bytes]
    length: int | None = None
