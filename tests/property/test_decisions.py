"""Sentences about decisions and identities that are true of everything that can be generated."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, assume, find, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jobgate.core.agent import AsAgent, AsCIJob, AsIdentity, Entry
from jobgate.core.agent_configuration import AgentConfiguration, read_configuration
from jobgate.core.authorization import Allowed, Decision, Denied, authorize
from jobgate.core.bounds import Bounds
from jobgate.core.impersonation import (
    fault_of_static_identity,
    identity_of,
    impersonation_headers,
)
from jobgate.core.settings import Settings
from jobgate.core.snapshot import Targets, compile_snapshot

from tests.support import builders as b
from tests.support.strategies import (
    IDS,
    Question,
    chains,
    entries,
    identities,
    jobs,
    questions,
)

if TYPE_CHECKING:
    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import JobIdentity
    from jobgate.core.namespace import NamespaceChain

BOUNDS = Bounds()


def decide(
    question: Question, *, agent: AgentSnapshot | None = None, now: float = b.NOW
) -> Decision:
    return authorize(
        question.job,
        agent or question.agent,
        question.surroundings,
        settings=question.settings,
        bounds=BOUNDS,
        now=now,
    )


@pytest.mark.parametrize("kind", ["project", "implicit", "group", "instance"])
def test_the_generated_questions_are_allowed_in_every_way(kind: str) -> None:
    def is_allowed(question: Question) -> bool:
        decision = decide(question)
        return isinstance(decision, Allowed) and decision.grant.rule.kind == kind

    assert find(
        questions(),
        is_allowed,
        settings=hypothesis_settings(max_examples=2000, phases=[Phase.generate]),
    )


@given(questions(), st.floats(min_value=0, max_value=1e11))
def test_every_question_has_an_answer(question: Question, now: float) -> None:
    assert isinstance(decide(question, now=now), Allowed | Denied)


@given(questions())
def test_only_an_entry_that_names_the_job_allows_it(question: Question) -> None:
    decision = decide(question)

    if isinstance(decision, Denied):
        return
    job, agent, rule = question.job, question.agent, decision.grant.rule
    chain = question.surroundings.chain
    above = {group.namespace_id for group in chain.groups} if chain else set()
    named = {
        "project": rule.id == job.project_id and job.project_id in agent.projects,
        "implicit": rule.id == job.project_id == agent.config_project.project_id,
        "group": rule.id in above and rule.id in agent.groups,
        "instance": agent.instance is not None,
    }
    assert named[rule.kind]
    assert agent.valid
    assert agent.issuer == job.issuer


@given(questions())
def test_an_agent_without_entries_denies_all_but_its_own_project(question: Question) -> None:
    assume(question.job.project_id != question.agent.config_project.project_id)
    empty = dataclasses.replace(question.agent, projects={}, groups={}, instance=None)

    assert isinstance(decide(question, agent=empty), Denied)


@given(questions())
def test_a_configuration_that_is_not_valid_allows_nobody(question: Question) -> None:
    invalid = dataclasses.replace(question.agent, valid=False)

    assert isinstance(decide(question, agent=invalid), Denied)


@given(questions(), IDS, entries)
def test_a_project_entry_for_another_project_changes_nothing(
    question: Question, other: int, entry: Entry
) -> None:
    assume(other != question.job.project_id)
    changed = {**question.agent.projects, other: entry}

    with_it = decide(question, agent=dataclasses.replace(question.agent, projects=changed))

    assert with_it == decide(question)


@given(questions(), IDS, entries)
def test_a_group_entry_for_another_group_never_allows_more(
    question: Question, other: int, entry: Entry
) -> None:
    chain = question.surroundings.chain
    assume(chain is None or other not in {m.namespace_id for m in chain.members})
    changed = {**question.agent.groups, other: entry}

    with_it = decide(question, agent=dataclasses.replace(question.agent, groups=changed))

    # Where the job's groups aren't known, any group entry may be about it: then it denies.
    assert with_it == decide(question) or isinstance(with_it, Denied)


@given(questions())
def test_the_order_of_the_entries_does_not_matter(question: Question) -> None:
    agent = question.agent
    turned = dataclasses.replace(
        agent,
        projects=dict(reversed(agent.projects.items())),
        groups=dict(sorted(agent.groups.items(), key=lambda item: -item[0])),
    )

    assert decide(question, agent=turned) == decide(question)


@given(st.lists(st.sampled_from(["top/a", "TOP/a", "top/b", "top/c"]), max_size=6), st.data())
def test_the_order_of_a_files_list_decides_only_which_duplicate_counts(
    paths: list[str], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(paths))))
    entries = [{"id": path, "default_namespace": f"n{i}"} for i, path in enumerate(paths)]
    turned = [entries[i] for i in order]

    compiled = {kind: _compiled(kind, turned) for kind in ("projects", "groups")}

    last = {str(entry["id"]).lower(): entry["default_namespace"] for entry in turned}
    expected = {_ID_OF[path]: namespace for path, namespace in last.items()}
    assert compiled == {"projects": expected, "groups": expected}


_ID_OF = {"top/a": 1, "top/b": 2, "top/c": 3}


def _compiled(kind: str, entries: list[dict[str, str]]) -> dict[int, str | None]:
    """The namespaces of a file's entries, by target."""
    read = read_configuration(json.dumps({"ci_access": {kind: entries}}).encode(), file="f")
    assert isinstance(read, AgentConfiguration)
    known = {path: b.a_target(number, path) for path, number in _ID_OF.items()}
    targets = Targets(projects=known, groups=known)
    snapshot = compile_snapshot(read, targets, b.a_snapshot_head(), settings=Settings())
    stored = snapshot.projects if kind == "projects" else snapshot.groups
    return {i: entry.default_namespace for i, entry in stored.items()}


@given(questions(), st.floats(0, 1e7), st.floats(0, 1e7))
def test_time_that_passes_never_allows_what_was_denied(
    question: Question, first: float, more: float
) -> None:
    before = decide(question, now=b.NOW + first)
    after = decide(question, now=b.NOW + first + more)

    assert isinstance(before, Allowed) or isinstance(after, Denied)


@given(questions())
def test_a_condition_more_never_allows_more(question: Question) -> None:
    stricter = {
        i: dataclasses.replace(e, protected_branches_only=True, environments=("production",))
        for i, e in question.agent.projects.items()
        if not e.environments
    }
    changed = {**question.agent.projects, **stricter}

    with_it = decide(question, agent=dataclasses.replace(question.agent, projects=changed))

    assert isinstance(decide(question), Allowed) or isinstance(with_it, Denied)


@given(questions())
def test_knowing_less_never_allows_more(question: Question) -> None:
    nothing = dataclasses.replace(question.surroundings, place=None, chain=None)

    blind = decide(dataclasses.replace(question, surroundings=nothing))

    assert isinstance(decide(question), Allowed) or isinstance(blind, Denied)


# --- Groups are matched by id, and paths by their segments ---


@pytest.mark.parametrize("stranger", ["acme-evil/x", "acmeevil/x", "ACME-evil/x", "x/acme"])
def test_a_group_never_matches_another_whose_path_begins_like_it(stranger: str) -> None:
    read = read_configuration(b"ci_access: {groups: [{id: acme}]}", file="f")
    assert isinstance(read, AgentConfiguration)
    targets = Targets(projects={}, groups={"acme": b.a_target(1, "acme", root_id=1)})
    settings = Settings()
    agent = compile_snapshot(read, targets, b.a_snapshot_head(), settings=settings)
    job = b.a_job(project_path=stranger, namespace_id=2)
    place = b.a_place(namespace_id=2, path=stranger, root_id=2)
    where = dataclasses.replace(
        b.known_surroundings(), place=place, chain=b.a_chain((2, stranger.partition("/")[0]))
    )

    decision = authorize(job, agent, where, settings=settings, bounds=BOUNDS, now=b.NOW)

    assert isinstance(decision, Denied)


# --- Identities ---


def _is_privileged(name: str) -> bool:
    folded = unicodedata.normalize("NFC", name).casefold().strip()
    return folded.startswith("system:")


@given(identities)
def test_a_static_identity_without_a_fault_is_never_privileged_nor_a_jobs(
    identity: AsIdentity,
) -> None:
    if fault_of_static_identity(identity) is not None:
        return

    for name in (identity.username, *identity.groups):
        assert not _is_privileged(name)
        assert not name.casefold().startswith(("gitlab:", "gitlab@"))


@given(identities)
def test_a_static_identity_without_a_fault_travels_unchanged(identity: AsIdentity) -> None:
    if fault_of_static_identity(identity) is not None:
        return
    given_identity = identity_of(
        b.a_job(), b.a_grant(access_as=identity), issuer=b.an_issuer(), chain=None
    )
    assert given_identity is not None

    headers = impersonation_headers(given_identity)

    assert [value for name, value in headers if name == "Impersonate-Group"] == list(
        identity.groups
    )
    assert all(value == value.strip() and value.isprintable() for _, value in headers)


ISSUERS = [b.an_issuer("main")] + [
    b.an_issuer(alias, url=f"https://{alias}.example.test", is_default=False)
    for alias in ("other", "a-b")
]


@given(jobs(), chains())
def test_no_identity_of_a_job_is_privileged(job: JobIdentity, chain: NamespaceChain) -> None:
    grant = b.a_grant(access_as=AsCIJob())

    for one in ISSUERS:
        identity = identity_of(job, grant, issuer=one, chain=chain)
        assert identity is not None
        names = (identity.username, *identity.groups)
        assert not any(_is_privileged(name) for name in names)
        assert all(name.startswith(f"{one.identity_prefix}:") for name in names)


def _user_of(job: JobIdentity) -> str:
    issuer = next(one for one in ISSUERS if one.alias == job.issuer)
    identity = identity_of(
        job, b.a_grant(access_as=AsCIJob()), issuer=issuer, chain=b.a_chain((job.namespace_id, "n"))
    )
    assert identity is not None
    return identity.username


@given(jobs(), jobs())
def test_two_different_jobs_never_share_a_user_name(one: JobIdentity, other: JobIdentity) -> None:
    same_job = (one.issuer, one.job_id) == (other.issuer, other.job_id)

    assert (_user_of(one) == _user_of(other)) is same_job


@given(questions())
def test_what_is_granted_is_what_the_winning_entry_says(question: Question) -> None:
    decision = decide(question)
    if isinstance(decision, Denied):
        return
    grant, agent = decision.grant, question.agent

    entry = {
        "project": agent.projects.get(question.job.project_id),
        "implicit": Entry(path=agent.config_project.path, access_as=AsAgent()),
        "group": agent.groups.get(grant.rule.id or 0),
        "instance": agent.instance,
    }[grant.rule.kind]

    assert entry is not None
    assert entry.refused is None
    assert (grant.access_as, grant.namespace) == (entry.access_as, entry.default_namespace)
