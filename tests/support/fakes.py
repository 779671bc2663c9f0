"""In-memory stand-ins for the ports, with the promises of the real ones (the store contract)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.liveness import NOTHING_HEARD
from jobgate.core.namespace import Surroundings
from jobgate.core.settings import Settings
from jobgate.ports.exchange import (
    ExchangeCounter,
    ExchangeStore,
    RedeemedTokens,
    TokenSigner,
    TokenVerifier,
)
from jobgate.ports.hooks import HookSightings
from jobgate.ports.lookups import JobLookup, JobStates, Lookups, PlaceMarks, PlaceStore
from jobgate.ports.refresh import CommitStatuses, RefreshQueue
from jobgate.usecases.job_watch import JobWatch

from tests.support.builders import CONFIG_PROJECT, NOW, a_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot, ConfigProject
    from jobgate.core.commit_status import CommitStatus
    from jobgate.core.errors import JobgateError
    from jobgate.core.hook import HookScope
    from jobgate.core.job import JobIdentity, JobKey, VerifiedJob
    from jobgate.core.liveness import JobLife, JobState
    from jobgate.core.namespace import NamespaceChain, ProjectPlace
    from jobgate.core.webhook import HookSecrets
    from jobgate.core.webhook_event import JobSeen
    from jobgate.ports.exchange import ExchangeFacts


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeTokenVerifier(TokenVerifier):
    """Knows some tokens by heart; every other one raises `refusal`."""

    def __init__(
        self, jobs: Mapping[str, VerifiedJob], *, refusal: JobgateError | None = None
    ) -> None:
        self._jobs = jobs
        self._refusal = refusal or InvalidToken("a token that this fake doesn't know")

    def verify(self, subject_token: str) -> VerifiedJob:
        if subject_token in self._jobs:
            return self._jobs[subject_token]
        raise self._refusal


class FakeTokenSigner(TokenSigner):
    """Keeps the claims that it was given and answers `signed-<n>`."""

    def __init__(self, *, failing: bool = False) -> None:
        self.signed: list[Mapping[str, object]] = []
        self.failing = failing

    def sign(self, claims: Mapping[str, object]) -> str:
        if self.failing:
            raise Unavailable("KMS is away")
        self.signed.append(json.loads(json.dumps(claims)))
        return f"signed-{len(self.signed)}"


class FakeExchangeStore(ExchangeStore):
    """Facts of one job, the agents of groups, and snapshots; `failing` names methods that raise."""

    def __init__(
        self,
        facts: ExchangeFacts,
        agents: Iterable[AgentSnapshot] = (),
        *,
        of_groups: Mapping[int, Iterable[int]] | None = None,
        failing: Iterable[str] = (),
    ) -> None:
        self.facts = facts
        self.agents = {agent.agent_id: agent for agent in agents}
        self.of_groups = dict(of_groups or {})
        self.failing = frozenset(failing)
        self.reads: list[str] = []
        self.unreadable: frozenset[int] = frozenset()

    def exchange_facts(self, job: JobIdentity) -> ExchangeFacts:
        self._read("exchange_facts")
        return self.facts

    def agents_of_groups(self, issuer: str, group_ids: Sequence[int]) -> frozenset[int]:
        self._read("agents_of_groups")
        return frozenset(
            agent_id for group_id in group_ids for agent_id in self.of_groups.get(group_id, ())
        )

    def snapshots(
        self, issuer: str, agent_ids: Iterable[int]
    ) -> Mapping[int, AgentSnapshot | None]:
        self._read("snapshots")
        unreadable: dict[int, AgentSnapshot | None] = dict.fromkeys(self.unreadable)
        return {i: self.agents[i] for i in agent_ids if i in self.agents} | unreadable

    def _read(self, method: str) -> None:
        self.reads.append(method)
        if method in self.failing:
            raise Unavailable(f"{method} can't be read")


class FakeExchangeCounter(ExchangeCounter):
    """Counts by project and window."""

    def __init__(self, *, failing: bool = False) -> None:
        self.counts: dict[tuple[str, int, int], int] = {}
        self.failing = failing

    def count(
        self, issuer: str, project_id: int, *, window: int, limit: int, ends_at: float
    ) -> bool:
        if self.failing:
            raise Unavailable("nothing can be counted")
        key = (issuer, project_id, window)
        if self.counts.get(key, 0) >= limit:
            return False
        self.counts[key] = self.counts.get(key, 0) + 1
        return True


class FakeRedeemedTokens(RedeemedTokens):
    """Keeps what was taken, and until when."""

    def __init__(self, *, failing: bool = False) -> None:
        self.claimed: dict[tuple[str, str], float] = {}
        self.failing = failing

    def claim(self, issuer: str, jti: str, *, expires_at: float) -> bool:
        if self.failing:
            raise Unavailable("nothing can be taken")
        if (issuer, jti) in self.claimed:
            return False
        self.claimed[issuer, jti] = expires_at
        return True


class FakeLookups(Lookups):
    """Gives back what is stored, or what it was told to find; each job has a lookup of its own."""

    def __init__(
        self,
        found: Surroundings | None = None,
        *,
        runs: bool = False,
        slug: str | None = None,
        config_places: Mapping[int, ProjectPlace] | None = None,
        life: JobLife | None = None,
    ) -> None:
        self.found = found
        self.runs = runs
        self.slug = slug
        self.life = life
        self.places = {CONFIG_PROJECT: a_place()} if config_places is None else config_places
        self.asked: list[str] = []
        self.lives: list[JobLife] = []

    def of(self, job: JobIdentity) -> JobLookup:
        return _FakeLookup(self)


class _FakeLookup(JobLookup):
    def __init__(self, told: FakeLookups) -> None:
        self._told = told

    def project_runs_job(self) -> bool:
        self._told.asked.append("project_runs_job")
        return self._told.runs

    def surroundings(
        self, place: ProjectPlace | None, chain: NamespaceChain | None
    ) -> Surroundings:
        return self._told.found or Surroundings(place=place, chain=chain)

    def config_places(self, agents: Iterable[AgentSnapshot]) -> Mapping[int, ProjectPlace]:
        wanted = {agent.config_project.project_id for agent in agents}
        return {i: self._told.places[i] for i in wanted if i in self._told.places}

    def environment_slug(self) -> str | None:
        return self._told.slug

    def life(self, stored: JobLife) -> JobLife:
        self._told.lives.append(stored)
        return self._told.life or stored


class FakePlaceStore(PlaceStore):
    """Places and chains, the newest fetch of each."""

    def __init__(self, *, failing: bool = False) -> None:
        self.saved_places: dict[tuple[str, int], ProjectPlace] = {}
        self.saved_chains: dict[tuple[str, int], NamespaceChain] = {}
        self.reads: list[list[int]] = []
        self._failing = failing

    def places(self, issuer: str, project_ids: Sequence[int]) -> Mapping[int, ProjectPlace]:
        self.reads.append(list(project_ids))
        known = ((i, self.saved_places.get((issuer, i))) for i in project_ids)
        return {i: place for i, place in known if place is not None}

    def save_place(self, issuer: str, project_id: int, place: ProjectPlace) -> None:
        if self._failing:
            raise Unavailable("a place can't be kept")
        known = self.saved_places.get((issuer, project_id))
        if known is None or known.fetched_at <= place.fetched_at:
            self.saved_places[issuer, project_id] = place

    def save_chain(self, issuer: str, chain: NamespaceChain) -> None:
        if self._failing:
            raise Unavailable("a chain can't be kept")
        key = (issuer, chain.members[-1].namespace_id)
        known = self.saved_chains.get(key)
        if known is None or known.fetched_at <= chain.fetched_at:
            self.saved_chains[key] = chain


class FakeCommitStatuses(CommitStatuses):
    """Keeps what was posted: commit and status."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, CommitStatus]] = []

    def post(self, issuer: str, project: ConfigProject, commit: str, status: CommitStatus) -> None:
        self.posted.append((commit, status))


class FakeHookSightings(HookSightings):
    """Keeps what was noted, in order."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, HookSecrets, float]] = []

    def note(self, issuer: str, hook: HookSecrets, *, at: float) -> None:
        self.noted.append((issuer, hook, at))


class FakeRefreshQueue(RefreshQueue):
    """Keeps what was sent; `refused` are projects whose messages it doesn't take."""

    def __init__(self) -> None:
        self.refused: set[int] = set()
        self.refreshes: list[tuple[str, int, str | None]] = []
        self.jobs: list[tuple[str, JobSeen, HookScope | None, str | None]] = []
        self.failing = False

    def send(self, issuer: str, project_id: int, *, deduplication_id: str | None) -> None:
        if self.failing or project_id in self.refused:
            raise Unavailable("the queue takes no message")
        self.refreshes.append((issuer, project_id, deduplication_id))

    def send_job(
        self,
        issuer: str,
        event: JobSeen,
        scope: HookScope | None,
        *,
        deduplication_id: str | None,
    ) -> None:
        if self.failing:
            raise Unavailable("the queue takes no message")
        self.jobs.append((issuer, event, scope, deduplication_id))


class FakePlaceMarks(PlaceMarks):
    """Places and chains as a webhook sees them; `marked` is what it took away."""

    def __init__(self, *, failing: bool = False) -> None:
        self.config_projects = {("main", CONFIG_PROJECT)}
        self.places: dict[tuple[str, int], ProjectPlace] = {}
        self.chains: dict[tuple[str, int], NamespaceChain] = {}
        self.marked: list[tuple[str, str, int, float]] = []
        self.reads: list[str] = []
        self.failing = failing

    def is_config_project(self, issuer: str, project_id: int) -> bool:
        self._read("is_config_project")
        return (issuer, project_id) in self.config_projects

    def place(self, issuer: str, project_id: int) -> ProjectPlace | None:
        self._read("place")
        return self.places.get((issuer, project_id))

    def chain(self, issuer: str, namespace_id: int) -> NamespaceChain | None:
        self._read("chain")
        return self.chains.get((issuer, namespace_id))

    def mark_place(self, issuer: str, project_id: int, *, at: float) -> None:
        self.marked.append((issuer, "project", project_id, at))

    def mark_chain(self, issuer: str, namespace_id: int, *, at: float) -> None:
        self.marked.append((issuer, "namespace", namespace_id, at))

    def _read(self, what: str) -> None:
        self.reads.append(what)
        if self.failing:
            raise Unavailable("the table can't be read")


class FakeJobStates(JobStates):
    """Job states; a terminal one stays. `failing` methods raise, True is all of them."""

    def __init__(
        self, *, failing: bool | Iterable[str] = False, bounds: Bounds | None = None
    ) -> None:
        self.states: dict[JobKey, JobLife] = {}
        self.failing = {"put", "get", "ask"} if failing is True else {*(failing or ())}
        self.calls: list[str] = []
        self._bounds = bounds or Bounds()

    def put(self, job: JobKey, word: JobState) -> bool:
        known = self._known("put", job)
        if known.finished:
            return False
        self.states[job] = known.after(word)
        return True

    def get(self, job: JobKey) -> JobLife:
        return self._known("get", job)

    def ask(self, job: JobKey, *, now: float) -> bool:
        known = self._known("ask", job)
        earliest, latest = now - self._bounds.probe_floor, now + self._bounds.leeway
        asked = known.asked_at
        if known.finished or (asked is not None and earliest < asked <= latest):
            return False
        self.states[job] = known.asked(now)
        return True

    def _known(self, method: str, job: JobKey) -> JobLife:
        self.calls.append(method)
        if method in self.failing:
            raise Unavailable(f"{method}: a job's state can't be had")
        return self.states.get(job, NOTHING_HEARD)


def a_watch(
    clock: FakeClock,
    *,
    jobs: JobStates | None = None,
    settings: Settings | None = None,
    bounds: Bounds | None = None,
) -> JobWatch:
    """A job watch whose waiting moves the clock."""
    return JobWatch(
        jobs or FakeJobStates(),
        settings=settings or Settings(),
        bounds=bounds or Bounds(),
        clock=clock,
        wait=clock.advance,
    )
