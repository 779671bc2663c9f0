"""Which entry came nearest to allowing a refused job, and what was missing, in one line.

The form is closed: `<entry>: <what was missing>`, where an entry is `project <path>`, `group
<path>`, `implicit <path>` or `instance`, and `no entry` where none covers the job. It names no
entry but the one that decided, so that a job learns nothing of others by trying.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.core.reasons import EXPLANATIONS, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.authorization import Denied, Rule
    from jobgate.core.job import JobIdentity

_CHAIN_UNKNOWN = "the groups that {job.project_path} is in aren't known"

_WITHOUT_ENTRY: Mapping[Reason, str] = {
    Reason.NOT_LISTED: "{job.project_path} isn't listed, nor a group that it is in",
    Reason.CHAIN_UNKNOWN: _CHAIN_UNKNOWN,
    Reason.CONFIG_UNKNOWN: "the agent has had no valid config.yaml yet",
    Reason.JOB_UNKNOWN: "the token doesn't say which project runs the job",
}

_OF_ENTRY: Mapping[Reason, str] = {
    Reason.ENVIRONMENT_MISMATCH: "environments don't match {job.environment}",
    Reason.NO_ENVIRONMENT: "environments are asked for, and the job has none",
    Reason.REF_NOT_PROTECTED: "protected_branches_only is set, and {job.ref} isn't protected",
    Reason.OUT_OF_SCOPE: "it is of another top-level group than {agent.config_project.path}",
    Reason.CHAIN_UNKNOWN: _CHAIN_UNKNOWN,
    Reason.RESERVED_IDENTITY: "access_as names a reserved identity",
    Reason.NOT_LISTED: "it is beyond the limit on entries",
    Reason.CONFIG_UNKNOWN: "GitLab hasn't confirmed the agent's config.yaml for too long",
}


def nearest_miss(denied: Denied, job: JobIdentity, agent: AgentSnapshot) -> str:
    """The line for a decision about `job` and `agent`."""
    texts = _WITHOUT_ENTRY if denied.rule is None else _OF_ENTRY
    missing = texts.get(denied.reason) or _sentence(denied.reason)
    filled = missing.format(job=job, agent=agent)
    return f"{_entry(denied.rule)}: {filled}"


def _entry(rule: Rule | None) -> str:
    if rule is None:
        return "no entry"
    return f"{rule.kind} {rule.path}" if rule.path else rule.kind


def _sentence(reason: Reason) -> str:
    text = EXPLANATIONS[reason].sentence.removesuffix(".")
    return text[:1].lower() + text[1:]
