"""Gathers what doctor judges of one agent; its cluster is asked by the relay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import agent_items, items
from jobgate.adapters.batch_get import batch_get
from jobgate.cli import registration
from jobgate.cli.agent_diagnosis import AgentFacts
from jobgate.cli.relay_check import ask_relay
from jobgate.cli.snapshots import read_snapshots
from jobgate.core.agent import AsAgent
from jobgate.usecases.publish import subjects_of

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected
    from jobgate.core.agent import AgentSnapshot


def agent_facts(
    connected: Connected,
    alias: str,
    agent_id: int,
    of: tuple[int, str],
    *,
    files: frozenset[str] | None,
) -> AgentFacts:
    """`of` is its project's id and its name; `files` the names that have a file, None: unknown."""
    project_id, name = of
    cluster = agent_items.cluster_of(connected.table.get(items.cluster_key(alias, agent_id)))
    listed = registration.config_project(connected.table, alias, project_id)
    complete = listed is not None and agent_id in listed.agents
    snapshot = read_snapshots(connected, alias, [agent_id]).get(agent_id)
    asks = complete and cluster is not None
    return AgentFacts(
        context=f"project {project_id}:{name}" if snapshot is None else snapshot.context,
        agent_id=agent_id,
        complete=complete,
        connected=cluster is not None,
        has_own=cluster is not None and cluster.agent_credential is not None,
        refreshed=snapshot is not None,
        valid=snapshot is not None and snapshot.valid,
        has_file=files is None or name in files,
        problems=0 if snapshot is None else len(snapshot.problems),
        missing=[] if snapshot is None else _missing(connected, snapshot),
        uses_agent_mode=snapshot is not None and _uses_agent_mode(snapshot),
        relay=ask_relay(connected, alias, agent_id) if asks else None,
    )


def _missing(connected: Connected, snapshot: AgentSnapshot) -> list[str]:
    """The subjects that the index doesn't lead from to this agent."""
    keys = {
        f"{subject.kind} {subject.id}": items.subject_key(snapshot.issuer, subject.kind, subject.id)
        for subject in subjects_of(snapshot)
    }
    found = batch_get(connected.aws, connected.stack.table, list(keys.values()))
    return sorted(
        name for name, key in keys.items() if snapshot.agent_id not in items.agents_of(found(key))
    )


def _uses_agent_mode(snapshot: AgentSnapshot) -> bool:
    entries = [*snapshot.projects.values(), *snapshot.groups.values()]
    entries += [] if snapshot.instance is None else [snapshot.instance]
    return any(isinstance(e.access_as, AsAgent) and e.refused is None for e in entries)
