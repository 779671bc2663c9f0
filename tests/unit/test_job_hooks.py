"""The webhooks of authorised projects: which are made, repaired and removed, round by round."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from jobgate.core.errors import Conflict, NotForUs, Unanswered, Unavailable
from jobgate.core.hook import HookMade, HookScope, HookWrite
from jobgate.core.reasons import Reason
from jobgate.core.webhook import HookSecrets, secrets_of_project
from jobgate.ports.hooks import AgentSnapshots, KeptHooks, KeptIssuers, MadeHooks, ProjectHooks
from jobgate.usecases.job_hooks import JobHooks

from tests.support import builders as b
from tests.support.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jobgate.core.agent import AgentSnapshot

APP, API, GROUP = 101, 102, 7
SHARED = HookSecrets(secret_token="s3cret", signing_token="whsec_a2V5", entry_id="e1")
DAY = 86_400


class FakeGitLab(ProjectHooks):
    """Webhooks by project; `faults` are raised for a project or a group.

    The answers to writes of the `lost` ones don't come; `meanwhile` is called within each write.
    """

    def __init__(self) -> None:
        self.base_url = "https://api.example.test/webhooks/gitlab/main"
        self.formerly: dict[int, str | None] = {}
        self.lost: set[int] = set()
        self.archived: set[int] = set()
        self.meanwhile: Callable[[], None] = lambda: None
        self.hooks: dict[int, HookSecrets] = {}
        self.below: dict[int, list[int]] = {}
        self.faults: dict[int, Exception] = {}
        self.calls: list[tuple[str, int]] = []

    @property
    def address(self) -> str:
        return self.base_url

    def write(
        self, project_id: int, secrets: HookSecrets, *, formerly: str | None
    ) -> tuple[int, bool]:
        self._call("write", project_id)
        is_new = project_id not in self.hooks
        self.hooks[project_id] = secrets
        self.formerly[project_id] = formerly
        self.meanwhile()
        if project_id in self.lost:
            raise Unanswered("GitLab gave no answer")
        return project_id, is_new

    def remove(self, project_id: int, *, formerly: str | None) -> None:
        self._call("remove", project_id)
        self.hooks.pop(project_id, None)
        self.formerly[project_id] = formerly

    def is_archived(self, project_id: int) -> bool:
        self._call("archived", project_id)
        return project_id in self.archived

    def active_projects_below(self, group_id: int) -> Iterable[int]:
        self._call("below", group_id)
        return self.below[group_id]

    def _call(self, what: str, number: int) -> None:
        self.calls.append((what, number))
        if number in self.faults and what != "archived":
            raise self.faults[number]


class FakeMadeHooks(MadeHooks):
    def __init__(self) -> None:
        self.known: dict[int, HookMade] = {}

    def made(self, issuer: str) -> Mapping[int, HookMade]:
        return dict(self.known) if issuer == "main" else {}

    def note(self, issuer: str, project_id: int, made: HookMade) -> None:
        assert issuer == "main"
        before = self.known.get(project_id, HookMade())
        if made.revision != before.revision + 1:
            raise Conflict("somebody else wrote first")
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


class Kept(KeptIssuers):
    """An issuer `main` whose authorised projects have webhooks."""

    def __init__(self, *projects: int, groups: Iterable[int] = ()) -> None:
        self.gitlab, self.made, self.agents = FakeGitLab(), FakeMadeHooks(), FakeSnapshots()
        self.clock = FakeClock()
        self.lines: list[str] = []
        self.shared = SHARED
        self.newest: str | None = SHARED.entry_id
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
        self.keeper.run(self, until=self.clock() + seconds)

    def share(self, entry_id: str) -> None:
        """New secrets are stored, which every webhook is to get."""
        self.shared = replace(SHARED, secret_token=entry_id, entry_id=entry_id)
        self.newest = entry_id

    def aliases(self) -> list[str]:
        return ["main"]

    def kept(self, alias: str, *, seconds: float) -> KeptHooks:
        return KeptHooks(
            issuer=alias,
            gitlab=self.gitlab,
            shared=self.shared,
            newest=lambda: self.newest,
            others=self.others,
        )

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
    kept.share("e2")

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


def test_a_round_without_time_removes_nothing_either() -> None:
    kept = Kept(APP)
    kept.round()
    kept.authorise()
    kept.round(seconds=0)
    assert kept.gitlab.hooks.keys() == {APP}


def test_projects_without_a_webhook_come_first_and_the_daily_repairs_last() -> None:
    kept = Kept(APP, API)
    kept.round()
    kept.clock.advance(DAY)
    kept.authorise(APP, API, 103)
    kept.made.known[API] = replace(kept.made.known[API], address="https://former.example.test")
    kept.made.known[104] = HookMade(entry_id="e1", revision=1)
    kept.gitlab.calls.clear()

    kept.round()

    assert kept.gitlab.calls == [("write", 103), ("write", API), ("remove", 104), ("write", APP)]


def test_projects_that_fail_in_each_round_hold_up_nothing_else() -> None:
    kept = Kept(APP, API)
    kept.gitlab.faults[APP] = NotForUs("GitLab refused it")
    kept.round()
    kept.share("e2")
    kept.authorise(APP, API, 103)
    kept.made.known[104] = HookMade(entry_id="e1", revision=1)
    kept.gitlab.calls.clear()

    kept.round()

    first, *rest = [call for call in reversed(kept.gitlab.calls) if call[0] != "archived"]
    assert first == ("write", APP)
    assert rest == [("remove", 104), ("write", API), ("write", 103)]


def test_issuers_share_the_time_and_one_that_cannot_be_had_holds_up_no_other() -> None:
    kept = Kept(APP)
    given: list[tuple[str, float]] = []

    class Three(KeptIssuers):
        def aliases(self) -> list[str]:
            return ["a", "b", "main"]

        def kept(self, alias: str, *, seconds: float) -> KeptHooks | None:
            given.append((alias, seconds))
            kept.clock.advance(10 if alias == "a" else 0)
            if alias == "b":
                raise Unavailable("what is stored as GitLab's token can't be one")
            return kept.kept(alias, seconds=seconds) if alias == "main" else None

    kept.keeper.run(Three(), until=kept.clock() + 60)

    assert given == [("a", 20.0), ("b", 25.0), ("main", 50.0)]
    assert kept.gitlab.hooks.keys() == {APP}
    refused = "what is stored as GitLab's token can't be one"
    assert {**line(error=refused), "issuer": "b"} in kept.told()


# --- What a webhook may hold ---


def test_a_new_address_reaches_every_webhook_in_the_next_round() -> None:
    kept = Kept(APP)
    kept.round()
    former, kept.gitlab.base_url = kept.gitlab.base_url, "https://new.example.test"

    kept.round()

    assert kept.gitlab.formerly == {APP: former}
    assert kept.made.known[APP].address == kept.gitlab.base_url


def test_a_webhook_is_removed_by_the_address_that_it_was_given() -> None:
    kept = Kept(APP)
    kept.round()
    given, kept.gitlab.base_url = kept.gitlab.base_url, "https://new.example.test"
    kept.authorise()

    kept.round()

    assert kept.gitlab.formerly == {APP: given}


def test_where_an_answer_is_lost_both_secrets_may_be_held_until_another_write() -> None:
    kept = Kept(APP)
    kept.round()
    kept.share("e2")
    kept.gitlab.lost = {APP}
    kept.round()
    assert kept.made.known[APP].entries == {"e1", "e2"}
    kept.gitlab.lost.clear()
    kept.share("e3")

    kept.round()  # GitLab may be doing the lost one still
    assert kept.made.known[APP].entries == {"e2", "e3"}
    kept.clock.advance(300)
    kept.round()

    assert kept.made.known[APP].entries == {"e3"}


def test_a_write_that_is_refused_gave_no_secrets() -> None:
    kept = Kept(APP)
    kept.round()
    kept.share("e2")
    kept.gitlab.faults[APP] = NotForUs("GitLab refused it")

    kept.round()

    assert kept.made.known[APP].entries == {"e1"}


def test_a_write_is_noted_before_gitlab_is_asked() -> None:
    kept = Kept(APP)
    seen: list[frozenset[str]] = []
    kept.gitlab.meanwhile = lambda: seen.append(kept.made.known[APP].entries)
    kept.round()
    kept.share("e2")
    kept.round()
    assert seen == [{"e1"}, {"e1", "e2"}]


def test_of_two_writes_at_once_either_may_be_the_last() -> None:
    kept, other = Kept(APP), Kept(APP)
    kept.round()
    other.made, other.gitlab = kept.made, kept.gitlab
    other.keeper = replace(other.keeper, made=kept.made)
    other.share("e3")

    def another() -> None:
        kept.gitlab.meanwhile = lambda: None
        other.round()

    kept.share("e2")
    kept.gitlab.meanwhile = another
    kept.round()

    assert kept.made.known[APP].entries >= {"e2", "e3"}
    kept.clock.advance(300)
    other.clock.advance(300)
    other.round()
    assert kept.made.known[APP].entries == {"e3"}


def test_a_round_ends_where_newer_secrets_were_stored_since_it_began() -> None:
    kept = Kept(APP, API)
    kept.newest = "e2"

    kept.round()

    assert kept.gitlab.hooks == {}
    assert not any(made.entries for made in kept.made.known.values())
    assert kept.told() == [line(warning="newer secrets of webhooks were stored meanwhile")]


def test_what_somebody_else_noted_since_the_round_began_is_kept_in_mind() -> None:
    kept = Kept(APP)
    write = HookWrite(kept.clock(), "e0")
    stale = dict[int, HookMade]()
    known = kept.made.known
    known[APP] = HookMade().begun(write)
    reads = iter([stale, known])
    kept.made.made = lambda _issuer: dict(next(reads))  # type: ignore[method-assign]

    kept.round()

    assert known[APP].entries == {"e0", "e1"}


# --- Archived projects ---


def test_an_archived_project_needs_no_webhook_and_is_no_failure() -> None:
    kept = Kept(APP)
    kept.gitlab.faults[APP], kept.gitlab.archived = NotForUs("GitLab refused it"), {APP}

    kept.round()
    kept.round()

    assert kept.told() == [line(project_id=APP, archived=True)]
    assert kept.made.known[APP].archived

    kept.gitlab.faults.clear()
    kept.clock.advance(3600)
    kept.round()
    assert kept.gitlab.hooks.keys() == {APP}
    assert not kept.made.known[APP].archived


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
