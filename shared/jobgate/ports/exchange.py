"""What the exchange needs: a job's token verified, the stored facts, an access token signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import JobIdentity, VerifiedJob
    from jobgate.core.liveness import JobLife, Stop
    from jobgate.core.namespace import NamespaceChain, ProjectPlace


class TokenVerifier(Protocol):
    """The only source of a `JobIdentity` in production."""

    def verify(self, subject_token: str) -> VerifiedJob:
        """Raises InvalidToken, or Unavailable where the issuer's keys can't be had."""
        ...


class TokenSigner(Protocol):
    """Signs access tokens with the key that is due."""

    def sign(self, claims: Mapping[str, object]) -> str:
        """The token in compact form (RFC 7515, 3.1)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeFacts:
    """What is stored about a job at its exchange. `stops` of None: the item is missing."""

    project_agents: frozenset[int]
    place: ProjectPlace | None
    chain: NamespaceChain | None
    state: JobLife
    stops: tuple[Stop, ...] | None


class ExchangeStore(Protocol):
    """The exchange's reads, each at most one round trip for up to a hundred agents."""

    def exchange_facts(self, job: JobIdentity) -> ExchangeFacts: ...

    def agents_of_groups(self, issuer: str, group_ids: Sequence[int]) -> frozenset[int]:
        """The agents that may concern these groups or the whole instance."""
        ...

    def snapshots(
        self, issuer: str, agent_ids: Iterable[int]
    ) -> Mapping[int, AgentSnapshot | None]:
        """By agent id; an agent without one is left out, and one that can't be read is None.

        So one agent's snapshot, which others write, never takes the other agents away.
        """
        ...


class ExchangeCounter(Protocol):
    """Counts what a project asks of the exchange, for all functions together."""

    def count(
        self, issuer: str, project_id: int, *, window: int, limit: int, ends_at: float
    ) -> bool:
        """Count one request in a window that ends at `ends_at`; false at the limit."""
        ...


class RedeemedTokens(Protocol):
    """The ID tokens that were redeemed, of issuers whose tokens are good once."""

    def claim(self, issuer: str, jti: str, *, expires_at: float) -> bool:
        """Take a token for the caller alone; false where it was taken before.

        Kept beyond `expires_at`, from which on nobody accepts the token.
        """
        ...
