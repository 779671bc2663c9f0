"""Agents' snapshots, as the exchange reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters.decision_store import DecisionStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.cli.connect import Connected
    from jobgate.core.agent import AgentSnapshot


def read_snapshots(
    connected: Connected, issuer: str, agent_ids: Iterable[int]
) -> Mapping[int, AgentSnapshot]:
    """By agent id; an agent without one is left out."""
    store = DecisionStore(connected.aws, connected.stack.table, clock=connected.outside.clock)
    return store.snapshots(issuer, agent_ids)
