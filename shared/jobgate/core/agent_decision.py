"""A decision about one agent, as people and scripts read it: `decide`, `explain` and `/explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.agent import AsAgent, AsCIJob, AsIdentity
from jobgate.core.authorization import Allowed
from jobgate.core.impersonation import identity_of
from jobgate.core.nearest_miss import nearest_miss
from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from jobgate.core.agent import AccessAs, AgentSnapshot
    from jobgate.core.authorization import Decision
    from jobgate.core.impersonation import Identity
    from jobgate.core.issuer import Issuer
    from jobgate.core.job import JobIdentity
    from jobgate.core.namespace import NamespaceChain


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDecision:
    """What the job gets of one agent. `nearest_miss` says of a refusal what was missing."""

    agent_id: int
    context: str
    decision: Decision
    identity: Identity | None
    nearest_miss: str | None


def agent_decision(
    job: JobIdentity,
    agent: AgentSnapshot,
    decision: Decision,
    *,
    issuer: Issuer,
    chain: NamespaceChain | None,
) -> AgentDecision:
    """A decision with what follows from it; `chain` is the trusted one."""
    identity, missed = None, None
    if isinstance(decision, Allowed):
        identity = identity_of(job, decision.grant, issuer=issuer, chain=chain)
    else:
        missed = nearest_miss(decision, job, agent)
    return AgentDecision(
        agent_id=agent.agent_id,
        context=agent.context,
        decision=decision,
        identity=identity,
        nearest_miss=missed,
    )


def names_job(decision: Decision) -> bool:
    """Whether the agent's configuration names the job's project, its groups or the instance.

    Of an agent that doesn't, a job learns nothing, not even that there is one. The agents of its
    own project it may see: it can read their files.
    """
    if isinstance(decision, Allowed) or decision.rule is not None:
        return True
    # Given to jobs of the configuration project alone.
    return decision.reason is Reason.CONFIG_UNKNOWN


def as_json(agent: AgentDecision) -> dict[str, Any]:
    """The form for scripts."""
    decision = agent.decision
    found: dict[str, Any] = {
        "id": agent.agent_id,
        "context": agent.context,
        "allowed": isinstance(decision, Allowed),
        "via": None,
        "access_as": None,
        "identity": None,
        "namespace": None,
        "reason": None,
        "nearest_miss": agent.nearest_miss,
    }
    if isinstance(decision, Allowed):
        grant = decision.grant
        found["via"] = {"kind": grant.rule.kind, "id": grant.rule.id, "path": grant.rule.path}
        found["access_as"] = _mode(grant.access_as)
        found["identity"] = None if agent.identity is None else _identity(agent.identity)
        found["namespace"] = grant.namespace
    else:
        found["reason"] = decision.reason.value
    return found


def _mode(access_as: AccessAs) -> str:
    match access_as:
        case AsAgent():
            return "agent"
        case AsCIJob():
            return "ci_job"
        case AsIdentity():
            return "impersonate"


def _identity(identity: Identity) -> dict[str, Any]:
    extra: dict[str, list[str]] = {}
    for key, values in identity.extra:
        extra.setdefault(key, []).extend(values)
    return {
        "user": identity.username,
        "uid": identity.uid,
        "groups": list(identity.groups),
        "extra": extra,
    }
