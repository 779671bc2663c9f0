"""Compiles a written configuration into a snapshot: paths become ids, limits and scope are checked.

Nothing that is refused lets something wider in: an entry whose target is known but that may not be
used stays as a denial in its place of precedence.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.agent import AgentSnapshot, AsIdentity, Entry
from jobgate.core.impersonation import fault_of_static_identity
from jobgate.core.problem import ProblemCode, Problems
from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobgate.core.agent import ConfigProject, Problem
    from jobgate.core.agent_configuration import AgentConfiguration, WrittenEntry
    from jobgate.core.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path in the file leads to now: a project or a group, and its top-level namespace."""

    id: int
    path: str
    root_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Every path of a file, lower-cased, with what it leads to; None leads nowhere."""

    projects: Mapping[str, Target | None]
    groups: Mapping[str, Target | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHead:
    """What a snapshot says beside its entries; `at` in epoch seconds."""

    issuer: str
    agent_id: int
    agent_name: str
    version: int
    commit: str
    config_project: ConfigProject
    file: str
    at: float
    blob: str | None = None


def compile_snapshot(
    configuration: AgentConfiguration,
    targets: Targets,
    head: SnapshotHead,
    *,
    settings: Settings,
    previous: AgentSnapshot | None = None,
) -> AgentSnapshot:
    """A snapshot of a valid configuration. A later entry for the same target wins.

    A path that led elsewhere in `previous` is suspended: its entry denies until it was taken out of
    the file and written anew, whom the path leads to now and whom it led to alike.
    """
    problems = Problems(head.file)
    compiling = _Compiling(head, settings, problems, _known_ids(previous))
    compiled = AgentSnapshot(
        issuer=head.issuer,
        agent_id=head.agent_id,
        agent_name=head.agent_name,
        version=head.version,
        commit=head.commit,
        valid=True,
        config_project=head.config_project,
        valid_since=head.at,
        projects=compiling.entries("project", configuration.projects, targets.projects),
        groups=compiling.entries("group", configuration.groups, targets.groups),
        instance=compiling.instance(configuration.instance),
        problems=problems.in_order(),
        blob=head.blob,
        former=compiling.former,
    )
    if previous is not None and _grants(previous) == _grants(compiled):
        return dataclasses.replace(compiled, valid_since=previous.valid_since)
    return compiled


def keep_last_good(
    previous: AgentSnapshot | None, head: SnapshotHead, problems: tuple[Problem, ...]
) -> AgentSnapshot:
    """What a broken file leaves: the last good configuration in force, with the file's problems.

    Where the configuration project is now isn't in the file: scope is judged by that, not by where
    it was. A file that was never valid grants nothing, implicit access included.
    """
    if previous is not None:
        return dataclasses.replace(
            previous,
            version=head.version,
            config_project=head.config_project,
            problems=problems,
            doubt_since=None,
            blob=head.blob,
        )
    return AgentSnapshot(
        issuer=head.issuer,
        agent_id=head.agent_id,
        agent_name=head.agent_name,
        version=head.version,
        commit=head.commit,
        valid=False,
        config_project=head.config_project,
        projects={},
        groups={},
        problems=problems,
        blob=head.blob,
    )


def _grants(snapshot: AgentSnapshot) -> tuple[object, ...]:
    return snapshot.valid, snapshot.projects, snapshot.groups, snapshot.instance


def _known_ids(previous: AgentSnapshot | None) -> dict[str, int]:
    """Where written paths led when they were written, as far as that is known."""
    if previous is None:
        return {}
    entries = {_path_key("project", e.path): i for i, e in previous.projects.items()}
    entries |= {_path_key("group", e.path): i for i, e in previous.groups.items()}
    # What was suspended before stays so, whatever the path leads to.
    return entries | dict(previous.former)


def _path_key(kind: str, path: str) -> str:
    return f"{kind}:{path.lower()}"


class _Compiling:
    def __init__(
        self,
        head: SnapshotHead,
        settings: Settings,
        problems: Problems,
        known_ids: Mapping[str, int],
    ) -> None:
        self._head = head
        self._settings = settings
        self._problems = problems
        self._known_ids = known_ids
        self.former: dict[str, int] = {}

    def entries(
        self, kind: str, written: Sequence[WrittenEntry], targets: Mapping[str, Target | None]
    ) -> dict[int, Entry]:
        entries: dict[int, Entry] = {}
        left: dict[int, Entry] = {}
        for number, entry in enumerate(written):
            target = targets[entry.path.lower()]
            path = _path_key(kind, entry.path)
            known = self._known_ids.get(path)
            is_reused = known is not None and (target is None or target.id != known)
            if known is not None and is_reused:
                self.former[path] = known
                # Else who renames a project would get out of its own entry and into a group's.
                left[known] = self._stored(entry, entry.path, Reason.NOT_LISTED)
            if target is None:
                self.problem(
                    entry, ProblemCode.NOT_FOUND, entry.path, "Correct the path, or remove it."
                )
                continue
            if target.id in entries:
                self.problem(
                    entry, ProblemCode.DUPLICATE, entry.path, "Leave one; the last one counts."
                )
                if number >= self._settings.entry_limit:
                    # GitLab cuts the list before it looks for duplicates: the first one stays.
                    continue
            compiled = self._entry(entry, target, number)
            if is_reused:
                compiled = dataclasses.replace(compiled, refused=Reason.NOT_LISTED)
                self.problem(
                    entry,
                    ProblemCode.PATH_REUSED,
                    f"{entry.path} (was {kind} {known}, is {kind} {target.id})",
                    "If it is meant, take the entry out, push, and add it again.",
                )
            entries[target.id] = compiled
        return left | entries

    def instance(self, written: WrittenEntry | None) -> Entry | None:
        if written is None:
            return None
        if not self._settings.instance_wide:
            self.problem(
                written,
                ProblemCode.INSTANCE_NOT_ENABLED,
                "ci_access.instance",
                "Name projects or groups: this deployment doesn't grant to the whole instance.",
            )
            return None
        return self._stored(written, "", self._reserved(written))

    def _entry(self, written: WrittenEntry, target: Target, number: int) -> Entry:
        limit = self._settings.entry_limit
        if number >= limit:
            fix = f"Keep to {limit} entries, or authorize a group instead."
            self.problem(written, ProblemCode.BEYOND_LIMIT, written.path, fix)
            return self._stored(written, target.path, Reason.NOT_LISTED)
        refused = self._reserved(written)
        if self._is_out_of_scope(target):
            # What is in scope now is judged anew at each decision; what isn't never counts, so that
            # nobody gets in by moving where an entry that was reported as without effect leads.
            fix = "Only projects and groups of the same top-level group can be authorized."
            self.problem(written, ProblemCode.OUT_OF_SCOPE, written.path, fix)
            refused = refused or Reason.OUT_OF_SCOPE
        return self._stored(written, target.path, refused)

    def _reserved(self, written: WrittenEntry) -> Reason | None:
        if not isinstance(written.access_as, AsIdentity):
            return None
        allowed = self._settings.allowed_identities
        fault = fault_of_static_identity(written.access_as, allowed=allowed)
        if fault is None:
            return None
        self.problem(written, ProblemCode.RESERVED_IDENTITY, fault, "Name another user or group.")
        return Reason.RESERVED_IDENTITY

    def _is_out_of_scope(self, target: Target) -> bool:
        if self._settings.instance_wide:
            return False
        return target.root_id != self._head.config_project.root_id

    @staticmethod
    def _stored(written: WrittenEntry, path: str, refused: Reason | None) -> Entry:
        return Entry(
            path=path,
            access_as=written.access_as,
            default_namespace=written.default_namespace,
            environments=written.environments,
            protected_branches_only=written.protected_branches_only,
            refused=refused,
        )

    def problem(self, entry: WrittenEntry, code: ProblemCode, text: str, fix: str) -> None:
        self._problems.add(code, (entry.line, entry.column), text=text, fix=fix)
