"""Control verbs about environments, jobs, ID tokens and commits."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local.gitlab.commits import FileChange
from local.gitlab.environments import environment_slug, guessed_tier
from local.gitlab.events import job_event
from local.gitlab.id_tokens import id_token_claims
from local.gitlab.push_events import push_events, ref_changes
from local.gitlab.records import FINISHED, JOB_STATUSES, Environment, InvalidError, Job
from local.gitlab.signing_keys import SigningKey

if TYPE_CHECKING:
    from local.gitlab.context import GitLabParts
    from local.gitlab.records import Project, User

Given = dict[str, Any]

#: What a job passes through on its way to a runner.
_WAY_TO_RUNNING = ("created", "pending", "running")


def _environment(parts: GitLabParts, project: Project, given: Given) -> Environment:
    instance = parts.instance
    found = instance.environment(project.id, given["name"])
    if found is not None:
        return found
    environment = Environment(
        id=instance.ids.take("environment", given.get("id")),
        project_id=project.id,
        name=given["name"],
        slug=given.get("slug") or environment_slug(given["name"]),
        tier=given.get("tier") or guessed_tier(given["name"]),
        protected=bool(given.get("protected", False)),
        created_at=instance.clock(),
    )
    instance.environments[environment.id] = environment
    return environment


async def create_environment(parts: GitLabParts, given: Given) -> Given:
    """`name` in a `project`, optional `id`, `slug`, `tier`, `protected`."""
    project = parts.instance.project(given["project"])
    found = _environment(parts, project, given)
    return {"id": found.id, "name": found.name, "slug": found.slug, "tier": found.tier}


async def create_job(parts: GitLabParts, given: Given) -> Given:
    """A job of a `project`, in `running` unless another `status` is asked for.

    Optional: `id`, `pipeline_id`, `source_project`, `name`, `stage`, `ref`, `tag`,
    `ref_protected`, `sha`, `user`, `source`, `environment`, `tier`, `environment_action`,
    `timeout` (seconds, null for none), `audiences`, `runner_id`, `runner_environment`.
    """
    instance = parts.instance
    project = instance.project(given["project"])
    source_project = instance.project(given.get("source_project", project.id))
    ref = given.get("ref", project.default_branch)
    environment = None
    if given.get("environment"):
        wanted = {"name": given["environment"], "tier": given.get("tier")}
        environment = _environment(parts, project, wanted)
    protected = given.get("ref_protected")
    job = Job(
        id=instance.ids.take("job", given.get("id")),
        pipeline_id=_pipeline_id(parts, given.get("pipeline_id")),
        project_id=project.id,
        source_project_id=source_project.id,
        name=given.get("name", "deploy"),
        stage=given.get("stage", "deploy"),
        status=_WAY_TO_RUNNING[0],
        ref=ref,
        tag=bool(given.get("tag", False)),
        ref_protected=instance.is_protected(project, ref) if protected is None else bool(protected),
        sha=given.get("sha") or await _head(parts, source_project, ref),
        user_id=instance.user(given.get("user", "root")).id,
        source=given.get("source", "push"),
        environment_id=None if environment is None else environment.id,
        environment_action=given.get("environment_action", "start"),
        timeout=given.get("timeout", 3600),
        audiences=tuple(given.get("audiences", [])),
        runner_id=given.get("runner_id", 33),
        runner_environment=given.get("runner_environment", "self-hosted"),
        created_at=instance.clock(),
    )
    return await _start(parts, job, given.get("status", "running"))


async def _start(parts: GitLabParts, job: Job, status: str) -> Given:
    if status not in JOB_STATUSES:
        raise InvalidError(f"no job status {status}")
    way = _WAY_TO_RUNNING
    passed = way[: way.index(status)] if status in way else way[:1]
    for step in (*passed, status):
        _set_status(parts, job if step == way[0] else parts.instance.jobs[job.id], step)
    return _job_answer(parts, parts.instance.jobs[job.id])


async def set_job_status(parts: GitLabParts, given: Given) -> Given:
    """Give a `job` another `status`, optional `failure_reason`.

    A job that starts to run, again after `skipped` or `manual` too, gets fresh ID tokens.
    """
    job = parts.instance.job(given["job"])
    status = given["status"]
    if status not in JOB_STATUSES:
        raise InvalidError(f"no job status {status}")
    _set_status(parts, job, status, given.get("failure_reason"))
    return _job_answer(parts, parts.instance.jobs[job.id])


def _set_status(
    parts: GitLabParts, job: Job, status: str, failure_reason: str | None = None
) -> None:
    now = parts.instance.clock()
    changed = replace(job, status=status)
    if status == "running":
        changed = replace(changed, started_at=now, finished_at=None)
    if status in FINISHED:
        reason = (failure_reason or "script_failure") if status == "failed" else None
        changed = replace(changed, finished_at=now, failure_reason=reason)
    parts.instance.jobs[job.id] = changed
    parts.deliveries.announce(job_event(parts.instance, changed))


def _job_answer(parts: GitLabParts, job: Job) -> Given:
    tokens = {}
    if job.status == "running":
        tokens = {
            audience: parts.keys.ci.sign(id_token_claims(parts.instance, job, audience=audience))
            for audience in job.audiences
        }
    return {
        "id": job.id,
        "pipeline_id": job.pipeline_id,
        "project_id": job.project_id,
        "status": job.status,
        "ref": job.ref,
        "sha": job.sha,
        "id_tokens": tokens,
    }


def _pipeline_id(parts: GitLabParts, wanted: int | None) -> int:
    """A new pipeline, or one that has jobs already."""
    if wanted is not None and any(j.pipeline_id == wanted for j in parts.instance.jobs.values()):
        return wanted
    return parts.instance.ids.take("pipeline", wanted)


async def _head(parts: GitLabParts, project: Project, ref: str) -> str:
    """The commit of a ref; made up for a project that has no such commit yet."""
    found = await parts.repositories.resolve(project, ref)
    made_up = hashlib.sha1(f"{project.id} {ref}".encode(), usedforsecurity=False)
    return found or made_up.hexdigest()


async def mint_id_token(parts: GitLabParts, given: Given) -> Given:
    """One more ID token of a `job` for an `audience` (a text or a list).

    As GitLab would sign it, apart from `claims` (overrides), `without` (claims to leave out),
    `header` (overrides) and `key`: `ci`, `openid`, or `unknown` for one outside the key set.
    """
    job = parts.instance.job(given["job"])
    claims = id_token_claims(parts.instance, job, audience=given["audience"])
    claims |= given.get("claims", {})
    for name in given.get("without", []):
        claims.pop(name, None)
    kind = given.get("key", "ci")
    keys = {"ci": parts.keys.ci, "openid": parts.keys.openid}
    if kind not in {*keys, "unknown"}:
        raise InvalidError(f"no key {kind}")
    key = keys.get(kind) or SigningKey.generate()
    return {"id_token": key.sign(claims, given.get("header"))}


async def rotate_keys(parts: GitLabParts, given: Given) -> Given:
    """Replace the key of CI tokens; `keep_old` (default true) leaves the old one published."""
    parts.keys.rotate(keep_old=bool(given.get("keep_old", True)))
    return {"kid": parts.keys.ci.kid}


async def commit(parts: GitLabParts, given: Given) -> Given:
    """Commit `files` to a `project`: path to `{"content": base64 or null, "mode": "100644"}`.

    Optional `branch`, `message`, `user`. Fires what a push would fire.
    """
    instance = parts.instance
    project = instance.project(given["project"])
    user = instance.user(given.get("user", "root"))
    files = {path: _file_change(change) for path, change in given["files"].items()}
    async with parts.repositories.lock(project.id):
        before = await parts.repositories.refs(project)
        sha = await parts.repositories.write(
            project,
            files,
            branch=given.get("branch", project.default_branch),
            message=given.get("message", "Change files"),
            author=f"{user.name} <{user.email}>",
            at=int(instance.clock()),
        )
        await _tell_of_push(parts, project, user, before)
    return {"sha": sha}


async def update_ref(parts: GitLabParts, given: Given) -> Given:
    """Make a full `ref` of a `project` point to `sha` (a commit or a ref; null deletes it)."""
    instance = parts.instance
    project = instance.project(given["project"])
    target = None
    if given.get("sha") is not None:
        target = await parts.repositories.resolve(project, given["sha"])
        if target is None:
            raise InvalidError(f"no commit {given['sha']}")
    async with parts.repositories.lock(project.id):
        before = await parts.repositories.refs(project)
        await parts.repositories.update_ref(project, given["ref"], target)
        await _tell_of_push(parts, project, instance.user(given.get("user", "root")), before)
    return {"sha": target}


async def _tell_of_push(
    parts: GitLabParts, project: Project, user: User, before: dict[str, str]
) -> None:
    changes = ref_changes(before, await parts.repositories.refs(project))
    for event in await push_events(
        parts.instance, parts.repositories, project=project, user=user, changes=changes
    ):
        parts.deliveries.announce(event)


def _file_change(change: Given) -> FileChange:
    content = change.get("content")
    decoded = None if content is None else base64.b64decode(content, validate=True)
    return FileChange(decoded, change.get("mode", "100644"))
