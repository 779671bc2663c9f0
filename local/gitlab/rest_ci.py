"""REST routes about jobs, environments, agents and commit statuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from local.gitlab.ci_shapes import agent_shape, environment_shape, job_shape, status_shape
from local.gitlab.context import (
    PARTS,
    APIError,
    answer,
    known_caller,
    not_found,
    parameters,
    project_of,
    record_not_found,
)
from local.gitlab.records import CommitStatus
from local.gitlab.rest_places import listed

if TYPE_CHECKING:
    from typing import Any

    from local.gitlab.records import Job

routes = web.RouteTableDef()

_STATES = ("pending", "running", "success", "failed", "canceled", "skipped")
_NAME_LIMIT = 255


def _number(request: web.Request, name: str) -> int:
    text = request.match_info[name]
    if not (text.isascii() and text.isdigit()):
        raise APIError(400, {"error": f"{name} is invalid"})
    return int(text)


async def _job(request: web.Request, job: Job) -> dict[str, Any]:
    parts = request.app[PARTS]
    project = parts.instance.project(job.project_id)
    found = await parts.repositories.resolve(project, job.sha)
    commits = [] if found is None else await parts.repositories.log(project, found, limit=1)
    return job_shape(parts.instance, job, commits[0] if commits else None)


@routes.get("/api/v4/projects/{id}/jobs/{job_id}")
async def get_job(request: web.Request) -> web.Response:
    """One job of a project."""
    project = project_of(request, role="reporter")
    job = request.app[PARTS].instance.jobs.get(_number(request, "job_id"))
    if job is None or job.project_id != project.id:
        raise record_not_found()
    return answer(await _job(request, job))


@routes.get("/api/v4/projects/{id}/jobs")
async def list_jobs(request: web.Request) -> web.Response:
    """A project's jobs, newest first; `scope[]` chooses statuses."""
    project = project_of(request, role="reporter")
    scope = {*request.query.getall("scope[]", []), *request.query.getall("scope", [])}
    jobs = [
        job
        for job in request.app[PARTS].instance.jobs.values()
        if job.project_id == project.id and (not scope or job.status in scope)
    ]
    jobs.sort(key=lambda job: -job.id)
    shown = {job.id: await _job(request, job) for job in jobs}
    return listed(request, jobs, lambda job: shown[job.id])


@routes.get("/api/v4/projects/{id}/environments")
async def list_environments(request: web.Request) -> web.Response:
    """A project's environments; `name` is exact, `search` part of a name."""
    instance = request.app[PARTS].instance
    project = project_of(request, role="reporter")
    name, part = request.query.get("name"), request.query.get("search", "")
    states = request.query.get("states")
    found = [
        environment
        for environment in instance.environments.values()
        if environment.project_id == project.id
        and (name is None or environment.name == name)
        and part in environment.name
        and (states is None or environment.state == states)
    ]
    return listed(request, found, lambda shown: environment_shape(instance, shown))


@routes.get("/api/v4/projects/{id}/environments/{environment_id}")
async def get_environment(request: web.Request) -> web.Response:
    """One environment."""
    instance = request.app[PARTS].instance
    project = project_of(request, role="reporter")
    environment = instance.environments.get(_number(request, "environment_id"))
    if environment is None or environment.project_id != project.id:
        raise record_not_found()
    return answer(environment_shape(instance, environment))


@routes.get("/api/v4/projects/{id}/cluster_agents")
async def list_agents(request: web.Request) -> web.Response:
    """The agents that are registered in GitLab."""
    instance = request.app[PARTS].instance
    project = project_of(request, role="developer")
    found = [agent for agent in instance.agents.values() if agent.project_id == project.id]
    return listed(request, found, lambda agent: agent_shape(instance, agent))


@routes.get("/api/v4/projects/{id}/cluster_agents/{agent_id}")
async def get_agent(request: web.Request) -> web.Response:
    """One agent that is registered in GitLab."""
    instance = request.app[PARTS].instance
    project = project_of(request, role="developer")
    agent = instance.agents.get(_number(request, "agent_id"))
    if agent is None or agent.project_id != project.id:
        raise record_not_found()
    return answer(agent_shape(instance, agent))


@routes.post("/api/v4/projects/{id}/statuses/{sha}")
async def set_status(request: web.Request) -> web.Response:
    """Set an external status of a commit."""
    parts = request.app[PARTS]
    user = known_caller(request)
    project = project_of(request, role="developer")
    given = await parameters(request)
    if given.get("state") not in _STATES:
        reason = "state does not have a valid value" if given.get("state") else "state is missing"
        raise APIError(400, {"error": reason})
    sha = request.match_info["sha"]
    commit = await parts.repositories.resolve(project, sha)
    if commit is None or not re.fullmatch("[0-9a-f]{7,64}", sha):
        raise not_found("Commit")
    name = str(given.get("name") or given.get("context") or "default")
    if len(name) > _NAME_LIMIT:
        raise APIError(400, {"message": {"name": ["is too long (maximum is 255 characters)"]}})
    status = CommitStatus(
        id=parts.instance.ids.take("status"),
        project_id=project.id,
        sha=commit,
        ref=str(given.get("ref") or project.default_branch),
        name=name,
        state=str(given["state"]),
        target_url=given.get("target_url"),
        description=given.get("description"),
        user_id=user.id,
        created_at=parts.instance.clock(),
    )
    parts.instance.statuses.append(status)
    return answer(status_shape(parts.instance, status), status=201)


@routes.get("/api/v4/projects/{id}/repository/commits/{sha}/statuses")
async def list_statuses(request: web.Request) -> web.Response:
    """A commit's statuses: of each name the newest, or every one with `all`."""
    instance = request.app[PARTS].instance
    project = project_of(request, role="reporter")
    sha = await request.app[PARTS].repositories.resolve(project, request.match_info["sha"])
    if sha is None:
        raise not_found("Commit")
    found = [s for s in instance.statuses if (s.project_id, s.sha) == (project.id, sha)]
    if request.query.get("all") != "true":
        found = list({(status.ref, status.name): status for status in found}.values())
    return listed(request, found, lambda status: status_shape(instance, status))
