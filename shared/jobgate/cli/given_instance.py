"""A GitLab instance and a deployment's items in memory: what `jobgate decide` decides on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.core.agent import ClusterConnection, Credential
from jobgate.core.agent_folder import TreeEntry
from jobgate.ports.gitlab import GitLab
from jobgate.ports.refresh import ConfigProjectItem, RefreshStore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from jobgate.cli.checkouts import CheckedOut
    from jobgate.cli.instance_file import GivenAgent, GivenInstance
    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports.gitlab import GitLabGroup, GitLabProject
    from jobgate.ports.refresh import IndexChange, Subject

_COMMIT = "0" * 40


class GivenGitLab(GitLab):
    """The instance of a file, with what is below .gitlab/agents by project id."""

    def __init__(
        self, instance: GivenInstance, trees: Mapping[int, Mapping[str, CheckedOut]]
    ) -> None:
        self._projects = {project.project_id: project for project in instance.projects}
        self._project_paths = {project.path.lower(): project for project in instance.projects}
        self._groups = {group.group_id: group for group in instance.groups}
        self._group_paths = {group.path.lower(): group for group in instance.groups}
        self._trees = trees

    def project(self, ref: int | str) -> GitLabProject | None:
        """See `GitLab.project`."""
        if isinstance(ref, int):
            return self._projects.get(ref)
        return self._project_paths.get(ref.lower())

    def group(self, ref: int | str) -> GitLabGroup | None:
        """See `GitLab.group`."""
        if isinstance(ref, int):
            return self._groups.get(ref)
        return self._group_paths.get(ref.lower())

    def projects_below(self, group_id: int) -> Mapping[str, GitLabProject]:
        """See `GitLab.projects_below`."""
        below = f"{self._groups[group_id].path}/".lower()
        return {path: p for path, p in self._project_paths.items() if path.startswith(below)}

    def groups_below(self, group_id: int) -> Mapping[str, GitLabGroup]:
        """See `GitLab.groups_below`."""
        below = f"{self._groups[group_id].path}/".lower()
        return {path: g for path, g in self._group_paths.items() if path.startswith(below)}

    def head(self, project_id: int, branch: str) -> str | None:  # noqa: ARG002  the port's form
        """The same for every project: nothing that is decided depends on the commit."""
        return _COMMIT

    def agent_files(self, project_id: int, commit: str) -> Mapping[str, TreeEntry]:  # noqa: ARG002  same
        """See `GitLab.agent_files`."""
        tree = self._trees.get(project_id, {})
        return {path: TreeEntry(checked_out.kind, "") for path, checked_out in tree.items()}

    def raw_file(self, project_id: int, path: str, commit: str) -> bytes | None:  # noqa: ARG002  same
        """See `GitLab.raw_file`."""
        checked_out = self._trees.get(project_id, {}).get(path)
        return None if checked_out is None else checked_out.content


class GivenStore(RefreshStore):
    """The items of a deployment that has every agent of a file, before their first refresh."""

    def __init__(self, issuer: str, agents: Iterable[GivenAgent]) -> None:
        self._issuer = issuer
        self._agents = {agent.agent_id: agent for agent in agents}
        self._snapshots: dict[int, AgentSnapshot] = {}

    def config_project(self, issuer: str, project_id: int) -> ConfigProjectItem | None:
        """See `RefreshStore.config_project`."""
        agents = {
            agent.agent_id: agent.name
            for agent in self._agents.values()
            if agent.project_id == project_id
        }
        return ConfigProjectItem(issuer=issuer, project_id=project_id, agents=agents)

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None:
        """A connection that says whose it is; nobody connects by it."""
        agent = self._agents[agent_id]
        return ClusterConnection(
            issuer=issuer,
            agent_id=agent_id,
            agent_name=agent.name,
            config_project_id=agent.project_id,
            server="https://cluster.invalid",
            ca=None,
            relay_credential=Credential(kind="token", secret=""),
            agent_credential=None,
        )

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None:  # noqa: ARG002  one issuer
        """See `RefreshStore.snapshot`."""
        return self._snapshots.get(agent_id)

    def begin_reading(self, issuer: str, project_id: int, *, after: int) -> int:  # noqa: ARG002  one writer
        """See `RefreshStore.begin_reading`."""
        return after + 1

    def publish(self, snapshot: AgentSnapshot, *, replaces: int | None, reading: int = 0) -> None:  # noqa: ARG002  one writer
        """See `RefreshStore.publish`."""
        self._snapshots[snapshot.agent_id] = snapshot

    def add_to_index(self, named: IndexChange) -> None:
        """No index: every agent is decided on."""

    def remove_from_index(self, gone: IndexChange, *, reading: int | None = None) -> None:
        """No index: every agent is decided on."""

    def indexed(
        self,
        issuer: str,  # noqa: ARG002  one issuer
        subjects: Collection[Subject],
    ) -> Mapping[Subject, Mapping[int, int]]:
        """No index: every subject leads to every agent."""
        return {subject: dict.fromkeys(self._agents, 1) for subject in subjects}

    def listed(self, issuer: str, agent_ids: Iterable[int]) -> Mapping[int, frozenset[Subject]]:  # noqa: ARG002  one issuer
        """No index, and so no list of it."""
        return dict.fromkeys(agent_ids, frozenset())

    def unlist(
        self, snapshot: AgentSnapshot, subjects: Collection[Subject], *, reading: int | None = None
    ) -> None:
        """No index, and so no list of it."""

    def note_doubt(self, snapshot: AgentSnapshot, *, since: float | None) -> None:
        """No doubt: files are there or not."""

    def note_refresh(
        self,
        issuer: str,
        project_id: int,
        *,
        root_path: str | None,
        commit: str | None,
        error: str | None,
        at: float,
        note: str | None = None,
        reading: int = 0,
        finished: int = 0,
        done: Collection[int] = (),
    ) -> None:
        """Nothing is noted: each refresh is the only one."""
