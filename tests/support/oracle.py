"""Which agents a job gets, said a second time: from GitLab's rules, never from the product's code.

Short and slow on purpose, and it imports nothing of the product. Sources: GitLab, "Using GitLab
CI/CD with a Kubernetes cluster", its `ci_access` finder and refresh service, its environment
matcher and `Gitlab::Slug::Environment`. Where Jobgate refuses what GitLab allows, the line says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESERVED = ("system:", "gitlab:", "gitlab@")


@dataclass(frozen=True)
class Whom:
    """An impersonated identity; `extra` holds one list of values a key."""

    user: str
    uid: str | None = None
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Written:
    """An entry of a file; `access_as` is `agent`, `ci_job` or a static identity."""

    path: str
    access_as: str | Whom = "agent"
    namespace: str | None = None
    environments: tuple[str, ...] = ()
    protected_only: bool = False


@dataclass(frozen=True)
class Agent:
    """A registered agent and its last valid file; `valid` is False where there never was one."""

    id: int
    name: str
    project: int
    projects: tuple[Written, ...] = ()
    groups: tuple[Written, ...] = ()
    instance: Written | None = None
    valid: bool = True


@dataclass(frozen=True)
class Space:
    """A group, or a user's namespace, which has no parent."""

    name: str
    parent: int | None = None
    is_user: bool = False


@dataclass(frozen=True)
class Tree:
    """GitLab at one moment: namespaces by id; projects by id, each its namespace and its name."""

    spaces: Mapping[int, Space]
    projects: Mapping[int, tuple[int, str]]

    def line(self, space: int) -> list[int]:
        """A namespace and its ancestors, nearest first."""
        parent = self.spaces[space].parent
        return [space] if parent is None else [space, *self.line(parent)]

    def space_path(self, space: int) -> str:
        return "/".join(self.spaces[i].name for i in reversed(self.line(space)))

    def project_path(self, project: int) -> str:
        space, name = self.projects[project]
        return f"{self.space_path(space)}/{name}"

    def root(self, project: int) -> int:
        return self.line(self.projects[project][0])[-1]

    def groups(self, project: int) -> list[int]:
        """The groups around a project, nearest first; none in a user's namespace."""
        return [i for i in self.line(self.projects[project][0]) if not self.spaces[i].is_user]


@dataclass(frozen=True)
class Job:
    """A job; `namespace` is its project's namespace when it started."""

    id: int
    pipeline: int
    project: int
    namespace: int
    user: str
    protected: bool
    environment: str | None = None
    tier: str | None = None


@dataclass(frozen=True)
class Choices:
    """The deployment's settings that matter here."""

    instance_wide: bool = False
    limit: int = 500
    allowed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Access:
    """What a job gets of an agent; `whom` is None for the agent's own account."""

    via: str
    via_id: int | None
    whom: Whom | None
    namespace: str | None


def agents_of(
    job: Job, agents: Sequence[Agent], *, then: Tree, now: Tree, choices: Choices
) -> dict[int, Access]:
    """The agents that the job gets; files were read in the tree `then`, the job runs in `now`."""
    found = {}
    for agent in agents:
        access = _access(job, agent, then, now, choices) if agent.valid else None
        if access is not None:
            found[agent.id] = access
    return found


def _access(job: Job, agent: Agent, then: Tree, now: Tree, choices: Choices) -> Access | None:
    winner = _winner(job, agent, then, now, choices)
    if winner is None:
        return None
    via, via_id, entry = winner
    if entry is None or not _passes_filters(entry, job):
        return None
    whom = entry.access_as
    if whom == "agent":
        return Access(via, via_id, None, entry.namespace)
    if isinstance(whom, Whom):
        # Jobgate refuses reserved names; GitLab passes them on.
        names = {whom.user, *whom.groups} - choices.allowed
        refused = any(name.startswith(RESERVED) for name in names)
        return None if refused else Access(via, via_id, whom, entry.namespace)
    if _moved_since_start(job, now):
        return None  # Jobgate: a job that was moved has no known groups.
    return Access(via, via_id, ci_job(job, agent, now), entry.namespace)


def _winner(
    job: Job, agent: Agent, then: Tree, now: Tree, choices: Choices
) -> tuple[str, int | None, Written | None] | None:
    """Project, implicit, nearest group, instance: the first there is; no merging.

    The scope (one top-level namespace) is judged when the file is read and again now. The entry is
    None where Jobgate keeps a denial in its place; GitLab drops it.
    """
    in_scope = choices.instance_wide or now.root(job.project) == now.root(agent.project)
    project_paths = {i: then.project_path(i) for i in then.projects}
    group_paths = {i: then.space_path(i) for i, s in then.spaces.items() if not s.is_user}
    projects = _stored(agent.projects, project_paths, choices.limit)
    groups = _stored(agent.groups, group_paths, choices.limit)
    if not choices.instance_wide:
        root = then.root(agent.project)
        projects = {i: e if then.root(i) == root else None for i, e in projects.items()}
        groups = {i: e if then.line(i)[-1] == root else None for i, e in groups.items()}
    if job.project in projects and in_scope:
        return "project", job.project, projects[job.project]
    if job.project == agent.project:
        return "implicit", agent.project, Written("")
    if groups and _moved_since_start(job, now):
        return None  # Jobgate: any group's entry may be about it.
    for group in now.groups(job.project):
        if group in groups and in_scope:
            return "group", group, groups[group]
    if agent.instance is not None and choices.instance_wide:
        return "instance", None, agent.instance
    return None


def _stored(
    written: Sequence[Written], paths: Mapping[int, str], limit: int
) -> dict[int, Written | None]:
    """Entries by their target's id: the first `limit` of the file, the last of the same path.

    Only a target's path of that moment counts, in any case. What is beyond the limit denies in
    Jobgate, unless an entry within it says something about the same target.
    """
    ids = {path.lower(): i for i, path in paths.items()}
    stored: dict[int, Written | None] = {
        ids[entry.path.lower()]: entry for entry in written[:limit] if entry.path.lower() in ids
    }
    for entry in written[limit:]:
        if entry.path.lower() in ids:
            stored.setdefault(ids[entry.path.lower()], None)
    return stored


def _moved_since_start(job: Job, now: Tree) -> bool:
    return now.projects[job.project][0] != job.namespace


def _passes_filters(entry: Written, job: Job) -> bool:
    if entry.protected_only and not job.protected:
        return False
    if not entry.environments:
        return True
    name = job.environment
    return name is not None and any(fits(pattern, name) for pattern in entry.environments)


def fits(pattern: str, name: str) -> bool:
    """Exact, or `*` for any run of characters of one line; both ends anchored, case counts.

    Walks the name with the set of places in the pattern that may come next.
    """
    if not pattern:
        return False
    places = _past_stars(pattern, {0})
    for character in name:
        stays = {p for p in places if p < len(pattern) and pattern[p] == "*" and character != "\n"}
        steps = {p + 1 for p in places if p < len(pattern) and pattern[p] == character != "*"}
        places = _past_stars(pattern, stays | steps)
    return len(pattern) in places


def _past_stars(pattern: str, places: set[int]) -> set[int]:
    found = set(places)
    for place in places:
        while place < len(pattern) and pattern[place] == "*":
            place += 1  # noqa: PLW2901 - walks on from where the loop began
            found.add(place)
    return found


def slug(name: str) -> str:
    """The seven steps of GitLab's environment slug."""
    text = "".join(c if c in "abcdefghijklmnopqrstuvwxyz0123456789" else "-" for c in name.lower())
    if not text or text[0] not in "abcdefghijklmnopqrstuvwxyz":
        text = "env-" + text
    while "--" in text:
        text = text.replace("--", "-")
    if len(text) <= 24 and text == name:
        return text.removesuffix("-")
    text = text[:17]
    return (text if text.endswith("-") else text + "-") + _base36(name)[-6:]


def _base36(name: str) -> str:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    digits = ""
    while number:
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[number % 36] + digits
        number //= 36
    return digits


def ci_job(job: Job, agent: Agent, now: Tree) -> Whom:
    """The identity of `ci_job`; groups outermost first, as GitLab's page has it."""
    groups = ["gitlab:ci_job"]
    for group in reversed(now.groups(job.project)):
        groups.append(f"gitlab:group:{group}")
        if job.environment is not None:
            groups.append(f"gitlab:group_env_tier:{group}:{job.tier}")
    groups.append(f"gitlab:project:{job.project}")
    extra = {
        "id": agent.id,
        "config_project_id": agent.project,
        "project_id": job.project,
        "ci_pipeline_id": job.pipeline,
        "ci_job_id": job.id,
        "username": job.user,
    }
    if job.environment is not None:
        groups.append(f"gitlab:project_env:{job.project}:{slug(job.environment)}")
        groups.append(f"gitlab:project_env_tier:{job.project}:{job.tier}")
        extra |= {"environment_slug": slug(job.environment), "environment_tier": str(job.tier)}
    return Whom(
        user=f"gitlab:ci_job:{job.id}",
        groups=tuple(groups),
        extra=tuple((f"agent.gitlab.com/{key}", (str(value),)) for key, value in extra.items()),
    )
