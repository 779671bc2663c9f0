"""Publishes snapshots: index additions, one conditional snapshot each, index removals.

In this order and on these conditions, the index is a superset at every moment, whatever breaks off.
A subject that the replaced snapshot named is in the index already, and stays: whoever takes it out
has published a version without it before, and adding it again after that makes a newer stamp.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core import record
from jobgate.ports.refresh import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports import Clock, Recorder
    from jobgate.ports.refresh import RefreshStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Writes what one reading of a configuration project has found."""

    store: RefreshStore
    recorder: Recorder
    clock: Clock

    def publish(
        self,
        snapshots: Iterable[AgentSnapshot],
        stored: Mapping[int, AgentSnapshot | None],
        *,
        reading: int,
    ) -> Sequence[AgentSnapshot]:
        """Publish what says something new, and answer with it. Raises Conflict."""
        changed: list[tuple[AgentSnapshot, AgentSnapshot | None]] = []
        for snapshot in snapshots:
            previous = stored[snapshot.agent_id]
            if previous is None or not _says_the_same(snapshot, previous):
                changed.append((snapshot, previous))
            elif previous.doubt_since is not None:
                self.store.note_doubt(previous, since=None)
        if not changed:
            return ()
        named = {s.agent_id: subjects_of(s) for s, _ in changed}
        before = {s.agent_id: frozenset() if p is None else subjects_of(p) for s, p in changed}
        new = [(s, named[s.agent_id] - before[s.agent_id]) for s, _ in changed]
        gone = [(s, before[s.agent_id] - named[s.agent_id]) for s, _ in changed]
        self.store.add_to_index(by_subject(new))
        for snapshot, previous in changed:
            replaces = None if previous is None else previous.version
            self.store.publish(snapshot, replaces=replaces, reading=reading)
            self._record(snapshot)
        self.store.remove_from_index(by_subject(gone))
        return [snapshot for snapshot, _ in changed]

    def _record(self, snapshot: AgentSnapshot) -> None:
        self.recorder(
            record.record(
                "refresh",
                at=self.clock(),
                outcome="allowed" if snapshot.valid else "refused",
                issuer=snapshot.issuer,
                agent_id=snapshot.agent_id,
                agent=snapshot.context,
                config_project_id=snapshot.config_project.project_id,
                config_commit=snapshot.commit,
                version=snapshot.version,
                problems=[f"{p.file}:{p.line} {p.code}" for p in snapshot.problems],
            )
        )


def subjects_of(snapshot: AgentSnapshot) -> frozenset[Subject]:
    """Who the index must lead from to this agent, the implicit project included."""
    subjects = {Subject("project", i) for i in snapshot.projects}
    subjects.add(Subject("project", snapshot.config_project.project_id))
    subjects |= {Subject("group", i) for i in snapshot.groups}
    if snapshot.instance is not None:
        subjects.add(Subject("instance", 0))
    return frozenset(subjects)


def _says_the_same(snapshot: AgentSnapshot, previous: AgentSnapshot) -> bool:
    """Whether nothing that decides has changed, only a commit elsewhere in the repository."""
    return previous == dataclasses.replace(
        snapshot,
        version=previous.version,
        commit=previous.commit,
        valid_since=previous.valid_since,
        doubt_since=previous.doubt_since,
    )


def by_subject(
    changes: Iterable[tuple[AgentSnapshot, frozenset[Subject]]],
) -> Mapping[Subject, Sequence[AgentSnapshot]]:
    """Turn each agent's subjects into each subject's agents."""
    grouped: dict[Subject, list[AgentSnapshot]] = defaultdict(list)
    for snapshot, subjects in changes:
        for subject in subjects:
            grouped[subject].append(snapshot)
    return grouped
