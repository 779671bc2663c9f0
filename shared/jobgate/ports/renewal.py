"""What the renewal of the clusters' tokens needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.core.agent import ClusterConnection, Credential
    from jobgate.core.bound_token import BoundToken
    from jobgate.core.cluster_credential import BearerToken, ClusterSecret


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential:
    """A cluster's credential with the version of the secret that it was read from."""

    credential: Credential
    secret: ClusterSecret
    version: str


class AgentConnections(Protocol):
    """The agents of all issuers, and where their clusters are."""

    def agents(self) -> Iterable[tuple[str, int]]:
        """Issuer alias and id of each agent that a configuration project lists.

        Raises Unavailable where a project can't be read, after the agents of all others.
        """
        ...

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None: ...


class StoredCredentials(Protocol):
    """The clusters' stored credentials, to renew them."""

    def read(self, credential: Credential) -> StoredCredential: ...

    def replace(self, stored: StoredCredential, *, by: BearerToken) -> None:
        """Make `by` the current version; raises Conflict where `stored` isn't that any more."""
        ...


class TokenRequests(Protocol):
    """Asks a cluster for tokens."""

    def another(self, cluster: ClusterConnection, token: BoundToken, *, by: ClusterSecret) -> str:
        """A new token like `token`, asked for by the bearer of `by`.

        Raises NotForUs where the cluster refuses that, Unavailable where it can't be asked.
        """
        ...
