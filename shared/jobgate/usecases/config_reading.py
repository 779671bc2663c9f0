"""What a refresh reads of a configuration project: its head once, and every file at that commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.agent import ConfigProject
from jobgate.core.agent_configuration import InvalidConfiguration, read_configuration
from jobgate.core.agent_folder import agent_folder, config_file
from jobgate.core.errors import NotForUs, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.agent import Problem
    from jobgate.core.agent_configuration import AgentConfiguration
    from jobgate.core.agent_folder import FileKind, TreeEntry
    from jobgate.core.namespace import NamespaceChain, ProjectPlace
    from jobgate.ports.gitlab import GitLab
    from jobgate.usecases.namespaces import NamespaceTree


_EMPTY = "the repository is empty, or not for our token"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigBranch:
    """A configuration project's default branch, and where the project is."""

    project: ConfigProject
    place: ProjectPlace
    chain: NamespaceChain
    name: str

    @property
    def root_path(self) -> str:
        """The path of the top-level namespace, lower-cased."""
        return self.chain.members[0].path.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigHead:
    """A configuration project at one commit; `tree` is what is below the agents' folder."""

    project: ConfigProject
    commit: str
    tree: Mapping[str, TreeEntry]

    @property
    def kinds(self) -> Mapping[str, FileKind]:
        """The kind of each path of the tree."""
        return {path: entry.kind for path, entry in self.tree.items()}

    def blob(self, name: str) -> str | None:
        """Git's id of an agent's file, None where there is none."""
        entry = self.tree.get(config_file(name))
        return None if entry is None else entry.id


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReading:
    """An agent's configuration as it is written; `unread` are problems that change nothing."""

    configuration: AgentConfiguration | InvalidConfiguration
    unread: tuple[Problem, ...]


def read_branch(gitlab: GitLab, tree: NamespaceTree, project_id: int) -> ConfigBranch:
    """The default branch.

    Raises NotForUs where GitLab shows no project or no branch: whether it is gone, empty or only
    out of our token's sight can't be told apart, so nothing is concluded from it.
    """
    project = gitlab.project(project_id)
    if project is None:
        raise NotForUs("the configuration project isn't there, or not for our token")
    if project.default_branch is None:
        raise NotForUs(_EMPTY)
    place, chain = tree.place(project)
    return ConfigBranch(
        project=ConfigProject(
            project_id=project_id,
            path=project.path,
            namespace_id=place.namespace_id,
            root_id=place.root_id,
        ),
        place=place,
        chain=chain,
        name=project.default_branch,
    )


def read_commit(gitlab: GitLab, branch: ConfigBranch) -> str:
    """The commit at the branch's head; raises NotForUs where GitLab shows none."""
    commit = gitlab.head(branch.project.project_id, branch.name)
    if commit is None:
        raise NotForUs(_EMPTY)
    return commit


def read_head(gitlab: GitLab, branch: ConfigBranch, commit: str) -> ConfigHead:
    """What is below the agents' folder at a commit."""
    return ConfigHead(
        project=branch.project,
        commit=commit,
        tree=gitlab.agent_files(branch.project.project_id, commit),
    )


def read_agent(gitlab: GitLab, head: ConfigHead, name: str) -> AgentReading:
    """An agent's file; raises Unavailable where GitLab lists it and then doesn't have it."""
    folder, file = agent_folder(name, head.kinds), config_file(name)
    if folder.refused:
        return AgentReading(
            configuration=InvalidConfiguration(folder.refused), unread=folder.unread
        )
    data = None
    if folder.has_file:
        data = gitlab.raw_file(head.project.project_id, file, head.commit)
        if data is None:
            # Not a deleted file, which would take every access away: the commit lists it.
            raise Unavailable("GitLab lists a file that it then doesn't have")
    return AgentReading(configuration=read_configuration(data, file=file), unread=folder.unread)
