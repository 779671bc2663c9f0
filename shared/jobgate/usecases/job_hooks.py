"""Keeps a webhook on each authorised project, where a tier has none of groups.

Each round makes those that lack, gives those with old secrets the new ones, repairs each once a
day (somebody may have deleted it, or switched it off), and removes those of projects that nothing
authorises any more. One project's failure holds up no other; a round that runs out of time is gone
on with by the next one, which begins anywhere in the list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.errors import NotForUs, Unavailable
from jobgate.core.hook import HookMade, HookScope
from jobgate.core.webhook import secrets_of_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobgate.core.webhook import HookSecrets
    from jobgate.ports import AgentSnapshots, Clock, MadeHooks, ProjectHooks, Recorder

_REPAIRED_EVERY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHooks:
    """An issuer whose authorised projects have webhooks.

    `shared` is what their secrets are made from; `others` are projects with a webhook of their own.
    """

    issuer: str
    gitlab: ProjectHooks
    shared: HookSecrets
    others: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHook:
    """What became of a project's webhook: its id in GitLab, or why there is none.

    `scope` is a group's where it isn't known which projects it has.
    """

    scope: HookScope
    hook_id: int | None = None
    created: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHooks:
    """The keeper and what it needs; `pick` picks one of so many at random, from 0."""

    agents: AgentSnapshots
    made: MadeHooks
    recorder: Recorder
    clock: Clock
    pick: Callable[[int], int]

    def run(self, issuers: Iterable[KeptHooks], *, until: float) -> None:
        """A round for each issuer; begins nothing after `until`, in epoch seconds."""
        for kept in issuers:
            try:
                self.keep(kept, until=until)
            except Unavailable as exc:
                self._tell(kept, error=str(exc))

    def keep(self, kept: KeptHooks, *, until: float) -> list[KeptHook]:
        """A round for one issuer: what became of the webhooks that were due."""
        authorised, found = self._authorised(kept)
        made = self.made.made(kept.issuer)
        due = sorted(p for p in authorised if self._is_due(made.get(p), kept.shared))
        first = self.pick(len(due)) if due else 0
        is_whole = not found
        for done, project_id in enumerate(due[first:] + due[:first]):
            if self.clock() >= until:
                left = len(due) - done
                self._tell(kept, warning=f"{left} projects are left to the next round")
                return found
            found.append(self._write(kept, project_id))
        if is_whole:
            for project_id in sorted(made.keys() - authorised):
                self._remove(kept, project_id)
        return found

    def _authorised(self, kept: KeptHooks) -> tuple[set[int], list[KeptHook]]:
        """The projects, and the groups of which they aren't known."""
        projects, groups, homes = set[int](), set[int](), set(kept.others)
        for issuer, agent_id in self.agents.agents():
            snapshot = self.agents.snapshot(issuer, agent_id) if issuer == kept.issuer else None
            if snapshot is not None:
                homes.add(snapshot.config_project.project_id)
                projects |= {i for i, entry in snapshot.projects.items() if entry.refused is None}
                groups |= {i for i, entry in snapshot.groups.items() if entry.refused is None}
        unknown = []
        for group_id in sorted(groups):
            try:
                projects |= set(kept.gitlab.projects_below(group_id))
            except Unavailable as exc:
                unknown.append(KeptHook(scope=HookScope("group", group_id), error=str(exc)))
                self._tell(kept, group_id=group_id, error=str(exc))
        return projects - homes, unknown

    def _is_due(self, made: HookMade | None, shared: HookSecrets) -> bool:
        # Made in the future means that the clock was set back: that isn't young.
        return (
            made is None
            or made.entry_id != shared.entry_id
            or not 0 <= self.clock() - made.at < _REPAIRED_EVERY_SECONDS
        )

    def _write(self, kept: KeptHooks, project_id: int) -> KeptHook:
        secrets = secrets_of_project(kept.shared, project_id)
        try:
            hook_id, created = kept.gitlab.write_of_project(project_id, secrets)
            made = HookMade(entry_id=str(secrets.entry_id), at=self.clock())
            self.made.note(kept.issuer, project_id, made)
        except Unavailable as exc:
            self._tell(kept, project_id=project_id, error=str(exc))
            return KeptHook(scope=HookScope("project", project_id), error=str(exc))
        self._tell(kept, project_id=project_id, made=True)
        scope = HookScope("project", project_id)
        return KeptHook(scope=scope, hook_id=hook_id, created=created)

    def _remove(self, kept: KeptHooks, project_id: int) -> None:
        """A webhook that counts on its own now isn't removed, and one out of sight can't be."""
        told: dict[str, object] = {"removed": True}
        try:
            if project_id not in kept.others:
                kept.gitlab.remove_of_project(project_id)
        except NotForUs as exc:
            told = {"warning": str(exc)}
        except Unavailable as exc:
            self._tell(kept, project_id=project_id, error=str(exc))
            return
        self.made.forget(kept.issuer, project_id)
        self._tell(kept, project_id=project_id, **told)

    def _tell(self, kept: KeptHooks, **values: object) -> None:
        """A line for the log, from which the alarm's metric is taken."""
        self.recorder(json.dumps({"type": "job_hook", "issuer": kept.issuer} | values))
