"""A state machine of pushes, messages, crashes, renames and faults around the refresh.

After every step its invariants are checked on what is stored; `quiet` ends a run: no more faults,
one reconcile, and everything is as the head says.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from jobgate.core.errors import JobgateError
from jobgate.core.settings import Settings
from jobgate.ports.refresh import Subject
from jobgate.usecases.publish import subjects_of
from jobgate.usecases.refresh import Refresh

from tests.support import builders as b
from tests.support.fakes import FakeClock
from tests.support.refresh_fakes import FakeRefreshStore
from tests.support.refresh_setting import BROKEN, FILE, Setting, a_project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports.gitlab import GitLabProject
    from jobgate.ports.refresh import ConfigProjectItem, RefreshStore

PATHS = {path: f"top/sub1/{path}" for path in ("a", "b", "c")}
FAULTS = ("project", "head", "agent_files", "raw_file", "group")
names = st.frozensets(st.sampled_from(sorted(PATHS)))
steps = st.integers(min_value=1, max_value=25)


class Killed(BaseException):
    """The process is gone: nothing may catch this."""


class Interrupted:
    """An object whose `at`-th call, counted with others' by `counter`, is preceded by `act`."""

    def __init__(self, wrapped: Any, count: Callable[[], None]) -> None:
        self._wrapped = wrapped
        self._count = count

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._count()
            return found(*arguments, **named)

        return call


class RefreshMachine(RuleBasedStateMachine):
    """On the in-memory store; `make_store` of a subclass gives another."""

    def __init__(self) -> None:
        super().__init__()
        self.setting = Setting()
        self.gitlab = self.setting.gitlab
        self.gitlab.projects = {50: a_project(50, "top/sub1/agents")}
        for number, path in enumerate(PATHS.values()):
            self.gitlab.projects[100 + number] = a_project(100 + number, path)
        self.store = self.make_store(b.a_config_project_item())
        self.clock = FakeClock()
        self.next_id = 200
        self.messages = 0
        self.squatters: dict[int, str] = {}
        self.bound: dict[int, str] = {}
        self.versions: list[int] = []
        self.before: frozenset[int] = frozenset()
        self.heads: list[frozenset[int]] = []
        self.push(frozenset({"a"}))
        self.message_is_taken()

    def make_store(self, project: ConfigProjectItem) -> RefreshStore:
        """A store that holds this configuration project and its agent's connection."""
        store = FakeRefreshStore()
        store.config_projects["main", project.project_id] = project
        store.clusters["main", b.PROD] = b.a_cluster()
        return store

    # --- What happens ---

    @rule(named=names)
    def push(self, named: frozenset[str]) -> None:
        """A commit and its hook."""
        self._commit(named)
        self.messages += 1

    @rule(named=names)
    def push_whose_hook_is_lost(self, named: frozenset[str]) -> None:
        """A commit of which nobody tells."""
        self._commit(named)

    @rule()
    def push_of_a_broken_file(self) -> None:
        """A file that can't be read."""
        self.gitlab.push(50, {FILE: BROKEN})
        self.messages += 1

    @precondition(lambda self: self.messages)
    @rule()
    def message_is_taken(self) -> None:
        """A refresh to its end; what fails comes again."""
        self._watch_heads()
        try:
            self._refresh().run("main", 50)
        except JobgateError:
            return
        finally:
            self._forgive()
        self.messages -= 1

    @precondition(lambda self: self.messages)
    @rule()
    def message_comes_twice(self) -> None:
        """Delivered and taken, and there again."""
        self.message_is_taken()
        self.messages += 1

    @precondition(lambda self: self.messages)
    @rule(at=steps)
    def worker_is_killed(self, at: int) -> None:
        """Before its `at`-th call, which is after the one before; the message comes again."""
        self._watch_heads()
        self._interrupted(at, self._kill)

    @precondition(lambda self: self.messages)
    @rule(at=steps, named=names)
    def slow_refresh_is_overtaken(self, at: int, named: frozenset[str]) -> None:
        """While one refresh waits before a call, another push is refreshed whole."""

        def overtake() -> None:
            self._forgive()  # the slow one may have published already
            self._commit(named)
            self._watch_heads()
            self._run_quietly(self._refresh())

        self._watch_heads()
        self._interrupted(at, overtake)

    @rule(name=st.sampled_from(sorted(PATHS)))
    def project_is_renamed_and_its_path_taken_over(self, name: str) -> None:
        """Somebody else has a project at a path that a file may name."""
        path = PATHS[name]
        for project_id, project in list(self.gitlab.projects.items()):
            if project.path == path:
                moved = dataclasses.replace(project, path=f"{path}-was-{project_id}")
                self.gitlab.projects[project_id] = moved
        newcomer: GitLabProject = a_project(self.next_id, path)
        self.gitlab.projects[self.next_id] = newcomer
        # Known to be one only where the entry was in force for somebody else.
        if path in {e.path for e in self._entries().values()}:
            self.squatters[self.next_id] = name
        self.next_id += 1

    @rule(method=st.sampled_from(FAULTS))
    def gitlab_begins_to_fail(self, method: str) -> None:
        """One of its calls answers 500."""
        self.gitlab.failing.add(method)

    @rule()
    def gitlab_is_well(self) -> None:
        """All calls answer."""
        self.gitlab.failing.clear()

    @rule(seconds=st.sampled_from([1, 300, 90_000, -300]))
    def time_passes(self, seconds: int) -> None:
        """Or a clock is set back."""
        self.clock.advance(seconds)

    @rule()
    def quiet(self) -> None:
        """No more faults, one reconcile: exactly the head, and a second one writes nothing."""
        self.gitlab.failing.clear()
        self._watch_heads()
        self._refresh().run("main", 50)
        self._forgive()
        if self._head_is_broken():
            return
        snapshot = self._snapshot()
        assert snapshot is not None
        assert self._granted() == self._head_grants(), snapshot
        assert self._indexed() == subjects_of(snapshot)
        stored = self.store.config_project("main", 50)
        assert stored is not None
        assert stored.last_error is None
        before = (snapshot, stored, self._indexed())
        self._refresh().run("main", 50)
        after = (self._snapshot(), self.store.config_project("main", 50), self._indexed())
        assert after == before

    # --- What always holds ---

    @invariant()
    def versions_never_go_back(self) -> None:
        """A reader never sees an older one."""
        snapshot = self._snapshot()
        self.versions.append(0 if snapshot is None else snapshot.version)
        assert self.versions == sorted(self.versions)

    @invariant()
    def index_is_a_superset(self) -> None:
        """Whatever was killed or overtaken."""
        snapshot = self._snapshot()
        if snapshot is not None:
            assert subjects_of(snapshot) <= self._indexed()

    @invariant()
    def nobody_has_what_neither_the_last_good_nor_the_head_grants(self) -> None:
        """Each project that is let in was so before this step, or a head of this step says so."""
        granted = self._granted()
        assert granted in [self.before, *self.heads], (granted, self.before, self.heads)
        self.before, self.heads = granted, []

    @invariant()
    def who_took_over_a_path_has_nothing(self) -> None:
        """Until the entry was taken out of the file and written anew."""
        assert not self._granted() & self.squatters.keys()

    @invariant()
    def who_had_an_entry_of_its_own_has_one(self) -> None:
        """Though it be a denial: else a wider entry takes over for who renames a project."""
        entries = self._entries()
        assert self.bound.keys() <= entries.keys(), (self.bound, entries)
        self.bound |= {i: _name_of(e.path) for i, e in entries.items() if e.refused is None}

    # --- How ---

    def _commit(self, named: frozenset[str]) -> None:
        entries = ", ".join(f"{{id: {PATHS[name]}}}" for name in sorted(named))
        self.gitlab.push(50, {FILE: f"ci_access: {{projects: [{entries}]}}".encode()})

    def _refresh(self, store: Any = None, gitlab: Any = None) -> Refresh:
        return Refresh(
            gitlab_of=lambda _alias: gitlab or self.gitlab,
            store=store or self.store,
            recorder=lambda _line: None,
            settings=Settings(),
            clock=self.clock,
            pick=lambda _count: 0,
        )

    def _run_quietly(self, refresh: Refresh) -> None:
        try:
            refresh.run("main", 50)
        except (JobgateError, Killed):
            return
        finally:
            self._forgive()

    def _forgive(self) -> None:
        """Who took over a path may be let in once a head without it was in force; who left it, too.

        By what a group is given, that is.
        """
        snapshot, content = self._snapshot(), self.gitlab.files[50][FILE]
        if snapshot is None or snapshot.commit != self.gitlab._commit(50):
            return
        written = {n for n, path in PATHS.items() if f"{{id: {path}}}".encode() in content}
        self.squatters = {i: name for i, name in self.squatters.items() if name in written}
        self.bound = {i: name for i, name in self.bound.items() if name in written}

    def _interrupted(self, at: int, act: Callable[[], None]) -> None:
        calls = 0

        def count() -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                act()

        store, gitlab = Interrupted(self.store, count), Interrupted(self.gitlab, count)
        self._run_quietly(self._refresh(store, gitlab))

    @staticmethod
    def _kill() -> None:
        raise Killed

    def _watch_heads(self) -> None:
        self.heads.append(self._head_grants())

    def _head_is_broken(self) -> bool:
        return self.gitlab.files[50][FILE] == BROKEN

    def _head_grants(self) -> frozenset[int]:
        """Whom the head lets in, by the ids that the paths have now, newcomers at them left out."""
        content = self.gitlab.files[50][FILE]
        written = {path for path in PATHS.values() if f"{{id: {path}}}".encode() in content}
        found = {i for i, p in self.gitlab.projects.items() if p.path in written}
        return frozenset(found - self.squatters.keys())

    def _snapshot(self) -> AgentSnapshot | None:
        return self.store.snapshot("main", b.PROD)

    def _entries(self) -> Mapping[int, Any]:
        snapshot = self._snapshot()
        return {} if snapshot is None else snapshot.projects

    def _granted(self) -> frozenset[int]:
        return frozenset(i for i, e in self._entries().items() if e.refused is None)

    def _indexed(self) -> frozenset[Subject]:
        subjects = [Subject("project", i) for i in self.gitlab.projects]
        found = self.store.indexed("main", subjects)
        return frozenset(s for s, agents in found.items() if b.PROD in agents)


def _name_of(path: str) -> str:
    return path.rpartition("/")[2]
