"""What the paths of configuration files lead to now: each path asked for once a run.

Up to ONE_BY_ONE paths are asked for each by itself. Beyond that the projects and groups of the
whole tree are listed, once for all agents of the run: GitLab.com allows 400 questions about single
projects a minute, and a listing has a hundred in a page.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Generic, TypeVar

from jobgate.core.snapshot import Target, Targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.agent_configuration import AgentConfiguration
    from jobgate.core.namespace import NamespaceChain
    from jobgate.ports.gitlab import GitLab, GitLabGroup, GitLabProject
    from jobgate.usecases.namespaces import NamespaceTree

ONE_BY_ONE = 50

T = TypeVar("T")


class TargetFinder:
    """Finds the targets of one run's agents, all of one configuration project.

    `known` are the snapshots as stored: a path that led somewhere and isn't in a listing is asked
    for once more, since a list that moves while it is read can lack a row.
    """

    def __init__(
        self,
        gitlab: GitLab,
        tree: NamespaceTree,
        chain: NamespaceChain,
        *,
        known: Iterable[AgentSnapshot],
        instance_wide: bool,
    ) -> None:
        self._gitlab = gitlab
        self._tree = tree
        self._root = chain.members[0]
        self._root_is_group = chain.kind == "group"
        self._instance_wide = instance_wide
        self._left = ONE_BY_ONE
        snapshots = tuple(known)
        self._projects = _Found(
            self._ask_project,
            gitlab.projects_below,
            {entry.path.lower() for s in snapshots for entry in s.projects.values()},
        )
        self._groups = _Found(
            self._ask_group,
            self._list_groups,
            {entry.path.lower() for s in snapshots for entry in s.groups.values()},
        )

    def targets(self, configuration: AgentConfiguration) -> Targets:
        """What every path of a configuration leads to."""
        projects = self._all(self._projects, {e.path.lower() for e in configuration.projects})
        groups = self._all(self._groups, {e.path.lower() for e in configuration.groups})
        return Targets(
            projects={path: self._of_project(found) for path, found in projects.items()},
            groups={path: self._of_group(found) for path, found in groups.items()},
        )

    def _all(self, found: _Found[T], paths: set[str]) -> Mapping[str, T | None]:
        by_root: dict[str, list[str]] = defaultdict(list)
        for path in sorted(paths - found.by_path.keys()):
            by_root[path.partition("/")[0]].append(path)
        for root, wanted in by_root.items():
            self._find(found, root, wanted)
        return {path: found.by_path[path] for path in paths}

    def _find(self, found: _Found[T], root: str, wanted: list[str]) -> None:
        is_own = root == self._root.path.lower()
        if len(wanted) > self._left or root in found.listed:
            root_id = self._root_id(root, is_own=is_own)
            if root_id is not None:
                self._find_listed(found, root, root_id, wanted)
                return
            if not is_own and not self._instance_wide:
                # Out of scope whatever they are: not worth more questions than these.
                found.by_path |= dict.fromkeys(wanted[max(self._left, 0) :])
                wanted = wanted[: max(self._left, 0)]
        for path in wanted:
            self._one(found, path)

    def _find_listed(self, found: _Found[T], root: str, root_id: int, wanted: list[str]) -> None:
        if root not in found.listed:
            found.listed[root] = found.list_below(root_id)
        for path in wanted:
            target = found.listed[root].get(path)
            if target is None and path in found.known and self._left > 0:
                self._one(found, path)
            else:
                found.by_path[path] = target

    def _one(self, found: _Found[T], path: str) -> None:
        self._left -= 1
        found.by_path[path] = found.ask(path)

    def _root_id(self, root: str, *, is_own: bool) -> int | None:
        """A top-level group that may be listed; None where it is none, or of no use."""
        if is_own:
            return self._root.namespace_id if self._root_is_group else None
        if not self._instance_wide:
            return None
        group = self._groups.by_path.get(root) or self._gitlab.group(root)
        self._groups.by_path[root] = group
        return None if group is None else group.group_id

    def _ask_project(self, path: str) -> GitLabProject | None:
        return self._gitlab.project(path)

    def _ask_group(self, path: str) -> GitLabGroup | None:
        return self._gitlab.group(path)

    def _list_groups(self, root_id: int) -> Mapping[str, GitLabGroup]:
        below = self._gitlab.groups_below(root_id)
        self._tree.learn(below.values())
        root = self._tree.group(root_id)
        return {**below, root.path.lower(): root}

    def _of_project(self, project: GitLabProject | None) -> Target | None:
        if project is None:
            return None
        if self._is_in_own_root(project.namespace_path):
            root_id = self._root.namespace_id
        else:
            root_id = self._tree.place(project)[0].root_id
        return Target(id=project.project_id, path=project.path, root_id=root_id)

    def _of_group(self, group: GitLabGroup | None) -> Target | None:
        if group is None:
            return None
        if self._is_in_own_root(group.path):
            root_id = self._root.namespace_id
        else:
            root_id = self._tree.chain_of_group(group).root_id
        return Target(id=group.group_id, path=group.path, root_id=root_id)

    def _is_in_own_root(self, path: str) -> bool:
        """By GitLab's own paths of this run; the decision judges it again by ids, at each job."""
        return path.lower().partition("/")[0] == self._root.path.lower()


class _Found(Generic[T]):
    """Projects, or groups: what is found already, and how more is."""

    def __init__(
        self,
        ask: Callable[[str], T | None],
        list_below: Callable[[int], Mapping[str, T]],
        known: set[str],
    ) -> None:
        self.ask = ask
        self.list_below = list_below
        self.known = known
        self.by_path: dict[str, T | None] = {}
        self.listed: dict[str, Mapping[str, T]] = {}
