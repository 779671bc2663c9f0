"""Refresh: one configuration project's files become the snapshots of its agents.

read what is stored -> the default branch's head -> the files at that commit -> resolve paths ->
compile -> publish: index additions, one conditional snapshot, index removals. The stored version is
read before GitLab is asked, so that an older answer never replaces a newer one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core import record
from jobgate.core.agent import PROBLEMS_MAX, ConfigProject
from jobgate.core.agent_configuration import (
    AgentConfiguration,
    InvalidConfiguration,
    read_configuration,
)
from jobgate.core.agent_folder import agent_folder, config_file, folders_of_nobody
from jobgate.core.commit_status import commit_status
from jobgate.core.errors import Unavailable
from jobgate.core.snapshot import (
    SnapshotHead,
    Target,
    Targets,
    compile_snapshot,
    keep_last_good,
)
from jobgate.ports import Subject
from jobgate.usecases.namespaces import NamespaceTree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.core.agent import AgentSnapshot, Problem
    from jobgate.core.agent_folder import AgentFolder, FileKind
    from jobgate.core.settings import Settings
    from jobgate.ports import (
        Clock,
        CommitStatuses,
        ConfigProjectItem,
        GitLab,
        Recorder,
        RefreshStore,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """A configuration project at one commit."""

    project: ConfigProject
    root_path: str
    commit: str
    tree: Mapping[str, FileKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """The refresh and what it needs."""

    gitlab_of: Callable[[str], GitLab]
    store: RefreshStore
    recorder: Recorder
    settings: Settings
    clock: Clock
    statuses: CommitStatuses | None = None

    def run(self, issuer: str, project_id: int) -> None:
        """Refresh one configuration project.

        Raises Unavailable or Conflict where it must be tried again; the last good stays meanwhile.
        """
        item = self.store.config_project(issuer, project_id)
        if item is None:
            return
        stored = {i: self.store.snapshot(issuer, i) for i in item.agents}
        try:
            self._refresh(item, stored)
        except Unavailable as exc:
            self._note(item, error=str(exc))
            raise

    def _refresh(self, item: ConfigProjectItem, stored: Mapping[int, AgentSnapshot | None]) -> None:
        gitlab = self.gitlab_of(item.issuer)
        tree = NamespaceTree(gitlab, now=self.clock())
        head = self._head(gitlab, tree, item.project_id)
        if head is None:
            self._note(item, error="the repository is empty, or not for our token")
            return
        problems: list[Problem] = []
        published = False
        for agent_id in sorted(item.agents):
            if self._is_registered(item, agent_id):
                previous = stored[agent_id]
                snapshot_head = self._snapshot_head(item, agent_id, head, previous)
                folder = agent_folder(snapshot_head.agent_name, head.tree)
                snapshot = self._compiled(folder, snapshot_head, previous, gitlab=gitlab, tree=tree)
                problems += snapshot.problems
                published |= self._publish(snapshot, previous)
        self._note(item, head=head)
        if self.statuses is not None and (published or head.commit != item.last_commit):
            status = commit_status(problems)
            self.statuses.post(item.issuer, head.project, head.commit, status)

    def _is_registered(self, item: ConfigProjectItem, agent_id: int) -> bool:
        """Whether the connection agrees: unlike the list of agents, refreshes may not write it."""
        cluster = self.store.cluster(item.issuer, agent_id)
        return cluster is not None and (cluster.config_project_id, cluster.agent_name) == (
            item.project_id,
            item.agents[agent_id],
        )

    def _head(self, gitlab: GitLab, tree: NamespaceTree, project_id: int) -> _Head | None:
        project = gitlab.project(project_id)
        if project is None:
            raise Unavailable("the configuration project isn't there, or not for our token")
        if project.default_branch is None:
            return None
        place, chain = tree.place(project)
        commit = gitlab.head(project_id, project.default_branch)
        if commit is None:
            return None
        return _Head(
            project=ConfigProject(
                project_id=project_id,
                path=project.path,
                namespace_id=place.namespace_id,
                root_id=place.root_id,
            ),
            root_path=chain.members[0].path.lower(),
            commit=commit,
            tree=gitlab.agent_files(project_id, commit),
        )

    def _snapshot_head(
        self, item: ConfigProjectItem, agent_id: int, head: _Head, previous: AgentSnapshot | None
    ) -> SnapshotHead:
        name = item.agents[agent_id]
        return SnapshotHead(
            issuer=item.issuer,
            agent_id=agent_id,
            agent_name=name,
            version=1 if previous is None else previous.version + 1,
            commit=head.commit,
            config_project=head.project,
            file=config_file(name),
            at=self.clock(),
        )

    def _compiled(
        self,
        folder: AgentFolder,
        head: SnapshotHead,
        previous: AgentSnapshot | None,
        *,
        gitlab: GitLab,
        tree: NamespaceTree,
    ) -> AgentSnapshot:
        configuration = _configuration(folder, head, gitlab)
        if isinstance(configuration, InvalidConfiguration):
            problems = folder.unread + configuration.problems
            return keep_last_good(previous, head, problems[:PROBLEMS_MAX])
        targets = _resolve(configuration, gitlab, tree)
        snapshot = compile_snapshot(configuration, targets, head, settings=self.settings)
        problems = folder.unread + snapshot.problems
        return dataclasses.replace(snapshot, problems=problems[:PROBLEMS_MAX])

    def _publish(self, snapshot: AgentSnapshot, previous: AgentSnapshot | None) -> bool:
        """Publish a snapshot; false where it says nothing new."""
        if previous is not None and previous == dataclasses.replace(
            snapshot,
            version=previous.version,
            commit=previous.commit,
            valid_since=previous.valid_since,
        ):
            # Nothing that decides has changed, only a commit elsewhere in the repository.
            return False
        now_named = _subjects(snapshot)
        self.store.add_to_index(now_named, snapshot)
        self.store.publish(snapshot, replaces=None if previous is None else previous.version)
        gone = frozenset() if previous is None else _subjects(previous) - now_named
        self.store.remove_from_index(gone, snapshot)
        self._record(snapshot)
        return True

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

    def _note(
        self, item: ConfigProjectItem, *, head: _Head | None = None, error: str | None = None
    ) -> None:
        commit = item.last_commit if head is None else head.commit
        root_path = item.root_path if head is None else head.root_path
        note = item.last_note
        if head is not None:
            note = folders_of_nobody(head.tree, item.agents.values())
        noted = (item.last_commit, item.root_path, item.last_error, item.last_note)
        if (commit, root_path, error, note) == noted:
            return
        self.store.note_refresh(
            item.issuer,
            item.project_id,
            root_path=root_path,
            commit=commit,
            error=error,
            note=note,
            at=self.clock(),
        )


def _configuration(
    folder: AgentFolder, head: SnapshotHead, gitlab: GitLab
) -> AgentConfiguration | InvalidConfiguration:
    if folder.refused:
        return InvalidConfiguration(folder.refused)
    data = None
    if folder.has_file:
        data = gitlab.raw_file(head.config_project.project_id, head.file, head.commit)
        if data is None:
            # Not a deleted file, which would take every access away: the commit lists it.
            raise Unavailable("GitLab lists a file that it then doesn't have")
    return read_configuration(data, file=head.file)


def _resolve(configuration: AgentConfiguration, gitlab: GitLab, tree: NamespaceTree) -> Targets:
    """Every path once, whatever its case."""
    projects: dict[str, Target | None] = {}
    for path in {entry.path.lower() for entry in configuration.projects}:
        project = gitlab.project(path)
        if project is not None:
            place, _ = tree.place(project)
            projects[path] = Target(id=project.project_id, path=project.path, root_id=place.root_id)
        else:
            projects[path] = None
    groups: dict[str, Target | None] = {}
    for path in {entry.path.lower() for entry in configuration.groups}:
        group = gitlab.group(path)
        if group is not None:
            chain = tree.chain_of_group(group)
            groups[path] = Target(id=group.group_id, path=group.path, root_id=chain.root_id)
        else:
            groups[path] = None
    return Targets(projects=projects, groups=groups)


def _subjects(snapshot: AgentSnapshot) -> frozenset[Subject]:
    """Who the index must lead from to this agent, the implicit project included."""
    subjects = {Subject("project", i) for i in snapshot.projects}
    subjects.add(Subject("project", snapshot.config_project.project_id))
    subjects |= {Subject("group", i) for i in snapshot.groups}
    if snapshot.instance is not None:
        subjects.add(Subject("instance", 0))
    return frozenset(subjects)
