"""`jobgate lint`: what is wrong with the agents' files of a checkout, before they are pushed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jobgate.cli.checkouts import agents_folder, read_agents_folder
from jobgate.cli.inputs import agent_name
from jobgate.cli.problems import problem_as_json, problem_line
from jobgate.core.agent_folder import AGENTS_FOLDER, FileKind, agent_folder, config_file
from jobgate.core.errors import InvalidRequest
from jobgate.core.lint import findings_of
from jobgate.core.problem import ProblemCode, Problems
from jobgate.core.risk import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from jobgate.cli.checkouts import CheckedOut
    from jobgate.cli.output import Output
    from jobgate.core.settings import Settings


def lint(
    checkouts: Sequence[Path], *, settings: Settings, project_path: str | None, with_risks: bool
) -> list[Finding]:
    """Every finding of every file. Raises InvalidRequest where a checkout has no agent."""
    findings: list[Finding] = []
    for checkout in checkouts:
        tree = read_agents_folder(agents_folder(checkout))
        found = list(_of_checkout(tree, settings, project_path, with_risks=with_risks))
        if not found and not any(path.endswith("/config.yaml") for path in tree):
            raise InvalidRequest(f"{checkout / AGENTS_FOLDER} holds no agent's configuration.")
        for finding in found:
            file = (checkout / finding.problem.file).as_posix()
            problem = dataclasses.replace(finding.problem, file=file)
            findings.append(dataclasses.replace(finding, problem=problem))
    return findings


def show(output: Output, findings: Sequence[Finding]) -> None:
    """Print one line a finding, and how many there are."""
    for finding in findings:
        output.say(problem_line(finding.problem, severity=finding.severity))
    output.say(f"{len(findings) or 'No'} finding{'' if len(findings) == 1 else 's'}.")


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings in the form for scripts: problems as of `decide`, each with its severity."""
    problems = [
        {**problem_as_json(finding.problem), "severity": finding.severity} for finding in findings
    ]
    return {"v": 1, "problems": problems}


def _of_checkout(
    tree: Mapping[str, CheckedOut],
    settings: Settings,
    project_path: str | None,
    *,
    with_risks: bool,
) -> Iterator[Finding]:
    kinds = {path: checked_out.kind for path, checked_out in tree.items()}
    for name in _names(kinds):
        folder = agent_folder(name, kinds)
        yield from (Finding(severity="error", problem=p) for p in folder.refused)
        yield from (Finding(severity="warning", problem=p) for p in folder.unread)
        if not folder.has_file:
            continue
        yield from _of_name(name)
        file = config_file(name)
        yield from findings_of(
            tree[file].content,
            file=file,
            project_path=project_path,
            settings=settings,
            with_risks=with_risks,
        )


def _names(kinds: Mapping[str, FileKind]) -> list[str]:
    """What may be agents' folders: a file of another name beside them is nobody's concern."""
    prefix = f"{AGENTS_FOLDER}/"
    paths = {path.removeprefix(prefix): kind for path, kind in kinds.items()}
    return [p for p, kind in paths.items() if "/" not in p and kind is not FileKind.FILE]


def _of_name(name: str) -> Iterator[Finding]:
    try:
        agent_name(name)
    except InvalidRequest as exc:
        problems = Problems(config_file(name))
        problems.add(ProblemCode.OTHER_NAME, (1, 1), text=name, fix=str(exc))
        yield from (Finding(severity="warning", problem=p) for p in problems.in_order())
