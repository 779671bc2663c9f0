"""Values with sensible defaults: each test names only what its claim is about.

The defaults live in one small instance: group `top`(1) with `top/sub1`(2), project `top/sub1/app`
(100) that runs the job, configuration project `top/sub1/agents`(50) with the agent `prod`(501).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.core.access_token import AccessToken
from jobgate.core.agent import (
    AgentSnapshot,
    AsAgent,
    ClusterConnection,
    ConfigProject,
    Credential,
    Entry,
)
from jobgate.core.authorization import Grant, Rule
from jobgate.core.issuer import Issuer
from jobgate.core.job import JobIdentity, VerifiedJob
from jobgate.core.keys import PublicKey
from jobgate.core.liveness import NOTHING_HEARD, JobLife, JobState, Stop, StopKind
from jobgate.core.namespace import Namespace, NamespaceChain, ProjectPlace, Surroundings
from jobgate.core.snapshot import SnapshotHead, Target
from jobgate.ports import Deployment
from jobgate.ports.exchange import ExchangeFacts
from jobgate.ports.refresh import ConfigProjectItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    from jobgate.core.agent import AccessAs, Problem

NOW = 1_790_000_000.0
ISSUER_URL = "https://gitlab.example.test"
BASE_URL = "https://jobgate.example.test"
AUDIENCE = "https://jobgate.example.test"
COMMIT = "2" * 40

TOP, SUB1, OTHER_ROOT, USER_NAMESPACE = 1, 2, 9, 700
APP, CONFIG_PROJECT = 100, 50
PROD, STAGING = 501, 502


def a_job(
    *,
    issuer: str = "main",
    job_id: int = 9001,
    project_id: int = APP,
    project_path: str = "top/sub1/app",
    namespace_id: int = SUB1,
    pipeline_id: int = 7001,
    pipeline_source: str = "push",
    user_id: int | None = 12,
    user_login: str = "dana",
    runner_id: int | None = 33,
    ref: str = "main",
    ref_protected: bool = True,
    environment: str | None = None,
    tier: str | None = None,
    environment_slug: str | None = None,
) -> JobIdentity:
    return JobIdentity(
        issuer=issuer,
        job_id=job_id,
        project_id=project_id,
        project_path=project_path,
        namespace_id=namespace_id,
        pipeline_id=pipeline_id,
        pipeline_source=pipeline_source,
        user_id=user_id,
        user_login=user_login,
        runner_id=runner_id,
        ref=ref,
        ref_protected=ref_protected,
        environment=environment,
        tier=tier,
        environment_slug=environment_slug,
    )


def a_verified_job(
    job: JobIdentity | None = None,
    *,
    jti: str = "6f7d3c0e-7c7a-4a6e-9a0e-3f7f6f0f7a11",
    issued_at: int = int(NOW),
    expires_at: int = int(NOW) + 3600,
    project_is_certain: bool = True,
    is_of_fork: bool = False,
) -> VerifiedJob:
    return VerifiedJob(
        job=job or a_job(),
        jti=jti,
        issued_at=issued_at,
        expires_at=expires_at,
        project_is_certain=project_is_certain,
        is_of_fork=is_of_fork,
    )


def an_entry(
    path: str = "top/sub1/app",
    *,
    access_as: AccessAs | None = None,
    namespace: str | None = None,
    environments: Sequence[str] = (),
    protected_only: bool = False,
) -> Entry:
    """An entry that isn't refused; `dataclasses.replace(…, refused=…)` makes one that is."""
    return Entry(
        path=path,
        access_as=access_as or AsAgent(),
        default_namespace=namespace,
        environments=tuple(environments),
        protected_branches_only=protected_only,
    )


def a_config_project(
    project_id: int = CONFIG_PROJECT,
    *,
    path: str = "top/sub1/agents",
    namespace_id: int = SUB1,
    root_id: int = TOP,
) -> ConfigProject:
    return ConfigProject(
        project_id=project_id, path=path, namespace_id=namespace_id, root_id=root_id
    )


def an_agent(
    agent_id: int = PROD,
    *,
    issuer: str = "main",
    name: str = "prod",
    version: int = 1,
    commit: str = COMMIT,
    valid: bool = True,
    config_project: ConfigProject | None = None,
    projects: Mapping[int, Entry] | None = None,
    groups: Mapping[int, Entry] | None = None,
    instance: Entry | None = None,
    problems: Sequence[Problem] = (),
    valid_since: float | None = None,
    doubt_since: float | None = None,
    blob: str | None = None,
) -> AgentSnapshot:
    return AgentSnapshot(
        issuer=issuer,
        agent_id=agent_id,
        agent_name=name,
        version=version,
        commit=commit,
        valid=valid,
        config_project=config_project or a_config_project(),
        projects=dict(projects or {}),
        groups=dict(groups or {}),
        instance=instance,
        problems=tuple(problems),
        valid_since=valid_since,
        doubt_since=doubt_since,
        blob=blob,
    )


def a_chain(
    *members: tuple[int, str],
    kind: Literal["group", "user"] = "group",
    fetched_at: float = NOW,
) -> NamespaceChain:
    """A chain, root first; `top`(1) and `top/sub1`(2) where no members are given."""
    given = members or ((TOP, "top"), (SUB1, "top/sub1"))
    return NamespaceChain(
        kind=kind,
        members=tuple(Namespace(namespace_id=i, path=path) for i, path in given),
        fetched_at=fetched_at,
    )


def a_place(
    *,
    namespace_id: int = SUB1,
    path: str = "top/sub1/app",
    root_id: int = TOP,
    fetched_at: float = NOW,
) -> ProjectPlace:
    return ProjectPlace(
        namespace_id=namespace_id, path=path, root_id=root_id, fetched_at=fetched_at
    )


def known_surroundings(*, fetched_at: float = NOW) -> Surroundings:
    """Where the default job and the default configuration project are, just fetched."""
    return Surroundings(
        place=a_place(fetched_at=fetched_at),
        chain=a_chain(fetched_at=fetched_at),
        config_places={CONFIG_PROJECT: a_config_place(fetched_at=fetched_at)},
    )


def a_config_place(*, root_id: int = TOP, fetched_at: float = NOW) -> ProjectPlace:
    """Where the default configuration project is."""
    return a_place(path="top/sub1/agents", root_id=root_id, fetched_at=fetched_at)


def a_grant(
    agent_id: int = PROD,
    *,
    name: str = "prod",
    context: str = "top/sub1/agents:prod",
    config_project_id: int = CONFIG_PROJECT,
    rule: Rule | None = None,
    access_as: AccessAs | None = None,
    namespace: str | None = None,
) -> Grant:
    return Grant(
        agent_id=agent_id,
        agent_name=name,
        context=context,
        config_project_id=config_project_id,
        config_commit=COMMIT,
        rule=rule or Rule(kind="project", id=APP, path="top/sub1/app"),
        access_as=access_as or AsAgent(),
        namespace=namespace,
    )


def an_issuer(
    alias: str = "main",
    *,
    url: str = ISSUER_URL,
    base_url: str | None = None,
    audience: str = AUDIENCE,
    ca: str | None = None,
    is_default: bool = True,
    single_use: bool = False,
) -> Issuer:
    return Issuer(
        alias=alias,
        url=url,
        base_url=base_url or url,
        audience=audience,
        ca=ca,
        is_default=is_default,
        single_use=single_use,
    )


def a_public_key(
    kid: str = "key-1",
    *,
    slot: str = "arn:aws:kms:eu-central-1:000000000000:key/slot-1",
    jwk: Mapping[str, str] | None = None,
    not_before: float = NOW - 1000,
    retire_after: float | None = None,
) -> PublicKey:
    return PublicKey(
        kid=kid,
        slot=slot,
        jwk=dict(jwk or {"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ"}),
        not_before=not_before,
        retire_after=retire_after,
    )


def a_deployment(
    *issuers: Issuer,
    base_url: str | None = BASE_URL,
    ca: str | None = None,
    keys: Iterable[PublicKey] = (),
    not_before: int | None = None,
    roots: Iterable[tuple[str, str]] = (("main", "top"),),
) -> Deployment:
    given = issuers or (an_issuer(),)
    return Deployment(
        base_url=base_url,
        ca=ca,
        issuers={issuer.alias: issuer for issuer in given},
        keys=tuple(keys),
        not_before=not_before,
        roots=frozenset(roots),
    )


def a_state(
    status: str = "running",
    *,
    source: Literal["hook", "probe"] = "hook",
    seen_at: float = NOW,
    finished_at: float | None = None,
) -> JobState:
    return JobState(status=status, source=source, seen_at=seen_at, finished_at=finished_at)


def a_life(*words: JobState) -> JobLife:
    """What is known of a job after these words; nothing was asked."""
    life = NOTHING_HEARD
    for word in words:
        life = life.after(word)
    return life


def a_stop(kind: StopKind, value: str | int = "*", *, until: float | None = None) -> Stop:
    return Stop(kind=kind, value=str(value), until=until, by="olga", why="incident 7")


def some_facts(
    *,
    project_agents: Iterable[int] = (PROD,),
    place: ProjectPlace | None = None,
    chain: NamespaceChain | None = None,
    state: JobState | JobLife | None = None,
    stops: tuple[Stop, ...] | None = (),
) -> ExchangeFacts:
    words = (state,) if isinstance(state, JobState) else ()
    return ExchangeFacts(
        project_agents=frozenset(project_agents),
        place=place or a_place(),
        chain=chain or a_chain(),
        state=state if isinstance(state, JobLife) else a_life(*words),
        stops=stops,
    )


def an_access_token(
    job: JobIdentity | None = None,
    *,
    agent_id: int | None = None,
    expires_at: int = int(NOW) + 900,
) -> AccessToken:
    return AccessToken(
        job=job or a_job(),
        decision_id="decision-1",
        jti="jti-1",
        expires_at=expires_at,
        agent_id=agent_id,
    )


def a_cluster(
    agent_id: int = PROD,
    *,
    issuer: str = "main",
    name: str = "prod",
    config_project_id: int = CONFIG_PROJECT,
    ca: str | None = "-----BEGIN CERTIFICATE-----\n",
    agent_credential: Credential | None = None,
) -> ClusterConnection:
    return ClusterConnection(
        issuer=issuer,
        agent_id=agent_id,
        agent_name=name,
        config_project_id=config_project_id,
        server="https://cluster.example.test:6443",
        ca=ca,
        relay_credential=Credential(kind="token", secret="arn:relay"),
        agent_credential=agent_credential,
    )


def a_config_project_item(
    agents: Mapping[int, str] | None = None,
    *,
    issuer: str = "main",
    project_id: int = CONFIG_PROJECT,
    root_path: str | None = None,
    last_commit: str | None = None,
    last_error: str | None = None,
    last_note: str | None = None,
    last_at: float | None = None,
    reading: int = 0,
    finished: int = 0,
    done: Iterable[int] = (),
) -> ConfigProjectItem:
    return ConfigProjectItem(
        issuer=issuer,
        project_id=project_id,
        agents=dict(agents or {PROD: "prod"}),
        root_path=root_path,
        last_commit=last_commit,
        last_error=last_error,
        last_note=last_note,
        last_at=last_at,
        reading=reading,
        finished=finished,
        done=frozenset(done),
    )


def a_target(target_id: int, path: str, *, root_id: int = TOP) -> Target:
    return Target(id=target_id, path=path, root_id=root_id)


def a_snapshot_head(
    *,
    version: int = 1,
    commit: str = COMMIT,
    config_project: ConfigProject | None = None,
    at: float = NOW,
) -> SnapshotHead:
    return SnapshotHead(
        issuer="main",
        agent_id=PROD,
        agent_name="prod",
        version=version,
        commit=commit,
        config_project=config_project or a_config_project(),
        file=".gitlab/agents/prod/config.yaml",
        at=at,
    )
