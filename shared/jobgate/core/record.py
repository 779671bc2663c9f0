"""Records of decisions: one JSON line each, without any token or secret."""

from __future__ import annotations

import datetime as dt
import functools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.authorization import Grant, Rule
    from jobgate.core.impersonation import Identity
    from jobgate.core.job import JobIdentity
    from jobgate.core.kubernetes_request import KubernetesRequest

VERSION = 1
_encoded = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def record(kind: str, *, at: float, outcome: str, **values: Any) -> str:
    """One record as a line of JSON; values of None are left out, control characters escaped.

    `kind` is exchange, request, revocation or refresh; `outcome` allowed or refused.
    """
    head = {
        "v": VERSION,
        "type": kind,
        "at": f"{_second(int(at))}.{int(at % 1 * 1000):03}+00:00",
        "outcome": outcome,
    }
    given = {key: value for key, value in values.items() if value is not None}
    return _encoded(head | given)


@functools.lru_cache(maxsize=2)
def _second(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def of_job(job: JobIdentity) -> dict[str, Any]:
    """A record's values about the job."""
    return {
        "issuer": job.issuer,
        "project_id": job.project_id,
        "project_path": job.project_path,
        "job_id": job.job_id,
        "pipeline_id": job.pipeline_id,
        "user_login": job.user_login,
        "ref": job.ref,
        "ref_protected": job.ref_protected,
        "environment": job.environment,
    }


def of_grant(grant: Grant) -> dict[str, Any]:
    """A record's values about what allowed it."""
    return {
        "agent_id": grant.agent_id,
        "agent": grant.context,
        "config_project_id": grant.config_project_id,
        "config_commit": grant.config_commit,
        "rule": of_rule(grant.rule),
    }


def of_agent(agent: AgentSnapshot) -> dict[str, Any]:
    """A record's values about an agent that refused."""
    return {
        "agent_id": agent.agent_id,
        "agent": agent.context,
        "config_project_id": agent.config_project.project_id,
        "config_commit": agent.commit,
    }


def of_request(asked: KubernetesRequest) -> dict[str, Any]:
    """A request record's values about what was asked for, as the API server reads it."""
    if not asked.is_resource:
        return {"verb": asked.verb}
    return {
        "verb": asked.verb,
        "group": asked.group,
        "resource": asked.resource,
        "subresource": asked.subresource or None,
        "namespace": asked.namespace or None,
        "name": asked.name or None,
    }


def milliseconds(seconds: float) -> float:
    """A time span as records state it; a clock that was set back makes none negative."""
    return int(max(seconds, 0) * 10_000 + 0.5) / 10


def of_rule(rule: Rule) -> dict[str, Any]:
    """The deciding entry."""
    return {"kind": rule.kind, "id": rule.id, "path": rule.path}


def of_identity(identity: Identity | None) -> dict[str, Any] | None:
    """The impersonated identity; None as the agent itself."""
    return None if identity is None else {"user": identity.username, "groups": identity.groups}
