"""Refresh: one configuration project's files become the snapshots of its agents.

read what is stored -> the default branch's head -> begin a reading, where the head is new -> the
files at that commit -> resolve paths -> compile -> publish: index additions, one conditional
snapshot, index removals. What is stored is read before GitLab is asked, and a reading closes the
door on every one that began before it, so that an older answer never replaces a newer one.

What GitLab doesn't confirm stays as it is, in doubt: the decision bounds that by CONFIG_DOUBT.

There may be more agents than one try can do. Which are done is noted then, and another try goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core import record
from jobgate.core.agent_folder import folders_of_nobody
from jobgate.core.commit_status import commit_status
from jobgate.core.errors import Conflict, NotForUs, OutOfTime, Unavailable
from jobgate.core.reasons import Reason
from jobgate.usecases.agents_in_turn import AgentsInTurn
from jobgate.usecases.config_reading import read_branch, read_commit, read_head
from jobgate.usecases.index_repair import IndexRepair
from jobgate.usecases.namespaces import NamespaceTree
from jobgate.usecases.publish import Publisher
from jobgate.usecases.target_finder import TargetFinder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.settings import Settings
    from jobgate.ports import Clock, Recorder
    from jobgate.ports.gitlab import GitLab
    from jobgate.ports.lookups import PlaceStore
    from jobgate.ports.refresh import CommitStatuses, ConfigProjectItem, RefreshStore
    from jobgate.usecases.config_reading import ConfigBranch, ConfigHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """The refresh and what it needs.

    `seconds` is when a try begins no further agents, `pick` picks one of so many at random, from 0.
    """

    gitlab_of: Callable[[str], GitLab]
    store: RefreshStore
    recorder: Recorder
    settings: Settings
    clock: Clock
    statuses: CommitStatuses | None = None
    places: PlaceStore | None = None
    seconds: float = 35
    pick: Callable[[int], int]

    def run(self, issuer: str, project_id: int) -> None:
        """Refresh one configuration project.

        Raises Unavailable or Conflict where it must be tried again soon; the last good stays
        meanwhile. OutOfTime is no failure: a part is done for good, and another try is to go on.
        What another try can't mend (NotForUs) is noted, and left to the schedule.
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
            run.give_up(exc)
            failures = [exc]
        mendable = [exc for exc in failures if not isinstance(exc, NotForUs)]
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
        self._stored = stored
        self._reading = item.reading
        self._agents = AgentsInTurn(
            item,
            stored,
            settings=refresh.settings,
            clock=refresh.clock,
            seconds=refresh.seconds,
            pick=refresh.pick,
        )

    def read(self) -> Sequence[Unavailable]:
        """Read everything at the head and publish it; answers with what some agents failed of."""
        refresh, item, agents = self._refresh, self._item, self._agents
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
        goes_on = agents.work(head, gitlab, finder, publisher, reading=self._reading)
        if agents.published and refresh.places is not None:
            # What the first decision needs, and what says whether a webhook may tell of it.
            refresh.places.save_place(item.issuer, item.project_id, branch.place)
            refresh.places.save_chain(item.issuer, branch.chain)
        if agents.todo:
            return self._leave(head, goes_on=goes_on)
        repair = IndexRepair(store=refresh.store, recorder=refresh.recorder, clock=refresh.clock)
        repair.run(agents.current, close_door=self._begin_reading)
        self._finish(branch, head)
        if agents.published or item.done or head.commit != item.last_commit:
            self._tell(head)
        return []

    def _leave(self, head: ConfigHead, *, goes_on: bool) -> Sequence[Unavailable]:
        """Leave what isn't done to another try; raises OutOfTime where that is to go on at once."""
        agents = self._agents
        failures = list(agents.failures.values())
        if agents.throttled is not None:
            self.give_up(agents.throttled)
            return [agents.throttled]
        if len(failures) == len(agents.todo):
            # Through with all but these: the next try looks at every agent again.
            self._doubt(agents.failures)
            self._refuse(failures[0])
            return failures
        if not goes_on:
            self.give_up(failures[0])
            return failures
        self._doubt(i for i in agents.todo if not agents.is_unchanged(i, head))
        self._note(done=agents.done, error=str(failures[0]) if failures else None)
        raise OutOfTime("there are more agents than one try can do: another one goes on")

    def _tell(self, head: ConfigHead) -> None:
        """Give the commit its status, where this deployment does so."""
        statuses = self._refresh.statuses
        if statuses is not None:
            status = commit_status([p for one in self._agents.current for p in one.problems])
            statuses.post(self._item.issuer, head.project, head.commit, status)

    def _commit(self, gitlab: GitLab, branch: ConfigBranch) -> str:
        """The commit to read: a new one is asked for again once its reading has begun.

        So readings that have begun later have also asked later, whatever answer came first.
        """
        item, commit = self._item, read_commit(gitlab, branch)
        if commit == item.last_commit and item.reading == item.finished:
            return commit
        self._begin_reading()
        return read_commit(gitlab, branch)

    def _begin_reading(self) -> int:
        """Close the door on every other refresh of this project; raises Conflict where one has."""
        item, store = self._item, self._refresh.store
        self._reading = store.begin_reading(item.issuer, item.project_id, after=self._reading)
        return self._reading

    def _finish(self, branch: ConfigBranch, head: ConfigHead) -> None:
        item, store = self._item, self._refresh.store
        if self._reading == item.reading:
            # An unchanged head writes nothing, so a reading that began meanwhile doesn't know that
            # we have asked after it.
            now = store.config_project(item.issuer, item.project_id)
            if now is None or now.reading != item.reading:
                raise Conflict("another reading of this project has begun meanwhile")
        self._note(branch=branch, head=head)

    def give_up(self, exc: Unavailable) -> None:
        """GitLab isn't asked any more now: what isn't done is in doubt."""
        self._doubt(self._agents.todo)
        self._refuse(exc, done=self._agents.done)

    def _doubt(self, agents: Iterable[int]) -> None:
        """GitLab doesn't confirm these agents' configurations: note since when.

        A doubt from the future was noted under a clock that ran ahead: it counts from now on.
        """
        now = self._refresh.clock()
        for agent_id in agents:
            snapshot = self._stored[agent_id]
            if snapshot is None:
                continue
            if snapshot.doubt_since is None or snapshot.doubt_since > now:
                self._refresh.store.note_doubt(snapshot, since=now)

    def _refuse(self, exc: Unavailable, *, done: frozenset[int] = frozenset()) -> None:
        refresh, item = self._refresh, self._item
        now = refresh.clock()
        doubts = [s.doubt_since for s in self._stored.values() if s and s.doubt_since is not None]
        self._note(error=str(exc), done=done)
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
                # How long ago GitLab last confirmed the oldest of what is in force.
                unconfirmed_seconds=round(max(0.0, now - min(doubts, default=now))),
            )
        )

    def _note(
        self,
        *,
        branch: ConfigBranch | None = None,
        head: ConfigHead | None = None,
        error: str | None = None,
        done: frozenset[int] = frozenset(),
    ) -> None:
        item = self._item
        root_path = item.root_path if branch is None else branch.root_path
        commit, finished, note = item.last_commit, item.finished, item.last_note
        if head is not None:
            commit, finished = head.commit, self._reading
            note = folders_of_nobody(head.tree, item.agents.values())
        noted = (item.last_commit, item.root_path, item.last_error, item.last_note, item.finished)
        if (commit, root_path, error, note, finished, done) == (*noted, item.done):
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
            done=done,
        )
