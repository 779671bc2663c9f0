"""What a job gets of each agent that names it, and why not: as text for a terminal, or as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.agent_decision import as_json as agent_as_json
from jobgate.core.reasons import advice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.agent_decision import AgentDecision
    from jobgate.core.job import JobIdentity
    from jobgate.core.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`agents` are those that name the job; `reason` is why it gets none at all, or None."""

    job: JobIdentity
    decision_id: str
    reason: Reason | None
    agents: tuple[AgentDecision, ...]


def as_json(explanation: Explanation) -> dict[str, Any]:
    """The form for scripts; its agents are those of `jobgate decide`."""
    job, reason = explanation.job, explanation.reason
    return {
        "v": 1,
        "decision_id": explanation.decision_id,
        "job": {
            "issuer": job.issuer,
            "id": job.job_id,
            "project_id": job.project_id,
            "project_path": job.project_path,
            "pipeline_id": job.pipeline_id,
            "user_login": job.user_login,
            "ref": job.ref,
            "ref_protected": job.ref_protected,
            "environment": job.environment,
        },
        "reason": reason,
        "text": None if reason is None else advice(reason),
        "agents": [agent_as_json(agent) for agent in explanation.agents],
    }


def as_text(explanation: Explanation) -> str:
    """Lines for a person; whatever isn't printable is escaped, since others wrote much of it."""
    lines = [_of_job(explanation.job), ""]
    for agent in explanation.agents:
        lines += _of_agent(agent_as_json(agent))
    if explanation.reason is not None:
        lines.append(f"No access: {explanation.reason}")
        lines.append(f"  {advice(explanation.reason)}")
    lines += ["", f"Jobgate decision {explanation.decision_id}"]
    return "".join(f"{_plain(line)}\n" for line in lines)


def _of_job(job: JobIdentity) -> str:
    protected = "protected" if job.ref_protected else "not protected"
    environment = f"environment {job.environment}" if job.environment else "no environment"
    return (
        f"Job {job.job_id} of {job.project_path}, started by {job.user_login}, "
        f"ref {job.ref} ({protected}), {environment}"
    )


def _of_agent(agent: Mapping[str, Any]) -> list[str]:
    if not agent["allowed"]:
        return [f"refused  {agent['context']}: {agent['reason']}", f"  {agent['nearest_miss']}"]
    via, identity = agent["via"], agent["identity"]
    entry = " ".join(filter(None, (via["kind"], via["path"])))
    who = identity["user"] if identity else "the agent itself"
    namespace = f", namespace {agent['namespace']}" if agent["namespace"] else ""
    return [f"allowed  {agent['context']}", f"  by {entry}, as {who}{namespace}"]


def _plain(text: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
