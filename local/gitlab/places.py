"""Groups, user namespaces and projects: their tree, their paths, and where an old path leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.gitlab.records import Group, InvalidError, MissingError, Project, TakenError, User

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The deepest group tree that GitLab allows.
_MAX_DEPTH = 20


class Places:
    """The tree of one instance. Paths compare without regard to case, as in GitLab."""

    def __init__(self) -> None:
        self.groups: dict[int, Group] = {}
        self.users: dict[int, User] = {}
        self.projects: dict[int, Project] = {}
        self._owners: dict[int, int] = {}
        self._routes: dict[str, Group | User | Project] = {}
        self._moved: dict[str, int] = {}

    def put_group(self, group: Group) -> None:
        """Add a group, or replace it: then every path below may change."""
        self._check_free(group)
        known = group.id in self.groups
        self.groups[group.id] = group
        self._place(group, known=known)

    def put_user(self, user: User) -> None:
        """Add a user with their namespace, or replace them."""
        self._check_free(user)
        known = user.id in self.users
        self.users[user.id] = user
        if user.namespace_id is not None:
            self._owners[user.namespace_id] = user.id
        self._place(user, known=known)

    def put_project(self, project: Project) -> None:
        """Add a project, or replace it."""
        self._check_free(project)
        known = project.id in self.projects
        self.projects[project.id] = project
        self._place(project, known=known)

    def remove_project(self, project_id: int) -> None:
        """Forget a project; its old paths lead nowhere from now on."""
        del self.projects[project_id]
        self._moved = {path: to for path, to in self._moved.items() if to != project_id}
        self._rebuild()

    def remove_group(self, group_id: int) -> None:
        """Forget a group, which must be empty."""
        if any(g.parent_id == group_id for g in self.groups.values()) or any(
            p.namespace_id == group_id for p in self.projects.values()
        ):
            raise InvalidError("the group is not empty")
        del self.groups[group_id]
        self._rebuild()

    def is_namespace(self, namespace_id: int) -> bool:
        """Whether a group or a user namespace has this id."""
        return namespace_id in self.groups or namespace_id in self._owners

    def owner(self, namespace_id: int) -> User | None:
        """The user whose namespace this is."""
        user_id = self._owners.get(namespace_id)
        return None if user_id is None else self.users[user_id]

    def namespace_at(self, path: str) -> int:
        """The id of the group or user namespace at a path; raises MissingError."""
        match self._routes.get(path.lower()):
            case Group() as group:
                return group.id
            case User(namespace_id=int() as namespace_id):
                return namespace_id
            case _:
                raise MissingError(f"no namespace {path}")

    def namespace_path(self, namespace_id: int) -> str:
        """The full path of a group or user namespace."""
        owner = self.owner(namespace_id)
        if owner is not None:
            return owner.username
        return "/".join(group.path for group in reversed(self.ancestry(namespace_id)))

    def namespace_name(self, namespace_id: int) -> str:
        """The full display name, as in `Top / Sub`."""
        owner = self.owner(namespace_id)
        if owner is not None:
            return owner.name
        return " / ".join(group.name for group in reversed(self.ancestry(namespace_id)))

    def ancestry(self, namespace_id: int | None) -> tuple[Group, ...]:
        """The group and its ancestors, innermost first; nothing for a user namespace."""
        found: list[Group] = []
        current = namespace_id
        while current is not None and current in self.groups and len(found) <= _MAX_DEPTH:
            found.append(self.groups[current])
            current = self.groups[current].parent_id
        return tuple(found)

    def descendants(self, group_id: int) -> list[Group]:
        """All groups below a group, by id."""
        below = [
            group
            for group in self.groups.values()
            if group.id != group_id
            and any(ancestor.id == group_id for ancestor in self.ancestry(group.id))
        ]
        return sorted(below, key=lambda group: group.id)

    def projects_below(self, group_id: int) -> list[Project]:
        """All projects of a group and its subgroups, by id."""
        inside = {group_id} | {group.id for group in self.descendants(group_id)}
        found = [project for project in self.projects.values() if project.namespace_id in inside]
        return sorted(found, key=lambda project: project.id)

    def project_path(self, project: Project) -> str:
        """The full path of a project."""
        return f"{self.namespace_path(project.namespace_id)}/{project.path}"

    def group_at(self, path: str) -> Group | None:
        """The group at a current path; GitLab's API doesn't follow old group paths."""
        found = self._routes.get(path.lower())
        return found if isinstance(found, Group) else None

    def project_at(self, path: str) -> Project | None:
        """The project at a current path."""
        found = self._routes.get(path.lower())
        return found if isinstance(found, Project) else None

    def project_formerly_at(self, path: str) -> Project | None:
        """The project that has left this path, while nothing else has taken it."""
        project_id = self._moved.get(path.lower())
        return None if project_id is None else self.projects.get(project_id)

    def _place(self, record: Group | User | Project, *, known: bool) -> None:
        if known:
            self._rebuild()
        else:
            self._add_route(record)

    def _check_free(self, record: Group | User | Project) -> None:
        for path in self._paths_of(record):
            holder = self._routes.get(path)
            if holder is not None and (type(holder), holder.id) != (type(record), record.id):
                raise TakenError(f"the path {path} is taken")

    def _paths_of(self, record: Group | User | Project) -> Iterator[str]:
        match record:
            case User(namespace_id=None):
                return
            case User():
                yield record.username.lower()
            case Project():
                yield self.project_path(record).lower()
            case Group(parent_id=None):
                yield record.path.lower()
            case Group(parent_id=int() as parent_id):
                yield f"{self.namespace_path(parent_id)}/{record.path}".lower()

    def _add_route(self, record: Group | User | Project) -> None:
        for path in self._paths_of(record):
            self._routes[path] = record
            # A path that is taken again no longer leads to where its former holder went.
            self._moved.pop(path, None)

    def _rebuild(self) -> None:
        former = {
            path: found.id for path, found in self._routes.items() if isinstance(found, Project)
        }
        self._routes = {}
        self._moved |= {path: to for path, to in former.items() if to in self.projects}
        for records in (self.users, self.groups, self.projects):
            for record in records.values():
                self._add_route(record)
