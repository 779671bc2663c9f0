"""What an authentic delivery of GitLab's asks for.

Sources: GitLab, "Webhook events" and "System hooks". The payload is only a hint: content is always
read again through the API, so neither its list of commits (cut at 20, empty in a system hook) nor
what a push did to the branch (forced, created, deleted) matters. What a payload may change by
itself is only to take away: a job's end, and where a project or a group was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.liveness import TERMINAL_STATUSES, JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a project's default branch holds, or which branch that is, may have changed."""

    project_id: int


@dataclass(frozen=True, slots=True)
class ProjectMoved:
    """A project was renamed, transferred or removed: where it was counts no more."""

    project_id: int


@dataclass(frozen=True, slots=True)
class GroupMoved:
    """A group was renamed or removed. GitLab tells nobody of a group's transfer."""

    group_id: int


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A job runs, or has ended."""

    project_id: int
    job_id: int
    state: JobState


@dataclass(frozen=True, slots=True)
class Ignored:
    """An authentic event that changes nothing here."""

    why: str


HookEvent = Pushed | ProjectMoved | GroupMoved | JobSeen | Ignored

_FORMLESS = Ignored("an event of another form")


def event_of(payload: Mapping[str, Any], *, now: float) -> HookEvent:
    """What an authentic event asks for. Hooks of projects and groups and system hooks alike."""
    for name in (payload.get("object_kind"), payload.get("event_name")):
        if isinstance(name, str) and name in _EVENTS:
            return _EVENTS[name](payload, now)
    return Ignored("an event of another kind")


def _push(payload: Mapping[str, Any], _now: float) -> HookEvent:
    return _pushed_to(payload, [payload.get("ref")])


def _repository_update(payload: Mapping[str, Any], _now: float) -> HookEvent:
    """One for a push of any number of branches, of which above three have no push event."""
    refs = payload.get("refs")
    return _pushed_to(payload, refs if isinstance(refs, list) else [])


def _pushed_to(payload: Mapping[str, Any], refs: list[Any]) -> HookEvent:
    match payload.get("project"):
        case {"default_branch": str(branch)} if f"refs/heads/{branch}" not in refs:
            return Ignored("a push to another branch")
    # One that doesn't name the default branch may be to it.
    return _of_project(payload, Pushed)


def _updated(payload: Mapping[str, Any], _now: float) -> HookEvent:
    return _of_project(payload, Pushed)


def _project_moved(payload: Mapping[str, Any], _now: float) -> HookEvent:
    return _of_project(payload, ProjectMoved)


def _group_moved(payload: Mapping[str, Any], _now: float) -> HookEvent:
    group_id = _id(payload, "group_id")
    return _FORMLESS if group_id is None else GroupMoved(group_id)


def _of_project(payload: Mapping[str, Any], kind: type[Pushed | ProjectMoved]) -> HookEvent:
    project_id = _id(payload, "project_id")
    return _FORMLESS if project_id is None else kind(project_id)


def _job(payload: Mapping[str, Any], now: float) -> HookEvent:
    project_id, job_id = _id(payload, "project_id"), _id(payload, "build_id")
    status = payload.get("build_status")
    if project_id is None or job_id is None or not isinstance(status, str):
        return _FORMLESS
    if status in TERMINAL_STATUSES:
        state = JobState(status=status, source="hook", seen_at=now, finished_at=now)
        return JobSeen(project_id, job_id, state)
    if status == "running":
        state = JobState(status=status, source="hook", seen_at=now)
        return JobSeen(project_id, job_id, state)
    return Ignored(f"a job that is {status[:20]}")


def _id(payload: Mapping[str, Any], name: str) -> int | None:
    value = payload.get(name)
    is_id = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63
    return value if is_id else None


_EVENTS: Mapping[str, Callable[[Mapping[str, Any], float], HookEvent]] = {
    "build": _job,
    "push": _push,
    "repository_update": _repository_update,
    "project_update": _updated,
    "project_rename": _project_moved,
    "project_transfer": _project_moved,
    "project_destroy": _project_moved,
    "group_rename": _group_moved,
    "group_destroy": _group_moved,
    "subgroup_destroy": _group_moved,
}
