"""Which agents a job may use, through which entry: the one decision of exchange and relay alike.

Source: GitLab's `ci_access` (docs "Using GitLab CI/CD with a Kubernetes cluster"): for each agent
the most specific entry counts alone, nothing is merged, and the filters come after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jobgate.core.agent import AsAgent, AsCIJob, AsIdentity, Entry
from jobgate.core.environment import environment_matches, slug_can_be_computed
from jobgate.core.impersonation import fault_of_static_identity
from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from jobgate.core.agent import AccessAs, AgentSnapshot
    from jobgate.core.bounds import Bounds
    from jobgate.core.job import JobIdentity, VerifiedJob
    from jobgate.core.namespace import NamespaceChain, Surroundings
    from jobgate.core.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The entry that decided: its kind, and the id and path of what it names."""

    kind: Literal["project", "implicit", "group", "instance"]
    id: int | None
    path: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What an allowed job may do with one agent."""

    agent_id: int
    agent_name: str
    context: str
    config_project_id: int
    config_commit: str
    rule: Rule
    access_as: AccessAs
    namespace: str | None


@dataclass(frozen=True, slots=True)
class Allowed:
    """The only source of a `Grant`."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Denied:
    """`rule` is the entry that came nearest, if one did."""

    reason: Reason
    rule: Rule | None = None


Decision = Allowed | Denied


@dataclass(frozen=True, slots=True)
class _Candidate:
    rule: Rule
    entry: Entry


def authorize(
    job: JobIdentity,
    agent: AgentSnapshot,
    surroundings: Surroundings,
    *,
    settings: Settings,
    bounds: Bounds,
    now: float,
) -> Decision:
    """Decide whether `job` may use `agent`, and as whom. `now` in epoch seconds."""
    if job.issuer != agent.issuer:
        return Denied(Reason.NOT_LISTED)
    if not agent.valid:
        # Who isn't of the configuration project learns nothing about an agent by trying.
        own = job.project_id == agent.config_project.project_id
        return Denied(Reason.CONFIG_UNKNOWN if own else Reason.NOT_LISTED)
    groups = _trusted_groups(job, surroundings, bounds=bounds, now=now)
    candidate = _who_wins(job, agent, groups, instance_wide=settings.instance_wide)
    if isinstance(candidate, Reason):
        return Denied(candidate)
    rule, entry = candidate.rule, candidate.entry
    is_bounded = rule.kind in ("project", "group") and not settings.instance_wide
    reason = (
        _doubt_refusal(agent, bounds, now)
        or entry.refused
        or _identity_refusal(entry, settings)
        or (_scope_refusal(job, agent, surroundings, bounds, now) if is_bounded else None)
        or _filter_refusal(job, entry)
        or _unknown_identity(job, entry, groups, settings)
    )
    if reason is not None:
        return Denied(reason, rule)
    return Allowed(
        Grant(
            agent_id=agent.agent_id,
            agent_name=agent.agent_name,
            context=agent.context,
            config_project_id=agent.config_project.project_id,
            config_commit=agent.commit,
            rule=rule,
            access_as=entry.access_as,
            namespace=entry.default_namespace,
        )
    )


def fork_refusal(verified: VerifiedJob, settings: Settings) -> Reason | None:
    """Why a job that a project runs for a fork's merge request may use nothing, or None."""
    return Reason.FORK_REFUSED if verified.is_of_fork and settings.fork_jobs == "deny" else None


def trusted_chain(
    job: JobIdentity, surroundings: Surroundings, *, bounds: Bounds, now: float
) -> NamespaceChain | None:
    """The chain of the job's namespace where it's known, young enough, and still the project's."""
    place, chain = surroundings.place, surroundings.chain
    if place is None or chain is None or place.namespace_id != job.namespace_id:
        return None
    if not all(_counts(at, bounds, now) for at in (place.fetched_at, chain.fetched_at)):
        return None
    return chain if chain.members[-1].namespace_id == job.namespace_id else None


def _counts(fetched_at: float, bounds: Bounds, now: float) -> bool:
    """Whether what was fetched then still counts.

    What is from the future was fetched under a clock that ran ahead: nobody knows when.
    """
    return -bounds.leeway <= now - fetched_at <= bounds.chain_max_age


def _trusted_groups(
    job: JobIdentity, surroundings: Surroundings, *, bounds: Bounds, now: float
) -> tuple[int, ...] | None:
    """The ids of the groups that the job's project is in, nearest first; None is unknown."""
    chain = trusted_chain(job, surroundings, bounds=bounds, now=now)
    return None if chain is None else tuple(group.namespace_id for group in reversed(chain.groups))


def _who_wins(
    job: JobIdentity, agent: AgentSnapshot, groups: tuple[int, ...] | None, *, instance_wide: bool
) -> _Candidate | Reason:
    """The first of: the project's entry, the implicit one, the nearest group's, the instance's."""
    if entry := agent.projects.get(job.project_id):
        return _Candidate(Rule(kind="project", id=job.project_id, path=entry.path), entry)
    config_project = agent.config_project
    if job.project_id == config_project.project_id:
        rule = Rule(kind="implicit", id=config_project.project_id, path=config_project.path)
        return _Candidate(rule, Entry(path=config_project.path, access_as=AsAgent()))
    if groups is None and agent.groups:
        return Reason.CHAIN_UNKNOWN
    for group_id in groups or ():
        if entry := agent.groups.get(group_id):
            return _Candidate(Rule(kind="group", id=group_id, path=entry.path), entry)
    if agent.instance is not None and instance_wide:
        return _Candidate(Rule(kind="instance", id=None, path=None), agent.instance)
    return Reason.NOT_LISTED


def _doubt_refusal(agent: AgentSnapshot, bounds: Bounds, now: float) -> Reason | None:
    """A configuration that GitLab hasn't confirmed for CONFIG_DOUBT grants nothing any more."""
    doubt = agent.doubt_since
    return None if doubt is None or now <= doubt + bounds.config_doubt else Reason.CONFIG_UNKNOWN


def _identity_refusal(entry: Entry, settings: Settings) -> Reason | None:
    """Checked at the refresh too, but under the settings and the rules of that day."""
    if not isinstance(entry.access_as, AsIdentity):
        return None
    fault = fault_of_static_identity(entry.access_as, allowed=settings.allowed_identities)
    return None if fault is None else Reason.RESERVED_IDENTITY


def _scope_refusal(
    job: JobIdentity, agent: AgentSnapshot, surroundings: Surroundings, bounds: Bounds, now: float
) -> Reason | None:
    """The job's project and the configuration project must share their top-level namespace now.

    Where they were at the refresh doesn't count: a project that has moved has left its scope.
    """
    config_project_id = agent.config_project.project_id
    if job.project_id == config_project_id:
        return None
    place, config_place = surroundings.place, surroundings.config_places.get(config_project_id)
    if place is None or config_place is None:
        return Reason.CHAIN_UNKNOWN
    if not all(_counts(at, bounds, now) for at in (place.fetched_at, config_place.fetched_at)):
        return Reason.CHAIN_UNKNOWN
    return None if place.root_id == config_place.root_id else Reason.OUT_OF_SCOPE


def _filter_refusal(job: JobIdentity, entry: Entry) -> Reason | None:
    """Environment first, then the ref; neither lets a less specific entry take over."""
    if entry.environments:
        if job.environment is None:
            return Reason.NO_ENVIRONMENT
        if not any(environment_matches(pattern, job.environment) for pattern in entry.environments):
            return Reason.ENVIRONMENT_MISMATCH
    if entry.protected_branches_only and not job.ref_protected:
        return Reason.REF_NOT_PROTECTED
    return None


def _unknown_identity(
    job: JobIdentity, entry: Entry, groups: tuple[int, ...] | None, settings: Settings
) -> Reason | None:
    """What a job's identity says of it must be known: groups that may have changed are none."""
    if not isinstance(entry.access_as, AsCIJob):
        return None
    if groups is None:
        return Reason.CHAIN_UNKNOWN
    if not settings.legacy_slugs or job.environment is None or job.environment_slug is not None:
        return None
    return None if slug_can_be_computed(job.environment) else Reason.JOB_UNKNOWN
