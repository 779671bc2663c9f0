"""The webhooks of authorised projects: which are made, repaired and removed, round by round."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from jobgate.core.errors import NotForUs, Unavailable
from jobgate.core.hook import HookMade, HookScope
from jobgate.core.reasons import Reason
from jobgate.core.webhook import HookSecrets, secrets_of_project
from jobgate.ports import AgentSnapshots, MadeHooks, ProjectHooks
from jobgate.usecases.job_hooks import JobHooks, KeptHooks

from tests.support import builders as b
from tests.support.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.core.agent import AgentSnapshot

APP, API, GROUP = 101, 102, 7
SHARED = HookSecrets(secret_token="s3cret", signing_token="whsec_a2V5", entry_id="e1")
DAY = 86_400


class FakeGitLab(ProjectHooks):
    """Webhooks by project; `faults` are raised for a project or a group."""

    def __init__(self) -> None:
        self.hooks: dict[int, HookSecrets] = {}
        self.below: dict[int, list[int]] = {}
        self.faults: dict[int, Exception] = {}
        self.calls: list[tuple[str, int]] = []

    def write_of_project(self, project_id: int, secrets: HookSecrets) -> tuple[int, bool]:
        self._call("write", project_id)
        is_new = project_id not in self.hooks
        self.hooks[project_id] = secrets
        return project_id, is_new

    def remove_of_project(self, project_id: int) -> None:
        self._call("remove", project_id)
        self.hooks.pop(project_id, None)

    def projects_below(self, group_id: int) -> Iterable[int]:
        self._call("below", group_id)
        return self.below[group_id]

    def _call(self, what: str, number: int) -> None:
        self.calls.append((what, number))
        if number in self.faults:
            raise self.faults[number]


class FakeMadeHooks(MadeHooks):
    def __init__(self) -> None:
        self.known: dict[int, HookMade] = {}

    def made(self, issuer: str) -> Mapping[int, HookMade]:
        return dict(self.known) if issuer == "main" else {}

    def note(self, issuer: str, project_id: int, made: HookMade) -> None:
        assert issuer == "main"
        self.known[project_id] = made

    def forget(self, issuer: str, project_id: int) -> None:
        assert issuer == "main"
        self.known.pop(project_id, None)


class FakeSnapshots(AgentSnapshots):
    def __init__(self) -> None:
        self.snapshots: list[AgentSnapshot] = []

    def agents(self) -> Iterable[tuple[str, int]]:
        return [(snapshot.issuer, snapshot.agent_id) for snapshot in self.snapshots]

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None:
        found = (s for s in self.snapshots if (s.issuer, s.agent_id) == (issuer, agent_id))
        return next(found, None)


class Kept:
    """An issuer `main` whose authorised projects have webhooks."""

    def __init__(self, *projects: int, groups: Iterable[int] = ()) -> None:
        self.gitlab, self.made, self.agents = FakeGitLab(), FakeMadeHooks(), FakeSnapshots()
        self.clock = FakeClock()
        self.lines: list[str] = []
        self.shared = SHARED
        self.others: frozenset[int] = frozenset()
        self.authorise(*projects, groups=groups)
        self.keeper = JobHooks(
            agents=self.agents,
            made=self.made,
            recorder=self.lines.append,
            clock=self.clock,
            pick=lambda _count: 0,
        )

    def authorise(self, *projects: int, groups: Iterable[int] = ()) -> None:
        entries = {"projects": dict.fromkeys(projects, b.an_entry())}
        entries["groups"] = dict.fromkeys(groups, b.an_entry("top"))
        self.agents.snapshots = [b.an_agent(**entries)]

    def round(self, *, seconds: float = 60) -> None:
        issuer = KeptHooks(
            issuer="main", gitlab=self.gitlab, shared=self.shared, others=self.others
        )
        self.keeper.run([issuer], until=self.clock() + seconds)

    def told(self) -> list[dict[str, object]]:
        told = [json.loads(line) for line in self.lines]
        self.lines.clear()
        return told


def line(**values: object) -> dict[str, object]:
    return {"type": "job_hook", "issuer": "main", **values}


def test_each_authorised_project_has_a_webhook_with_secrets_of_its_own() -> None:
    kept = Kept(APP, groups=[GROUP])
    kept.gitlab.below[GROUP] = [API]

    kept.round()

    assert kept.gitlab.hooks == {i: secrets_of_project(SHARED, i) for i in (APP, API)}
    assert kept.gitlab.hooks[APP] != kept.gitlab.hooks[API]
    assert kept.told() == [line(project_id=i, made=True) for i in (APP, API)]


def test_a_webhook_is_repaired_once_a_day() -> None:
    kept = Kept(APP)
    for seconds in (0, DAY - 1, 1, DAY - 1):
        kept.clock.advance(seconds)
        kept.round()
    assert kept.gitlab.calls == [("write", APP)] * 2

    kept.clock.advance(-DAY)  # made in the future, which isn't young
    kept.round()
    assert kept.gitlab.calls == [("write", APP)] * 3


def test_new_secrets_are_given_to_every_webhook() -> None:
    kept = Kept(APP, API)
    kept.round()
    kept.shared = replace(SHARED, secret_token="newer", entry_id="e2")

    kept.round()

    assert kept.gitlab.hooks == {i: secrets_of_project(kept.shared, i) for i in (APP, API)}


def test_a_project_that_nothing_authorises_any_more_loses_its_webhook() -> None:
    kept = Kept(APP, API)
    kept.round()
    kept.authorise(APP)
    kept.told()

    kept.round()

    assert kept.gitlab.hooks.keys() == kept.made.known.keys() == {APP}
    assert kept.told() == [line(project_id=API, removed=True)]


def test_nothing_is_removed_where_an_agents_configuration_cannot_be_read() -> None:
    kept = Kept(APP)
    kept.round()

    def snapshot(_issuer: str, _agent_id: int) -> AgentSnapshot | None:
        raise Unavailable("the table can't be read")

    kept.agents.snapshot = snapshot  # type: ignore[method-assign]
    kept.told()
    kept.round()

    assert kept.gitlab.hooks.keys() == {APP}
    assert kept.told() == [line(error="the table can't be read")]


def test_where_a_group_isnt_shown_no_webhook_is_removed() -> None:
    kept = Kept(APP, groups=[GROUP])
    kept.gitlab.below[GROUP] = [API]
    kept.round()
    kept.gitlab.faults[GROUP] = NotForUs("GitLab shows no group 7")
    kept.authorise(103, groups=[GROUP])
    kept.told()

    kept.round()

    assert kept.gitlab.hooks.keys() == {APP, API, 103}
    assert kept.told() == [
        line(group_id=GROUP, error="GitLab shows no group 7"),
        line(project_id=103, made=True),
    ]


def test_one_projects_failure_holds_up_no_other() -> None:
    kept = Kept(APP, API)
    kept.gitlab.faults[APP] = NotForUs("GitLab refused it")

    kept.round()
    kept.round()

    assert kept.gitlab.hooks.keys() == {API}
    failure = line(project_id=APP, error="GitLab refused it")
    assert kept.told() == [failure, line(project_id=API, made=True), failure]


def test_a_round_that_runs_out_of_time_says_how_many_are_left() -> None:
    kept = Kept(APP, API)

    kept.round(seconds=0)

    assert kept.gitlab.hooks == {}
    assert kept.told() == [line(warning="2 projects are left to the next round")]


def test_a_project_that_got_a_webhook_of_its_own_keeps_that() -> None:
    kept = Kept(APP)
    kept.round()
    kept.others = frozenset({APP})

    kept.round()

    assert kept.gitlab.hooks.keys() == {APP}
    assert (kept.made.known, kept.gitlab.calls) == ({}, [("write", APP)])


def test_what_is_out_of_sight_is_forgotten_and_what_is_away_is_tried_again() -> None:
    kept = Kept(APP, API)
    kept.round()
    kept.authorise()
    kept.gitlab.faults = {APP: NotForUs("GitLab refused it"), API: Unavailable("GitLab is away")}
    kept.told()

    kept.round()

    assert kept.made.known.keys() == {API}
    assert kept.told() == [
        line(project_id=APP, warning="GitLab refused it"),
        line(project_id=API, error="GitLab is away"),
    ]


def test_a_refused_entry_a_configuration_project_and_another_issuer_authorise_nothing() -> None:
    kept = Kept()
    refused = replace(b.an_entry(), refused=Reason.OUT_OF_SCOPE)
    homes = b.a_config_project()
    kept.agents.snapshots = [
        b.an_agent(projects={APP: refused, homes.project_id: b.an_entry()}, config_project=homes),
        b.an_agent(2, issuer="other", projects={API: b.an_entry()}),
    ]

    kept.round()

    assert kept.gitlab.calls == []


@pytest.mark.parametrize("changed", ["secret_token", "signing_token"])
def test_a_projects_secrets_say_nothing_of_what_they_are_made_from(changed: str) -> None:
    made = secrets_of_project(SHARED, APP)

    assert made.scope == HookScope("project", APP)
    shared = (SHARED.secret_token, SHARED.signing_token)
    assert not {made.secret_token, made.signing_token} & set(shared)
    other = secrets_of_project(replace(SHARED, **{changed: "other"}), APP)
    assert getattr(other, changed) != getattr(made, changed)
