"""Builders and fakes for the relay: values with sensible defaults, ports kept in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jobgate.core.access_token import AccessToken
from jobgate.core.agent import (
    AgentSnapshot,
    AsAgent,
    AsCIJob,
    AsIdentity,
    ClusterConnection,
    ConfigProject,
    Credential,
    Entry,
)
from jobgate.core.authorization import Grant, Rule
from jobgate.core.bounds import Bounds
from jobgate.core.cluster_credential import BearerToken
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.issuer import Issuer
from jobgate.core.job import JobIdentity
from jobgate.core.liveness import JobLife
from jobgate.core.namespace import Namespace, NamespaceChain, ProjectPlace, Surroundings
from jobgate.core.settings import Settings
from jobgate.core.upstream_request import IncomingRequest
from jobgate.ports import Deployment
from jobgate.ports.lookups import JobLookup, Lookups
from jobgate.ports.relay import (
    AccessTokenVerifier,
    ClusterGateway,
    ClusterSecrets,
    RelayFacts,
    RelayStore,
    UpstreamResponse,
)
from jobgate.usecases.admission import Admission
from jobgate.usecases.forwarding import Forwarding
from jobgate.usecases.relay import Relay
from jobgate.usecases.relay_facts import RelayFactsCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jobgate.core.agent import AccessAs, ClusterCredential
    from jobgate.core.cluster_credential import ClientCertificate, ClusterSecret
    from jobgate.core.upstream_request import UpstreamRequest

NOW = 1_800_000_000.0
AGENT = 1_000_000_001
RELAY_SECRET = Credential(kind="token", secret="arn:relay")
AGENT_SECRET = Credential(kind="token", secret="arn:agent")
ISSUER = Issuer(
    alias="main",
    url="https://gitlab.test",
    base_url="https://gitlab.test",
    audience="https://jobgate.test",
    ca=None,
    is_default=True,
)


def a_job(**changes: Any) -> JobIdentity:
    job = JobIdentity(
        issuer="main",
        job_id=42,
        project_id=150,
        project_path="top/sub/app",
        namespace_id=25,
        pipeline_id=7,
        pipeline_source="push",
        user_id=12,
        user_login="dana",
        runner_id=3,
        ref="main",
        ref_protected=True,
    )
    return replace(job, **changes)


def a_cluster(**changes: Any) -> ClusterConnection:
    cluster = ClusterConnection(
        issuer="main",
        agent_id=AGENT,
        agent_name="production",
        config_project_id=5,
        server="https://cluster.test:6443",
        ca=None,
        relay_credential=RELAY_SECRET,
        agent_credential=AGENT_SECRET,
    )
    return replace(cluster, **changes)


def a_snapshot(access_as: AccessAs | None = None, **changes: Any) -> AgentSnapshot:
    snapshot = AgentSnapshot(
        issuer="main",
        agent_id=AGENT,
        agent_name="production",
        version=1,
        commit="c0ffee",
        valid=True,
        config_project=ConfigProject(project_id=5, path="top/agents", namespace_id=23, root_id=23),
        projects={150: Entry(path="top/sub/app", access_as=access_as or AsCIJob())},
        groups={},
    )
    return replace(snapshot, **changes)


def a_grant(access_as: AccessAs) -> Grant:
    return Grant(
        agent_id=AGENT,
        agent_name="production",
        context="top/agents:production",
        config_project_id=5,
        config_commit="c0ffee",
        rule=Rule(kind="project", id=150, path="top/sub/app"),
        access_as=access_as,
        namespace=None,
    )


def a_request(path: str = "/api/v1/pods", **changes: Any) -> IncomingRequest:
    request = IncomingRequest(
        method="GET",
        path=f"/agents/{AGENT}{path}",
        headers=(("Authorization", "Bearer good"),),
    )
    return replace(request, **changes)


def a_place() -> ProjectPlace:
    return ProjectPlace(namespace_id=25, path="top/sub/app", root_id=23, fetched_at=NOW)


def a_chain() -> NamespaceChain:
    return NamespaceChain(
        kind="group",
        members=(
            Namespace(namespace_id=23, path="top"),
            Namespace(namespace_id=25, path="top/sub"),
        ),
        fetched_at=NOW,
    )


def some_facts(**changes: Any) -> RelayFacts:
    facts = RelayFacts(
        snapshot=a_snapshot(),
        cluster=a_cluster(),
        place=a_place(),
        chain=a_chain(),
        state=JobLife(status="running", hook_at=NOW),
        stops=(),
    )
    return replace(facts, **changes)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Tokens(AccessTokenVerifier):
    """`good` and whatever else `known` holds, each until it ends by `clock`, which may be set."""

    def __init__(self) -> None:
        self.known = {"good": a_token()}
        self.clock: Callable[[], float] = lambda: NOW

    def verify(self, access_token: str) -> AccessToken:
        if access_token == "expired":
            raise InvalidToken("expired", expired=True)
        if access_token not in self.known:
            raise InvalidToken("unknown")
        token = self.known[access_token]
        if token.expires_at + Bounds().leeway <= self.clock():
            raise InvalidToken("expired", expired=True)
        return token


def a_token(**changes: Any) -> AccessToken:
    token = AccessToken(job=a_job(), decision_id="d0", jti="j", expires_at=int(NOW) + 600)
    return replace(token, **changes)


class Store(RelayStore, Lookups, JobLookup):
    """One set of facts for everybody, or facts by job id."""

    def __init__(self) -> None:
        self.facts: RelayFacts | Exception = some_facts()
        self.by_job: dict[int, RelayFacts] = {}
        self.config_place: ProjectPlace | None = a_place()
        self.reads = 0

    def relay_facts(self, job: JobIdentity, agent_id: int) -> RelayFacts:
        self.reads += 1
        facts = self.by_job.get(job.job_id, self.facts)
        if isinstance(facts, Exception):
            raise facts
        return facts

    def of(self, job: JobIdentity) -> JobLookup:
        return self

    def surroundings(
        self, place: ProjectPlace | None, chain: NamespaceChain | None
    ) -> Surroundings:
        return Surroundings(place=place, chain=chain)

    def config_places(self, agents: Iterable[AgentSnapshot]) -> Mapping[int, ProjectPlace]:
        place = self.config_place
        return {} if place is None else {a.config_project.project_id: place for a in agents}

    def project_runs_job(self) -> bool:
        raise AssertionError("the relay knows by the access token")

    def environment_slug(self) -> str | None:
        raise AssertionError("the relay knows by the access token")

    def life(self, stored: JobLife) -> JobLife:
        return stored


class Secrets(ClusterSecrets):
    def __init__(self) -> None:
        self.values: Mapping[ClusterCredential, ClusterSecret] = {
            RELAY_SECRET: BearerToken("relay-token"),
            AGENT_SECRET: BearerToken("agent-token"),
        }
        self.newer: dict[ClusterCredential, ClusterSecret] = {}

    def fetch(self, credential: ClusterCredential) -> ClusterSecret:
        if credential not in self.values:
            raise Unavailable("no such secret")
        return self.values[credential]

    def renewed(
        self, credential: ClusterCredential, *, refused: ClusterSecret
    ) -> ClusterSecret | None:
        newer = self.newer.get(credential)
        return None if newer == refused else newer


class Answer(UpstreamResponse):
    def __init__(
        self, status: int, headers: tuple[tuple[str, str], ...], pieces: list[Any]
    ) -> None:
        self.status = status
        self.headers = headers
        self.length: int | None = None
        self.connect_seconds = 0.0
        self.pieces = pieces
        self.closed = False

    def chunks(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed = True


class Clusters(ClusterGateway):
    """Keeps what was sent; answers `answer`, or raises it, once `waiting` has come to its end."""

    def __init__(self) -> None:
        self.sent: list[UpstreamRequest] = []
        self.to: list[ClusterConnection] = []
        self.certificates: list[ClientCertificate | None] = []
        self.deadlines: list[float] = []
        self.answer: Answer | Exception = Answer(
            200, (("Content-Type", "application/json"),), [b"{}"]
        )
        self.waiting: Iterable[None] = ()

    def send(
        self,
        cluster: ClusterConnection,
        request: UpstreamRequest,
        *,
        certificate: ClientCertificate | None,
        deadline: float,
        meanwhile: Callable[[], None],
    ) -> UpstreamResponse:
        if isinstance(self.answer, Exception):
            raise self.answer
        self.sent.append(request)
        self.to.append(cluster)
        self.certificates.append(certificate)
        self.deadlines.append(deadline)
        for _ in self.waiting:
            meanwhile()
        return self.answer


@dataclass
class RelayParts:
    """A relay and the fakes that it's made of."""

    tokens: Tokens = field(default_factory=Tokens)
    store: Store = field(default_factory=Store)
    secrets: Secrets = field(default_factory=Secrets)
    clusters: Any = field(default_factory=Clusters)  # a `Clusters`, or a real `ClusterGateway`
    clock: Clock = field(default_factory=Clock)
    lines: list[str] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    bounds: Bounds = field(default_factory=Bounds)
    deployment: Deployment = field(
        default_factory=lambda: Deployment(
            base_url="https://jobgate.test",
            ca=None,
            issuers={"main": ISSUER},
            keys=(),
            not_before=None,
            roots=frozenset(),
        )
    )

    def relay(self) -> Relay:
        self.tokens.clock = self.clock
        return Relay(
            admission=Admission(
                deployment=lambda: self.deployment,
                verifier=self.tokens,
                facts=RelayFactsCache(self.store, self.store, bounds=self.bounds, clock=self.clock),
                settings=self.settings,
                bounds=self.bounds,
                clock=self.clock,
            ),
            forwarding=Forwarding(
                secrets=self.secrets,
                clusters=self.clusters,
                settings=self.settings,
                clock=self.clock,
            ),
            recorder=self.lines.append,
            clock=self.clock,
        )


AS_AGENT, AS_CI_JOB = AsAgent(), AsCIJob()
AS_IDENTITY = AsIdentity("deployer", "u-1", ("ops", "dev"), (("Team/Name", ("a", "b")),))
