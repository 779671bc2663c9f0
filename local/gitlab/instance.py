"""The state of one GitLab instance, and the rules of who may see what."""

from __future__ import annotations

import fnmatch
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local.gitlab.ids import Ids
from local.gitlab.places import Places
from local.gitlab.records import (
    LEVELS,
    ClusterAgent,
    CommitStatus,
    Environment,
    Group,
    Hook,
    InvalidError,
    Job,
    MissingError,
    Project,
    Token,
    User,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Clock = Callable[[], float]

ROOT_USER_ID = 1


@dataclass(slots=True)
class Instance:
    """Everything that the instance knows, apart from what is in its repositories."""

    url: str
    clock: Clock
    version: str = "19.0.2-ee"
    #: Group webhooks need Premium; Free answers as if there were none.
    tier: str = "premium"
    #: GitLab.com disables failing hooks; a self-managed instance doesn't by default.
    disables_failing_hooks: bool = False
    ids: Ids = field(default_factory=Ids)
    places: Places = field(default_factory=Places)
    members: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    environments: dict[int, Environment] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    hooks: dict[int, Hook] = field(default_factory=dict)
    agents: dict[int, ClusterAgent] = field(default_factory=dict)
    statuses: list[CommitStatus] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add_user("root", name="Administrator", id=ROOT_USER_ID, admin=True)

    # --- references, as a person or a test writes them ---

    def project(self, reference: int | str) -> Project:
        """A project by id or current full path; raises MissingError."""
        if isinstance(reference, int):
            found = self.places.projects.get(reference)
        else:
            found = self.places.project_at(reference)
        if found is None:
            raise MissingError(f"no project {reference}")
        return found

    def group(self, reference: int | str) -> Group:
        """A group by id or current full path; raises MissingError."""
        if isinstance(reference, int):
            found = self.places.groups.get(reference)
        else:
            found = self.places.group_at(reference)
        if found is None:
            raise MissingError(f"no group {reference}")
        return found

    def user(self, reference: int | str) -> User:
        """A user by id or user name; raises MissingError."""
        for user in self.places.users.values():
            if reference in {user.id, user.username}:
                return user
        raise MissingError(f"no user {reference}")

    def job(self, job_id: int) -> Job:
        """A job by id; raises MissingError."""
        if job_id not in self.jobs:
            raise MissingError(f"no job {job_id}")
        return self.jobs[job_id]

    def hook(self, hook_id: int) -> Hook:
        """A hook by id; raises MissingError."""
        if hook_id not in self.hooks:
            raise MissingError(f"no hook {hook_id}")
        return self.hooks[hook_id]

    def environment(self, project_id: int, name: str) -> Environment | None:
        """A project's environment by its exact name."""
        for environment in self.environments.values():
            if (environment.project_id, environment.name) == (project_id, name):
                return environment
        return None

    # --- users and what they may see ---

    def add_user(  # noqa: PLR0913  a user has this many properties
        self,
        username: str,
        *,
        name: str | None = None,
        id: int | None = None,  # noqa: A002  GitLab's own word
        namespace_id: int | None = None,
        email: str | None = None,
        admin: bool = False,
        bot: bool = False,
    ) -> User:
        """Add a person with a namespace, or a bot without one."""
        user = User(
            id=self.ids.take("user", id),
            username=username,
            name=name or username.capitalize(),
            email=email or f"{username}@example.test",
            namespace_id=None if bot else self.ids.take("namespace", namespace_id),
            created_at=self.clock(),
            admin=admin,
            bot=bot,
        )
        self.places.put_user(user)
        return user

    def add_member(self, kind: str, place_id: int, *, user: User, role: str) -> None:
        """Make a user a member of a `group` or `project`."""
        if role not in LEVELS:
            raise InvalidError(f"no role {role}")
        self.members.setdefault((kind, place_id), {})[user.id] = LEVELS[role]

    def role_level(self, user: User, project: Project) -> int:
        """The highest level that a user holds in a project by membership; 0 for none."""
        owner = self.places.owner(project.namespace_id)
        levels = [LEVELS["owner"]] if owner == user else []
        levels.append(self.members.get(("project", project.id), {}).get(user.id, 0))
        return max(*levels, self.group_level(user, project.namespace_id))

    def group_level(self, user: User, group_id: int) -> int:
        """The highest level that a user holds in a group or its ancestors; 0 for none."""
        levels = (
            self.members.get(("group", group.id), {}).get(user.id, 0)
            for group in self.places.ancestry(group_id)
        )
        return max(levels, default=0)

    def sees_project(self, user: User | None, project: Project) -> bool:
        """Whether a project exists for this user."""
        if project.visibility == "public" or (user is not None and user.admin):
            return True
        if user is None:
            return False
        return project.visibility == "internal" or self.role_level(user, project) > 0

    def sees_group(self, user: User | None, group: Group) -> bool:
        """Whether a group exists for this user: also through a project or subgroup below it."""
        if group.visibility == "public" or (user is not None and user.admin):
            return True
        if user is None:
            return False
        if group.visibility == "internal" or self.group_level(user, group.id) > 0:
            return True
        below = self.places.descendants(group.id)
        return any(user.id in self.members.get(("group", child.id), {}) for child in below) or any(
            self.sees_project(user, project) for project in self.places.projects_below(group.id)
        )

    def may(self, user: User | None, project: Project, role: str) -> bool:
        """Whether a user holds at least this role; what all may read gives all Reporter's."""
        if user is not None and user.admin:
            return True
        level = 0 if user is None else self.role_level(user, project)
        if self.sees_project(user, project) and project.visibility != "private":
            level = max(level, LEVELS["reporter"])
        return level >= LEVELS[role]

    # --- tokens ---

    def add_token(
        self,
        user: User,
        *,
        name: str,
        scopes: Sequence[str],
        expires_at: str | None = None,
        secret: str | None = None,
    ) -> Token:
        """Add an access token of a user."""
        token = Token(
            id=self.ids.take("token"),
            name=name,
            secret=secret or "glpat-" + secrets.token_urlsafe(20),
            user_id=user.id,
            scopes=tuple(scopes),
            created_at=self.clock(),
            expires_at=expires_at,
        )
        self.tokens[token.secret] = token
        return token

    def token_by_id(self, token_id: int) -> Token:
        """A token by its id; raises MissingError."""
        for token in self.tokens.values():
            if token.id == token_id:
                return token
        raise MissingError(f"no token {token_id}")

    # --- refs ---

    def is_protected(self, project: Project, ref: str) -> bool:
        """Whether a branch or tag name matches one of the project's protected patterns."""
        return any(fnmatch.fnmatchcase(ref, pattern) for pattern in project.protected)
