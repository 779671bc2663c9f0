"""Configuration projects, and agents' snapshots as the exchange reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import agent_items
from jobgate.adapters.decision_store import DecisionStore
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.cli.connect import Connected
    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports.refresh import ConfigProjectItem


def config_projects(connected: Connected, alias: str | None = None) -> list[ConfigProjectItem]:
    """The configuration projects of an issuer, or of all of them (None), by issuer and id."""
    found = (agent_items.config_project_of(i) for i in connected.table.query("CONFIG_PROJECTS"))
    wanted = [p for p in found if p is not None and alias in (None, p.issuer)]
    return sorted(wanted, key=lambda project: (project.issuer, project.project_id))


def read_snapshots(
    connected: Connected, issuer: str, agent_ids: Iterable[int]
) -> Mapping[int, AgentSnapshot]:
    """By agent id; an agent without one is left out. Raises Unavailable for an unreadable one."""
    store = DecisionStore(connected.aws, connected.stack.table, clock=connected.outside.clock)
    snapshots: dict[int, AgentSnapshot] = {}
    for agent_id, snapshot in store.snapshots(issuer, agent_ids).items():
        if snapshot is None:
            raise Unavailable(f"the snapshot of agent {agent_id} can't be read")
        snapshots[agent_id] = snapshot
    return snapshots
