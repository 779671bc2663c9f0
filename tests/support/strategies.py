"""Generated instances, jobs and agents: small ranges of ids, so that they meet; near misses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from jobgate.core.agent import AgentSnapshot, AsAgent, AsCIJob, AsIdentity, Entry, Problem
from jobgate.core.namespace import NamespaceChain, ProjectPlace, Surroundings
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings

from tests.support.builders import NOW, a_chain, a_config_project, a_job, a_place, an_agent

if TYPE_CHECKING:
    from jobgate.core.job import JobIdentity

# What looks like a name, a reserved one, or one that a server would read differently.
NAMES = st.sampled_from(
    ["deployer", "system:masters", "System:masters", " system:masters", "system:masters\n",
     "gitlab:ci_job:1", "gitlab@other:ci_job:1", "acme", "acme-evil", "\u017fystem:masters", "a b",
     "\uff53ystem:masters", "x" * 300, "sys\x00tem:masters", "ü", ""]
)  # fmt: skip
NAMES = st.sampled_from(["deployer", "acme", "a b", "ü"]) | NAMES
ENVIRONMENTS = st.sampled_from(
    ["production", "Production", "production/eu", "review/1", "review/", "not/review/1", "staging"]
)
PATTERNS = st.sampled_from(["production", "review/*", "*", "*/eu", "prod*", "r*w/*", "Production"])
IDS = st.integers(min_value=1, max_value=6)
TIERS = st.sampled_from(["production", "staging", "testing", "development", "other"])

identities = st.builds(
    AsIdentity,
    NAMES,
    uid=st.none() | NAMES,
    groups=st.lists(NAMES, max_size=3).map(tuple),
    extra=st.lists(
        st.tuples(NAMES, st.lists(NAMES, min_size=1, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
)
# Few whole values rather than many small draws: decisions look at nothing inside of an identity.
_KINDS = st.sampled_from([AsAgent(), AsCIJob(), AsIdentity("deployer", groups=("ops",))])
_FILTERS = st.sampled_from([(), (), (), ("production",), ("review/*", "staging"), ("*",)])
entries = st.builds(
    Entry,
    path=st.sampled_from(["acme/x", "acme-evil/x", "top/app"]),
    access_as=_KINDS,
    default_namespace=st.sampled_from([None, "payments"]),
    environments=_FILTERS,
    protected_branches_only=st.booleans(),
    refused=st.sampled_from([None, None, None, Reason.RESERVED_IDENTITY, Reason.NOT_LISTED]),
)
# Everything that a file can say, for what is stored.
any_entries = st.builds(
    Entry,
    path=st.text(min_size=1, max_size=10),
    access_as=st.one_of(_KINDS, identities),
    default_namespace=st.none() | NAMES,
    environments=st.lists(PATTERNS, max_size=2).map(tuple),
    protected_branches_only=st.booleans(),
    refused=st.none() | st.sampled_from(list(Reason)),
)
problems = st.builds(
    Problem,
    code=NAMES,
    file=NAMES,
    line=st.integers(1, 10**6),
    column=st.integers(1, 10**6),
    text=st.text(max_size=20),
    fix=st.text(max_size=20),
)
aliases = st.sampled_from(["main", "other", "a-b"])


@st.composite
def agents(draw: st.DrawFn, *, of: st.SearchStrategy[Entry] = entries) -> AgentSnapshot:
    """An agent of a small instance; its entries' ids are those that the jobs have."""
    return an_agent(
        draw(IDS),
        issuer=draw(aliases),
        valid=draw(st.sampled_from([True, True, True, False])),
        version=draw(st.integers(1, 10**9)),
        config_project=a_config_project(draw(IDS), root_id=draw(IDS), namespace_id=draw(IDS)),
        projects=draw(st.dictionaries(IDS, of, max_size=3)),
        groups=draw(st.dictionaries(IDS, of, max_size=3)),
        instance=draw(st.none() | of),
        problems=draw(st.lists(problems, max_size=2)) if of is any_entries else (),
        valid_since=draw(st.none() | st.just(NOW)),
        doubt_since=draw(st.sampled_from([None, None, None, NOW, NOW - 86_401.0])),
        blob=draw(st.none() | st.just("b" * 40)),
    )


@st.composite
def jobs(draw: st.DrawFn) -> JobIdentity:
    """A job of one of the small instance's projects."""
    environment = draw(st.none() | ENVIRONMENTS)
    return a_job(
        issuer=draw(aliases),
        job_id=draw(st.integers(1, 1000)),
        project_id=draw(IDS),
        namespace_id=draw(IDS),
        user_login=draw(st.sampled_from(["dana", "system:masters", "root"])),
        ref_protected=draw(st.booleans()),
        environment=environment,
        tier=None if environment is None else draw(st.none() | TIERS),
    )


@st.composite
def chains(draw: st.DrawFn) -> NamespaceChain:
    """A chain of groups, or a user namespace."""
    members = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    kind = "group" if len(members) > 1 or draw(st.booleans()) else "user"
    fetched_at = NOW - draw(st.sampled_from([0, 300, 3600, 3601, 10**6]))
    chain = a_chain(*((i, f"n{i}") for i in members), fetched_at=fetched_at)
    return chain if kind == "group" else replace(chain, kind="user")


@st.composite
def surroundings(draw: st.DrawFn) -> Surroundings:
    """Where a job's project is, or isn't known to be."""
    place = a_place(
        namespace_id=draw(IDS),
        root_id=draw(IDS),
        fetched_at=NOW - draw(st.sampled_from([0, 300, 3600, 3601, 10**6])),
    )
    config_places = draw(st.dictionaries(IDS, st.just(replace(place, root_id=draw(IDS)))))
    return Surroundings(
        place=draw(st.none() | st.just(place)),
        chain=draw(st.none() | chains()),
        config_places=config_places,
    )


@dataclass(frozen=True)
class Question:
    """What is asked of `authorize`."""

    job: JobIdentity
    agent: AgentSnapshot
    surroundings: Surroundings
    settings: Settings


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Questions that agree in their ids more often than not, so that many are allowed."""
    job, agent, where = draw(jobs()), draw(agents()), draw(surroundings())
    if draw(st.booleans()):
        agent = replace(agent, issuer=job.issuer, valid=True)
        chain = where.chain or a_chain((job.namespace_id, "n"))
        members = chain.members[:-1]
        last = replace(chain.members[-1], namespace_id=job.namespace_id)
        place = ProjectPlace(
            namespace_id=job.namespace_id,
            path="top/app",
            root_id=agent.config_project.root_id,
            fetched_at=chain.fetched_at,
        )
        where = Surroundings(
            place=place,
            chain=replace(chain, members=(*members, last)),
            config_places={agent.config_project.project_id: place},
        )
    settings = Settings(instance_wide=draw(st.booleans()))
    return Question(job, agent, where, settings)
