"""Renews the clusters' bound tokens at half their life, each by a TokenRequest on its own account.

The relay's credential asks for both of an agent's tokens: the agent's own may create none, since a
job that acts as the agent could else give itself a token that outlives every revocation. The old
token stays good until its own end, so half a life is left for whatever fails, and the relay takes
the new one up in its own time.

One agent's failure holds up no other. A round that runs out of time is gone on with by the next
one, which begins anywhere in the list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.agent import Credential
from jobgate.core.bound_token import bound_token
from jobgate.core.cluster_credential import BearerToken
from jobgate.core.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jobgate.core.agent import ClusterConnection
    from jobgate.core.bound_token import BoundToken
    from jobgate.core.cluster_credential import ClusterSecret
    from jobgate.ports import Clock, Recorder
    from jobgate.ports.renewal import (
        AgentConnections,
        StoredCredential,
        StoredCredentials,
        TokenRequests,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The renewal and what it needs; `pick` picks one of so many at random, from 0."""

    agents: AgentConnections
    stored: StoredCredentials
    requests: TokenRequests
    recorder: Recorder
    clock: Clock
    pick: Callable[[int], int]

    def run(self, *, until: float) -> None:
        """Renew what is due; begins nothing after `until`, in epoch seconds."""
        agents = sorted(self._known())
        first = self.pick(len(agents)) if agents else 0
        for done, (issuer, agent_id) in enumerate(agents[first:] + agents[:first]):
            if self.clock() >= until:
                left = len(agents) - done
                self._tell(agent_id, issuer, warning=f"{left} agents are left to the next round")
                return
            self._agent(issuer, agent_id)

    def _known(self) -> list[tuple[str, int]]:
        """Every agent that can be read of: one project that can't holds no other's up."""
        known = []
        try:
            for agent in self.agents.agents():
                known.append(agent)  # noqa: PERF402  what came before a failure counts
        except Unavailable as exc:
            self.recorder(json.dumps({"type": "cluster_credential", "error": str(exc)}))
        return known

    def _agent(self, issuer: str, agent_id: int) -> None:
        try:
            cluster = self.agents.cluster(issuer, agent_id)
        except Unavailable as exc:
            self._tell(agent_id, issuer, error=str(exc))
            return
        if cluster is None:
            return
        for name, credential in _renewable(cluster):
            told: Mapping[str, object] | None
            try:
                told = self._credential(cluster, credential)
            except Conflict:
                told = {"warning": "another version was stored meanwhile, and counts"}
            except Unavailable as exc:
                told = {"error": str(exc)}
            if told is not None:
                self._tell(agent_id, issuer, credential=name, **told)

    def _credential(
        self, cluster: ClusterConnection, credential: Credential
    ) -> Mapping[str, object] | None:
        """Renew one credential if that's due; what there is to tell."""
        stored = self.stored.read(credential)
        old = _bound(stored)
        if old is None or not old.is_due(self.clock()):
            return None
        new = self.requests.another(cluster, old, by=self._by(cluster, stored))
        self.stored.replace(stored, by=BearerToken(new))
        made = bound_token(new)
        if made is None or made.is_due(self.clock()):
            return {"error": "the new token is due at once: the cluster's clock is far from ours"}
        return {"renewed": True, "hours_left": round((made.expires_at - self.clock()) / 3600, 1)}

    def _by(self, cluster: ClusterConnection, stored: StoredCredential) -> ClusterSecret:
        """The relay's credential, as it's stored by now."""
        relay = cluster.relay_credential
        if not isinstance(relay, Credential):
            raise Unavailable("the relay's identity is AWS's, and can't ask for the agent's token")
        return (stored if relay == stored.credential else self.stored.read(relay)).secret

    def _tell(self, agent_id: int, issuer: str, **values: object) -> None:
        """A line for the log, from which the alarm's metric is taken."""
        head = {"type": "cluster_credential", "issuer": issuer, "agent_id": agent_id}
        self.recorder(json.dumps(head | values))


def _renewable(cluster: ClusterConnection) -> Iterator[tuple[str, Credential]]:
    """The stored tokens of an agent, the one that asks for both first."""
    for name, credential in (
        ("relay", cluster.relay_credential),
        ("agent", cluster.agent_credential),
    ):
        if isinstance(credential, Credential) and credential.kind == "token":
            yield name, credential


def _bound(stored: StoredCredential) -> BoundToken | None:
    return bound_token(stored.secret.token) if isinstance(stored.secret, BearerToken) else None
