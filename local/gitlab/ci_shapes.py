"""The JSON of REST answers about commits, jobs and what belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.gitlab.events import project_urls
from local.gitlab.shapes import basic_project, basic_user
from local.gitlab.times import api_time

if TYPE_CHECKING:
    from local.gitlab.commits import Commit, TreeEntry
    from local.gitlab.instance import Instance
    from local.gitlab.records import ClusterAgent, CommitStatus, Environment, Job, Project


def commit_shape(instance: Instance, project: Project, commit: Commit) -> dict[str, Any]:
    """A commit."""
    web, _, _ = project_urls(instance, project)
    return {
        "id": commit.id,
        "short_id": commit.id[:8],
        "created_at": commit.committed,
        "parent_ids": list(commit.parents),
        "title": commit.title,
        "message": commit.message,
        "author_name": commit.author_name,
        "author_email": commit.author_email,
        "authored_date": commit.authored,
        "committer_name": commit.committer_name,
        "committer_email": commit.committer_email,
        "committed_date": commit.committed,
        "trailers": {},
        "extended_trailers": {},
        "web_url": f"{web}/-/commit/{commit.id}",
    }


def tree_entry(entry: TreeEntry) -> dict[str, Any]:
    """A file or folder in a tree."""
    return {
        "id": entry.id,
        "name": entry.name,
        "type": entry.type,
        "path": entry.path,
        "mode": entry.mode,
    }


def job_shape(instance: Instance, job: Job, commit: Commit | None) -> dict[str, Any]:
    """A job."""
    project = instance.project(job.project_id)
    web, _, _ = project_urls(instance, project)
    started, finished, ended = job.started_at, job.finished_at, None
    if started is not None:
        ended = round((finished or instance.clock()) - started, 6)
    return {
        "id": job.id,
        "status": job.status,
        "stage": job.stage,
        "name": job.name,
        "ref": job.ref,
        "tag": job.tag,
        "coverage": None,
        "allow_failure": False,
        "created_at": api_time(job.created_at),
        "started_at": api_time(started),
        "finished_at": api_time(finished),
        "erased_at": None,
        "duration": ended,
        "queued_duration": None if started is None else round(started - job.created_at, 6),
        "user": basic_user(instance, instance.user(job.user_id)),
        "commit": None if commit is None else commit_shape(instance, project, commit),
        "pipeline": _pipeline_shape(job, project, web),
        **({"failure_reason": job.failure_reason} if job.status == "failed" else {}),
        "web_url": f"{web}/-/jobs/{job.id}",
        "project": {"ci_job_token_scope_enabled": False},
        "artifacts": [],
        "runner": None
        if job.runner_id is None or started is None
        else {"id": job.runner_id, "description": f"runner-{job.runner_id}", "active": True},
        "runner_manager": None,
        "artifacts_expire_at": None,
        "archived": False,
        "tag_list": [],
    }


def _pipeline_shape(job: Job, project: Project, web: str) -> dict[str, Any]:
    return {
        "id": job.pipeline_id,
        "iid": job.pipeline_id,
        "project_id": project.id,
        "sha": job.sha,
        "ref": job.ref,
        "status": job.status,
        "source": job.source,
        "created_at": api_time(job.created_at),
        "updated_at": api_time(job.finished_at or job.started_at or job.created_at),
        "web_url": f"{web}/-/pipelines/{job.pipeline_id}",
    }


def environment_shape(instance: Instance, environment: Environment) -> dict[str, Any]:
    """An environment."""
    return {
        "id": environment.id,
        "name": environment.name,
        "slug": environment.slug,
        "external_url": None,
        "created_at": api_time(environment.created_at),
        "updated_at": api_time(environment.created_at),
        "tier": environment.tier,
        "state": environment.state,
        "auto_stop_at": None,
        "description": None,
        "project": basic_project(instance, instance.project(environment.project_id)),
    }


def agent_shape(instance: Instance, agent: ClusterAgent) -> dict[str, Any]:
    """An agent that is registered in GitLab."""
    project = basic_project(instance, instance.project(agent.project_id))
    shown = ("id", "description", "name", "name_with_namespace", "path", "path_with_namespace")
    return {
        "id": agent.id,
        "name": agent.name,
        "config_project": {name: project[name] for name in (*shown, "created_at")},
        "created_at": api_time(agent.created_at),
        "created_by_user_id": agent.created_by_user_id,
        "is_receptive": False,
    }


def status_shape(instance: Instance, status: CommitStatus) -> dict[str, Any]:
    """An external commit status."""
    return {
        "id": status.id,
        "sha": status.sha,
        "ref": status.ref,
        "status": status.state,
        "name": status.name,
        "target_url": status.target_url,
        "description": status.description,
        "created_at": api_time(status.created_at),
        "started_at": None,
        "finished_at": None,
        "allow_failure": False,
        "coverage": None,
        "pipeline_id": None,
        "author": basic_user(instance, instance.user(status.user_id)),
    }
