"""A configuration project's agents in turn: compiled and published, as many as one try can do.

Those whose files have changed come first, so that no agent waits for others with nothing new. Each
try begins with another one of them, so that an agent that takes all the time, whatever the cause,
keeps no other from its turn. What is done is known by agent, so that the next try goes on with the
rest, whatever was pushed between.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jobgate.core.agent import PROBLEMS_MAX
from jobgate.core.agent_configuration import InvalidConfiguration
from jobgate.core.agent_folder import config_file
from jobgate.core.errors import Throttled, Unavailable
from jobgate.core.snapshot import SnapshotHead, compile_snapshot, keep_last_good
from jobgate.usecases.config_reading import read_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.settings import Settings
    from jobgate.ports import Clock
    from jobgate.ports.gitlab import GitLab
    from jobgate.ports.refresh import ConfigProjectItem
    from jobgate.usecases.config_reading import ConfigHead
    from jobgate.usecases.publish import Publisher
    from jobgate.usecases.target_finder import TargetFinder

# Published together, in one write a subject: a try that ends early has then done a part for good.
_AGENTS_AT_ONCE = 50
_SPARE_SECONDS = 15.0  # beyond the time for new agents, for what was begun: a minute is the end


class AgentsInTurn:
    """One try's agents; `stored` are their snapshots, `seconds` when no further agent is begun.

    `pick` picks one of so many at random, from 0: with which the try begins. `todo` are those that
    aren't done, `failures` those of them that GitLab doesn't let us read.
    """

    def __init__(
        self,
        item: ConfigProjectItem,
        stored: Mapping[int, AgentSnapshot | None],
        *,
        settings: Settings,
        clock: Clock,
        seconds: float,
        pick: Callable[[int], int],
    ) -> None:
        self._pick = pick
        self._item = item
        self._stored = stored
        self._settings = settings
        self._clock = clock
        self._late_at = clock() + seconds
        self.todo = sorted(stored)
        self.failures: dict[int, Unavailable] = {}
        self.published: dict[int, AgentSnapshot] = {}
        self.throttled: Throttled | None = None

    @property
    def done(self) -> frozenset[int]:
        """The agents that are as they should be, by this try or by those before it."""
        return frozenset(self._stored).difference(self.todo)

    @property
    def current(self) -> Sequence[AgentSnapshot]:
        """Every agent's snapshot as it is now."""
        return [snapshot for snapshot in {**self._stored, **self.published}.values() if snapshot]

    def work(
        self,
        head: ConfigHead,
        gitlab: GitLab,
        finder: TargetFinder,
        publisher: Publisher,
        *,
        reading: int,
    ) -> bool:
        """Go on until all is tried, the time is up or GitLab throttles; whether any was done."""
        before = self._item.done
        unchanged = {i for i in self.todo if self.is_unchanged(i, head)}
        changed = [i for i in self.todo if i not in unchanged]
        self.todo = self._turned(changed) + self._turned(sorted(unchanged - before))
        left, at_first = list(self.todo), len(self.todo)
        while left:
            compiled = self._compiled_of(left[:_AGENTS_AT_ONCE], head, gitlab, finder)
            began = self._clock()
            new = publisher.publish(compiled, self._stored, reading=reading)
            self.published |= {snapshot.agent_id: snapshot for snapshot in new}
            confirmed = {snapshot.agent_id for snapshot in compiled}
            self.todo = [i for i in self.todo if i not in confirmed]
            fits_again = 2 * self._clock() - began <= self._late_at + _SPARE_SECONDS
            if self.throttled is not None or self._is_late or not fits_again:
                break
            left = [i for i in self.todo if i not in self.failures]
        return len(self.todo) < at_first

    def is_unchanged(self, agent_id: int, head: ConfigHead) -> bool:
        """Whether an agent's snapshot is of the file at this head, and isn't in doubt."""
        snapshot = self._stored[agent_id]
        if snapshot is None or snapshot.doubt_since is not None:
            return False
        blob = head.blob(self._item.agents[agent_id])
        return (snapshot.blob, snapshot.config_project) == (blob, head.project)

    def _turned(self, agents: list[int]) -> list[int]:
        first = self._pick(len(agents)) if agents else 0
        return agents[first:] + agents[:first]

    @property
    def _is_late(self) -> bool:
        return self._clock() > self._late_at

    def _compiled_of(
        self, agents: Sequence[int], head: ConfigHead, gitlab: GitLab, finder: TargetFinder
    ) -> list[AgentSnapshot]:
        """What can be had of these agents in time; one that can't be read holds no other back."""
        compiled = []
        for agent_id in agents:
            try:
                compiled.append(self._compiled(agent_id, head, gitlab, finder))
            except Throttled as exc:
                self.throttled = exc
                break
            except Unavailable as exc:
                self.failures[agent_id] = exc
            if self._is_late:
                break
        return compiled

    def _compiled(
        self, agent_id: int, head: ConfigHead, gitlab: GitLab, finder: TargetFinder
    ) -> AgentSnapshot:
        name, previous = self._item.agents[agent_id], self._stored[agent_id]
        snapshot_head = SnapshotHead(
            issuer=self._item.issuer,
            agent_id=agent_id,
            agent_name=name,
            version=1 if previous is None else previous.version + 1,
            commit=head.commit,
            config_project=head.project,
            file=config_file(name),
            at=self._clock(),
            blob=head.blob(name),
        )
        reading = read_agent(gitlab, head, name)
        if isinstance(reading.configuration, InvalidConfiguration):
            problems = reading.unread + reading.configuration.problems
            return keep_last_good(previous, snapshot_head, problems[:PROBLEMS_MAX])
        targets = finder.targets(reading.configuration)
        snapshot = compile_snapshot(
            reading.configuration,
            targets,
            snapshot_head,
            settings=self._settings,
            previous=previous,
        )
        problems = reading.unread + snapshot.problems
        return dataclasses.replace(snapshot, problems=problems[:PROBLEMS_MAX])
