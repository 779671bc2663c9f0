"""GitLab's rules as numbered vectors (tests/vectors): each row runs.

The rows run through the real refresh (file to snapshot) and then the real decision.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from jobgate.adapters import agent_items, items
from jobgate.core.agent import AsAgent, AsCIJob, AsIdentity
from jobgate.core.agent_configuration import (
    FILE_MAX_BYTES,
    AgentConfiguration,
    InvalidConfiguration,
    read_configuration,
)
from jobgate.core.authorization import Allowed, authorize
from jobgate.core.bounds import Bounds
from jobgate.core.environment import environment_matches, environment_slug
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.id_token import verified_job
from jobgate.core.impersonation import identity_of
from jobgate.core.settings import Settings

from tests.support import builders as b
from tests.support.ci_access import FILE, Instance
from tests.support.id_tokens import ABSENT, gitlab_claims

VECTORS = Path(__file__).parents[1] / "vectors"

# Every number of the table of part A.10. Deliberately different from GitLab are 25, 26, 28 and 29:
# Jobgate knows no licence (docs/configuration.md, "What differs from GitLab, and why").
NUMBERS = (
    {*range(1, 7), 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 20, *range(22, 33), 35, 36, 38}
    | {39, 40, 41, 42, 44, 47}
    | {*range(48, 59), 61, *range(62, 68), 69, 70, 73, 74, 76, 78, 80, 82}
    | {*range(83, 88), 89, 91, 92, 94, 96, 98, 99}
)
OWN_TESTS = {18, 30, 31, 32, 39, 40, 41, 44, 47, 56}


def _load(name: str) -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads((VECTORS / name).read_text())
    return vectors


def _rows(name: str) -> list[Any]:
    return [pytest.param(row, id=str(row["id"])) for row in _load(name)["rows"]]


CI_ACCESS = _load("ci_access.json")


def test_every_number_of_the_table_is_a_row_or_a_test() -> None:
    files = ("ci_access", "filters", "environment_patterns", "config_yaml")
    rows = [row["id"] for name in files for row in _load(f"{name}.json")["rows"]]

    assert len(rows) == len(set(rows))
    assert set(rows) | OWN_TESTS == NUMBERS
    assert set(rows) & OWN_TESTS == set()


def _outcome(row: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """What a row expects, and what came of it: agent id to the kind of entry."""
    instance = Instance(
        CI_ACCESS["instance"],
        extra_agents=row.get("extra_agents", ()),
        settings=Settings(instance_wide=row["instance_wide"]),
    )
    for agent, ci_access in row["ci_access"].items():
        instance.push(agent, {"ci_access": ci_access})
    decisions = instance.decide(row["job_project_id"])
    allowed = {i: d.grant.rule for i, d in decisions.items() if isinstance(d, Allowed)}
    wanted = row.get("only_agent")
    got = {str(i): rule.kind for i, rule in allowed.items() if wanted in (None, i)}
    if "via" in row:
        assert {rule.id for rule in allowed.values()} == {row["via"]}
    return row["expect"], got


@pytest.mark.parametrize("row", _rows("ci_access.json"))
def test_ci_access_decides_as_gitlab(row: dict[str, Any]) -> None:
    expected, got = _outcome(row)

    assert got == expected


def test_jobgate_knows_no_licence_where_gitlab_would_hide_the_entry() -> None:
    differing = {
        row["id"] for row in CI_ACCESS["rows"] if row.get("gitlab", row["expect"]) != row["expect"]
    }

    assert differing == {25, 26, 28, 29}


@pytest.mark.parametrize(("issuer", "is_allowed"), [("main", True), ("other", False)])
def test_18_an_agent_of_another_organization_stays_out(issuer: str, *, is_allowed: bool) -> None:
    """An organization is an issuer here."""
    agent = b.an_agent(issuer=issuer, instance=b.an_entry(""))

    decision = authorize(
        b.a_job(issuer="main"),
        agent,
        b.known_surroundings(),
        settings=Settings(instance_wide=True),
        bounds=Bounds(),
        now=b.NOW,
    )

    assert isinstance(decision, Allowed) is is_allowed


def test_30_access_as_absent_and_agent_are_one_and_an_empty_one_is_refused() -> None:
    absent = read_configuration(b"ci_access: {projects: [{id: a/b}]}", file=FILE)
    named = read_configuration(
        b"ci_access: {projects: [{id: a/b, access_as: {agent: {}}}]}", file=FILE
    )
    empty = read_configuration(b"ci_access: {projects: [{id: a/b, access_as: {}}]}", file=FILE)

    assert absent == named
    assert isinstance(empty, InvalidConfiguration)


@pytest.mark.parametrize("access_as", [AsCIJob(), AsIdentity("deployer")])
def test_31_a_stored_entry_with_impersonation_is_visible(access_as: AsCIJob | AsIdentity) -> None:
    agent = b.an_agent(projects={b.APP: b.an_entry(access_as=access_as)})

    stored = agent_items.snapshot_of(agent_items.snapshot_item(agent))

    assert stored == agent


def test_32_a_stored_entry_with_an_unknown_access_as_grants_nothing() -> None:
    item = agent_items.snapshot_item(b.an_agent())
    body = {
        **items.read_body(item, lambda body: body),
        "projects": {"100": {"path": "top/sub1/app", "as": {"unexpected": {}}}},
    }

    with pytest.raises(Unavailable):
        agent_items.snapshot_of(item | items.compressed_body(body))


def test_39_a_refresh_removes_what_left_the_groups_and_changes_what_stayed() -> None:
    instance = Instance(CI_ACCESS["instance"])
    instance.push("prod", {"ci_access": {"groups": [{"id": "top/other"}, {"id": "top/sub1"}]}})
    given = [{"id": "top/sub1/sub2"}, {"id": "TOP/SUB1", "default_namespace": "new"}]
    instance.push("prod", {"ci_access": {"groups": given}})

    groups = instance.snapshot("prod").groups

    assert {i: entry.default_namespace for i, entry in groups.items()} == {3: None, 2: "new"}


def test_40_projects_are_matched_whatever_the_case_on_either_side() -> None:
    instance = Instance(CI_ACCESS["instance"])
    given = [{"id": "TOP/sub1/sub2/bottom/APP"}, {"id": "top/sub1/sub2/bottom/app-two"}]
    instance.push("prod", {"ci_access": {"projects": given}})

    paths = {i: entry.path for i, entry in instance.snapshot("prod").projects.items()}

    assert paths == {100: "top/sub1/sub2/bottom/app", 101: "top/sub1/sub2/bottom/App-Two"}


def test_41_an_empty_configuration_removes_every_entry() -> None:
    instance = Instance(CI_ACCESS["instance"])
    instance.push(
        "prod", {"ci_access": {"groups": [{"id": "top"}], "projects": [{"id": "top/sub1/agents"}]}}
    )
    instance.push("prod", {})

    snapshot = instance.snapshot("prod")

    assert (dict(snapshot.projects), dict(snapshot.groups)) == ({}, {})


def test_44_entries_beyond_the_limit_grant_nothing_in_the_files_order() -> None:
    instance = Instance(CI_ACCESS["instance"])
    filling = [{"id": "top/sub1/agents"}] * (Settings().entry_limit - 1)
    given = [*filling, {"id": "top/sub1/sub2/bottom/app"}, {"id": "top/other/infra"}]
    instance.push("prod", {"ci_access": {"projects": given}})

    within = instance.decide(100)[501]
    beyond = instance.decide(60)[501]

    assert isinstance(within, Allowed)
    assert not isinstance(beyond, Allowed)


def test_47_a_stored_entry_holds_no_id_of_its_own() -> None:
    item = agent_items.snapshot_item(b.an_agent(projects={b.APP: b.an_entry(namespace="payments")}))

    stored = items.read_body(item, lambda body: body["projects"])

    assert stored == {"100": {"path": "top/sub1/app", "as": {"agent": {}}, "namespace": "payments"}}


@pytest.mark.parametrize("row", _rows("filters.json"))
def test_filters_keep_what_gitlab_keeps(row: dict[str, Any]) -> None:
    entries = _load("filters.json")["entries"]

    kept = [name for name in row["given"] if _is_kept(entries[name], row)]

    assert kept == row["kept"]


def _is_kept(written: dict[str, Any], row: dict[str, Any]) -> bool:
    entry = b.an_entry(
        environments=written.get("environments", ()),
        protected_only=written.get("protected_branches_only", False),
    )
    kind = written["kind"]
    agent = b.an_agent(
        projects={b.APP: entry} if kind == "project" else {},
        groups={b.SUB1: entry} if kind == "group" else {},
        config_project=b.a_config_project(b.APP if kind == "implicit" else b.CONFIG_PROJECT),
    )
    job = b.a_job(environment=row["environment"], ref_protected=row["ref_protected"])
    decision = authorize(
        job, agent, b.known_surroundings(), settings=Settings(), bounds=Bounds(), now=b.NOW
    )
    return isinstance(decision, Allowed)


def test_56_a_token_that_does_not_say_whether_its_ref_is_protected_is_refused() -> None:
    claims = gitlab_claims(ref_protected=ABSENT)

    with pytest.raises(InvalidToken, match="ref_protected"):
        verified_job(claims, issuer="main", bounds=Bounds(), now=b.NOW, not_before=None)


@pytest.mark.parametrize("row", _rows("environment_patterns.json"))
def test_environment_patterns_match_as_gitlabs(row: dict[str, Any]) -> None:
    assert environment_matches(row["pattern"], row["environment"]) is row["matches"]


@pytest.mark.parametrize("row", _rows("config_yaml.json"))
def test_config_yaml_is_read_as_strictly_as_by_gitlab(row: dict[str, Any]) -> None:
    data = b"#" * row["bytes"] if row["yaml"] is None else row["yaml"].encode()

    read = read_configuration(data, file=FILE)

    if row["result"] == "refused":
        assert isinstance(read, InvalidConfiguration)
        assert [problem.code for problem in read.problems] == [row["problem"]]
    else:
        assert isinstance(read, AgentConfiguration)
        assert (read == AgentConfiguration()) is (row["result"] == "empty")


def test_a_file_of_the_largest_size_is_read() -> None:
    assert read_configuration(b"#" * FILE_MAX_BYTES, file=FILE) == AgentConfiguration()


@pytest.mark.parametrize("row", _rows("environment_slugs.json"))
def test_environment_slugs_are_gitlabs(row: dict[str, Any]) -> None:
    name = row["name"] or ""
    expected = row["slug"]
    if row.get("stubbed_suffix"):
        stub = _load("environment_slugs.json")["stub"]["suffix"]
        expected = expected.removesuffix(stub) + _suffix(hashlib.sha256(name.encode()).hexdigest())

    assert environment_slug(name) == expected


def test_the_stubbed_suffix_is_that_of_the_stubbed_digest() -> None:
    stub = _load("environment_slugs.json")["stub"]

    assert _suffix(stub["digest"]) == stub["suffix"]


def _suffix(hex_digest: str) -> str:
    """GitLab's suffix, computed another way: the whole number in base 36, then its end."""
    number, text = int(hex_digest, 16), ""
    while number:
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[number % 36] + text
        number //= 36
    return text[-6:]


@pytest.mark.parametrize("row", _rows("identities.json"))
def test_a_jobs_identity_is_gitlabs(row: dict[str, Any]) -> None:
    above = [(i, f"g{i}") for i in row["groups_above"]]
    chain = b.a_chain(*above) if above else b.a_chain((700, "alice"), kind="user")
    grant = b.a_grant(
        row["agent_id"], config_project_id=row["config_project_id"], access_as=AsCIJob()
    )

    identity = identity_of(b.a_job(**row["job"]), grant, issuer=b.an_issuer(), chain=chain)

    assert identity is not None
    assert identity.username == row["user"]
    assert identity.uid == row["uid"]
    assert list(identity.groups) == row["groups"]
    assert [[key, *values] for key, values in identity.extra] == row["extra"]


def test_agent_mode_impersonates_nobody() -> None:
    grant = b.a_grant(access_as=AsAgent())

    assert identity_of(b.a_job(), grant, issuer=b.an_issuer(), chain=None) is None
