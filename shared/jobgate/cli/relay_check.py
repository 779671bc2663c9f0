"""Asks the deployed relay about one agent's way to its cluster, over the public URL."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters.deployment_reader import DeploymentReader
from jobgate.adapters.https import HTTPSClient
from jobgate.adapters.kms_signer import KMSSigner
from jobgate.core import connection_check
from jobgate.core.connection_check import Outcome
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected

NOT_KNOWN_YET = "the relay answered 401: it doesn't take this deployment's own key"
"""Also for a while after a key or a GitLab instance is new (IssuersMaxAgeSeconds)."""

_SECONDS = 60.0
_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayAnswer:
    """What the relay said: its outcomes, or in `error` why there are none."""

    outcomes: tuple[Outcome, ...] = ()
    error: str | None = None

    def of(self, name: str) -> Outcome | None:
        """The outcome of a probe that was made."""
        return next((each for each in self.outcomes if each.name == name), None)


def ask_relay(connected: Connected, alias: str, agent_id: int) -> RelayAnswer:
    """Sign a check and send it; needs `kms:Sign` on the stack's signing keys."""
    stack, clock = connected.stack, connected.outside.clock
    deployment = DeploymentReader(connected.aws, stack.table, bounds=stack.bounds, clock=clock)
    try:
        found = deployment()
        base_url = connected.registry.known_base_url()
        signer = KMSSigner(connected.aws, deployment, clock=clock, kind=connection_check.TYPE)
        claims = connection_check.claims_of(
            alias, agent_id, base_url=base_url, jti=secrets.token_hex(16), now=clock()
        )
        token = signer.sign(claims)
        answer = _post(base_url, found.ca, agent_id, token)
    except Unavailable as exc:
        return RelayAnswer(error=str(exc))
    return answer


def _post(base_url: str, ca: str | None, agent_id: int, token: str) -> RelayAnswer:
    with contextlib.closing(HTTPSClient(base_url, ca)) as client:
        answer = client.send(
            "POST",
            f"/agents/{agent_id}{connection_check.PATH}",
            b"",
            headers={"Authorization": f"Bearer {token}"},
            seconds=_SECONDS,
            max_bytes=_MAX_BYTES,
        )
    if answer.status == 401:
        return RelayAnswer(error=NOT_KNOWN_YET)
    if answer.status != 200:
        return RelayAnswer(error=f"the relay answered {answer.status}")
    value: Any = answer.json()
    if not value["registered"]:
        return RelayAnswer(error="the relay knows no connection of this agent")
    return RelayAnswer(outcomes=tuple(Outcome(**each) for each in value["probes"]))
