"""Decide offline: what a job would get of every agent of an instance that is given as a file.

claims -> refresh every configuration project from the files given -> decide on each snapshot, as
whom. Every step is the one that the deployment takes; only what stands behind the ports differs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.agent_decision import AgentDecision, agent_decision
from jobgate.core.authorization import Denied, authorize, fork_refusal, trusted_chain
from jobgate.core.errors import InvalidRequest, InvalidToken
from jobgate.core.id_token import verified_job
from jobgate.core.namespace import Surroundings
from jobgate.core.reasons import Reason
from jobgate.usecases.namespaces import NamespaceTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot, Problem
    from jobgate.core.authorization import Decision
    from jobgate.core.bounds import Bounds
    from jobgate.core.issuer import Issuer
    from jobgate.core.job import VerifiedJob
    from jobgate.core.namespace import NamespaceChain, ProjectPlace
    from jobgate.core.settings import Settings
    from jobgate.ports.gitlab import GitLab
    from jobgate.ports.refresh import RefreshStore
    from jobgate.usecases.refresh import Refresh

_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Every agent by id, and the problems of all their files."""

    agents: tuple[AgentDecision, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Unfit:
    """A token that the exchange would refuse, and why."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """The decision and what it needs; `slugs` are environments' by project id and name."""

    issuer: Issuer
    gitlab: GitLab
    store: RefreshStore
    refresh: Refresh
    slugs: Mapping[tuple[int, str], str]
    settings: Settings
    bounds: Bounds
    now: float

    def run(self, claims: Mapping[str, Any], agents: Mapping[int, int]) -> Decided:
        """Decide for each of `agents` (id to configuration project's id).

        Raises InvalidRequest where `claims` aren't an ID token's.
        """
        verified = self._verified(claims)
        for project_id in sorted(set(agents.values())):
            self.refresh.run(self.issuer.alias, project_id)
        snapshots = [self._snapshot(agent_id) for agent_id in sorted(agents)]
        if isinstance(verified, _Unfit):
            decided = tuple(_refused(snapshot, verified) for snapshot in snapshots)
        else:
            decided = self._decided(verified, snapshots)
        return Decided(agents=decided, problems=_problems(snapshots))

    def _verified(self, claims: Mapping[str, Any]) -> VerifiedJob | _Unfit:
        try:
            return self._job(claims)
        except InvalidToken as exc:
            if "ref_protected" in claims:
                raise InvalidRequest(f"These aren't an ID token's claims: {exc}.") from exc
            # Good but for the one claim that older instances may not send: the exchange decides
            # on such a token, and refuses it.
            unfit = _Unfit(str(exc))
        try:
            self._job({**claims, "ref_protected": "false"})
        except InvalidToken as exc:
            raise InvalidRequest(f"These aren't an ID token's claims: {exc}.") from exc
        return unfit

    def _job(self, claims: Mapping[str, Any]) -> VerifiedJob:
        """The job at the moment when its token was made, whenever that was."""
        issued_at = int(self.now)
        usual = {"iat": issued_at, "nbf": issued_at, "exp": issued_at + _HOUR, "jti": "decide"}
        given = {**usual, **claims}
        return verified_job(
            given, issuer=self.issuer.alias, bounds=self.bounds, now=self.now, not_before=None
        )

    def _snapshot(self, agent_id: int) -> AgentSnapshot:
        snapshot = self.store.snapshot(self.issuer.alias, agent_id)
        if snapshot is None:
            raise InvalidRequest(f"The agent {agent_id} isn't of the project that is given.")
        return snapshot

    def _decided(
        self, verified: VerifiedJob, snapshots: Sequence[AgentSnapshot]
    ) -> tuple[AgentDecision, ...]:
        slug = self.slugs.get((verified.job.project_id, verified.job.environment or ""))
        job = dataclasses.replace(verified.job, environment_slug=slug)
        verified = dataclasses.replace(verified, job=job)
        config_projects = {snapshot.config_project.project_id for snapshot in snapshots}
        surroundings = self._surroundings(job.project_id, config_projects)
        return tuple(self._agent(verified, snapshot, surroundings) for snapshot in snapshots)

    def _surroundings(self, project_id: int, config_projects: Iterable[int]) -> Surroundings:
        place, chain = self._place(project_id) or (None, None)
        config_places = {i: self._place(i) for i in config_projects}
        return Surroundings(
            place=place,
            chain=chain,
            config_places={i: found[0] for i, found in config_places.items() if found is not None},
        )

    def _place(self, project_id: int) -> tuple[ProjectPlace, NamespaceChain] | None:
        """Where a project is; None where the instance doesn't have it."""
        project = self.gitlab.project(project_id)
        return None if project is None else NamespaceTree(self.gitlab, now=self.now).place(project)

    def _agent(
        self, verified: VerifiedJob, snapshot: AgentSnapshot, surroundings: Surroundings
    ) -> AgentDecision:
        return agent_decision(
            verified.job,
            snapshot,
            self._decision(verified, snapshot, surroundings),
            issuer=self.issuer,
            chain=trusted_chain(verified.job, surroundings, bounds=self.bounds, now=self.now),
        )

    def _decision(
        self, verified: VerifiedJob, snapshot: AgentSnapshot, surroundings: Surroundings
    ) -> Decision:
        if not verified.project_is_certain:
            return Denied(Reason.JOB_UNKNOWN)
        if reason := fork_refusal(verified, self.settings):
            return Denied(reason)
        return authorize(
            verified.job,
            snapshot,
            surroundings,
            settings=self.settings,
            bounds=self.bounds,
            now=self.now,
        )


def _refused(snapshot: AgentSnapshot, unfit: _Unfit) -> AgentDecision:
    return AgentDecision(
        agent_id=snapshot.agent_id,
        context=snapshot.context,
        decision=Denied(Reason.TOKEN_INVALID),
        identity=None,
        nearest_miss=f"no entry: {unfit.why}",
    )


def _problems(snapshots: Sequence[AgentSnapshot]) -> tuple[Problem, ...]:
    by_context = sorted(snapshots, key=lambda snapshot: snapshot.context)
    return tuple(problem for snapshot in by_context for problem in snapshot.problems)
