"""YAML is read as by GitLab: rows that its own reader made, and every difference named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobgate.core.agent_configuration import (
    AgentConfiguration,
    InvalidConfiguration,
    WrittenEntry,
    read_configuration,
)
from jobgate.core.yaml_scalars import Kind, kind_of_plain

READER = json.loads((Path(__file__).parents[1] / "vectors/config_yaml.json").read_text())["reader"]
DOCUMENTS = {row["name"]: row for row in READER["documents"]}
# What GitLab takes and Jobgate refuses, each because two readers of the file would differ about it.
STRICTER = {
    "merge below a key that it overrides",
    "two merge keys",
    "duplicate key",
    "second document",
    "second, empty document",
    "tag of a text",
    "tag of nobody",
}


@pytest.mark.parametrize("row", READER["scalars"], ids=lambda row: str(row["written"]))
def test_an_unquoted_scalar_is_what_gitlabs_reader_makes_of_it(row: dict[str, str]) -> None:
    kind = kind_of_plain(row["written"])

    # Only as a key does `<<` merge.
    assert ("text" if kind is Kind.MERGE else kind.value) == row["kind"]


@given(st.text("0123456789abefinoxyABEINOXY._+-:~", max_size=30))
def test_any_unquoted_scalar_has_a_kind(text: str) -> None:
    assert kind_of_plain(text) in Kind


@pytest.mark.parametrize("digits", [20, 500, 20_000])
def test_a_long_row_of_digits_is_no_heavy_work(digits: int) -> None:
    # Beyond a float's range GitLab's reader gives up and takes a text.
    assert kind_of_plain("9" * digits) is (Kind.NUMBER if digits < 300 else Kind.TEXT)
    assert kind_of_plain("0x" + "f" * digits) is Kind.TEXT


@pytest.mark.parametrize("row", READER["documents"], ids=lambda row: str(row["name"]))
def test_a_document_is_read_or_refused_as_by_gitlab(row: dict[str, Any]) -> None:
    read = read_configuration(row["yaml"].encode(), file="config.yaml")

    if "problems" in row:
        assert isinstance(read, InvalidConfiguration)
        assert [problem.code for problem in read.problems] == row["problems"]
        assert (row["gitlab"] == "read") is (row["name"] in STRICTER)
    else:
        assert isinstance(read, AgentConfiguration)
        assert _values(read) == _expected(row["json"])


def test_every_difference_is_a_row() -> None:
    assert set(DOCUMENTS) >= STRICTER


def _values(configuration: AgentConfiguration) -> dict[str, list[dict[str, Any]]]:
    return {
        "projects": [_entry(entry) for entry in configuration.projects],
        "groups": [_entry(entry) for entry in configuration.groups],
    }


def _entry(entry: WrittenEntry) -> dict[str, Any]:
    return {
        "id": entry.path,
        "default_namespace": entry.default_namespace,
        "environments": list(entry.environments),
        "protected_branches_only": entry.protected_branches_only,
    }


def _expected(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    access = document.get("ci_access") or {}
    return {
        kind: [
            {
                "id": entry["id"],
                "default_namespace": entry.get("default_namespace"),
                "environments": entry.get("environments") or [],
                "protected_branches_only": entry.get("protected_branches_only") or False,
            }
            for entry in access.get(kind) or ()
        ]
        for kind in ("projects", "groups")
    }


ENTRY = "ci_access: {projects: [%s]}"


@pytest.mark.parametrize(
    ("yaml", "code", "line"),
    [
        # The mistake is shown where it's written, once, however often it's merged.
        ("x: &x\n  nme: a\nci_access:\n  groups: [{<<: *x, id: a}, {<<: *x, id: b}]",
         "unknown_key", 2),
        ("ci_access:\n  groups:\n    - id: a\n      <<: {id: b}", "merge_not_first", 4),
        ("ci_access:\n  groups:\n    - <<: {id: a}\n      <<: {id: b}", "duplicate_key", 4),
        ("ci_access:\n  groups:\n    - <<:\n      - {id: a}\n      - text", "merge_not_mapping", 5),
    ],
)  # fmt: skip
def test_a_mistake_in_a_merge_is_one_problem_at_its_line(yaml: str, code: str, line: int) -> None:
    read = read_configuration(yaml.encode(), file="config.yaml")

    assert isinstance(read, InvalidConfiguration)
    assert [(p.code, p.line) for p in read.problems] == [(code, line)]


def test_merges_nested_beyond_the_bound_are_a_problem() -> None:
    lines = ["m0: &m0 {id: a}", *(f"m{n}: &m{n} {{<<: *m{n - 1}}}" for n in range(1, 3000))]
    yaml = "\n".join([*lines, ENTRY % "{<<: *m2999}"])

    read = read_configuration(yaml.encode(), file="config.yaml")

    assert isinstance(read, InvalidConfiguration)
    assert "too_deep" in [problem.code for problem in read.problems]


@pytest.mark.parametrize("key", ["ci-access", "CI_ACCESS", "ci_acces", "ciAccess"])
def test_a_mistyped_ci_access_takes_no_access_away(key: str) -> None:
    read = read_configuration(f"{key}: {{}}".encode(), file="config.yaml")

    assert isinstance(read, InvalidConfiguration)
    assert [(p.code, p.fix) for p in read.problems] == [("unknown_key", "Did you mean ci_access?")]


@pytest.mark.parametrize(
    "key", ["user_access", "gitops", "observability", "flux", "remote_development"]
)
def test_the_keys_of_other_features_are_no_mistakes(key: str) -> None:
    read = read_configuration(f"{key}: {{any: thing}}".encode(), file="config.yaml")

    assert read == AgentConfiguration()


def test_what_a_problem_shows_can_be_printed_anywhere() -> None:
    yaml = ENTRY % r'{id: a, "\e[2J\u202e\u2028": b}'

    read = read_configuration(yaml.encode(), file="config.yaml")

    assert isinstance(read, InvalidConfiguration)
    assert read.problems[0].text == r"ci_access.projects[0]: \x1b[2J\u202e\u2028"
    assert all((p.text + p.fix).isprintable() for p in read.problems)


@pytest.mark.parametrize(
    ("value", "text", "fix"),
    [
        ("id: 123", "ci_access.projects[0].id: 123",
         "Give the full path, such as top/app: ids aren't read here."),
        ("id: a, environments: [1.10]", "ci_access.projects[0].environments[0]: 1.10",
         'Make it a text, in quotes: "1.10".'),
        ("id: a, environments: prod", "ci_access.projects[0].environments: prod",
         "Make ci_access.projects[0].environments a list (- item)."),
        ("id: a, access_as: {agent: {}, ci_job: {}}",
         "ci_access.projects[0].access_as: agent, ci_job",
         "Give exactly one of agent: {}, ci_job: {} and impersonate: {…}."),
    ],
)  # fmt: skip
def test_a_problem_shows_the_offending_text_and_its_fix(value: str, text: str, fix: str) -> None:
    read = read_configuration((ENTRY % f"{{{value}}}").encode(), file="config.yaml")

    assert isinstance(read, InvalidConfiguration)
    assert [(p.text, p.fix) for p in read.problems] == [(text, fix)]
