"""REST routes about projects and groups.

https://docs.gitlab.com/api/projects/ and https://docs.gitlab.com/api/groups/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.gitlab.context import (
    PARTS,
    APIError,
    answer,
    caller,
    group_of,
    known_caller,
    project_of,
    record_not_found,
    refused,
    truth,
)
from local.gitlab.pagination import next_link, page_by_number, page_size
from local.gitlab.shapes import basic_project, basic_user, full_group, full_project, public_group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local.gitlab.records import Group, Project

routes = web.RouteTableDef()

_OFFSET_LIMIT = 50_000


def listed(
    request: web.Request, items: Sequence[Any], shape: Callable[[Any], dict[str, Any]]
) -> web.Response:
    """One page, by number, of a list."""
    url = request.app[PARTS].instance.url + request.rel_url.raw_path
    page, headers = page_by_number(items, request.query, url)
    return answer([shape(item) for item in page], headers=headers)


@routes.get("/api/v4/projects/{id}")
async def get_project(request: web.Request) -> web.Response:
    """One project."""
    parts = request.app[PARTS]
    project = project_of(request)
    head = await parts.repositories.resolve(project, "HEAD")
    return answer(full_project(parts.instance, project, empty=head is None))


@routes.get("/api/v4/projects")
async def list_projects(request: web.Request) -> web.Response:
    """All projects that the caller sees, by number or by key."""
    instance = request.app[PARTS].instance
    user = caller(request).user
    seen = [p for p in instance.places.projects.values() if instance.sees_project(user, p)]
    projects = _in_order(request, _filtered(request, seen))
    if request.query.get("pagination") == "keyset":
        return _page_by_id(request, projects)
    page, size = request.query.get("page", "1"), page_size(request.query)
    if page.isdigit() and (int(page) - 1) * size >= _OFFSET_LIMIT:
        raise refused(
            405,
            f"Offset pagination has a maximum allowed offset of {_OFFSET_LIMIT} for requests that "
            "return objects of type Project. Remaining records can be retrieved using keyset "
            "pagination.",
        )
    return listed(request, projects, _project_shape(request))


@routes.get("/api/v4/projects/{id}/groups")
async def list_project_groups(request: web.Request) -> web.Response:
    """A project's ancestor groups, newest id first, whether the caller sees them or not."""
    instance = request.app[PARTS].instance
    project = project_of(request)
    groups = {group.id: group for group in instance.places.ancestry(project.namespace_id)}
    if truth(request.query.get("with_shared"), otherwise=False):
        for group_id, _ in project.shared_with:
            groups[group_id] = instance.places.groups[group_id]
    found = sorted(_searched(request, list(groups.values())), key=lambda g: -g.id)
    return listed(request, found, lambda group: public_group(instance, group))


@routes.get("/api/v4/groups/{id}")
async def get_group(request: web.Request) -> web.Response:
    """One group; with its first projects unless `with_projects=false`."""
    instance = request.app[PARTS].instance
    group = group_of(request)
    user = caller(request).user
    shown = full_group(instance, group) | {"shared_with_groups": []}
    if truth(request.query.get("with_projects"), otherwise=True):
        own = [p for p in instance.places.projects.values() if p.namespace_id == group.id]
        seen = [p for p in own if instance.sees_project(user, p)]
        shown |= {"projects": [basic_project(instance, p) for p in seen], "shared_projects": []}
    return answer(shown)


@routes.get("/api/v4/groups")
async def list_groups(request: web.Request) -> web.Response:
    """All groups that the caller sees."""
    instance = request.app[PARTS].instance
    user = caller(request).user
    groups = [g for g in instance.places.groups.values() if instance.sees_group(user, g)]
    if truth(request.query.get("top_level_only"), otherwise=False):
        groups = [group for group in groups if group.parent_id is None]
    return _listed_groups(request, groups)


@routes.get("/api/v4/groups/{id}/subgroups")
async def list_subgroups(request: web.Request) -> web.Response:
    """A group's direct subgroups."""
    group = group_of(request)
    below = request.app[PARTS].instance.places.descendants(group.id)
    return _listed_groups(request, [g for g in below if g.parent_id == group.id])


@routes.get("/api/v4/groups/{id}/descendant_groups")
async def list_descendant_groups(request: web.Request) -> web.Response:
    """All groups below a group."""
    group = group_of(request)
    return _listed_groups(request, request.app[PARTS].instance.places.descendants(group.id))


@routes.get("/api/v4/groups/{id}/projects")
async def list_group_projects(request: web.Request) -> web.Response:
    """A group's projects, with those of its subgroups if asked for."""
    instance = request.app[PARTS].instance
    group = group_of(request)
    user = caller(request).user
    projects = instance.places.projects_below(group.id)
    if not truth(request.query.get("include_subgroups"), otherwise=False):
        projects = [project for project in projects if project.namespace_id == group.id]
    if truth(request.query.get("with_shared"), otherwise=True):
        known = {project.id for project in projects}
        projects += [
            project
            for project in instance.places.projects.values()
            if project.id not in known and group.id in dict(project.shared_with)
        ]
    seen = [project for project in projects if instance.sees_project(user, project)]
    return listed(request, _in_order(request, _filtered(request, seen)), _project_shape(request))


@routes.get("/api/v4/projects/{id}/members/all/{user_id}")
@routes.get("/api/v4/groups/{id}/members/all/{user_id}")
async def get_member(request: web.Request) -> web.Response:
    """A member, by own membership or an inherited one."""
    instance = request.app[PARTS].instance
    text = request.match_info["user_id"]
    known_caller(request)
    user = next((u for u in instance.places.users.values() if str(u.id) == text), None)
    if request.path.startswith("/api/v4/projects/"):
        project = project_of(request)
        level = 0 if user is None else instance.role_level(user, project)
    else:
        level = 0 if user is None else instance.group_level(user, group_of(request).id)
    if user is None or level == 0:
        raise record_not_found()
    return answer(basic_user(instance, user) | {"access_level": level, "expires_at": None})


def _listed_groups(request: web.Request, groups: list[Group]) -> web.Response:
    instance = request.app[PARTS].instance
    user = caller(request).user
    seen = [group for group in _searched(request, groups) if instance.sees_group(user, group)]
    seen.sort(key=lambda group: (group.name.lower(), group.id))
    return listed(request, seen, lambda group: full_group(instance, group))


def _searched(request: web.Request, groups: list[Group]) -> list[Group]:
    wanted = request.query.get("search", "").lower()
    skipped = {*request.query.getall("skip_groups[]", []), *request.query.getall("skip_groups", [])}
    return [
        group
        for group in groups
        if (wanted in group.name.lower() or wanted in group.path.lower())
        and str(group.id) not in skipped
    ]


def _filtered(request: web.Request, projects: list[Project]) -> list[Project]:
    query = request.query
    if "archived" in query:
        wanted = truth(query["archived"], otherwise=False)
        projects = [project for project in projects if project.archived is wanted]
    if "visibility" in query:
        projects = [project for project in projects if project.visibility == query["visibility"]]
    least, most = _bound(request, "id_after"), _bound(request, "id_before")
    projects = [
        project
        for project in projects
        if (least is None or project.id > least) and (most is None or project.id < most)
    ]
    search = query.get("search", "").lower()
    projects = [p for p in projects if search in p.name.lower() or search in p.path.lower()]
    least_role = _bound(request, "min_access_level") or 0
    if truth(query.get("membership"), otherwise=False) or least_role:
        instance, user = request.app[PARTS].instance, known_caller(request)
        projects = [p for p in projects if instance.role_level(user, p) >= max(least_role, 1)]
    return projects


def _bound(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise APIError(400, {"error": f"{name} is invalid"})
    return None if text is None else int(text)


def _in_order(request: web.Request, projects: list[Project]) -> list[Project]:
    order = request.query.get("order_by", "created_at")
    keys: dict[str, Callable[[Project], Any]] = {
        "id": lambda project: project.id,
        "created_at": lambda project: (project.created_at, project.id),
        "updated_at": lambda project: (project.updated_at, project.id),
        "last_activity_at": lambda project: (project.updated_at, project.id),
        "name": lambda project: (project.name.lower(), project.id),
        "path": lambda project: (project.path.lower(), project.id),
    }
    if order not in keys:
        raise APIError(400, {"error": "order_by does not have a valid value"})
    descending = request.query.get("sort", "desc") == "desc"
    return sorted(projects, key=keys[order], reverse=descending)


def _page_by_id(request: web.Request, projects: list[Project]) -> web.Response:
    if request.query.get("order_by") != "id":
        raise refused(405, "Keyset pagination is not yet available for this type of request")
    instance = request.app[PARTS].instance
    bound = "id_after" if request.query.get("sort", "desc") == "asc" else "id_before"
    size = page_size(request.query)
    page, more = projects[:size], len(projects) > size
    headers = {}
    if more:
        query = {**request.query, bound: str(page[-1].id)}
        headers = next_link(f"{instance.url}/api/v4/projects", query)
    shape = _project_shape(request)
    return answer([shape(project) for project in page], headers=headers)


def _project_shape(request: web.Request) -> Callable[[Project], dict[str, Any]]:
    instance = request.app[PARTS].instance
    if truth(request.query.get("simple"), otherwise=False):
        return lambda project: basic_project(instance, project)
    # A list doesn't look into each repository.
    return lambda project: full_project(instance, project, empty=False)
