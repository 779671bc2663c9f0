"""The events of a push, by GitLab's rules of what is told and what isn't.

https://docs.gitlab.com/user/project/integrations/webhook_events/#push-events
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.gitlab.events import (
    ZERO_SHA,
    Event,
    covering_groups,
    project_shape,
    project_urls,
    repository_shape,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.gitlab.commits import Commit
    from local.gitlab.instance import Instance
    from local.gitlab.records import Project, User
    from local.gitlab.repositories import Repositories

#: `push_event_hooks_limit`: with more branches (or more tags) in one push, no hook is told of any.
REFS_LIMIT = 3
_COMMITS_LIMIT = 20
_BRANCH, _TAG = "refs/heads/", "refs/tags/"


@dataclass(frozen=True, slots=True)
class RefChange:
    """A ref before and after a push; all zeros where it didn't exist."""

    ref: str
    before: str
    after: str


def ref_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[RefChange]:
    """The refs that differ."""
    return [
        RefChange(ref, before.get(ref, ZERO_SHA), after.get(ref, ZERO_SHA))
        for ref in sorted({*before, *after})
        if before.get(ref) != after.get(ref)
    ]


async def push_events(
    instance: Instance,
    repositories: Repositories,
    *,
    project: Project,
    user: User,
    changes: Sequence[RefChange],
) -> list[Event]:
    """All events of one push."""
    if not changes:
        return []
    told = [_repository_update(instance, project, user, changes)]
    for prefix in (_BRANCH, _TAG):
        concerned = [change for change in changes if change.ref.startswith(prefix)]
        if len(concerned) > REFS_LIMIT:
            continue
        for change in concerned:
            commits, count = await _new_commits(repositories, project, change)
            payload = _payload(instance, project, user, change)
            payload |= {
                "commits": [_commit_shape(instance, project, commit) for commit in commits],
                "total_commits_count": count,
                "push_options": {},
                "repository": repository_shape(instance, project),
            }
            told += _both_audiences(instance, project, payload, change)
    return told


def _both_audiences(
    instance: Instance, project: Project, payload: dict[str, Any], change: RefChange
) -> list[Event]:
    tag = change.ref.startswith(_TAG)
    switch, name = ("tag_push_events", "Tag Push Hook") if tag else ("push_events", "Push Hook")
    order = f"project {project.id}"
    return [
        Event(
            switch,
            name,
            payload,
            order=order,
            project_id=project.id,
            group_ids=covering_groups(instance, project),
            branch=None if tag else change.ref.removeprefix(_BRANCH),
        ),
        Event(switch, "System Hook", {**payload, "commits": []}, order=order, system=True),
    ]


async def _new_commits(
    repositories: Repositories, project: Project, change: RefChange
) -> tuple[list[Commit], int]:
    """The newest of the pushed commits, oldest first, and how many there are in all."""
    if change.after == ZERO_SHA or change.ref.startswith(_TAG):
        return [], 0
    revisions = [change.after]
    if change.before != ZERO_SHA:
        revisions.append(f"^{change.before}")
    elif change.ref != _BRANCH + project.default_branch:
        default = await repositories.resolve(project, _BRANCH + project.default_branch)
        revisions += [] if default is None else [f"^{default}"]
    newest_first = await repositories.log(project, *revisions, limit=_COMMITS_LIMIT)
    return newest_first[::-1], await repositories.count(project, *revisions)


def _payload(instance: Instance, project: Project, user: User, change: RefChange) -> dict[str, Any]:
    tag = change.ref.startswith(_TAG)
    kind = "tag_push" if tag else "push"
    return {
        "object_kind": kind,
        "event_name": kind,
        "before": change.before,
        "after": change.after,
        "ref": change.ref,
        "ref_protected": instance.is_protected(project, change.ref.split("/", 2)[2]),
        "checkout_sha": None if change.after == ZERO_SHA else change.after,
        "message": None,
        **_pusher(user),
        "project_id": project.id,
        "project": project_shape(instance, project),
    }


def _pusher(user: User) -> dict[str, Any]:
    return {
        "user_id": user.id,
        "user_name": user.name,
        "user_username": user.username,
        "user_email": "",
        "user_avatar": None,
    }


def _commit_shape(instance: Instance, project: Project, commit: Commit) -> dict[str, Any]:
    web, _, _ = project_urls(instance, project)
    return {
        "id": commit.id,
        "message": commit.message,
        "title": commit.title,
        "timestamp": commit.committed,
        "url": f"{web}/-/commit/{commit.id}",
        "author": {"name": commit.author_name, "email": "[REDACTED]"},
        "added": list(commit.added),
        "modified": list(commit.modified),
        "removed": list(commit.removed),
    }


def _repository_update(
    instance: Instance, project: Project, user: User, changes: Sequence[RefChange]
) -> Event:
    pusher = _pusher(user)
    del pusher["user_username"]
    payload = {
        "event_name": "repository_update",
        **pusher,
        "project_id": project.id,
        "project": project_shape(instance, project),
        "changes": [
            {"before": change.before, "after": change.after, "ref": change.ref}
            for change in changes
        ],
        "refs": sorted({change.ref for change in changes}),
    }
    return Event(
        "repository_update_events",
        "System Hook",
        payload,
        order=f"project {project.id}",
        system=True,
    )
