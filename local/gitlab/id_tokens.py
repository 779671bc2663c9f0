"""The claims of a job's ID token, with the JSON types that GitLab gives them.

Ids are strings, except `runner_id`; booleans are the strings `true` and `false`.
https://docs.gitlab.com/ci/secrets/id_token_authentication/
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from local.gitlab.records import ROLES

if TYPE_CHECKING:
    from local.gitlab.instance import Instance
    from local.gitlab.records import Job, Project

#: How long a token lives whose job has no time-out.
_LIFE_WITHOUT_TIMEOUT = 300
_NOT_BEFORE_MARGIN = 5


def id_token_claims(instance: Instance, job: Job, *, audience: str | list[str]) -> dict[str, Any]:
    """All claims of a new ID token for a job."""
    source = instance.project(job.source_project_id)
    running = instance.project(job.project_id)
    claims = {
        **_project_claims(instance, source),
        **_project_claims(instance, running, prefix="job_"),
        **_user_claims(instance, job, source),
        **_pipeline_claims(job, source),
        **_environment_claims(instance, job),
        **_config_claims(instance, job, running),
    }
    issued_at = int(instance.clock())
    life = _LIFE_WITHOUT_TIMEOUT if job.timeout is None else job.timeout
    return {
        **claims,
        "jti": str(uuid.uuid4()),
        "iss": instance.url,
        "iat": issued_at,
        "nbf": issued_at - _NOT_BEFORE_MARGIN,
        "exp": issued_at + life,
        "sub": ":".join(
            f"{name}:{claims[name]}" for name in source.sub_components if name in claims
        ),
        "aud": audience,
    }


def _project_claims(instance: Instance, project: Project, *, prefix: str = "") -> dict[str, Any]:
    places = instance.places
    return {
        f"{prefix}namespace_id": str(project.namespace_id),
        f"{prefix}namespace_path": places.namespace_path(project.namespace_id),
        f"{prefix}project_id": str(project.id),
        f"{prefix}project_path": places.project_path(project),
    }


def _user_claims(instance: Instance, job: Job, source: Project) -> dict[str, Any]:
    user = instance.user(job.user_id)
    return {
        "user_id": str(user.id),
        "user_login": user.username,
        "user_email": user.email,
        "user_access_level": ROLES.get(instance.role_level(user, source)),
    }


def _pipeline_claims(job: Job, source: Project) -> dict[str, Any]:
    kind = "tag" if job.tag else "branch"
    runner = {} if job.runner_id is None else {"runner_id": job.runner_id}
    return {
        "pipeline_id": str(job.pipeline_id),
        "pipeline_source": job.source,
        "job_id": str(job.id),
        "ref": job.ref,
        "ref_type": kind,
        "ref_path": f"refs/{'tags' if job.tag else 'heads'}/{job.ref}",
        "ref_protected": _text(value=job.ref_protected),
        **runner,
        "runner_environment": job.runner_environment,
        "sha": job.sha,
        "project_visibility": source.visibility,
        "job_source": job.source,
    }


def _environment_claims(instance: Instance, job: Job) -> dict[str, Any]:
    if job.environment_id is None:
        return {}
    environment = instance.environments[job.environment_id]
    return {
        "environment": environment.name,
        "environment_protected": _text(value=environment.protected),
        "deployment_tier": environment.tier,
        "environment_action": job.environment_action,
    }


def _config_claims(instance: Instance, job: Job, running: Project) -> dict[str, Any]:
    if job.source_project_id != job.project_id:
        return {"ci_config_ref_uri": None, "ci_config_sha": None}
    host = urlsplit(instance.url).netloc
    ref = f"refs/{'tags' if job.tag else 'heads'}/{job.ref}"
    path = instance.places.project_path(running)
    return {
        "ci_config_ref_uri": f"{host}/{path}//.gitlab-ci.yml@{ref}",
        "ci_config_sha": job.sha,
    }


def _text(*, value: bool) -> str:
    return "true" if value else "false"
