"""A GitLab instance whose pushes go through the real refresh, and whose jobs are really decided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobgate.core.authorization import authorize
from jobgate.core.bounds import Bounds
from jobgate.core.namespace import Surroundings
from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject
from jobgate.usecases.namespaces import NamespaceTree
from jobgate.usecases.refresh import Refresh

from tests.support.builders import NOW, a_cluster, a_config_project_item, a_job
from tests.support.fakes import FakeClock
from tests.support.refresh_fakes import FakeGitLab, FakeRefreshStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.authorization import Decision
    from jobgate.core.namespace import ProjectPlace

FILE = ".gitlab/agents/prod/config.yaml"


class Instance:
    """Groups, users, projects and agents in the form of the vectors."""

    def __init__(
        self,
        given: Mapping[str, Any],
        *,
        extra_agents: Iterable[Mapping[str, Any]] = (),
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.gitlab = _gitlab(given)
        self.store = FakeRefreshStore()
        self.agents = {agent["name"]: agent for agent in (*given["agents"], *extra_agents)}
        for agent in self.agents.values():
            self._register(agent["id"], agent["name"], agent["project_id"])
            self.gitlab.push(agent["project_id"], {})
        for project_id in {agent["project_id"] for agent in self.agents.values()}:
            self._refresh(project_id)

    def push(self, agent: str, config: Mapping[str, Any] | bytes) -> None:
        """Push an agent's config.yaml and refresh; a value is written as JSON, which is YAML."""
        project_id = self.agents[agent]["project_id"]
        data = config if isinstance(config, bytes) else json.dumps(config).encode()
        path = f".gitlab/agents/{agent}/config.yaml"
        self.gitlab.push(project_id, self.gitlab.files[project_id] | {path: data})
        self._refresh(project_id)

    def snapshot(self, agent: str) -> AgentSnapshot:
        """An agent's published snapshot."""
        return self.store.snapshots["main", self.agents[agent]["id"]]

    def decide(self, project_id: int, **job: Any) -> dict[int, Decision]:
        """What a job of a project gets of each agent."""
        project = self.gitlab.projects[project_id]
        place, chain = NamespaceTree(self.gitlab, now=NOW).place(project)
        values = {
            "project_id": project_id,
            "project_path": project.path,
            "namespace_id": project.namespace_id,
        }
        return {
            snapshot.agent_id: authorize(
                a_job(**{**values, **job}),
                snapshot,
                Surroundings(place=place, chain=chain, config_places=self._config_places()),
                settings=self.settings,
                bounds=Bounds(),
                now=NOW,
            )
            for snapshot in self.store.snapshots.values()
        }

    def _config_places(self) -> dict[int, ProjectPlace]:
        tree = NamespaceTree(self.gitlab, now=NOW)
        ids = {agent["project_id"] for agent in self.agents.values()}
        return {i: tree.place(self.gitlab.projects[i])[0] for i in ids}

    def _register(self, agent_id: int, name: str, project_id: int) -> None:
        known = self.store.config_projects.get(("main", project_id))
        agents = {} if known is None else dict(known.agents)
        self.store.config_projects["main", project_id] = a_config_project_item(
            {**agents, agent_id: name}, project_id=project_id
        )
        self.store.clusters["main", agent_id] = a_cluster(
            agent_id, name=name, config_project_id=project_id
        )

    def _refresh(self, project_id: int) -> None:
        Refresh(
            gitlab_of=lambda _alias: self.gitlab,
            store=self.store,
            recorder=lambda _line: None,
            settings=self.settings,
            clock=FakeClock(),
            pick=lambda _count: 0,
        ).run("main", project_id)


def _gitlab(given: Mapping[str, Any]) -> FakeGitLab:
    groups = {
        group["id"]: GitLabGroup(
            group_id=group["id"], path=group["full_path"], parent_id=group["parent_id"]
        )
        for group in given["groups"]
    }
    namespaces = {i: (group.path, "group") for i, group in groups.items()}
    namespaces |= {user["namespace_id"]: (user["username"], "user") for user in given["users"]}
    projects = []
    for project in given["projects"]:
        path, kind = namespaces[project["namespace_id"]]
        projects.append(
            GitLabProject(
                project_id=project["id"],
                path=project["path_with_namespace"],
                default_branch="main",
                namespace_id=project["namespace_id"],
                namespace_path=path,
                namespace_kind=kind,
            )
        )
    return FakeGitLab(groups=groups.values(), projects=projects)
