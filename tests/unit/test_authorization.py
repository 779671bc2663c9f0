from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import pytest
from jobgate.core.agent import AgentSnapshot, AsAgent, AsCIJob, AsIdentity, Entry
from jobgate.core.authorization import (
    Allowed,
    Decision,
    Denied,
    Rule,
    authorize,
    fork_refusal,
    trusted_chain,
)
from jobgate.core.bounds import Bounds
from jobgate.core.namespace import Surroundings
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings

from tests.support import builders as b

if TYPE_CHECKING:
    from jobgate.core.job import JobIdentity

BOUNDS = Bounds()
PROJECT_RULE = Rule(kind="project", id=b.APP, path="top/sub1/app")
UNKNOWN = Surroundings(place=None, chain=None)


def decide(
    job: JobIdentity | None = None,
    agent: AgentSnapshot | None = None,
    surroundings: Surroundings | None = None,
    *,
    settings: Settings | None = None,
) -> Decision:
    return authorize(
        job or b.a_job(),
        agent or b.an_agent(projects={b.APP: b.an_entry()}),
        surroundings or b.known_surroundings(),
        settings=settings or Settings(),
        bounds=BOUNDS,
        now=b.NOW,
    )


def reason_of(decision: Decision) -> Reason:
    assert isinstance(decision, Denied)
    return decision.reason


def refused(reason: Reason) -> Entry:
    return dataclasses.replace(b.an_entry(), refused=reason)


def test_a_grant_names_the_nearest_groups_entry_by_id_and_path() -> None:
    groups = {b.TOP: b.an_entry("top"), b.SUB1: b.an_entry("top/sub1")}

    decision = decide(agent=b.an_agent(groups=groups))

    assert isinstance(decision, Allowed)
    rule = decision.grant.rule
    assert (rule.kind, rule.id, rule.path) == ("group", b.SUB1, "top/sub1")


def test_a_project_entry_gives_exactly_its_own_grant() -> None:
    entry = b.an_entry(access_as=AsCIJob(), namespace="payments")

    decision = decide(agent=b.an_agent(projects={b.APP: entry}))

    assert decision == Allowed(
        b.a_grant(rule=PROJECT_RULE, access_as=AsCIJob(), namespace="payments")
    )


def test_an_agent_without_entries_is_not_listed() -> None:
    assert decide(agent=b.an_agent()) == Denied(Reason.NOT_LISTED)


def test_the_configuration_projects_own_jobs_are_allowed_as_the_agent() -> None:
    job = b.a_job(project_id=b.CONFIG_PROJECT, project_path="top/sub1/agents")

    decision = decide(job, b.an_agent())

    rule = Rule(kind="implicit", id=b.CONFIG_PROJECT, path="top/sub1/agents")
    assert decision == Allowed(b.a_grant(rule=rule, access_as=AsAgent()))


def test_implicit_access_needs_no_knowledge_of_the_groups() -> None:
    job = b.a_job(project_id=b.CONFIG_PROJECT)

    assert isinstance(decide(job, b.an_agent(), UNKNOWN), Allowed)


def test_an_entry_for_the_configuration_project_replaces_its_implicit_access() -> None:
    job = b.a_job(project_id=b.CONFIG_PROJECT)
    agent = b.an_agent(projects={b.CONFIG_PROJECT: b.an_entry(environments=["production"])})

    assert reason_of(decide(job, agent)) is Reason.NO_ENVIRONMENT


def test_a_group_entry_never_replaces_implicit_access() -> None:
    job = b.a_job(project_id=b.CONFIG_PROJECT)
    agent = b.an_agent(groups={b.SUB1: b.an_entry("top/sub1", access_as=AsCIJob())})

    decision = decide(job, agent)

    assert isinstance(decision, Allowed)
    assert decision.grant.rule.kind == "implicit"


def test_the_nearest_group_wins_over_those_above() -> None:
    agent = b.an_agent(
        groups={
            b.TOP: b.an_entry("top", namespace="far"),
            b.SUB1: b.an_entry("top/sub1", namespace="near"),
        }
    )

    decision = decide(agent=agent)

    assert isinstance(decision, Allowed)
    assert (decision.grant.rule.id, decision.grant.namespace) == (b.SUB1, "near")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b.an_entry(environments=["production"]), Reason.NO_ENVIRONMENT),
        (b.an_entry(protected_only=True), Reason.REF_NOT_PROTECTED),
        (refused(Reason.RESERVED_IDENTITY), Reason.RESERVED_IDENTITY),
        (refused(Reason.NOT_LISTED), Reason.NOT_LISTED),
    ],
)
@pytest.mark.parametrize("where", ["project", "group"])
def test_an_entry_that_denies_hides_every_wider_one(
    where: str, entry: Entry, reason: Reason
) -> None:
    agent = b.an_agent(
        projects={b.APP: entry} if where == "project" else {},
        groups={b.SUB1: entry if where == "group" else b.an_entry(), b.TOP: b.an_entry("top")},
        instance=b.an_entry(""),
    )

    assert reason_of(decide(b.a_job(ref_protected=False), agent)) is reason


def test_a_refused_entry_for_the_configuration_project_hides_its_implicit_access() -> None:
    job = b.a_job(project_id=b.CONFIG_PROJECT)
    agent = b.an_agent(projects={b.CONFIG_PROJECT: refused(Reason.RESERVED_IDENTITY)})

    assert reason_of(decide(job, agent)) is Reason.RESERVED_IDENTITY


def test_an_entry_of_another_project_or_group_changes_nothing() -> None:
    agent = b.an_agent(projects={101: b.an_entry()}, groups={b.OTHER_ROOT: b.an_entry("ext")})

    assert decide(agent=agent) == Denied(Reason.NOT_LISTED)


def test_a_job_of_another_issuer_is_not_listed_whatever_the_ids() -> None:
    assert decide(b.a_job(issuer="other")) == Denied(Reason.NOT_LISTED)


def test_a_configuration_in_doubt_counts_for_as_long_as_config_doubt_and_no_longer() -> None:
    def decided(age: float, job: JobIdentity | None = None) -> Decision:
        doubtful = b.an_agent(projects={b.APP: b.an_entry()}, doubt_since=b.NOW - age)
        return decide(job or b.a_job(), doubtful)

    assert isinstance(decided(BOUNDS.config_doubt), Allowed)
    assert decided(BOUNDS.config_doubt + 1) == Denied(Reason.CONFIG_UNKNOWN, PROJECT_RULE)
    own = decided(BOUNDS.config_doubt + 1, b.a_job(project_id=b.CONFIG_PROJECT))
    assert reason_of(own) is Reason.CONFIG_UNKNOWN
    # Who isn't listed learns nothing of it.
    stranger = decided(BOUNDS.config_doubt + 1, b.a_job(project_id=101))
    assert reason_of(stranger) is Reason.NOT_LISTED


def test_a_configuration_that_was_never_valid_grants_nothing_and_tells_its_own_project_why() -> (
    None
):
    agent = b.an_agent(valid=False)

    assert decide(b.a_job(project_id=b.CONFIG_PROJECT), agent) == Denied(Reason.CONFIG_UNKNOWN)
    assert decide(b.a_job(), agent) == Denied(Reason.NOT_LISTED)


@pytest.mark.parametrize("path", ["projects", "groups"])
def test_a_project_in_another_root_now_is_out_of_scope(path: str) -> None:
    entries = {b.APP: b.an_entry()} if path == "projects" else {}
    groups = {b.SUB1: b.an_entry("top/sub1")} if path == "groups" else {}
    moved = dataclasses.replace(
        b.known_surroundings(), place=b.a_place(root_id=b.OTHER_ROOT), chain=b.a_chain()
    )

    decision = decide(agent=b.an_agent(projects=entries, groups=groups), surroundings=moved)

    assert reason_of(decision) is Reason.OUT_OF_SCOPE


def test_a_user_namespace_is_a_scope_of_its_own() -> None:
    project = b.a_config_project(
        path="alice/agents", namespace_id=b.USER_NAMESPACE, root_id=b.USER_NAMESPACE
    )
    job = b.a_job(namespace_id=b.USER_NAMESPACE, project_path="alice/app")
    here = Surroundings(
        place=b.a_place(namespace_id=b.USER_NAMESPACE, root_id=b.USER_NAMESPACE),
        chain=b.a_chain((b.USER_NAMESPACE, "alice"), kind="user"),
        config_places={b.CONFIG_PROJECT: b.a_config_place(root_id=b.USER_NAMESPACE)},
    )
    agent = b.an_agent(config_project=project, projects={b.APP: b.an_entry("alice/app")})

    assert isinstance(decide(job, agent, here), Allowed)
    assert reason_of(decide(b.a_job(), agent, dataclasses.replace(here, place=b.a_place()))) is (
        Reason.OUT_OF_SCOPE
    )


def test_a_user_namespace_is_no_group() -> None:
    job = b.a_job(namespace_id=b.USER_NAMESPACE, project_path="alice/app")
    here = Surroundings(
        place=b.a_place(namespace_id=b.USER_NAMESPACE, root_id=b.TOP),
        chain=b.a_chain((b.USER_NAMESPACE, "alice"), kind="user"),
    )
    agent = b.an_agent(groups={b.USER_NAMESPACE: b.an_entry("alice")})

    assert decide(job, agent, here) == Denied(Reason.NOT_LISTED)


def test_an_unknown_place_denies_a_project_entry() -> None:
    assert reason_of(decide(surroundings=UNKNOWN)) is Reason.CHAIN_UNKNOWN


@pytest.mark.parametrize(
    "surroundings",
    [
        UNKNOWN,
        Surroundings(place=b.a_place(), chain=None),
        Surroundings(place=None, chain=b.a_chain()),
        Surroundings(place=b.a_place(namespace_id=b.TOP), chain=b.a_chain()),
        Surroundings(place=b.a_place(), chain=b.a_chain((b.TOP, "top"))),
        Surroundings(place=b.a_place(fetched_at=b.NOW - 3601), chain=b.a_chain()),
        Surroundings(place=b.a_place(), chain=b.a_chain(fetched_at=b.NOW - 3601)),
        Surroundings(place=b.a_place(fetched_at=b.NOW + 31), chain=b.a_chain()),
        Surroundings(place=b.a_place(), chain=b.a_chain(fetched_at=b.NOW + 31)),
    ],
    ids=[
        "nothing",
        "no chain",
        "no place",
        "moved",
        "other chain",
        "old place",
        "old chain",
        "place of the future",
        "chain of the future",
    ],
)
def test_a_chain_that_cannot_be_trusted_denies_group_entries(surroundings: Surroundings) -> None:
    agent = b.an_agent(groups={b.SUB1: b.an_entry("top/sub1")}, instance=b.an_entry(""))
    # The configuration project is where it was: nothing but the chain can deny.
    places = b.known_surroundings().config_places
    surroundings = dataclasses.replace(surroundings, config_places=places)

    decision = decide(agent=agent, surroundings=surroundings)

    assert decision == Denied(Reason.CHAIN_UNKNOWN)
    assert trusted_chain(b.a_job(), surroundings, bounds=BOUNDS, now=b.NOW) is None


def test_a_chain_is_trusted_up_to_its_very_age() -> None:
    surroundings = b.known_surroundings(fetched_at=b.NOW - BOUNDS.chain_max_age)

    assert trusted_chain(b.a_job(), surroundings, bounds=BOUNDS, now=b.NOW) is not None
    assert trusted_chain(b.a_job(), surroundings, bounds=BOUNDS, now=b.NOW + 1) is None


def test_an_identity_that_lists_groups_needs_a_known_chain() -> None:
    surroundings = dataclasses.replace(b.known_surroundings(), chain=None)
    entries = {b.APP: b.an_entry(access_as=AsCIJob())}

    decision = decide(agent=b.an_agent(projects=entries), surroundings=surroundings)

    assert decision == Denied(Reason.CHAIN_UNKNOWN, PROJECT_RULE)


@pytest.mark.parametrize("access_as", [AsAgent(), AsIdentity("deployer")])
def test_an_identity_without_groups_needs_the_projects_place_alone(
    access_as: AsAgent | AsIdentity,
) -> None:
    surroundings = dataclasses.replace(b.known_surroundings(), chain=None)
    entries = {b.APP: b.an_entry(access_as=access_as)}

    decision = decide(agent=b.an_agent(projects=entries), surroundings=surroundings)

    assert isinstance(decision, Allowed)


def test_an_instance_entry_allows_when_nothing_nearer_is_there() -> None:
    agent = b.an_agent(instance=b.an_entry(""))

    decision = decide(agent=agent, settings=Settings(instance_wide=True))

    assert isinstance(decision, Allowed)
    assert decision.grant.rule == Rule(kind="instance", id=None, path=None)


@pytest.mark.parametrize(
    ("environments", "environment", "reason"),
    [
        (["production"], None, Reason.NO_ENVIRONMENT),
        (["*"], None, Reason.NO_ENVIRONMENT),
        (["production"], "Production", Reason.ENVIRONMENT_MISMATCH),
        (["production"], "production/eu", Reason.ENVIRONMENT_MISMATCH),
        (["review/*"], "not/review/1", Reason.ENVIRONMENT_MISMATCH),
        (["staging", "review/*"], "production", Reason.ENVIRONMENT_MISMATCH),
    ],
)
def test_an_environment_that_does_not_match_is_refused(
    environments: list[str], environment: str | None, reason: Reason
) -> None:
    agent = b.an_agent(projects={b.APP: b.an_entry(environments=environments)})

    assert reason_of(decide(b.a_job(environment=environment), agent)) is reason


def test_the_environment_is_judged_before_the_ref() -> None:
    entry = b.an_entry(environments=["production"], protected_only=True)
    agent = b.an_agent(projects={b.APP: entry})

    assert reason_of(decide(b.a_job(ref_protected=False), agent)) is Reason.NO_ENVIRONMENT


# --- Scope ---


def test_an_instance_entry_counts_only_while_the_deployment_is_instance_wide() -> None:
    assert decide(agent=b.an_agent(instance=b.an_entry(""))) == Denied(Reason.NOT_LISTED)


@pytest.mark.parametrize("path", ["projects", "groups"])
def test_an_instance_wide_deployment_has_no_other_scope(path: str) -> None:
    agent = b.an_agent(
        projects={b.APP: b.an_entry()} if path == "projects" else {},
        groups={b.SUB1: b.an_entry("top/sub1")} if path == "groups" else {},
    )
    moved = Surroundings(place=b.a_place(root_id=b.OTHER_ROOT), chain=b.a_chain())

    decision = decide(agent=agent, surroundings=moved, settings=Settings(instance_wide=True))

    assert isinstance(decision, Allowed)


@pytest.mark.parametrize("path", ["projects", "groups"])
def test_a_configuration_project_in_another_root_now_has_lost_its_scope(path: str) -> None:
    agent = b.an_agent(
        projects={b.APP: b.an_entry()} if path == "projects" else {},
        groups={b.SUB1: b.an_entry("top/sub1")} if path == "groups" else {},
    )
    moved = dataclasses.replace(
        b.known_surroundings(),
        config_places={b.CONFIG_PROJECT: b.a_config_place(root_id=b.OTHER_ROOT)},
    )

    assert reason_of(decide(agent=agent, surroundings=moved)) is Reason.OUT_OF_SCOPE


def test_where_the_configuration_project_was_at_the_refresh_does_not_count() -> None:
    elsewhere = b.a_config_project(path="ext/agents", root_id=b.OTHER_ROOT)
    agent = b.an_agent(config_project=elsewhere, projects={b.APP: b.an_entry()})

    assert isinstance(decide(agent=agent), Allowed)


@pytest.mark.parametrize("which", ["place", "config_places"])
def test_a_place_is_known_up_to_its_very_age(which: str) -> None:
    def at(age: float) -> Surroundings:
        known, fetched_at = b.known_surroundings(), b.NOW - age
        if which == "place":
            return dataclasses.replace(known, place=b.a_place(fetched_at=fetched_at))
        places = {b.CONFIG_PROJECT: b.a_config_place(fetched_at=fetched_at)}
        return dataclasses.replace(known, config_places=places)

    assert isinstance(decide(surroundings=at(BOUNDS.chain_max_age)), Allowed)
    # A clock may be ahead by the leeway; beyond that nobody knows when it was fetched.
    assert isinstance(decide(surroundings=at(-BOUNDS.leeway)), Allowed)
    for age in (BOUNDS.chain_max_age + 1, -BOUNDS.leeway - 1):
        unknown = decide(surroundings=at(age))
        assert unknown == Denied(Reason.CHAIN_UNKNOWN, PROJECT_RULE)


def test_a_configuration_project_whose_place_is_unknown_denies_its_entries() -> None:
    unknown = dataclasses.replace(b.known_surroundings(), config_places={99: b.a_config_place()})

    assert reason_of(decide(surroundings=unknown)) is Reason.CHAIN_UNKNOWN


# --- Identities ---


@pytest.mark.parametrize("name", ["system:masters", "gitlab:ci_job:1", "a\n"])
def test_a_stored_reserved_identity_is_judged_again_at_each_decision(name: str) -> None:
    entry = b.an_entry(access_as=AsIdentity("deployer", groups=(name,)))

    decision = decide(agent=b.an_agent(projects={b.APP: entry}, groups={b.TOP: b.an_entry("top")}))

    assert decision == Denied(Reason.RESERVED_IDENTITY, PROJECT_RULE)


def test_a_reserved_name_that_the_deployment_allows_is_as_any_other() -> None:
    entry = b.an_entry(access_as=AsIdentity("system:serviceaccount:a:b"))
    agent = b.an_agent(projects={b.APP: entry})
    allowed = Settings(allowed_identities=frozenset({"system:serviceaccount:a:b"}))
    another = Settings(allowed_identities=frozenset({"system:serviceaccount:a:bc", "system:"}))

    assert isinstance(decide(agent=agent, settings=allowed), Allowed)
    assert reason_of(decide(agent=agent, settings=another)) is Reason.RESERVED_IDENTITY


@pytest.mark.parametrize(
    ("environment", "slug", "access_as", "reason"),
    [
        ("review/1", None, AsCIJob(), Reason.JOB_UNKNOWN),
        ("review/1", "review-1-abc123", AsCIJob(), None),
        ("production", None, AsCIJob(), None),
        (None, None, AsCIJob(), None),
        ("review/1", None, AsAgent(), None),
        ("review/1", None, AsIdentity("deployer"), None),
    ],
)
def test_a_slug_that_only_gitlab_knows_must_be_known_to_be_claimed(
    environment: str | None,
    slug: str | None,
    access_as: AsAgent | AsCIJob | AsIdentity,
    reason: Reason | None,
) -> None:
    job = b.a_job(environment=environment, environment_slug=slug)
    agent = b.an_agent(projects={b.APP: b.an_entry(access_as=access_as)})

    decision = decide(job, agent, settings=Settings(legacy_slugs=True))

    assert (decision.reason if isinstance(decision, Denied) else None) is reason
    assert isinstance(decide(job, agent), Allowed)


# --- Forks ---


@pytest.mark.parametrize(
    ("is_of_fork", "fork_jobs", "reason"),
    [
        (True, "deny", Reason.FORK_REFUSED),
        (True, "allow", None),
        (False, "deny", None),
        (False, "allow", None),
    ],
)
def test_a_forks_job_is_refused_where_the_deployment_says_so(
    is_of_fork: bool,  # noqa: FBT001  a row of the table
    fork_jobs: Literal["allow", "deny"],
    reason: Reason | None,
) -> None:
    verified = b.a_verified_job(is_of_fork=is_of_fork)

    assert fork_refusal(verified, Settings(fork_jobs=fork_jobs)) is reason
