"""Each of the seven risk rules is raised for its bad configuration, and is silent for the good."""

from __future__ import annotations

import pytest
from jobgate.core.agent_configuration import AgentConfiguration, read_configuration
from jobgate.core.risk import RULES, risks_of

FILE = ".gitlab/agents/prod/config.yaml"
OWN = "top/agents"

# rule: (severity, bad configuration, its good twin)
TWINS = {
    "group-tree-no-impersonation": (
        "warning",
        "groups: [{id: top}]",
        "groups: [{id: top, access_as: {ci_job: {}}}]",
    ),
    "unprotected-branch-single-project": (
        "warning",
        "projects: [{id: top/app}]",
        "projects: [{id: top/app, protected_branches_only: true}]",
    ),
    "config-project-implicit-authorization": (
        "note",
        "projects: [{id: top/app}]",
        "projects: [{id: Top/Agents, access_as: {ci_job: {}}}]",
    ),
    "instance-wide-grant": ("warning", "instance: {}", "groups: [{id: top}]"),
    "environment-filter-wildcard": (
        "warning",
        "projects: [{id: top/app, environments: [prod*]}]",
        "projects: [{id: top/app, environments: [production]}]",
    ),
    "environment-filter-unprotected-named": (
        "warning",
        "projects: [{id: top/app, environments: [production]}]",
        "projects: [{id: top/app, environments: [production], protected_branches_only: true}]",
    ),
    "protected-branch-developer-pushable": (
        "note",
        "projects: [{id: top/app, protected_branches_only: true}]",
        "projects: [{id: top/app, environments: [production], protected_branches_only: true}]",
    ),
}


def risks(ci_access: str, *, project_path: str | None = OWN) -> list[tuple[str, str]]:
    configuration = read_configuration(f"ci_access: {{{ci_access}}}".encode(), file=FILE)
    assert isinstance(configuration, AgentConfiguration)
    found = risks_of(configuration, file=FILE, project_path=project_path)
    return [(finding.problem.code, finding.severity) for finding in found]


def test_the_rules_are_the_seven_of_the_threat_model() -> None:
    assert [rule.code for rule in RULES] == list(TWINS)


@pytest.mark.parametrize("code", TWINS)
def test_a_rule_is_raised_for_the_bad_twin(code: str) -> None:
    severity, bad, _ = TWINS[code]

    assert risks(bad).count((code, severity)) == 1


@pytest.mark.parametrize("code", TWINS)
def test_a_rule_is_silent_for_the_good_twin(code: str) -> None:
    _, _, good = TWINS[code]

    assert code not in dict(risks(good))


def test_a_configuration_without_any_risk_can_be_written() -> None:
    filters = "access_as: {ci_job: {}}, environments: [production], protected_branches_only: true"

    assert risks(f"projects: [{{id: {OWN}, {filters}}}], groups: [{{id: top, {filters}}}]") == []


def test_an_empty_configuration_leaves_the_implicit_access() -> None:
    assert risks("") == [("config-project-implicit-authorization", "note")]


def test_no_entry_is_the_projects_own_where_its_path_is_not_known() -> None:
    found = risks(f"projects: [{{id: {OWN}, protected_branches_only: true}}]", project_path=None)

    assert ("config-project-implicit-authorization", "note") in found


@pytest.mark.parametrize(
    ("entry", "severity"),
    [
        ("projects: [{id: top/app, access_as: {ci_job: {}}}]", "note"),
        ("projects: [{id: top/app, access_as: {impersonate: {username: u}}}]", "note"),
        ("projects: [{id: top/app, access_as: {agent: {}}}]", "warning"),
    ],
)
def test_an_unprotected_branch_weighs_less_where_an_identity_bounds_it(
    entry: str, severity: str
) -> None:
    assert dict(risks(entry))["unprotected-branch-single-project"] == severity


def test_a_wildcard_weighs_less_behind_a_protected_branch() -> None:
    entry = "groups: [{id: top, environments: ['*'], protected_branches_only: true}]"

    assert dict(risks(entry))["environment-filter-wildcard"] == "note"


@pytest.mark.parametrize("where", ["projects: [{id: a/b, %s}]", "groups: [{id: a, %s}]"])
@pytest.mark.parametrize(
    ("filters", "code"),
    [
        ("environments: [a*]", "environment-filter-wildcard"),
        ("environments: [a]", "environment-filter-unprotected-named"),
        ("protected_branches_only: true", "protected-branch-developer-pushable"),
    ],
)
def test_filters_are_judged_alike_in_projects_and_groups(
    where: str, filters: str, code: str
) -> None:
    assert code in dict(risks(where % filters))


def test_filters_of_an_instance_entry_are_judged_too() -> None:
    found = dict(risks("instance: {environments: [a*, b]}"))

    assert {"environment-filter-wildcard", "environment-filter-unprotected-named"} <= set(found)


def test_a_risk_is_shown_at_the_entry_that_it_is_about() -> None:
    text = (
        b"ci_access:\n  groups:\n    - id: top/a\n    - id: top/b\n      access_as: {ci_job: {}}\n"
    )
    configuration = read_configuration(text, file=FILE)
    assert isinstance(configuration, AgentConfiguration)

    found = risks_of(configuration, file=FILE, project_path=OWN)

    assert [(f.problem.file, f.problem.line, f.problem.column) for f in found] == [
        (FILE, 1, 1),
        (FILE, 3, 11),
    ]
