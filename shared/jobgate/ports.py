"""What the flows need from outside. Adapters and fakes inherit their protocol explicitly.

Every method may raise `Unavailable`: the outside system didn't answer. Absent is None or an empty
collection, and never stands for "couldn't be asked".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from jobgate.core.access_token import AccessToken
    from jobgate.core.agent import (
        AgentSnapshot,
        ClusterConnection,
        ClusterCredential,
        ConfigProject,
        Credential,
    )
    from jobgate.core.agent_folder import TreeEntry
    from jobgate.core.bound_token import BoundToken
    from jobgate.core.cluster_credential import BearerToken, ClientCertificate, ClusterSecret
    from jobgate.core.commit_status import CommitStatus
    from jobgate.core.gitlab_token import TokenEnd
    from jobgate.core.hook import HookMade, HookScope
    from jobgate.core.issuer import Issuer
    from jobgate.core.job import JobIdentity, JobKey, VerifiedJob
    from jobgate.core.keys import PublicKey
    from jobgate.core.liveness import JobLife, JobState, Stop
    from jobgate.core.namespace import NamespaceChain, ProjectPlace, Surroundings
    from jobgate.core.upstream_request import UpstreamRequest
    from jobgate.core.webhook import HookSecrets
    from jobgate.core.webhook_event import JobSeen

Clock = Callable[[], float]
"""Seconds since the epoch."""


class Recorder(Protocol):
    """Where the records go, one line each."""

    def __call__(self, line: str, /) -> None: ...


# --- What the deployment says of itself: read at INIT, then every ISSUERS_MAX_AGE ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The deployment's settings.

    `base_url` has no closing slash and is None before the first set-up; `ca` is the PEM text of a
    private authority for it, None where its certificate is publicly trusted. `not_before` (epoch
    seconds): no token that was issued earlier is good, since nobody knows what became of its job;
    None: any may be.
    """

    base_url: str | None
    ca: str | None
    issuers: Mapping[str, Issuer]  # by alias
    keys: tuple[PublicKey, ...]
    not_before: int | None
    roots: frozenset[tuple[str, str]]  # (alias, lower-cased root path) of configuration projects


class DeploymentStore(Protocol):
    """The items that only the operators' command writes, and the known roots."""

    def deployment(self) -> Deployment: ...


# --- Exchange ---


class TokenVerifier(Protocol):
    """The only source of a `JobIdentity` in production."""

    def verify(self, subject_token: str) -> VerifiedJob:
        """Raises InvalidToken, or Unavailable where the issuer's keys can't be had."""
        ...


class TokenSigner(Protocol):
    """Signs access tokens with the key that is due."""

    def sign(self, claims: Mapping[str, object]) -> str:
        """The token in compact form (RFC 7515, 3.1)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeFacts:
    """What is stored about a job at its exchange. `stops` of None: the item is missing."""

    project_agents: frozenset[int]
    place: ProjectPlace | None
    chain: NamespaceChain | None
    state: JobLife
    stops: tuple[Stop, ...] | None


class ExchangeStore(Protocol):
    """The exchange's reads, each at most one round trip for up to a hundred agents."""

    def exchange_facts(self, job: JobIdentity) -> ExchangeFacts: ...

    def agents_of_groups(self, issuer: str, group_ids: Sequence[int]) -> frozenset[int]:
        """The agents that may concern these groups or the whole instance."""
        ...

    def snapshots(
        self, issuer: str, agent_ids: Iterable[int]
    ) -> Mapping[int, AgentSnapshot | None]:
        """By agent id; an agent without one is left out, and one that can't be read is None.

        So one agent's snapshot, which others write, never takes the other agents away.
        """
        ...


class ExchangeCounter(Protocol):
    """Counts what a project asks of the exchange, for all functions together."""

    def count(
        self, issuer: str, project_id: int, *, window: int, limit: int, ends_at: float
    ) -> bool:
        """Count one request in a window that ends at `ends_at`; false at the limit."""
        ...


class RedeemedTokens(Protocol):
    """The ID tokens that were redeemed, of issuers whose tokens are good once."""

    def claim(self, issuer: str, jti: str, *, expires_at: float) -> bool:
        """Take a token for the caller alone; false where it was taken before.

        Kept beyond `expires_at`, from which on nobody accepts the token.
        """
        ...


class PlaceStore(Protocol):
    """Keeps what GitLab said of where things are."""

    def places(self, issuer: str, project_ids: Sequence[int]) -> Mapping[int, ProjectPlace]:
        """By project id; one that isn't stored, or can't be read, is left out."""
        ...

    def save_place(self, issuer: str, project_id: int, place: ProjectPlace) -> None: ...

    def save_chain(self, issuer: str, chain: NamespaceChain) -> None: ...


class PlaceMarks(Protocol):
    """What a webhook sees of where things are, and how it takes that away."""

    def is_config_project(self, issuer: str, project_id: int) -> bool: ...

    def place(self, issuer: str, project_id: int) -> ProjectPlace | None: ...

    def chain(self, issuer: str, namespace_id: int) -> NamespaceChain | None: ...

    def mark_place(self, issuer: str, project_id: int, *, at: float) -> None:
        """Let nothing that was fetched until `at` count; makes no item."""
        ...

    def mark_chain(self, issuer: str, namespace_id: int, *, at: float) -> None:
        """The same of a namespace's chain."""
        ...


class JobLookup(Protocol):
    """What one request finds out about its job, in the table and lazily from GitLab.

    LAZY_BUDGET bounds all that it asks of GitLab. What can't be found out in time stays as it was
    stored, or unknown; only the table can make these raise.
    """

    def project_runs_job(self) -> bool:
        """Whether GitLab confirms that the job's project is the one that runs it."""
        ...

    def surroundings(
        self, place: ProjectPlace | None, chain: NamespaceChain | None
    ) -> Surroundings:
        """Where the job's project is now, without configuration projects."""
        ...

    def config_places(self, agents: Iterable[AgentSnapshot]) -> Mapping[int, ProjectPlace]:
        """Where these agents' configuration projects are now, by id; an unknown one is left out."""
        ...

    def environment_slug(self) -> str | None:
        """The slug of the job's environment, None where it isn't needed or can't be had."""
        ...

    def life(self, stored: JobLife) -> JobLife:
        """What is known of the job's life once GitLab was asked, where that is due."""
        ...


class Lookups(Protocol):
    """Begins a request's lookups."""

    def of(self, job: JobIdentity) -> JobLookup: ...


# --- Relay ---


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFacts:
    """What is stored about a job and the agent that it asks for.

    `stops_read_at` (epoch seconds) is when the stops were read, None for now, like the rest.
    """

    snapshot: AgentSnapshot | None
    cluster: ClusterConnection | None
    place: ProjectPlace | None
    chain: NamespaceChain | None
    state: JobLife
    stops: tuple[Stop, ...] | None
    stops_read_at: float | None = None


class RelayStore(Protocol):
    """The relay's reads, in one round trip."""

    def relay_facts(self, job: JobIdentity, agent_id: int) -> RelayFacts: ...


class AccessTokenVerifier(Protocol):
    """Checks our own tokens, without a call."""

    def verify(self, access_token: str) -> AccessToken:
        """Raises InvalidToken."""
        ...

    def check(self, token: str) -> tuple[str, int]:
        """The issuer's alias and the agent of an operator's check; raises InvalidToken."""
        ...


class ClusterSecrets(Protocol):
    """The credentials that registration put into the secrets' store."""

    def fetch(self, credential: ClusterCredential) -> ClusterSecret: ...

    def renewed(
        self, credential: ClusterCredential, *, refused: ClusterSecret
    ) -> ClusterSecret | None:
        """Read it anew, since a cluster refused it; None where there is no other yet.

        Not more often than every few seconds, so that no caller can make us ask on and on.
        """
        ...


class UpstreamResponse(Protocol):
    """The head of a cluster's answer, and the way to its body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None  # the body's bytes, where they are known beforehand
    connect_seconds: float

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, never decoded.

        The first item never waits, and no wait is longer than half a second: an empty item means
        that nothing has come yet. Raises Unavailable where the body breaks off.
        """
        ...

    def close(self) -> None:
        """Let go of an answer, read to its end or not."""
        ...


class ClusterGateway(Protocol):
    """Sends requests to the clusters' API servers."""

    def send(
        self,
        cluster: ClusterConnection,
        request: UpstreamRequest,
        *,
        certificate: ClientCertificate | None,
        deadline: float,
        meanwhile: Callable[[], None],
    ) -> UpstreamResponse:
        """Send a request, and never twice what may change something; `deadline` in epoch seconds.

        While it's taken and the head of the answer is awaited, `meanwhile` is called every half
        second; what it raises ends the wait and the connection. Raises Unanswered (TimedOut among
        them) where it was sent and no head came, OutOfTime and Unavailable where nothing was.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a streaming handler answers. Of `body` the same holds as of `UpstreamResponse.chunks`.

    An exception out of `body` breaks the stream visibly, where its end would look like success. A
    body without a single byte gets a line feed, unless the status is 204 or 304: no other empty
    answer is carried by every front.
    With a `length`, the body's bytes, nothing waits behind the last one, so that the end travels
    with it.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: Iterator[bytes]
    length: int | None = None


# --- Refresh ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProjectItem:
    """A configuration project as stored: its agents (id to name) and its last refresh.

    `last_note` is a sentence for people about what has no effect, and no error. `reading` counts
    the readings of a new head that have begun: the newest alone may publish. `finished` is the last
    one that came to its end. `done` are the agents that a round of several tries, which isn't at
    its end yet, has been through.
    """

    issuer: str
    project_id: int
    agents: Mapping[int, str]
    root_path: str | None = None
    last_commit: str | None = None
    last_error: str | None = None
    last_note: str | None = None
    last_at: float | None = None
    reading: int = 0
    finished: int = 0
    done: frozenset[int] = frozenset()


class RefreshStore(Protocol):
    """Reads and writes of a refresh."""

    def config_project(self, issuer: str, project_id: int) -> ConfigProjectItem | None: ...

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None: ...

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None: ...

    def begin_reading(self, issuer: str, project_id: int, *, after: int) -> int:
        """Begin the reading after reading `after`; raises Conflict where another one has begun.

        From then on no older reading publishes: what it read may be older than what is there now.
        """
        ...

    def add_to_index(self, named: IndexChange) -> None:
        """Stamp each agent with its snapshot's version in the subject's item, unless newer.

        The subjects are put into the agent's list before.
        """
        ...

    def indexed(
        self, issuer: str, subjects: Collection[Subject]
    ) -> Mapping[Subject, Mapping[int, int]]:
        """The agents that the index leads to from each of these, with their stamps."""
        ...

    def listed(self, issuer: str, agent_ids: Iterable[int]) -> Mapping[int, frozenset[Subject]]:
        """By agent: every subject that may lead to it, those that it was taken out of included."""
        ...

    def unlist(
        self, snapshot: AgentSnapshot, subjects: Collection[Subject], *, reading: int | None = None
    ) -> None:
        """Take subjects out of an agent's list, unless a newer snapshot has added any.

        Raises Conflict where `reading`, if it's given, isn't the newest any more.
        """
        ...

    def publish(self, snapshot: AgentSnapshot, *, replaces: int | None, reading: int = 0) -> None:
        """Replace the snapshot of version `replaces` (None: the first).

        Raises Conflict where another version is there, `reading` isn't the newest any more, or the
        agent was removed since it began.
        """
        ...

    def remove_from_index(self, gone: IndexChange, *, reading: int | None = None) -> None:
        """Take each agent out where its stamp is no newer than its snapshot's version.

        Raises Conflict where `reading`, if it's given, isn't the newest any more: then some may be
        out and others not.
        """
        ...

    def note_doubt(self, snapshot: AgentSnapshot, *, since: float | None) -> None:
        """Write since when this very version isn't confirmed by GitLab; None: it is again."""
        ...

    def note_refresh(  # noqa: PLR0913  one argument for each attribute that it writes
        self,
        issuer: str,
        project_id: int,
        *,
        root_path: str | None,
        commit: str | None,
        error: str | None,
        at: float,
        note: str | None = None,
        reading: int = 0,
        finished: int = 0,
        done: Collection[int] = (),
    ) -> None:
        """Write what the refresh of a configuration project came to, unless a newer one reads."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """Who an entry is about: `kind` is project, group or instance; the instance's id is 0."""

    kind: str
    id: int


IndexChange = Mapping[Subject, Sequence["AgentSnapshot"]]
"""For each subject the agents to add or to take out, each by its snapshot's version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLabProject:
    """A project as GitLab's API gives it. `default_branch` is None in an empty repository."""

    project_id: int
    path: str
    default_branch: str | None
    namespace_id: int
    namespace_path: str
    namespace_kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLabGroup:
    """A group as GitLab's API gives it."""

    group_id: int
    path: str
    parent_id: int | None


class GitLab(Protocol):
    """GitLab's REST API, read only. None is GitLab's own "not found"; all else raises."""

    def project(self, ref: int | str) -> GitLabProject | None:
        """By id or by full path; a path that was renamed away is not found."""
        ...

    def group(self, ref: int | str) -> GitLabGroup | None:
        """By id or by full path."""
        ...

    def projects_below(self, group_id: int) -> Mapping[str, GitLabProject]:
        """Every project in a group's tree, by lower-cased full path."""
        ...

    def groups_below(self, group_id: int) -> Mapping[str, GitLabGroup]:
        """Every group below a group, by lower-cased full path."""
        ...

    def head(self, project_id: int, branch: str) -> str | None:
        """The commit at a branch's head."""
        ...

    def agent_files(self, project_id: int, commit: str) -> Mapping[str, TreeEntry]:
        """Every path below `.gitlab/agents` at a commit, folders included."""
        ...

    def raw_file(self, project_id: int, path: str, commit: str) -> bytes | None:
        """A file's content at a commit, cut one byte above the largest configuration."""
        ...


class GitLabOfJobs(GitLab, Protocol):
    """What GitLab is asked about a running job beside where its project is."""

    def job_status(self, project_id: int, job_id: int) -> str | None:
        """The status of a job of this project, None where GitLab shows us no such job."""
        ...

    def environment_slug(self, project_id: int, name: str) -> str | None:
        """The slug of a project's environment."""
        ...


class CommitStatuses(Protocol):
    """Tells who has pushed, beside the commit, what their configuration came to."""

    def post(self, issuer: str, project: ConfigProject, commit: str, status: CommitStatus) -> None:
        """Never raises: a status decides nothing."""
        ...


class HooksOf(Protocol):
    """An issuer's webhooks by its alias."""

    def __call__(
        self, alias: str, project_id: int | None, /, *, fresh: bool
    ) -> Iterable[HookSecrets]:
        """`fresh` asks for secrets that were stored a few seconds ago.

        `project_id` adds the webhook that was made for this project's jobs, if it was.
        """
        ...


class HookSightings(Protocol):
    """Remembers that a webhook delivers, for people who ask whether it does."""

    def note(self, issuer: str, hook: HookSecrets, *, at: float) -> None:
        """Never raises, and may leave out what says nothing new: a sighting decides nothing."""
        ...


class RefreshQueue(Protocol):
    """The queue of configuration projects to refresh, in order for each project."""

    def send(self, issuer: str, project_id: int, *, deduplication_id: str | None) -> None: ...

    def send_job(
        self,
        issuer: str,
        event: JobSeen,
        scope: HookScope | None,
        *,
        deduplication_id: str | None,
    ) -> None:
        """Hand over what a webhook said of a job, where it couldn't be judged or written."""
        ...


class TokenEnds(Protocol):
    """Remembers until when GitLab's run-time tokens are good."""

    def token_end(self, issuer: str) -> TokenEnd | None: ...

    def note_token_end(self, issuer: str, end: TokenEnd) -> None: ...


class ConfigProjects(Protocol):
    """The configuration projects of all issuers."""

    def all(self) -> Iterable[tuple[str, int]]:
        """Issuer alias and project id of each."""
        ...


# --- Webhooks for the ends of authorised projects' jobs ---


class AgentSnapshots(Protocol):
    """The agents of all issuers, and what their configurations grant."""

    def agents(self) -> Iterable[tuple[str, int]]:
        """Issuer alias and id of each agent that a configuration project lists.

        Raises Unavailable where a project can't be read, after the agents of all others.
        """
        ...

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None: ...


class ProjectHooks(Protocol):
    """This deployment's webhooks of an issuer's projects, in GitLab; raises Unavailable.

    `formerly` is the address that a project's webhook was given last, where that's known.
    """

    @property
    def address(self) -> str:
        """The webhooks' URL without the query."""
        ...

    def write(
        self, project_id: int, secrets: HookSecrets, *, formerly: str | None
    ) -> tuple[int, bool]:
        """Make the project's webhook, or give the one that is there these secrets.

        Returns its id, and whether it's new. Raises Unanswered where it may have been done.
        """
        ...

    def remove(self, project_id: int, *, formerly: str | None) -> None: ...

    def is_archived(self, project_id: int) -> bool: ...

    def active_projects_below(self, group_id: int) -> Iterable[int]:
        """All of them; raises NotForUs where GitLab shows no such group."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHooks:
    """An issuer whose authorised projects have webhooks.

    `shared` is what their secrets are made from, and `newest` reads the id of what that is now;
    `others` are projects with a webhook of their own.
    """

    issuer: str
    gitlab: ProjectHooks
    shared: HookSecrets
    newest: Callable[[], str | None]
    others: frozenset[int]


class KeptIssuers(Protocol):
    """The issuers whose authorised projects' webhooks are kept by the schedule."""

    def aliases(self) -> Sequence[str]: ...

    def kept(self, alias: str, *, seconds: float) -> KeptHooks | None:
        """One of them with so much time for GitLab; None where it has nothing to be kept."""
        ...


class MadeHooks(Protocol):
    """Remembers which projects were given a webhook."""

    def made(self, issuer: str) -> Mapping[int, HookMade]:
        """By project id; what was noted before is in it."""
        ...

    def note(self, issuer: str, project_id: int, made: HookMade) -> None:
        """Raises Conflict where its revision isn't the one after what is there."""
        ...

    def forget(self, issuer: str, project_id: int) -> None: ...


# --- Renewal of the clusters' tokens ---


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential:
    """A cluster's credential with the version of the secret that it was read from."""

    credential: Credential
    secret: ClusterSecret
    version: str


class AgentConnections(Protocol):
    """The agents of all issuers, and where their clusters are."""

    def agents(self) -> Iterable[tuple[str, int]]:
        """Issuer alias and id of each agent that a configuration project lists.

        Raises Unavailable where a project can't be read, after the agents of all others.
        """
        ...

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None: ...


class StoredCredentials(Protocol):
    """The clusters' stored credentials, to renew them."""

    def read(self, credential: Credential) -> StoredCredential: ...

    def replace(self, stored: StoredCredential, *, by: BearerToken) -> None:
        """Make `by` the current version; raises Conflict where `stored` isn't that any more."""
        ...


class TokenRequests(Protocol):
    """Asks a cluster for tokens."""

    def another(self, cluster: ClusterConnection, token: BoundToken, *, by: ClusterSecret) -> str:
        """A new token like `token`, asked for by the bearer of `by`.

        Raises NotForUs where the cluster refuses that, Unavailable where it can't be asked.
        """
        ...


class JobStates(Protocol):
    """What is stored of jobs' lives, for JOB_KEPT."""

    def put(self, job: JobKey, word: JobState) -> bool:
        """Write what was heard unless the stored state is terminal; false where it was."""
        ...

    def get(self, job: JobKey) -> JobLife:
        """All that is known; read consistently."""
        ...

    def ask(self, job: JobKey, *, now: float) -> bool:
        """Note that GitLab is asked now; false where somebody asked within PROBE_FLOOR.

        False also for a job that has ended.
        """
        ...
