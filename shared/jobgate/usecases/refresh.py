"""Refresh: one configuration project's files become the snapshots of its agents.

read what is stored -> the default branch's head -> begin a reading, where the head is new -> the
files at that commit -> resolve paths -> compile -> publish: index additions, one conditional
snapshot, index removals. What is stored is read before GitLab is asked, and a reading closes the
door on every one that began before it, so that an older answer never replaces a newer one.

What GitLab doesn't confirm stays as it is, in doubt: the decision bounds that by CONFIG_DOUBT.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core import record
from jobgate.core.agent import PROBLEMS_MAX
from jobgate.core.agent_configuration import InvalidConfiguration
from jobgate.core.agent_folder import config_file, folders_of_nobody
from jobgate.core.commit_status import commit_status
from jobgate.core.errors import Conflict, NotForUs, OutOfTime, Throttled, Unavailable
from jobgate.core.reasons import Reason
from jobgate.core.snapshot import SnapshotHead, compile_snapshot, keep_last_good
from jobgate.usecases.config_reading import read_agent, read_branch, read_commit, read_head
from jobgate.usecases.index_repair import IndexRepair
from jobgate.usecases.namespaces import NamespaceTree
from jobgate.usecases.publish import Publisher
from jobgate.usecases.target_finder import TargetFinder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot, Problem
    from jobgate.core.settings import Settings
    from jobgate.ports import (
        Clock,
        CommitStatuses,
        ConfigProjectItem,
        GitLab,
        PlaceStore,
        Recorder,
        RefreshStore,
    )
    from jobgate.usecases.config_reading import ConfigBranch, ConfigHead

# Published together, in one write a subject: a refresh of many agents that ends early has then done
# a part for good.
_AGENTS_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """The refresh and what it needs; `seconds` is when it begins no further agents."""

    gitlab_of: Callable[[str], GitLab]
    store: RefreshStore
    recorder: Recorder
    settings: Settings
    clock: Clock
    statuses: CommitStatuses | None = None
    places: PlaceStore | None = None
    seconds: float = 35

    def run(self, issuer: str, project_id: int) -> None:
        """Refresh one configuration project.

        Raises Unavailable or Conflict where it must be tried again soon; the last good stays
        meanwhile. What another try can't mend (NotForUs) is noted, and left to the schedule.
        """
        item = self.store.config_project(issuer, project_id)
        if item is None:
            return
        stored = {i: self.store.snapshot(issuer, i) for i in item.agents if self._agrees(item, i)}
        run = _Run(self, item, stored)
        try:
            failures = run.read()
        except OutOfTime:
            raise
        except Unavailable as exc:
            run.doubt(stored, exc)
            failures = {0: exc}
        mendable = [exc for exc in failures.values() if not isinstance(exc, NotForUs)]
        if mendable:
            raise mendable[0]

    def _agrees(self, item: ConfigProjectItem, agent_id: int) -> bool:
        """Whether the connection agrees: unlike the list of agents, refreshes may not write it."""
        cluster = self.store.cluster(item.issuer, agent_id)
        return cluster is not None and (cluster.config_project_id, cluster.agent_name) == (
            item.project_id,
            item.agents[agent_id],
        )


class _Run:
    """One refresh of one project; `stored` are its registered agents' snapshots."""

    def __init__(
        self,
        refresh: Refresh,
        item: ConfigProjectItem,
        stored: Mapping[int, AgentSnapshot | None],
    ) -> None:
        self._refresh = refresh
        self._item = item
        self._stored = dict(stored)
        self._reading = item.reading
        self._problems: list[Problem] = []
        self._failures: dict[int, Unavailable] = {}

    def read(self) -> Mapping[int, Unavailable]:
        """Read everything at the head and publish it; answers with the agents that can't be had."""
        refresh, item = self._refresh, self._item
        began = refresh.clock()
        gitlab = refresh.gitlab_of(item.issuer)
        tree = NamespaceTree(gitlab, now=refresh.clock())
        branch = read_branch(gitlab, tree, item.project_id)
        head = read_head(gitlab, branch, self._commit(gitlab, branch))
        finder = TargetFinder(
            gitlab,
            tree,
            branch.chain,
            known=(snapshot for snapshot in self._stored.values() if snapshot is not None),
            instance_wide=refresh.settings.instance_wide,
        )
        publisher = Publisher(store=refresh.store, recorder=refresh.recorder, clock=refresh.clock)
        published: dict[int, AgentSnapshot] = {}
        for agents in _some_at_once(self._in_turn(head)):
            if refresh.clock() - began > refresh.seconds:
                raise OutOfTime("there are more agents than one try can do: the next goes on")
            compiled = self._compiled_of(agents, head, gitlab, finder)
            new = publisher.publish(compiled, self._stored, reading=self._reading)
            published |= {snapshot.agent_id: snapshot for snapshot in new}
        if published and refresh.places is not None:
            # What the first decision needs, and what says whether a webhook may tell of it.
            refresh.places.save_place(item.issuer, item.project_id, branch.place)
            refresh.places.save_chain(item.issuer, branch.chain)
        if self._failures:
            self.doubt(self._failures, next(iter(self._failures.values())))
            return self._failures
        repair = IndexRepair(store=refresh.store, recorder=refresh.recorder, clock=refresh.clock)
        current = (snapshot for snapshot in (self._stored | published).values() if snapshot)
        repair.run(current, close_door=self._begin_reading)
        self._finish(branch, head)
        if refresh.statuses is not None and (published or head.commit != item.last_commit):
            status = commit_status(self._problems)
            refresh.statuses.post(item.issuer, head.project, head.commit, status)
        return {}

    def _in_turn(self, head: ConfigHead) -> list[int]:
        """The agents, those that an earlier try has published last."""
        stored = self._stored

        def is_done(agent_id: int) -> bool:
            snapshot = stored[agent_id]
            return snapshot is not None and snapshot.commit == head.commit

        return sorted(stored, key=lambda agent_id: (is_done(agent_id), agent_id))

    def _commit(self, gitlab: GitLab, branch: ConfigBranch) -> str:
        """The commit to read: a new one is asked for again once its reading has begun.

        So readings that have begun later have also asked later, whatever answer came first.
        """
        item, commit = self._item, read_commit(gitlab, branch)
        if commit == item.last_commit and item.reading == item.finished:
            return commit
        self._begin_reading()
        return read_commit(gitlab, branch)

    def _begin_reading(self) -> None:
        """Close the door on every other refresh of this project; raises Conflict where one has."""
        item, store = self._item, self._refresh.store
        self._reading = store.begin_reading(item.issuer, item.project_id, after=self._reading)

    def _finish(self, branch: ConfigBranch, head: ConfigHead) -> None:
        item, store = self._item, self._refresh.store
        if self._reading == item.reading:
            # An unchanged head writes nothing, so a reading that began meanwhile doesn't know that
            # we have asked after it.
            now = store.config_project(item.issuer, item.project_id)
            if now is None or now.reading != item.reading:
                raise Conflict("another reading of this project has begun meanwhile")
        self._note(branch=branch, head=head)

    def doubt(self, agents: Iterable[int], exc: Unavailable) -> None:
        """GitLab doesn't confirm these agents' configurations: note since when."""
        refresh, item, now = self._refresh, self._item, self._refresh.clock()
        for agent_id in agents:
            snapshot = self._stored[agent_id]
            if snapshot is not None and snapshot.doubt_since is None:
                refresh.store.note_doubt(snapshot, since=now)
        self._note(error=str(exc))
        refresh.recorder(
            record.record(
                "refresh",
                at=now,
                outcome="refused",
                reason=Reason.CONFIG_UNKNOWN,
                issuer=item.issuer,
                config_project_id=item.project_id,
                config_commit=item.last_commit,
                problems=[str(exc)],
            )
        )

    def _compiled_of(
        self, agents: Sequence[int], head: ConfigHead, gitlab: GitLab, finder: TargetFinder
    ) -> list[AgentSnapshot]:
        """What can be had of these agents; one that can't be read holds no other back."""
        compiled = []
        for agent_id in agents:
            try:
                snapshot = self._compiled(agent_id, head, gitlab, finder)
            except Throttled:
                raise
            except Unavailable as exc:
                self._failures[agent_id] = exc
                continue
            self._problems += snapshot.problems
            compiled.append(snapshot)
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
            at=self._refresh.clock(),
        )
        reading = read_agent(gitlab, head, name)
        if isinstance(reading.configuration, InvalidConfiguration):
            problems = reading.unread + reading.configuration.problems
            return keep_last_good(previous, snapshot_head, problems[:PROBLEMS_MAX])
        targets = finder.targets(reading.configuration)
        settings = self._refresh.settings
        snapshot = compile_snapshot(
            reading.configuration, targets, snapshot_head, settings=settings, previous=previous
        )
        problems = reading.unread + snapshot.problems
        return dataclasses.replace(snapshot, problems=problems[:PROBLEMS_MAX])

    def _note(
        self,
        *,
        branch: ConfigBranch | None = None,
        head: ConfigHead | None = None,
        error: str | None = None,
    ) -> None:
        item = self._item
        root_path = item.root_path if branch is None else branch.root_path
        commit, finished, note = item.last_commit, item.finished, item.last_note
        if head is not None:
            commit, finished = head.commit, self._reading
            note = folders_of_nobody(head.tree, item.agents.values())
        noted = (item.last_commit, item.root_path, item.last_error, item.last_note, item.finished)
        if (commit, root_path, error, note, finished) == noted:
            return
        self._refresh.store.note_refresh(
            item.issuer,
            item.project_id,
            root_path=root_path,
            commit=commit,
            error=error,
            note=note,
            at=self._refresh.clock(),
            reading=self._reading,
            finished=finished,
        )


def _some_at_once(agents: Sequence[int]) -> Iterable[Sequence[int]]:
    for start in range(0, len(agents), _AGENTS_AT_ONCE):
        yield agents[start : start + _AGENTS_AT_ONCE]
