"""What is wrong with an agent's file, as far as it can be told without GitLab.

The file is read and compiled by the functions of the refresh. What paths lead to isn't known here:
each is taken to lead somewhere, and its first segment to be its top-level group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.core.agent import ConfigProject
from jobgate.core.agent_configuration import InvalidConfiguration, read_configuration
from jobgate.core.risk import Finding, risks_of
from jobgate.core.snapshot import SnapshotHead, Target, Targets, compile_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.core.agent_configuration import AgentConfiguration
    from jobgate.core.settings import Settings

_OWN_ROOT = 1


def findings_of(
    data: bytes, *, file: str, project_path: str | None, settings: Settings, with_risks: bool
) -> tuple[Finding, ...]:
    """The findings of one file; `project_path` is that of the project that holds it, if known.

    A file that can't be used has errors alone, one that can has warnings and, asked for, risks.
    """
    configuration = read_configuration(data, file=file)
    if isinstance(configuration, InvalidConfiguration):
        return tuple(Finding(severity="error", problem=p) for p in configuration.problems)
    head = SnapshotHead(
        issuer="",
        agent_id=0,
        agent_name="",
        version=1,
        commit="",
        config_project=ConfigProject(
            project_id=0, path=project_path or "", namespace_id=_OWN_ROOT, root_id=_OWN_ROOT
        ),
        file=file,
        at=0,
    )
    targets = _supposed(configuration, project_path)
    snapshot = compile_snapshot(configuration, targets, head, settings=settings)
    warnings = tuple(Finding(severity="warning", problem=p) for p in snapshot.problems)
    if not with_risks:
        return warnings
    return warnings + risks_of(configuration, file=file, project_path=project_path)


def _supposed(configuration: AgentConfiguration, project_path: str | None) -> Targets:
    own_root = None if project_path is None else _root(project_path)
    return Targets(
        projects=_targets((entry.path for entry in configuration.projects), own_root),
        groups=_targets((entry.path for entry in configuration.groups), own_root),
    )


def _targets(paths: Iterable[str], own_root: str | None) -> dict[str, Target | None]:
    folded = dict.fromkeys(path.lower() for path in paths)
    return {
        path: Target(
            id=number,
            path=path,
            root_id=_OWN_ROOT if own_root in (None, _root(path)) else _OWN_ROOT + 1,
        )
        for number, path in enumerate(folded, start=1)
    }


def _root(path: str) -> str:
    return path.split("/", 1)[0].lower()
