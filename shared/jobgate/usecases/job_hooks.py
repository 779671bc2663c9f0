"""Keeps a webhook on each authorised project, where a tier has none of groups.

Each round makes those that lack, gives those with old secrets or an old address the new ones,
removes those of projects that nothing authorises any more, and repairs each once a day (somebody
may have deleted it, or switched it off). One project's failure holds up no other; what a round has
no time for is left to the next one, which begins anywhere among what is as urgent.

That a write begins is noted before GitLab is asked, with the secrets that it gives, and that these
are still the newest is read after that. So whoever drops old secrets, and looks here then, sees
every webhook that may have them: an answer may be lost, and two may write at once.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.agent import authorised_by
from jobgate.core.errors import Conflict, NotForUs, Unanswered, Unavailable
from jobgate.core.hook import Due, HookMade, HookScope, HookWrite, due
from jobgate.core.webhook import secrets_of_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jobgate.ports import Clock, Recorder
    from jobgate.ports.hooks import AgentSnapshots, KeptHooks, KeptIssuers, MadeHooks


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

    def run(self, issuers: KeptIssuers, *, until: float) -> None:
        """A round for each issuer; begins nothing after `until`, in epoch seconds.

        Each has an equal share of the time, and what others before it have left of theirs.
        """
        aliases = issuers.aliases()
        for done, alias in enumerate(aliases):
            seconds = (until - self.clock()) / (len(aliases) - done)
            try:
                kept = issuers.kept(alias, seconds=seconds)
                if kept is not None:
                    self.keep(kept, until=self.clock() + seconds)
            except Unavailable as exc:
                self._tell(alias, error=str(exc))
            except Conflict as exc:
                self._tell(alias, warning=str(exc))

    def keep(self, kept: KeptHooks, *, until: float) -> list[KeptHook]:
        """A round for one issuer: what became of the webhooks that were due.

        Raises Conflict where newer secrets were stored meanwhile.
        """
        authorised, found = self._authorised(kept)
        made = self.made.made(kept.issuer)
        steps = self._steps(kept, authorised, made, may_remove=not found)
        for done, (project_id, is_wanted) in enumerate(steps):
            if self.clock() >= until:
                left = len(steps) - done
                self._tell(kept.issuer, warning=f"{left} projects are left to the next round")
                break
            if is_wanted:
                found += self._write(kept, project_id, made.get(project_id))
            else:
                self._remove(kept, project_id, made[project_id])
        return found

    def _authorised(self, kept: KeptHooks) -> tuple[set[int], list[KeptHook]]:
        """The projects, and the groups of which they aren't known."""
        projects, groups, homes = set[int](), set[int](), set(kept.others)
        for issuer, agent_id in self.agents.agents():
            snapshot = self.agents.snapshot(issuer, agent_id) if issuer == kept.issuer else None
            if snapshot is not None:
                homes.add(snapshot.config_project.project_id)
                projects |= authorised_by(snapshot.projects)
                groups |= authorised_by(snapshot.groups)
        unknown = []
        for group_id in sorted(groups):
            try:
                projects |= set(kept.gitlab.active_projects_below(group_id))
            except Unavailable as exc:
                unknown.append(KeptHook(scope=HookScope("group", group_id), error=str(exc)))
                self._tell(kept.issuer, group_id=group_id, error=str(exc))
        return projects - homes, unknown

    def _steps(
        self,
        kept: KeptHooks,
        authorised: set[int],
        made: Mapping[int, HookMade],
        *,
        may_remove: bool,
    ) -> list[tuple[int, bool]]:
        """Projects in the order of their turn, and whether each is to have a webhook."""
        entry_id, address, now = kept.shared.entry_id, kept.gitlab.address, self.clock()
        reasons = {p: due(made.get(p), entry_id, address, now=now) for p in authorised}

        def wanted(reason: Due) -> list[tuple[int, bool]]:
            return self._turned((p, True) for p in sorted(authorised) if reasons[p] is reason)

        unwanted = sorted(made.keys() - authorised) if may_remove else []
        return [
            *wanted(Due.NEW),
            *wanted(Due.CHANGED),
            *self._turned((project_id, False) for project_id in unwanted),
            *wanted(Due.AGAIN),
        ]

    def _turned(self, steps: Iterable[tuple[int, bool]]) -> list[tuple[int, bool]]:
        found = list(steps)
        first = self.pick(len(found)) if found else 0
        return found[first:] + found[:first]

    def _write(self, kept: KeptHooks, project_id: int, made: HookMade | None) -> list[KeptHook]:
        """What became of it; nothing of a project that is archived."""
        scope = HookScope("project", project_id)
        try:
            hook = self._written(kept, project_id, made or HookMade())
        except Unavailable as exc:
            self._tell(kept.issuer, project_id=project_id, error=str(exc))
            return [KeptHook(scope=scope, error=str(exc))]
        if hook is None:
            self._tell(kept.issuer, project_id=project_id, archived=True)
            return []
        self._tell(kept.issuer, project_id=project_id, made=True)
        return [KeptHook(scope=scope, hook_id=hook[0], created=hook[1])]

    def _written(self, kept: KeptHooks, project_id: int, made: HookMade) -> tuple[int, bool] | None:
        """The webhook's id and whether it's new, None of a project that is archived."""
        entry_id = str(kept.shared.entry_id)
        write = HookWrite(self.clock(), entry_id)
        begun = self._begin(kept, project_id, made, write)
        if kept.newest() != entry_id:
            self._note(kept, project_id, begun.given_up(write))
            raise Conflict("newer secrets of webhooks were stored meanwhile")
        secrets = secrets_of_project(kept.shared, project_id)
        try:
            hook = kept.gitlab.write(project_id, secrets, formerly=made.address)
        except Unanswered:
            raise
        except Unavailable as exc:
            if isinstance(exc, NotForUs) and kept.gitlab.is_archived(project_id):
                self._note(kept, project_id, begun.found_archived(now=self.clock()))
                return None
            self._note(kept, project_id, begun.given_up(write))
            raise
        finished = begun.finished(write, kept.gitlab.address, now=self.clock())
        self._note(kept, project_id, finished)
        return hook

    def _begin(
        self, kept: KeptHooks, project_id: int, made: HookMade, write: HookWrite
    ) -> HookMade:
        """Note that a write begins; somebody else may have written since the round began."""
        try:
            begun = made.begun(write)
            self.made.note(kept.issuer, project_id, begun)
        except Conflict:
            begun = self.made.made(kept.issuer).get(project_id, HookMade()).begun(write)
            try:
                self.made.note(kept.issuer, project_id, begun)
            except Conflict as exc:
                raise Unavailable(str(exc)) from exc
        return begun

    def _note(self, kept: KeptHooks, project_id: int, made: HookMade) -> None:
        """Where somebody else has begun meanwhile, it stays unfinished, and is written again."""
        with suppress(Conflict):
            self.made.note(kept.issuer, project_id, made)

    def _remove(self, kept: KeptHooks, project_id: int, made: HookMade) -> None:
        """A webhook that counts on its own now isn't removed, and one out of sight can't be."""
        told: dict[str, object] = {"removed": True}
        try:
            if project_id not in kept.others:
                kept.gitlab.remove(project_id, formerly=made.address)
        except NotForUs as exc:
            told = {"warning": str(exc)}
        except Unavailable as exc:
            self._tell(kept.issuer, project_id=project_id, error=str(exc))
            return
        self.made.forget(kept.issuer, project_id)
        self._tell(kept.issuer, project_id=project_id, **told)

    def _tell(self, issuer: str, **values: object) -> None:
        """A line for the log, from which the alarm's metric is taken."""
        self.recorder(json.dumps({"type": "job_hook", "issuer": issuer} | values))
