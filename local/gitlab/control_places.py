"""Control verbs about users, groups and projects, each with the events that GitLab sends then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local.gitlab.ci_shapes import agent_shape
from local.gitlab.events import group_events, project_events, user_rename_event
from local.gitlab.records import (
    LEVELS,
    VISIBILITY_LEVELS,
    ClusterAgent,
    Group,
    InvalidError,
    Project,
)
from local.gitlab.shapes import full_group, full_project

if TYPE_CHECKING:
    from local.gitlab.context import GitLabParts

Given = dict[str, Any]


def _announce_project(
    parts: GitLabParts, project: Project, name: str, old_path: str | None = None
) -> None:
    for event in project_events(parts.instance, project, name=name, old_path=old_path):
        parts.deliveries.announce(event)


def _visibility(given: Given) -> str:
    visibility = str(given.get("visibility", "private"))
    if visibility not in VISIBILITY_LEVELS:
        raise InvalidError(f"no visibility {visibility}")
    return visibility


def _parent(parts: GitLabParts, path: str) -> tuple[int | None, str]:
    """The namespace that a full path is in, and its last segment."""
    parent, _, name = path.rpartition("/")
    return (parts.instance.places.namespace_at(parent) if parent else None), name


async def create_group(parts: GitLabParts, given: Given) -> Given:
    """`path`, optional `id`, `name`, `visibility`."""
    instance = parts.instance
    parent_id, segment = _parent(parts, given["path"])
    if parent_id is not None and parent_id not in instance.places.groups:
        raise InvalidError("a user namespace has no groups")
    now = instance.clock()
    group = Group(
        id=instance.ids.take("namespace", given.get("id")),
        path=segment,
        name=given.get("name") or segment.capitalize(),
        parent_id=parent_id,
        visibility=_visibility(given),
        created_at=now,
        updated_at=now,
    )
    instance.places.put_group(group)
    for event in group_events(instance, group, name="group_create"):
        parts.deliveries.announce(event)
    return full_group(instance, group)


async def create_project(parts: GitLabParts, given: Given) -> Given:
    """`path`, and options.

    They are `id`, `project_namespace_id`, `name`, `default_branch`, `protected`, `visibility`,
    `sub_components`.
    """
    instance = parts.instance
    namespace_id, segment = _parent(parts, given["path"])
    if namespace_id is None:
        raise InvalidError("a project's path has a namespace")
    now = instance.clock()
    default_branch = given.get("default_branch", "main")
    project = Project(
        id=instance.ids.take("project", given.get("id")),
        path=segment,
        name=given.get("name") or segment,
        namespace_id=namespace_id,
        project_namespace_id=instance.ids.take("namespace", given.get("project_namespace_id")),
        default_branch=default_branch,
        visibility=_visibility(given),
        protected=tuple(given.get("protected", [default_branch])),
        creator_id=1,
        created_at=now,
        updated_at=now,
    )
    if "sub_components" in given:
        project = replace(project, sub_components=tuple(given["sub_components"]))
    instance.places.put_project(project)
    _announce_project(parts, project, "project_create")
    return full_project(instance, project, empty=True)


async def create_user(parts: GitLabParts, given: Given) -> Given:
    """`username`, optional `id`, `namespace_id`, `name`, `email`, `admin`."""
    user = parts.instance.add_user(**given)
    return {"id": user.id, "username": user.username, "namespace_id": user.namespace_id}


async def add_member(parts: GitLabParts, given: Given) -> Given:
    """`user` and `role` in a `group` or a `project`."""
    instance = parts.instance
    user = instance.user(given["user"])
    if "group" in given:
        place, kind = instance.group(given["group"]).id, "group"
    else:
        place, kind = instance.project(given["project"]).id, "project"
    instance.add_member(kind, place, user=user, role=given["role"])
    return {}


async def rename_group(parts: GitLabParts, given: Given) -> Given:
    """Give a `group` another last segment, `path`, and perhaps a `name`."""
    instance = parts.instance
    group = instance.group(given["group"])
    old = instance.places.namespace_path(group.id)
    name = given.get("name", group.name)
    changed = replace(group, path=given["path"], name=name, updated_at=instance.clock())
    instance.places.put_group(changed)
    for event in group_events(instance, changed, name="group_rename", old_full_path=old):
        parts.deliveries.announce(event)
    return full_group(instance, changed)


async def transfer_group(parts: GitLabParts, given: Given) -> Given:
    """Move a `group` under a `parent` (a group, or null for the root). No hook hears of it."""
    instance = parts.instance
    group = instance.group(given["group"])
    parent = None if given.get("parent") is None else instance.group(given["parent"]).id
    if any(ancestor.id == group.id for ancestor in instance.places.ancestry(parent)):
        raise InvalidError("a group can't move into itself")
    changed = replace(group, parent_id=parent, updated_at=instance.clock())
    instance.places.put_group(changed)
    return full_group(instance, changed)


async def delete_group(parts: GitLabParts, given: Given) -> Given:
    """Delete a `group` with everything in it."""
    instance = parts.instance
    group = instance.group(given["group"])
    for project in instance.places.projects_below(group.id):
        await delete_project(parts, {"project": project.id})
    below = sorted(
        instance.places.descendants(group.id),
        key=lambda child: -len(instance.places.ancestry(child.id)),
    )
    for doomed in (*below, group):
        events = group_events(instance, doomed, name="group_destroy")
        instance.places.remove_group(doomed.id)
        _remove_hooks(parts, "group", doomed.id)
        for event in events:
            parts.deliveries.announce(event)
    return {}


async def rename_project(parts: GitLabParts, given: Given) -> Given:
    """Give a `project` another last segment, `path`, and perhaps a `name`."""
    instance = parts.instance
    project = instance.project(given["project"])
    old = instance.places.project_path(project)
    name = str(given.get("name", given["path"]))
    changed = replace(project, path=given["path"], name=name, updated_at=instance.clock())
    instance.places.put_project(changed)
    _announce_project(parts, changed, "project_rename", old)
    return full_project(instance, changed, empty=False)


async def transfer_project(parts: GitLabParts, given: Given) -> Given:
    """Move a `project` into another `namespace`, named by its full path."""
    instance = parts.instance
    project = instance.project(given["project"])
    old = instance.places.project_path(project)
    namespace_id = instance.places.namespace_at(given["namespace"])
    changed = replace(project, namespace_id=namespace_id, updated_at=instance.clock())
    instance.places.put_project(changed)
    _announce_project(parts, changed, "project_transfer", old)
    return full_project(instance, changed, empty=False)


async def edit_project(parts: GitLabParts, given: Given) -> Given:
    """Change a `project`.

    Its `default_branch`, `visibility`, `archived`, `protected`, `sub_components`,
    `marked_for_deletion_on` or `shared_with` (`[[group, role]]`).
    """
    instance = parts.instance
    project = instance.project(given.pop("project"))
    if "shared_with" in given:
        given["shared_with"] = tuple(
            (instance.group(group).id, LEVELS[role]) for group, role in given["shared_with"]
        )
    for name in ("protected", "sub_components"):
        if name in given:
            given[name] = tuple(given[name])
    _visibility(given)
    changed = replace(project, updated_at=instance.clock(), **given)
    instance.places.put_project(changed)
    await parts.repositories.point_head(changed)
    _announce_project(parts, changed, "project_update")
    return full_project(instance, changed, empty=False)


async def delete_project(parts: GitLabParts, given: Given) -> Given:
    """Delete a `project` for good, with its repository."""
    instance = parts.instance
    project = instance.project(given["project"])
    events = project_events(instance, project, name="project_destroy")
    instance.places.remove_project(project.id)
    parts.repositories.remove(project.id)
    _remove_hooks(parts, "project", project.id)
    for event in events:
        parts.deliveries.announce(event)
    return {}


async def rename_user(parts: GitLabParts, given: Given) -> Given:
    """Give a `user` another `username`, and so their namespace another path."""
    instance = parts.instance
    user = instance.user(given["user"])
    changed = replace(user, username=given["username"])
    instance.places.put_user(changed)
    now = instance.clock()
    parts.deliveries.announce(user_rename_event(changed, old_username=user.username, now=now))
    return {"id": changed.id, "username": changed.username}


async def create_cluster_agent(parts: GitLabParts, given: Given) -> Given:
    """Register an agent `name` in a `project`, in GitLab itself; optional `id`."""
    instance = parts.instance
    project = instance.project(given["project"])
    agent = ClusterAgent(
        id=instance.ids.take("agent", given.get("id")),
        project_id=project.id,
        name=given["name"],
        created_by_user_id=1,
        created_at=instance.clock(),
    )
    instance.agents[agent.id] = agent
    return agent_shape(instance, agent)


def _remove_hooks(parts: GitLabParts, kind: str, owner_id: int) -> None:
    doomed = [
        hook.id
        for hook in parts.instance.hooks.values()
        if (hook.kind, hook.owner_id) == (kind, owner_id)
    ]
    for hook_id in doomed:
        del parts.instance.hooks[hook_id]
