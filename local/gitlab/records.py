"""What a GitLab instance knows, as immutable records.

Times are Unix seconds. Ids are numbers as GitLab gives them; groups and user namespaces share one
sequence, so an id says nothing about its kind.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Access levels by role, https://docs.gitlab.com/api/access_requests/#valid-access-levels
LEVELS = {
    "guest": 10,
    "planner": 15,
    "reporter": 20,
    "developer": 30,
    "maintainer": 40,
    "owner": 50,
}
ROLES = {level: role for role, level in LEVELS.items()}

#: A visibility's number in webhook payloads.
VISIBILITY_LEVELS = {"private": 0, "internal": 10, "public": 20}

FINISHED = frozenset({"success", "failed", "canceled"})
JOB_STATUSES = FINISHED | {
    "created",
    "waiting_for_resource",
    "preparing",
    "waiting_for_callback",
    "pending",
    "running",
    "canceling",
    "skipped",
    "manual",
    "scheduled",
}


class InvalidError(Exception):
    """A request that makes no sense."""


class MissingError(Exception):
    """A request about something that doesn't exist."""


class TakenError(Exception):
    """An id or a path that something else holds."""


@dataclass(frozen=True, slots=True)
class User:
    """A person, or the bot that a project or group access token acts as (no namespace)."""

    id: int
    username: str
    name: str
    email: str
    namespace_id: int | None
    created_at: float
    admin: bool = False
    bot: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A group; `id` is its namespace id too, `path` its last segment."""

    id: int
    path: str
    name: str
    parent_id: int | None
    visibility: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Project:
    """A project; `protected` holds names and `*` patterns of protected branches and tags."""

    id: int
    path: str
    name: str
    namespace_id: int
    project_namespace_id: int
    default_branch: str
    visibility: str
    protected: tuple[str, ...]
    creator_id: int
    created_at: float
    updated_at: float
    archived: bool = False
    marked_for_deletion_on: str | None = None
    shared_with: tuple[tuple[int, int], ...] = ()
    sub_components: tuple[str, ...] = ("project_path", "ref_type", "ref")


@dataclass(frozen=True, slots=True)
class Environment:
    """A project's environment; the slug is fixed when it is created."""

    id: int
    project_id: int
    name: str
    slug: str
    tier: str
    protected: bool
    created_at: float
    state: str = "available"


@dataclass(frozen=True, slots=True)
class Job:
    """A job and the pipeline that it alone is in.

    `project_id` runs it; `source_project_id` differs in a fork's merge request pipeline.
    """

    id: int
    pipeline_id: int
    project_id: int
    source_project_id: int
    name: str
    stage: str
    status: str
    ref: str
    tag: bool
    ref_protected: bool
    sha: str
    user_id: int
    source: str
    environment_id: int | None
    environment_action: str
    timeout: int | None
    audiences: tuple[str, ...]
    runner_id: int | None
    runner_environment: str
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    failure_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; `expires_at` is a date (GitLab tokens end at midnight UTC), or None."""

    id: int
    name: str
    secret: str
    user_id: int
    scopes: tuple[str, ...]
    created_at: float
    expires_at: str | None
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook; `owner_id` is its project or group, None for a system hook.

    `events` holds the API's own switches, such as `push_events`.
    """

    id: int
    kind: str
    owner_id: int | None
    url: str
    events: frozenset[str]
    created_at: float
    name: str = ""
    description: str = ""
    token: str | None = None
    signing_token: str | None = None
    custom_headers: tuple[tuple[str, str], ...] = ()
    branch_filter: str = ""
    enable_ssl_verification: bool = True
    failures: int = 0
    disabled_until: float | None = None


@dataclass(frozen=True, slots=True)
class ClusterAgent:
    """An agent that is registered in GitLab itself."""

    id: int
    project_id: int
    name: str
    created_by_user_id: int
    created_at: float


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """An external status of a commit."""

    id: int
    project_id: int
    sha: str
    ref: str
    name: str
    state: str
    target_url: str | None
    description: str | None
    user_id: int
    created_at: float
