"""Every stored form is read back as what was written, whatever was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jobgate.adapters import agent_items, items, operator_items
from jobgate.core.access_token import claims_of, token_of
from jobgate.core.agent import ClusterConnection, Credential, EKSCredential
from jobgate.core.errors import Unavailable
from jobgate.core.issuer import Issuer
from jobgate.core.job import JobKey
from jobgate.core.keys import PublicKey
from jobgate.core.liveness import TERMINAL_STATUSES, JobLife, JobState, Stop, StopKind
from jobgate.core.namespace import ProjectPlace
from jobgate.core.public_settings import PublicSettings
from jobgate.ports.refresh import ConfigProjectItem

from tests.support import builders as b
from tests.support.stores import job_item
from tests.support.strategies import agents, aliases, any_entries, chains, jobs

if TYPE_CHECKING:
    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import JobIdentity
    from jobgate.core.namespace import NamespaceChain

TEXTS = st.text(min_size=1, max_size=30)
IDS = st.integers(1, 2**63 - 1)
TIMES = st.integers(0, 2**40) | st.floats(0, 2**40)

places = st.builds(ProjectPlace, namespace_id=IDS, path=TEXTS, root_id=IDS, fetched_at=TIMES)
credentials = st.builds(
    Credential, kind=st.sampled_from(["token", "cert"]), secret=TEXTS
) | st.builds(EKSCredential, cluster=TEXTS, region=TEXTS, role_arn=st.none() | TEXTS)
clusters = st.builds(
    ClusterConnection,
    issuer=aliases,
    agent_id=IDS,
    agent_name=TEXTS,
    config_project_id=IDS,
    server=TEXTS,
    ca=st.none() | TEXTS,
    relay_credential=credentials,
    agent_credential=st.none() | credentials,
    tls_server_name=st.none() | TEXTS,
)
words = st.builds(
    JobState,
    status=TEXTS.filter(lambda status: status not in TERMINAL_STATUSES),
    source=st.sampled_from(["hook", "probe"]),
    seen_at=st.floats(0, 2**40),
)
ends = st.builds(
    JobState,
    status=st.sampled_from(sorted(TERMINAL_STATUSES)),
    source=st.sampled_from(["hook", "probe"]),
    seen_at=st.floats(0, 2**40),
    finished_at=st.floats(0, 2**40),
)
stops = st.lists(
    st.builds(
        Stop,
        kind=st.sampled_from(list(StopKind)),
        value=TEXTS,
        until=st.none() | TIMES,
        by=TEXTS,
        why=TEXTS,
    ),
    max_size=3,
).map(tuple)
issuers = st.builds(
    Issuer,
    alias=aliases,
    url=TEXTS,
    base_url=TEXTS,
    audience=TEXTS,
    ca=st.none() | TEXTS,
    is_default=st.booleans(),
)
keys = st.builds(
    PublicKey,
    kid=TEXTS,
    slot=TEXTS,
    jwk=st.dictionaries(TEXTS, TEXTS, max_size=4),
    not_before=TIMES,
    retire_after=st.none() | TIMES,
)
projects = st.builds(
    ConfigProjectItem, issuer=aliases, project_id=IDS, agents=st.dictionaries(IDS, TEXTS)
)


@given(agents(of=any_entries))
def test_a_snapshot(snapshot: AgentSnapshot) -> None:
    assert agent_items.snapshot_of(agent_items.snapshot_item(snapshot)) == snapshot


@given(clusters)
def test_a_cluster_connection(cluster: ClusterConnection) -> None:
    assert agent_items.cluster_of(agent_items.cluster_item(cluster)) == cluster


@given(projects)
def test_a_configuration_project(project: ConfigProjectItem) -> None:
    assert agent_items.config_project_of(agent_items.config_project_item(project)) == project


@given(aliases, IDS, places)
def test_a_place(issuer: str, project_id: int, place: ProjectPlace) -> None:
    assert items.place_of(items.place_item(issuer, project_id, place)) == place


@given(aliases, chains())
def test_a_chain(issuer: str, chain: NamespaceChain) -> None:
    assert items.chain_of(items.chain_item(issuer, chain)) == chain


@given(aliases, IDS, IDS, st.lists(words, max_size=3), st.lists(ends, max_size=1))
def test_what_was_heard_of_a_job(
    issuer: str, project_id: int, job_id: int, alive: list[JobState], end: list[JobState]
) -> None:
    heard = [*alive, *end]
    assume(heard)
    item = job_item(JobKey(issuer, project_id, job_id), *heard, expires_at=10)

    assert items.job_life_of(item, now=9) == b.a_life(*heard)
    assert items.job_life_of(item, now=10) == JobLife()


@given(aliases, IDS, IDS, TIMES)
def test_a_job_that_was_only_asked_about(
    issuer: str, project_id: int, job_id: int, at: float
) -> None:
    item = (
        items.job_key(JobKey(issuer, project_id, job_id))
        | items.job_question(at)
        | {"expires_at": {"N": "10"}}
    )

    assert items.job_life_of(item, now=9) == JobLife(asked_at=at)


@given(aliases, stops)
def test_stops(issuer: str, given_stops: tuple[Stop, ...]) -> None:
    assert operator_items.stops_of(operator_items.stops_item(issuer, given_stops)) == given_stops


@given(issuers)
def test_an_issuer(issuer: Issuer) -> None:
    assert operator_items.issuer_of(operator_items.issuer_item(issuer)) == issuer


@given(keys)
def test_a_public_key(key: PublicKey) -> None:
    assert operator_items.public_key_of(operator_items.public_key_item(key)) == key


@given(
    st.builds(
        PublicSettings,
        base_url=TEXTS,
        ca=st.none() | TEXTS,
        table_id=st.none() | TEXTS,
        not_before=st.none() | IDS,
        ids_above=st.none() | IDS,
    )
)
def test_the_settings(settings: PublicSettings) -> None:
    assert operator_items.settings_of(operator_items.settings_item(settings)) == settings


def test_settings_from_before_tables_had_ids_are_of_no_table() -> None:
    former = operator_items.SETTINGS_KEY | {
        "v": {"N": "1"},
        "body": {"S": '{"base_url":"https://jobgate.test","ca":null}'},
    }

    assert operator_items.settings_of(former) == PublicSettings(base_url="https://jobgate.test")


@given(jobs(), st.none() | IDS, st.integers(0, 2**40))
def test_an_access_token(job: JobIdentity, agent_id: int | None, expires_at: int) -> None:
    token = b.an_access_token(job, agent_id=agent_id, expires_at=expires_at)

    assert token_of(claims_of(token, base_url=b.BASE_URL, now=b.NOW)) == token


def test_nothing_stored_is_nothing_known() -> None:
    assert agent_items.snapshot_of(None) is None
    assert agent_items.cluster_of(None) is None
    assert agent_items.config_project_of(None) is None
    assert items.place_of(None) is None
    assert items.chain_of(None) is None
    assert items.job_life_of(None, now=0) == JobLife()
    assert operator_items.stops_of(None) is None
    assert operator_items.settings_of(None) is None
    assert items.agents_of(None) == frozenset()


@given(st.dictionaries(IDS, IDS, max_size=5))
def test_a_subjects_agents(stamps: dict[int, int]) -> None:
    item = items.subject_key("main", "project", 1)
    item |= {items.stamp(agent_id): {"N": str(v)} for agent_id, v in stamps.items()}

    assert items.agents_of(item) == frozenset(stamps)


def test_a_subject_with_a_stamp_of_no_agent_is_unknown() -> None:
    item = items.subject_key("main", "project", 1) | {"agent_x": {"N": "1"}}

    with pytest.raises(Unavailable):
        items.agents_of(item)


BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(BODIES)
def test_a_body_of_any_other_form_is_unknown(body: Any) -> None:
    item = agent_items.snapshot_item(b.an_agent()) | items.compressed_body(body)
    place = items.place_item("main", 1, b.a_place())

    with pytest.raises(Unavailable):
        agent_items.snapshot_of(item)
    with pytest.raises(Unavailable):
        items.place_of(place | items.compressed_body(body))
    with pytest.raises(Unavailable):
        items.chain_of(place | items.compressed_body(body))


@given(st.binary(max_size=50))
def test_a_body_that_is_no_compressed_json_is_unknown(data: bytes) -> None:
    item = agent_items.snapshot_item(b.an_agent())

    with pytest.raises(Unavailable):
        agent_items.snapshot_of({**item, "body": {"B": data}})


@given(st.integers(0, 200))
def test_a_body_that_was_cut_is_unknown(length: int) -> None:
    item = agent_items.snapshot_item(b.an_agent())
    whole = item["body"]["B"]

    with pytest.raises(Unavailable):
        agent_items.snapshot_of({**item, "body": {"B": whole[: min(length, len(whole) - 5)]}})
