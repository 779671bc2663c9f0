"""Why access is refused: one closed list, and for each a sentence and the next step for a person.

Used alike by the answers, `explain`, `decide`, the records and the alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reason(StrEnum):
    """Why a job gets no access."""

    NOT_LISTED = "not_listed"
    ENVIRONMENT_MISMATCH = "environment_mismatch"
    NO_ENVIRONMENT = "no_environment"
    REF_NOT_PROTECTED = "ref_not_protected"
    OUT_OF_SCOPE = "out_of_scope"
    CHAIN_UNKNOWN = "chain_unknown"
    CONFIG_UNKNOWN = "config_unknown"
    JOB_UNKNOWN = "job_unknown"
    JOB_FINISHED = "job_finished"
    STOPPED = "stopped"
    TOKEN_INVALID = "token_invalid"  # noqa: S105  a reason's name
    TOKEN_EXPIRED = "token_expired"  # noqa: S105  a reason's name
    WRONG_AGENT = "wrong_agent"
    AGENT_MODE_NOT_CONFIGURED = "agent_mode_not_configured"
    CLIENT_IMPERSONATION = "client_impersonation"
    RESERVED_IDENTITY = "reserved_identity"
    FORK_REFUSED = "fork_refused"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    THROTTLED = "throttled"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a refused person reads: `sentence` says what is the case, `next_step` what to do."""

    sentence: str
    next_step: str


_ADD_ENTRY = (
    "Add the project, or one of its groups, under ci_access in the agent's config.yaml on the "
    "default branch of its configuration project."
)
_LATER = "Run the job again in a minute; if it stays so, ask the operators of Jobgate."

EXPLANATIONS: Mapping[Reason, Explanation] = {
    Reason.NOT_LISTED: Explanation(
        "No agent's configuration lets this job use this cluster.", _ADD_ENTRY
    ),
    Reason.ENVIRONMENT_MISMATCH: Explanation(
        "The agent's configuration doesn't allow this job's environment.",
        "Compare environment:name of the job with environments in the agent's config.yaml.",
    ),
    Reason.NO_ENVIRONMENT: Explanation(
        "The agent's configuration asks for an environment, and this job has none.",
        "Give the job an environment:name that the agent's config.yaml allows.",
    ),
    Reason.REF_NOT_PROTECTED: Explanation(
        "The agent's configuration allows protected branches and tags only.",
        "Run the job on a protected branch or tag, or protect this one.",
    ),
    Reason.OUT_OF_SCOPE: Explanation(
        "The job's project and the agent's configuration project share no top-level group.",
        "Move one of them and push config.yaml again, or register an agent in a project of this "
        "group.",
    ),
    Reason.CHAIN_UNKNOWN: Explanation(
        "The groups that this job's project is in aren't known at the moment.", _LATER
    ),
    Reason.CONFIG_UNKNOWN: Explanation(
        "The agent has no valid configuration, or GitLab hasn't confirmed it for too long.",
        "Push a valid config.yaml to the default branch of the agent's configuration project, or "
        "ask your operator to look at `jobgate status`.",
    ),
    Reason.JOB_UNKNOWN: Explanation("The state of this job isn't known at the moment.", _LATER),
    Reason.JOB_FINISHED: Explanation(
        "This job has ended, and its access with it.", "Run the job again."
    ),
    Reason.STOPPED: Explanation(
        "Access was stopped by an operator.", "Ask the operators of Jobgate."
    ),
    Reason.TOKEN_INVALID: Explanation(
        "The token isn't good.",
        "Check that the job's id_tokens entry has the audience of this Jobgate.",
    ),
    Reason.TOKEN_EXPIRED: Explanation(
        "The token has expired.", "Fetch a new kubeconfig in the same job, or run the job again."
    ),
    Reason.WRONG_AGENT: Explanation(
        "This token is good for another agent.", "Fetch a kubeconfig for this agent."
    ),
    Reason.AGENT_MODE_NOT_CONFIGURED: Explanation(
        "The agent was registered without a credential of its own, so nothing runs as the agent.",
        "Use access_as: ci_job in config.yaml, or register the agent with --agent-credential-file.",
    ),
    Reason.CLIENT_IMPERSONATION: Explanation(
        "The configuration decides as whom a request runs; this one asked for somebody else.",
        "Leave out --as, --as-group, --as-uid and --as-user-extra.",
    ),
    Reason.RESERVED_IDENTITY: Explanation(
        "The agent's configuration names an identity that is reserved.",
        "Use a user and groups that don't begin with system: or gitlab: in access_as.",
    ),
    Reason.FORK_REFUSED: Explanation(
        "Jobs of forks aren't allowed here.", "Run the pipeline in the project itself."
    ),
    Reason.UNSUPPORTED: Explanation(
        "This kind of request can't be carried.",
        "exec, attach, cp and port-forward need another way into the cluster; "
        "kubectl logs, wait and debug by Job work.",
    ),
    Reason.TOO_LARGE: Explanation(
        "The request is larger than the gateway carries.",
        "Split the manifest into smaller ones, and use kubectl apply --server-side, which sends it "
        "once.",
    ),
    Reason.THROTTLED: Explanation("There are too many requests at the moment.", _LATER),
    Reason.UPSTREAM_UNREACHABLE: Explanation("The cluster can't be reached.", _LATER),
    Reason.UPSTREAM_TIMEOUT: Explanation("The cluster didn't answer in time.", _LATER),
}


def advice(reason: Reason) -> str:
    """What a refused person reads, in one line."""
    explanation = EXPLANATIONS[reason]
    return f"{explanation.sentence} {explanation.next_step}"
