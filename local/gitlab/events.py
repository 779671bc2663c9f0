"""What GitLab tells others: events of CI jobs, projects, groups and users.

Shapes: https://docs.gitlab.com/user/project/integrations/webhook_events/ and
https://docs.gitlab.com/administration/system_hooks/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.gitlab.records import VISIBILITY_LEVELS
from local.gitlab.times import build_time, hook_time

if TYPE_CHECKING:
    from local.gitlab.instance import Instance
    from local.gitlab.records import Group, Job, Project, User

#: The switch that system hooks can't turn off.
LIFECYCLE = "lifecycle_events"
REDACTED = "[REDACTED]"
ZERO_SHA = "0" * 40


@dataclass(frozen=True, slots=True)
class Event:
    """Something that hooks may be told.

    `switch` is the hook's setting that subscribes to it; `name` the value of X-Gitlab-Event, which
    system hooks replace by their own. It goes to hooks of the project and of the groups, or to
    system hooks. Events of the same `order` are delivered one after another.
    """

    switch: str
    name: str
    payload: dict[str, Any]
    order: str
    project_id: int | None = None
    group_ids: tuple[int, ...] = ()
    system: bool = False
    branch: str | None = None


def project_shape(instance: Instance, project: Project) -> dict[str, Any]:
    """The `project` object of webhook payloads."""
    path = instance.places.project_path(project)
    web, http, ssh = project_urls(instance, project)
    namespace = instance.places.groups.get(project.namespace_id)
    owner = instance.places.owner(project.namespace_id)
    display = namespace.name if namespace else owner.name if owner else ""
    return {
        "id": project.id,
        "name": project.name,
        "description": "",
        "web_url": web,
        "avatar_url": None,
        "git_ssh_url": ssh,
        "git_http_url": http,
        "namespace": display,
        "visibility_level": VISIBILITY_LEVELS[project.visibility],
        "path_with_namespace": path,
        "default_branch": project.default_branch,
        "ci_config_path": "",
        "homepage": web,
        "url": ssh,
        "ssh_url": ssh,
        "http_url": http,
    }


def repository_shape(instance: Instance, project: Project) -> dict[str, Any]:
    """The deprecated `repository` object of webhook payloads."""
    web, http, ssh = project_urls(instance, project)
    return {
        "name": project.name,
        "url": ssh,
        "description": "",
        "homepage": web,
        "git_http_url": http,
        "git_ssh_url": ssh,
        "visibility_level": VISIBILITY_LEVELS[project.visibility],
    }


def project_urls(instance: Instance, project: Project) -> tuple[str, str, str]:
    """The project's web page, and its addresses for git over HTTPS and SSH."""
    path = instance.places.project_path(project)
    host = instance.url.removeprefix("https://")
    return f"{instance.url}/{path}", f"{instance.url}/{path}.git", f"git@{host}:{path}.git"


def covering_groups(instance: Instance, project: Project) -> tuple[int, ...]:
    """The groups whose hooks hear of a project's events."""
    return tuple(group.id for group in instance.places.ancestry(project.namespace_id))


def job_event(instance: Instance, job: Job) -> Event:
    """The Job Hook of a job's present status."""
    project = instance.project(job.project_id)
    user = instance.user(job.user_id)
    payload = {
        "object_kind": "build",
        "ref": job.ref,
        "tag": job.tag,
        "before_sha": ZERO_SHA,
        "sha": job.sha,
        "retries_count": 0,
        **_build_fields(job),
        "pipeline_id": job.pipeline_id,
        "runner": _runner_shape(job),
        "project_id": project.id,
        "project_name": f"{instance.places.namespace_name(project.namespace_id)} / {project.name}",
        "user": user_shape(user),
        "commit": {
            "id": job.pipeline_id,
            "name": None,
            "sha": job.sha,
            "message": "",
            "author_name": user.name,
            "author_email": user.email,
            "author_url": f"{instance.url}/{user.username}",
            "status": job.status,
            "duration": None,
            "started_at": build_time(job.started_at),
            "finished_at": None,
        },
        "repository": repository_shape(instance, project),
        "project": project_shape(instance, project),
        "environment": _environment_shape(instance, job),
    }
    return Event(
        "job_events",
        "Job Hook",
        payload,
        order=f"job {job.id}",
        project_id=project.id,
        group_ids=covering_groups(instance, project),
    )


def user_shape(user: User) -> dict[str, Any]:
    """The `user` object of webhook payloads; email addresses are withheld."""
    return {
        "id": user.id,
        "name": user.name,
        "username": user.username,
        "avatar_url": None,
        "email": REDACTED,
    }


def _build_fields(job: Job) -> dict[str, Any]:
    started, finished = job.started_at, job.finished_at
    ended = None if started is None or finished is None else round(finished - started, 6)
    queued = None if started is None else round(started - job.created_at, 6)
    return {
        "build_id": job.id,
        "build_name": job.name,
        "build_stage": job.stage,
        "build_status": job.status,
        "build_created_at": build_time(job.created_at),
        "build_started_at": build_time(started),
        "build_finished_at": build_time(finished),
        "build_created_at_iso": hook_time(job.created_at),
        "build_started_at_iso": None if started is None else hook_time(started),
        "build_finished_at_iso": None if finished is None else hook_time(finished),
        "build_duration": ended,
        "build_queued_duration": queued,
        "build_allow_failure": False,
        "build_failure_reason": job.failure_reason or "unknown_failure",
    }


def _runner_shape(job: Job) -> dict[str, Any] | None:
    if job.runner_id is None or job.started_at is None:
        return None
    return {
        "id": job.runner_id,
        "description": f"runner-{job.runner_id}",
        "runner_type": "group_type",
        "active": True,
        "is_shared": False,
        "tags": ["linux"],
    }


def _environment_shape(instance: Instance, job: Job) -> dict[str, Any] | None:
    if job.environment_id is None:
        return None
    environment = instance.environments[job.environment_id]
    return {
        "name": environment.name,
        "action": job.environment_action,
        "deployment_tier": environment.tier,
    }


def project_events(
    instance: Instance, project: Project, *, name: str, old_path: str | None = None
) -> list[Event]:
    """What is told of a project's life.

    `name` is `project_create`, `_destroy`, `_rename`, `_transfer` or `_update`. Group hooks hear of
    the first two alone (Project Hook, GitLab >= 17.6).
    """
    owner = instance.places.owner(project.namespace_id)
    group = instance.places.groups.get(project.namespace_id)
    owners = [{"name": owner.name, "email": REDACTED}] if owner else []
    common = {
        "event_name": name,
        "created_at": hook_time(project.created_at),
        "updated_at": hook_time(project.updated_at),
        "name": project.name,
        "path": project.path,
        "path_with_namespace": instance.places.project_path(project),
        "project_id": project.id,
        "project_namespace_id": project.project_namespace_id,
        "owners": owners,
        "project_visibility": project.visibility,
    }
    system = {
        **common,
        "owner_name": owner.name if owner else group.name if group else "",
        "owner_email": REDACTED if owner else None,
    }
    if old_path is not None:
        system["old_path_with_namespace"] = old_path
    order = f"project {project.id}"
    told = [Event(LIFECYCLE, "System Hook", system, order=order, system=True)]
    if name in {"project_create", "project_destroy"}:
        groups = covering_groups(instance, project)
        told.append(Event("project_events", "Project Hook", common, order=order, group_ids=groups))
    return told


def group_events(
    instance: Instance, group: Group, *, name: str, old_full_path: str | None = None
) -> list[Event]:
    """What is told of a group's life: `group_create`, `_destroy`, `_rename`.

    Hooks of the groups above hear of a subgroup's creation and end (Subgroup Hook). Nobody is told
    of a group's transfer: GitLab has no such event.
    """
    times = {"created_at": hook_time(group.created_at), "updated_at": hook_time(group.updated_at)}
    full_path = instance.places.namespace_path(group.id)
    names = {"name": group.name, "path": group.path, "group_id": group.id}
    system: dict[str, Any] = {"event_name": name, **times, **names}
    if old_full_path is not None:
        system |= {
            "full_path": full_path,
            "old_path": old_full_path.rsplit("/", 1)[-1],
            "old_full_path": old_full_path,
        }
    order = f"group {group.id}"
    told = [Event(LIFECYCLE, "System Hook", system, order=order, system=True)]
    parent = None if group.parent_id is None else instance.places.groups[group.parent_id]
    if parent is not None and name in {"group_create", "group_destroy"}:
        payload = {
            **times,
            "event_name": f"sub{name}",
            **names,
            "full_path": full_path,
            "parent_group_id": parent.id,
            "parent_name": parent.name,
            "parent_path": parent.path,
            "parent_full_path": instance.places.namespace_path(parent.id),
        }
        above = tuple(ancestor.id for ancestor in instance.places.ancestry(parent.id))
        told.append(
            Event("subgroup_events", "Subgroup Hook", payload, order=order, group_ids=above)
        )
    return told


def user_rename_event(user: User, *, old_username: str, now: float) -> Event:
    """The system hook about a user's new name, which is their namespace's path too."""
    payload = {
        "event_name": "user_rename",
        "created_at": hook_time(user.created_at),
        "updated_at": hook_time(now),
        "name": user.name,
        "email": user.email,
        "user_id": user.id,
        "username": user.username,
        "old_username": old_username,
    }
    return Event(LIFECYCLE, "System Hook", payload, order=f"user {user.id}", system=True)
