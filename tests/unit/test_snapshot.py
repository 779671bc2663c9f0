from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.agent import PROBLEMS_MAX, AgentSnapshot, AsIdentity, Problem
from jobgate.core.agent_configuration import AgentConfiguration, WrittenEntry
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.core.snapshot import Target, Targets, compile_snapshot, keep_last_good

from tests.support import builders as b

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENTRY_LIMIT = Settings().entry_limit
PROBLEM = Problem(code="yaml_syntax", file="f", line=1, column=1, text="t", fix="x")


def written(path: str = "top/sub1/app", *, line: int = 1, **values: Any) -> WrittenEntry:
    return WrittenEntry(path=path, line=line, column=3, **values)


def compiled(
    projects: Iterable[WrittenEntry] = (),
    groups: Iterable[WrittenEntry] = (),
    *,
    targets: Mapping[str, Target | None] | None = None,
    instance: WrittenEntry | None = None,
    settings: Settings | None = None,
) -> AgentSnapshot:
    known = {"top/sub1/app": b.a_target(b.APP, "top/sub1/app")}
    return compile_snapshot(
        AgentConfiguration(projects=tuple(projects), groups=tuple(groups), instance=instance),
        Targets(
            projects=known if targets is None else targets,
            groups={"top": b.a_target(b.TOP, "top"), "ext": b.a_target(9, "ext", root_id=9)},
        ),
        b.a_snapshot_head(),
        settings=settings or Settings(),
    )


def codes(snapshot: AgentSnapshot) -> list[str]:
    return [problem.code for problem in snapshot.problems]


def test_an_entry_is_keyed_by_the_id_and_named_by_the_path_that_was_found() -> None:
    snapshot = compiled(
        [written("TOP/Sub1/APP", environments=("a",), default_namespace="n")],
        targets={"top/sub1/app": b.a_target(b.APP, "Top/sub1/App")},
    )

    entry = b.an_entry("Top/sub1/App", environments=["a"], namespace="n")
    assert snapshot == b.an_agent(projects={b.APP: entry}, valid_since=b.NOW)


def test_a_path_that_leads_nowhere_is_a_problem_at_its_line_and_grants_nothing() -> None:
    snapshot = compiled([written("top/gone", line=7)], targets={"top/gone": None})

    assert dict(snapshot.projects) == {}
    assert [(p.code, p.line, p.column, p.text) for p in snapshot.problems] == [
        ("not_found", 7, 3, "top/gone")
    ]


def test_the_last_of_two_entries_for_one_target_wins_and_is_reported() -> None:
    snapshot = compiled(
        [written(default_namespace="first"), written("TOP/sub1/app", default_namespace="last")]
    )

    assert snapshot.projects[b.APP].default_namespace == "last"
    assert codes(snapshot) == ["duplicate"]


def test_an_entry_beyond_the_limit_denies_in_its_place_and_is_reported() -> None:
    targets = {f"p{i}": b.a_target(i, f"p{i}") for i in range(ENTRY_LIMIT + 1)}

    entries = [written(path, line=line) for line, path in enumerate(targets, start=1)]
    snapshot = compiled(entries, targets=targets)

    refused = {i: e.refused for i, e in snapshot.projects.items() if e.refused is not None}
    assert refused == {ENTRY_LIMIT: Reason.NOT_LISTED}
    assert codes(snapshot) == ["beyond_limit"]


def test_projects_and_groups_have_a_limit_each() -> None:
    targets = {f"p{i}": b.a_target(i, f"p{i}") for i in range(ENTRY_LIMIT)}

    snapshot = compiled([written(p) for p in targets], [written("top")], targets=targets)

    assert codes(snapshot) == []


def test_a_duplicate_beyond_the_limit_takes_nothing_from_the_entry_within() -> None:
    targets = {f"p{i}": b.a_target(i, f"p{i}") for i in range(ENTRY_LIMIT)}
    entries = [*(written(path) for path in targets), written("p0", default_namespace="late")]

    snapshot = compiled(entries, targets=targets)

    assert snapshot.projects[0] == b.an_entry("p0")
    assert codes(snapshot) == ["duplicate"]


def test_a_reserved_identity_stays_as_a_denial_in_its_place() -> None:
    identity = AsIdentity("deployer", groups=("system:masters",))

    snapshot = compiled([written(access_as=identity)])

    expected = dataclasses.replace(b.an_entry(access_as=identity), refused=Reason.RESERVED_IDENTITY)
    assert snapshot.projects == {b.APP: expected}
    assert codes(snapshot) == ["reserved_identity"]


def test_a_target_of_another_root_denies_in_its_place_and_is_reported() -> None:
    snapshot = compiled(groups=[written("ext")])

    expected = dataclasses.replace(b.an_entry("ext"), refused=Reason.OUT_OF_SCOPE)
    assert snapshot.groups == {9: expected}
    assert codes(snapshot) == ["out_of_scope"]


def test_two_faults_of_one_entry_are_both_reported() -> None:
    entry = written("ext", access_as=AsIdentity("system:admin"))

    snapshot = compiled(groups=[entry])

    assert snapshot.groups[9].refused is Reason.RESERVED_IDENTITY
    assert sorted(codes(snapshot)) == ["out_of_scope", "reserved_identity"]


def test_an_instance_entry_is_not_honoured_and_is_reported() -> None:
    snapshot = compiled(instance=written(""))

    assert snapshot.instance is None
    assert codes(snapshot) == ["instance_not_enabled"]


def test_the_problems_of_one_file_are_bounded() -> None:
    targets: dict[str, Target | None] = {f"p{i}": None for i in range(PROBLEMS_MAX + 50)}

    entries = [written(path, line=line) for line, path in enumerate(targets, start=1)]
    snapshot = compiled(entries, targets=targets)

    assert len(snapshot.problems) == PROBLEMS_MAX


def test_a_broken_file_keeps_the_last_good_entries_and_their_commit() -> None:
    previous = b.an_agent(version=4, commit="1" * 40, projects={b.APP: b.an_entry()})

    kept = keep_last_good(previous, b.a_snapshot_head(version=5), (PROBLEM,))

    assert kept == dataclasses.replace(previous, version=5, problems=(PROBLEM,))


def test_a_broken_file_does_not_keep_the_scope_of_a_place_that_was_left() -> None:
    previous = b.an_agent(projects={b.APP: b.an_entry()})
    moved = b.a_config_project(path="ext/agents", namespace_id=9, root_id=9)

    kept = keep_last_good(previous, b.a_snapshot_head(version=2, config_project=moved), (PROBLEM,))

    assert kept.config_project == moved


@pytest.mark.parametrize("previous", [None, b.an_agent(valid=False)])
def test_a_broken_file_with_no_good_one_before_is_not_valid(previous: AgentSnapshot | None) -> None:
    kept = keep_last_good(previous, b.a_snapshot_head(version=2), (PROBLEM,))

    assert kept == b.an_agent(version=2, valid=False, problems=[PROBLEM])


def test_what_a_problem_shows_of_a_file_is_printable_and_short() -> None:
    path = "\x1b[2J" + "x" * 30_000

    snapshot = compiled([written(path)], targets={path.lower(): None})

    assert len(snapshot.problems[0].text) <= 120
    assert snapshot.problems[0].text.isprintable()


# --- The deployment's settings ---


def test_an_instance_entry_of_an_instance_wide_deployment_counts_like_any_other() -> None:
    wide = Settings(instance_wide=True)

    snapshot = compiled(instance=written("", environments=("a",)), settings=wide)

    assert snapshot.instance == b.an_entry("", environments=["a"])
    assert codes(snapshot) == []


def test_an_instance_entry_with_a_reserved_identity_stays_as_a_denial() -> None:
    identity = AsIdentity("system:admin")

    snapshot = compiled(
        instance=written("", access_as=identity), settings=Settings(instance_wide=True)
    )

    assert snapshot.instance is not None
    assert snapshot.instance.refused is Reason.RESERVED_IDENTITY
    assert codes(snapshot) == ["reserved_identity"]


def test_a_target_of_another_root_is_no_problem_instance_wide() -> None:
    snapshot = compiled(groups=[written("ext")], settings=Settings(instance_wide=True))

    assert snapshot.groups == {9: b.an_entry("ext")}
    assert codes(snapshot) == []


def test_the_limit_is_the_deployments() -> None:
    targets = {f"p{i}": b.a_target(i, f"p{i}") for i in range(4)}

    snapshot = compiled(
        [written(path) for path in targets], targets=targets, settings=Settings(entry_limit=3)
    )

    refused = [i for i, entry in snapshot.projects.items() if entry.refused is not None]
    assert refused == [3]
    assert "Keep to 3 entries" in snapshot.problems[0].fix


def test_a_reserved_name_that_the_deployment_allows_is_no_problem() -> None:
    identity = AsIdentity("deployer", groups=("system:masters",))
    allowed = Settings(allowed_identities=frozenset({"system:masters"}))

    snapshot = compiled([written(access_as=identity)], settings=allowed)

    assert snapshot.projects == {b.APP: b.an_entry(access_as=identity)}
    assert codes(snapshot) == []
