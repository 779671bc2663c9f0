"""Where projects and groups are in GitLab's tree, asked of GitLab and never guessed from a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.core.errors import Unavailable
from jobgate.core.namespace import Namespace, NamespaceChain, ProjectPlace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.ports.gitlab import GitLab, GitLabGroup, GitLabProject

_DEPTH_MAX = 21  # GitLab allows twenty levels of subgroups


class NamespaceTree:
    """The tree as far as one run needs it: each group is asked for once."""

    def __init__(self, gitlab: GitLab, *, now: float) -> None:
        self._gitlab = gitlab
        self._now = now
        self._groups: dict[int, GitLabGroup] = {}

    def place(self, project: GitLabProject) -> tuple[ProjectPlace, NamespaceChain]:
        """Where a project is: its namespace with all ancestors."""
        chain = self._chain_of_project(project)
        place = ProjectPlace(
            namespace_id=project.namespace_id,
            path=project.path,
            root_id=chain.root_id,
            fetched_at=self._now,
        )
        return place, chain

    def learn(self, groups: Iterable[GitLabGroup]) -> None:
        """Take over groups that were asked for otherwise in the same run."""
        self._groups |= {group.group_id: group for group in groups}

    def chain_of_group(self, group: GitLabGroup) -> NamespaceChain:
        """A group's ancestors, root first, and itself."""
        self._groups[group.group_id] = group
        return self._chain(group.group_id)

    def _chain_of_project(self, project: GitLabProject) -> NamespaceChain:
        if project.namespace_kind == "group":
            return self._chain(project.namespace_id)
        member = Namespace(namespace_id=project.namespace_id, path=project.namespace_path)
        return NamespaceChain(kind="user", members=(member,), fetched_at=self._now)

    def _chain(self, group_id: int) -> NamespaceChain:
        members: list[Namespace] = []
        upwards: int | None = group_id
        while upwards is not None:
            if len(members) == _DEPTH_MAX:
                raise Unavailable("a group with more ancestors than GitLab allows")
            group = self.group(upwards)
            members.append(Namespace(namespace_id=group.group_id, path=group.path))
            upwards = group.parent_id
        return NamespaceChain(kind="group", members=tuple(reversed(members)), fetched_at=self._now)

    def group(self, group_id: int) -> GitLabGroup:
        """A group by id; raises Unavailable where GitLab doesn't show it."""
        group = self._groups.get(group_id)
        if group is None:
            group = self._gitlab.group(group_id)
            if group is None:
                raise Unavailable("an ancestor group that GitLab doesn't show us")
            self._groups[group_id] = group
        return group
