"""In-memory stand-ins for the ports, with the promises of the real ones (the store contract)."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import TYPE_CHECKING

from jobgate.core.agent_configuration import FILE_MAX_BYTES
from jobgate.core.errors import Conflict, InvalidToken, Unavailable
from jobgate.core.namespace import Surroundings
from jobgate.ports import (
    ConfigProjectItem,
    ConfigProjects,
    ExchangeStore,
    GitLab,
    GitLabGroup,
    GitLabProject,
    JobStates,
    PlaceStore,
    RefreshQueue,
    RefreshStore,
    SurroundingsSource,
    TokenSigner,
    TokenVerifier,
)

from tests.support.builders import NOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot, ClusterConnection
    from jobgate.core.errors import JobgateError
    from jobgate.core.job import JobIdentity, VerifiedJob
    from jobgate.core.liveness import JobState
    from jobgate.core.namespace import NamespaceChain, ProjectPlace
    from jobgate.ports import ExchangeFacts, Subject


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

    def exchange_facts(self, job: JobIdentity) -> ExchangeFacts:
        self._read("exchange_facts")
        return self.facts

    def agents_of_groups(self, issuer: str, group_ids: Sequence[int]) -> frozenset[int]:
        self._read("agents_of_groups")
        return frozenset(
            agent_id for group_id in group_ids for agent_id in self.of_groups.get(group_id, ())
        )

    def snapshots(self, issuer: str, agent_ids: Iterable[int]) -> Mapping[int, AgentSnapshot]:
        self._read("snapshots")
        return {i: self.agents[i] for i in agent_ids if i in self.agents}

    def _read(self, method: str) -> None:
        self.reads.append(method)
        if method in self.failing:
            raise Unavailable(f"{method} can't be read")


class FakeSurroundings(SurroundingsSource):
    """Gives back what is stored, or what it was told to find."""

    def __init__(self, found: Surroundings | None = None) -> None:
        self._found = found

    def surroundings(
        self, job: JobIdentity, place: ProjectPlace | None, chain: NamespaceChain | None
    ) -> Surroundings:
        return self._found or Surroundings(place=place, chain=chain)


class FakePlaceStore(PlaceStore):
    """Places and chains, the newest fetch of each."""

    def __init__(self, *, failing: bool = False) -> None:
        self.places: dict[tuple[str, int], ProjectPlace] = {}
        self.chains: dict[tuple[str, int], NamespaceChain] = {}
        self._failing = failing

    def save_place(self, issuer: str, project_id: int, place: ProjectPlace) -> None:
        if self._failing:
            raise Unavailable("a place can't be kept")
        known = self.places.get((issuer, project_id))
        if known is None or known.fetched_at <= place.fetched_at:
            self.places[issuer, project_id] = place

    def save_chain(self, issuer: str, chain: NamespaceChain) -> None:
        if self._failing:
            raise Unavailable("a chain can't be kept")
        key = (issuer, chain.members[-1].namespace_id)
        known = self.chains.get(key)
        if known is None or known.fetched_at <= chain.fetched_at:
            self.chains[key] = chain


class FakeGitLab(GitLab):
    """A small GitLab; `failing` names methods that raise Unavailable, `calls` is what was asked."""

    def __init__(
        self, *, groups: Iterable[GitLabGroup] = (), projects: Iterable[GitLabProject] = ()
    ) -> None:
        self.groups = {group.group_id: group for group in groups}
        self.projects = {project.project_id: project for project in projects}
        self.files: dict[int, dict[str, bytes]] = defaultdict(dict)
        self.hidden_files: set[str] = set()
        self.failing: set[str] = set()
        self.calls: list[tuple[str, object]] = []

    def push(self, project_id: int, files: Mapping[str, bytes]) -> str:
        """Replace a project's files; returns the new head."""
        self.files[project_id] = dict(files)
        return self._commit(project_id)

    def project(self, ref: int | str) -> GitLabProject | None:
        self._call("project", ref)
        if isinstance(ref, int):
            return self.projects.get(ref)
        found = (p for p in self.projects.values() if p.path.lower() == ref.lower())
        return next(found, None)

    def group(self, ref: int | str) -> GitLabGroup | None:
        self._call("group", ref)
        if isinstance(ref, int):
            return self.groups.get(ref)
        return next((g for g in self.groups.values() if g.path.lower() == ref.lower()), None)

    def head(self, project_id: int, branch: str) -> str | None:
        self._call("head", project_id)
        return self._commit(project_id) if project_id in self.files else None

    def agent_files(self, project_id: int, commit: str) -> Mapping[str, str]:
        self._call("agent_files", project_id)
        return {
            path: hashlib.sha256(content).hexdigest()
            for path, content in self.files[project_id].items()
            if path.startswith(".gitlab/agents/")
        }

    def raw_file(self, project_id: int, path: str, commit: str) -> bytes | None:
        self._call("raw_file", path)
        content = self.files[project_id].get(path)
        if content is None or path in self.hidden_files:
            return None
        return content[: FILE_MAX_BYTES + 1]

    def _commit(self, project_id: int) -> str:
        digest = hashlib.sha256()
        for path, content in sorted(self.files[project_id].items()):
            digest.update(path.encode() + b"\0" + content + b"\0")
        return digest.hexdigest()[:40]

    def _call(self, method: str, argument: object) -> None:
        self.calls.append((method, argument))
        if method in self.failing:
            raise Unavailable(f"GitLab answered 500 to {method}")


class FakeRefreshStore(RefreshStore, ConfigProjects):
    """A refresh's items; `writes` names every write that took effect, in order."""

    def __init__(self) -> None:
        self.config_projects: dict[tuple[str, int], ConfigProjectItem] = {}
        self.clusters: dict[tuple[str, int], ClusterConnection] = {}
        self.snapshots: dict[tuple[str, int], AgentSnapshot] = {}
        self.index: dict[tuple[str, Subject], dict[int, int]] = defaultdict(dict)
        self.writes: list[str] = []

    def all(self) -> Iterator[tuple[str, int]]:
        yield from self.config_projects

    def config_project(self, issuer: str, project_id: int) -> ConfigProjectItem | None:
        return self.config_projects.get((issuer, project_id))

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None:
        return self.clusters.get((issuer, agent_id))

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None:
        return self.snapshots.get((issuer, agent_id))

    def add_to_index(self, subjects: Iterable[Subject], snapshot: AgentSnapshot) -> None:
        for subject in subjects:
            stamps = self.index[snapshot.issuer, subject]
            if stamps.get(snapshot.agent_id, -1) < snapshot.version:
                stamps[snapshot.agent_id] = snapshot.version
                self.writes.append(f"add {subject.kind} {subject.id}")

    def publish(self, snapshot: AgentSnapshot, *, replaces: int | None) -> None:
        key = (snapshot.issuer, snapshot.agent_id)
        stored = self.snapshots.get(key)
        if (None if stored is None else stored.version) != replaces:
            raise Conflict("another refresh has published this agent meanwhile")
        self.snapshots[key] = snapshot
        self.writes.append(f"publish {snapshot.agent_id} v{snapshot.version}")

    def remove_from_index(self, subjects: Iterable[Subject], snapshot: AgentSnapshot) -> None:
        for subject in subjects:
            stamps = self.index[snapshot.issuer, subject]
            if stamps.get(snapshot.agent_id, snapshot.version + 1) <= snapshot.version:
                del stamps[snapshot.agent_id]
                self.writes.append(f"remove {subject.kind} {subject.id}")

    def note_refresh(
        self,
        issuer: str,
        project_id: int,
        *,
        root_path: str | None,
        commit: str | None,
        error: str | None,
        at: float,
    ) -> None:
        known = self.config_projects.get((issuer, project_id))
        if known is None:
            return
        self.config_projects[issuer, project_id] = ConfigProjectItem(
            issuer=issuer,
            project_id=project_id,
            agents=known.agents,
            root_path=root_path,
            last_commit=commit,
            last_error=error,
            last_at=at,
        )
        self.writes.append(f"note {error or 'good'}")

    def agents_of(self, issuer: str, subject: Subject) -> frozenset[int]:
        """The agents that the index leads to from a subject."""
        return frozenset(self.index[issuer, subject])


class FakeRefreshQueue(RefreshQueue):
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.refreshes: list[tuple[str, int, str | None]] = []
        self.job_ends: list[tuple[str, int, JobState, str | None]] = []

    def send(self, issuer: str, project_id: int, *, deduplication_id: str | None) -> None:
        self.refreshes.append((issuer, project_id, deduplication_id))

    def send_job_end(
        self, issuer: str, job_id: int, state: JobState, *, deduplication_id: str | None
    ) -> None:
        self.job_ends.append((issuer, job_id, state, deduplication_id))


class FakeJobStates(JobStates):
    """Job states; a terminal one stays."""

    def __init__(self, *, failing: bool = False) -> None:
        self.states: dict[tuple[str, int], JobState] = {}
        self.failing = failing

    def put(self, issuer: str, job_id: int, state: JobState) -> bool:
        if self.failing:
            raise Unavailable("a job's state can't be written")
        known = self.states.get((issuer, job_id))
        if known is not None and known.finished:
            return False
        self.states[issuer, job_id] = state
        return True
