"""REST routes about webhooks of projects and groups, and system hooks.

https://docs.gitlab.com/api/project_webhooks/, /group_webhooks/ and /system_hooks/
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web

from local.gitlab.context import (
    PARTS,
    APIError,
    admin_caller,
    answer,
    group_of,
    not_found,
    parameters,
    project_of,
    record_not_found,
    refused,
    truth,
)
from local.gitlab.events import job_event, project_events
from local.gitlab.push_events import RefChange, push_events
from local.gitlab.records import Hook, InvalidError
from local.gitlab.rest_places import listed
from local.gitlab.shapes import HOOK_EVENTS, hook_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.gitlab.context import GitLabParts
    from local.gitlab.events import Event
    from local.gitlab.instance import Instance

routes = web.RouteTableDef()

_FIELDS = ("url", "name", "description", "token", "signing_token")


def new_hook(instance: Instance, kind: str, owner_id: int | None, given: Mapping[str, Any]) -> Hook:
    """A hook from an API call's parameters; raises InvalidError."""
    hook = Hook(
        id=instance.ids.take("hook", given.get("id")),
        kind=kind,
        owner_id=owner_id,
        url="",
        # Pushes are on unless switched off, everything else is off.
        events=frozenset({"push_events"} if kind != "system" else ()),
        created_at=instance.clock(),
    )
    return changed_hook(hook, given)


def changed_hook(hook: Hook, given: Mapping[str, Any]) -> Hook:
    """A hook with an API call's parameters applied; raises InvalidError."""
    events = {
        name
        for name in HOOK_EVENTS[hook.kind]
        if truth(given.get(name), otherwise=name in hook.events)
    }
    fields = {name: given[name] for name in _FIELDS if name in given}
    if "custom_headers" in given:
        headers = tuple((entry["key"], entry["value"]) for entry in given["custom_headers"])
        fields["custom_headers"] = headers
    if "push_events_branch_filter" in given:
        fields["branch_filter"] = given["push_events_branch_filter"] or ""
    if "enable_ssl_verification" in given:
        fields["enable_ssl_verification"] = truth(given["enable_ssl_verification"], otherwise=True)
    found = replace(hook, events=frozenset(events), **fields)
    parts = urlsplit(found.url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InvalidError("Invalid url given")
    return found


def _owner(request: web.Request) -> tuple[str, int | None]:
    """The kind of hook and the id of its owner, where the caller may administer them."""
    path = request.path
    if path.startswith("/api/v4/projects/"):
        project = project_of(request, role="maintainer")
        if project.archived and request.method != "GET":
            raise refused(403, "403 Forbidden")
        return "project", project.id
    if path.startswith("/api/v4/groups/"):
        group = group_of(request, role="owner")
        if request.app[PARTS].instance.tier == "free":
            raise not_found("Group Hook")
        return "group", group.id
    admin_caller(request)
    return "system", None


def _hook(request: web.Request) -> Hook:
    kind, owner_id = _owner(request)
    text = request.match_info["hook_id"]
    hook = request.app[PARTS].instance.hooks.get(int(text) if text.isdigit() else -1)
    if hook is None or (hook.kind, hook.owner_id) != (kind, owner_id):
        raise record_not_found()
    return hook


async def list_hooks(request: web.Request) -> web.Response:
    """All hooks of one owner."""
    instance = request.app[PARTS].instance
    owner = _owner(request)
    found = [hook for hook in instance.hooks.values() if (hook.kind, hook.owner_id) == owner]
    return listed(request, found, lambda hook: hook_shape(hook, now=instance.clock()))


async def get_hook(request: web.Request) -> web.Response:
    """One hook."""
    hook = _hook(request)
    return answer(hook_shape(hook, now=request.app[PARTS].instance.clock()))


async def add_hook(request: web.Request) -> web.Response:
    """A new hook."""
    instance = request.app[PARTS].instance
    kind, owner_id = _owner(request)
    given = await parameters(request)
    given.pop("id", None)
    if not given.get("url"):
        raise APIError(400, {"error": "url is missing"})
    try:
        hook = new_hook(instance, kind, owner_id, given)
    except InvalidError as error:
        raise refused(422, str(error)) from error
    instance.hooks[hook.id] = hook
    return answer(hook_shape(hook, now=instance.clock()), status=201)


async def edit_hook(request: web.Request) -> web.Response:
    """A hook with other settings; a secret that isn't given stays."""
    instance = request.app[PARTS].instance
    hook = _hook(request)
    given = await parameters(request)
    given.pop("id", None)
    try:
        changed = changed_hook(hook, given)
    except InvalidError as error:
        raise refused(422, str(error)) from error
    instance.hooks[hook.id] = changed
    return answer(hook_shape(changed, now=instance.clock()))


async def remove_hook(request: web.Request) -> web.Response:
    """The end of a hook."""
    hook = _hook(request)
    del request.app[PARTS].instance.hooks[hook.id]
    return web.Response(status=204)


async def test_hook(request: web.Request) -> web.Response:
    """Deliver a made-up event and wait for the answer: 201, or 422 when the receiver failed."""
    parts = request.app[PARTS]
    hook = _hook(request)
    trigger = request.match_info.get("trigger", "push_events")
    if trigger not in HOOK_EVENTS[hook.kind]:
        raise APIError(400, {"error": "trigger does not have a valid value"})
    delivery = await parts.deliveries.test(hook, await _sample(parts, hook, trigger))
    if delivery.state != "delivered":
        raise refused(422, delivery.error or f"Hook executed with status {delivery.status}")
    return answer({"message": "201 Created"}, status=201)


async def _sample(parts: GitLabParts, hook: Hook, trigger: str) -> Event:
    """An event of the wanted kind about a project within the hook's reach."""
    instance = parts.instance
    projects = list(instance.places.projects.values())
    if hook.kind == "group" and hook.owner_id is not None:
        projects = instance.places.projects_below(hook.owner_id)
    elif hook.kind == "project":
        projects = [project for project in projects if project.id == hook.owner_id]
    if not projects:
        raise refused(422, "Ensure the group has a project.")
    project = projects[0]
    if trigger == "job_events":
        jobs = [job for job in instance.jobs.values() if job.project_id == project.id]
        if not jobs:
            raise refused(422, "Ensure the project has CI jobs.")
        return job_event(instance, jobs[-1])
    if trigger in {"push_events", "tag_push_events"}:
        head = await parts.repositories.resolve(project, "HEAD")
        if head is None:
            raise refused(422, "Ensure the project has at least one commit.")
        change = RefChange(f"refs/heads/{project.default_branch}", head, head)
        told = await push_events(
            instance,
            parts.repositories,
            project=project,
            user=instance.user(1),
            changes=[change],
        )
        return told[1]
    return project_events(instance, project, name="project_create")[-1]


for _root in ("/api/v4/projects/{id}/hooks", "/api/v4/groups/{id}/hooks", "/api/v4/hooks"):
    routes.get(_root)(list_hooks)
    routes.post(_root)(add_hook)
    routes.get(_root + "/{hook_id}")(get_hook)
    routes.put(_root + "/{hook_id}")(edit_hook)
    routes.delete(_root + "/{hook_id}")(remove_hook)
    routes.post(_root + "/{hook_id}/test/{trigger}")(test_hook)
routes.post("/api/v4/hooks/{hook_id}")(test_hook)
