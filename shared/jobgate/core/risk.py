"""What a valid `ci_access` allows that its author may not have meant: seven rules.

Each rule is a pure function of the configuration as written and of the project that holds it. A
rule that needs what only GitLab's settings say (who may push to a protected branch, which
environments are protected) judges by the file, and so speaks of a risk, never of a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jobgate.core.agent import AsAgent, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.core.agent_configuration import AgentConfiguration, WrittenEntry

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem and how much it matters."""

    severity: Severity
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Where a rule applies: at an entry, or at the top of the file where there is none."""

    severity: Severity
    entry: WrittenEntry | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRule:
    """`title` says what the risk is, `fix` how to take it away.

    `check` gets the path of the project that holds the file; None is unknown.
    """

    code: str
    title: str
    fix: str
    check: Callable[[AgentConfiguration, str | None], Iterator[Risk]]


def risks_of(
    configuration: AgentConfiguration, *, file: str, project_path: str | None
) -> tuple[Finding, ...]:
    """Every risk in a configuration, in the order of the file."""
    findings = [
        Finding(
            severity=risk.severity,
            problem=Problem(
                code=rule.code,
                file=file,
                line=1 if risk.entry is None else risk.entry.line,
                column=1 if risk.entry is None else risk.entry.column,
                text=f"{risk.text}: {rule.title}",
                fix=rule.fix,
            ),
        )
        for rule in RULES
        for risk in rule.check(configuration, project_path)
    ]
    return tuple(sorted(findings, key=lambda f: (f.problem.line, f.problem.column)))


def group_tree_no_impersonation(
    configuration: AgentConfiguration, _project_path: str | None
) -> Iterator[Risk]:
    """A group entry in agent mode: each project below, and each to come, is the agent."""
    for entry in configuration.groups:
        if isinstance(entry.access_as, AsAgent):
            yield Risk(severity="warning", entry=entry, text=entry.path)


def unprotected_branch_single_project(
    configuration: AgentConfiguration, _project_path: str | None
) -> Iterator[Risk]:
    """A project entry without a filter: whoever may push any branch has the cluster."""
    for entry in configuration.projects:
        if not entry.protected_branches_only and not entry.environments:
            as_agent = isinstance(entry.access_as, AsAgent)
            yield Risk(severity="warning" if as_agent else "note", entry=entry, text=entry.path)


def config_project_implicit_authorization(
    configuration: AgentConfiguration, project_path: str | None
) -> Iterator[Risk]:
    """The configuration project's own jobs have the agent's rights, unless an entry narrows that.

    Where the project's path isn't known, no entry can be told to be its own.
    """
    own = None if project_path is None else project_path.lower()
    if not any(entry.path.lower() == own for entry in configuration.projects):
        text = "the project that holds this file" if project_path is None else project_path
        yield Risk(severity="note", entry=None, text=text)


def instance_wide_grant(
    configuration: AgentConfiguration, _project_path: str | None
) -> Iterator[Risk]:
    """`ci_access.instance`: every project of the GitLab instance, whoever creates it."""
    if configuration.instance is not None:
        yield Risk(severity="warning", entry=configuration.instance, text="ci_access.instance")


def environment_filter_wildcard(
    configuration: AgentConfiguration, _project_path: str | None
) -> Iterator[Risk]:
    """A pattern with `*`: a job's author chooses a name that fits."""
    for entry in _entries(configuration):
        severity: Severity = "note" if entry.protected_branches_only else "warning"
        for pattern in entry.environments:
            if "*" in pattern:
                yield Risk(severity=severity, entry=entry, text=pattern)


def environment_filter_unprotected_named(
    configuration: AgentConfiguration, _project_path: str | None
) -> Iterator[Risk]:
    """A named environment is no barrier: a job on any branch may say that it deploys to it."""
    for entry in _entries(configuration):
        for pattern in entry.environments:
            if "*" not in pattern and not entry.protected_branches_only:
                yield Risk(severity="warning", entry=entry, text=pattern)


def protected_branch_developer_pushable(
    configuration: AgentConfiguration, _project_path: str | None
) -> Iterator[Risk]:
    """`protected_branches_only` alone is as strong as each project's branch protection."""
    for entry in _entries(configuration):
        if entry.protected_branches_only and not entry.environments:
            yield Risk(severity="note", entry=entry, text=entry.path or "ci_access.instance")


def _entries(configuration: AgentConfiguration) -> Iterator[WrittenEntry]:
    yield from configuration.projects
    yield from configuration.groups
    if configuration.instance is not None:
        yield configuration.instance


RULES = (
    RiskRule(
        code="group-tree-no-impersonation",
        title="Every project below a group uses the agent's own rights",
        fix="Set access_as to ci_job or impersonate, and give that identity the rights it needs.",
        check=group_tree_no_impersonation,
    ),
    RiskRule(
        code="unprotected-branch-single-project",
        title="Any branch of a project may use the cluster",
        fix="Set protected_branches_only: true, or name the environments.",
        check=unprotected_branch_single_project,
    ),
    RiskRule(
        code="config-project-implicit-authorization",
        title="Jobs of the configuration project use the agent's own rights without an entry",
        fix="Add an entry for this project under ci_access.projects that narrows its access "
        "(--project says which one it is).",
        check=config_project_implicit_authorization,
    ),
    RiskRule(
        code="instance-wide-grant",
        title="Every project of the GitLab instance may use the cluster",
        fix="Name the projects or groups under ci_access.projects and ci_access.groups.",
        check=instance_wide_grant,
    ),
    RiskRule(
        code="environment-filter-wildcard",
        title="A pattern of environments that the author of a job can fit",
        fix="Write the names of the environments out.",
        check=environment_filter_wildcard,
    ),
    RiskRule(
        code="environment-filter-unprotected-named",
        title="A job on any branch may name the environment",
        fix="Set protected_branches_only: true as well, and protect the environment in GitLab.",
        check=environment_filter_unprotected_named,
    ),
    RiskRule(
        code="protected-branch-developer-pushable",
        title="Nothing but GitLab's branch protection keeps others out",
        fix="Name the environments as well, and let no Developer push or merge to a protected "
        "branch.",
        check=protected_branch_developer_pushable,
    ),
)
