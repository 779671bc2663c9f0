"""Index repair: compares the index with the snapshots, and mends what isn't as it should be.

A subject that a snapshot names and that doesn't lead to its agent is added. One that leads there
for nothing, left over by a refresh that broke off, is found by the agent's list of subjects, which
is written before the index, and is removed. Where all is well nothing is written.

What leads there for nothing may be the addition of a refresh that is about to publish. So before
anything is removed the caller closes the door on every such refresh (`RefreshStore.begin_reading`),
and what is removed then counts only while no other one has begun: a stamp that nobody published may
be borne by the next version too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core import record
from jobgate.usecases.publish import by_subject, subjects_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports import Clock, Recorder
    from jobgate.ports.refresh import RefreshStore, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """An agent's subjects that aren't as they should be; stray ones bear stamps up to `newest`.

    `over` are in its list and lead nowhere.
    """

    agent: AgentSnapshot
    lost: frozenset[Subject]
    unlisted: frozenset[Subject]
    stray: frozenset[Subject]
    over: frozenset[Subject]
    newest: int

    @property
    def to_remove(self) -> AgentSnapshot:
        """The agent at a version that every stray stamp is removed by."""
        return dataclasses.replace(self.agent, version=self.newest)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRepair:
    """The repair and what it needs."""

    store: RefreshStore
    recorder: Recorder
    clock: Clock

    def run(self, snapshots: Iterable[AgentSnapshot], *, close_door: Callable[[], int]) -> None:
        """Mend the index of one issuer's agents, each by its snapshot as published.

        `close_door` answers with the reading that it has begun. Raises Conflict where the repair
        was overtaken by another one.
        """
        agents = list(snapshots)
        if not agents:
            return
        issuer = agents[0].issuer
        named = {s.agent_id: subjects_of(s) for s in agents}
        listed = self.store.listed(issuer, named)
        index = self.store.indexed(issuer, frozenset().union(*named.values(), *listed.values()))
        compared = [_compare(s, named[s.agent_id], listed[s.agent_id], index) for s in agents]
        self.store.add_to_index(
            by_subject((one.agent, one.lost | one.unlisted) for one in compared)
        )
        strays = [one for one in compared if one.stray]
        if strays:
            reading = close_door()
            gone = by_subject((one.to_remove, one.stray) for one in strays)
            self.store.remove_from_index(gone, reading=reading)
            for one in strays:
                self.store.unlist(one.to_remove, one.stray, reading=reading)
        for one in compared:
            if one.over:
                self.store.unlist(one.agent, one.over)
            self._tell(one.agent, one.lost, one.stray)

    def _tell(
        self, agent: AgentSnapshot, added: frozenset[Subject], removed: frozenset[Subject]
    ) -> None:
        if not added and not removed:
            return
        repaired = [f"added {s.kind} {s.id}" for s in added]
        repaired += [f"removed {s.kind} {s.id}" for s in removed]
        self.recorder(
            record.record(
                "refresh",
                at=self.clock(),
                outcome="allowed",
                issuer=agent.issuer,
                agent_id=agent.agent_id,
                agent=agent.context,
                config_project_id=agent.config_project.project_id,
                config_commit=agent.commit,
                index_repaired=sorted(repaired),
            )
        )


def _compare(
    agent: AgentSnapshot,
    named: frozenset[Subject],
    listed: frozenset[Subject],
    index: Mapping[Subject, Mapping[int, int]],
) -> _Compared:
    leading = frozenset(s for s in named | listed if agent.agent_id in index[s])
    stray = leading - named
    stamps = [index[subject][agent.agent_id] for subject in stray]
    return _Compared(
        agent=agent,
        lost=named - leading,
        unlisted=named - listed,
        stray=stray,
        over=listed - named - stray,
        newest=max([agent.version, *stamps]),
    )
