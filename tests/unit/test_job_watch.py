"""Asking GitLab whether a job still runs: who asks, who waits, and what counts when it's away."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.bounds import Bounds
from jobgate.core.errors import Unavailable
from jobgate.core.liveness import NOTHING_HEARD, JobLife, StopKind
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.usecases.exchange import Exchanged
from jobgate.usecases.job_watch import JobWatch, RecordedEnds
from jobgate.usecases.lookups import LazyLookups
from jobgate.usecases.presented_token import Refused

from tests.support import builders as b
from tests.support.exchanges import an_exchange
from tests.support.fakes import (
    FakeClock,
    FakeExchangeStore,
    FakeJobStates,
    FakeLookups,
    FakePlaceStore,
    FakeTokenVerifier,
)
from tests.support.refresh_fakes import FakeGitLab

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDS = Bounds()
KEY = b.a_job().key
ASK = ("job_status", (b.APP, 9001))


@dataclass
class World:
    """One table and one GitLab; `process()` is one more warm function."""

    clock: FakeClock = field(default_factory=FakeClock)
    jobs: FakeJobStates = field(default_factory=FakeJobStates)
    gitlab: FakeGitLab = field(default_factory=FakeGitLab)
    settings: Settings = field(default_factory=Settings)
    waited: list[float] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.gitlab.jobs[b.APP, 9001] = "running"

    def process(self) -> LazyLookups:
        watch = JobWatch(
            self.jobs,
            settings=self.settings,
            bounds=BOUNDS,
            clock=self.clock,
            wait=self._wait,
        )
        return LazyLookups(
            b.a_deployment,
            lambda _alias: self.gitlab,
            FakePlaceStore(),
            watch,
            settings=self.settings,
            bounds=BOUNDS,
            clock=self.clock,
        )

    def life(self, process: LazyLookups | None = None, **job: object) -> JobLife:
        """What a request learns that has just read the table."""
        stored = self.jobs.states.get(KEY, NOTHING_HEARD)
        return (process or self.process()).of(b.a_job(**job)).life(stored)  # type: ignore[arg-type]

    def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.clock.advance(seconds)
        self.meanwhile()


def test_gitlab_is_asked_once_a_floor_by_all_processes_together() -> None:
    world = World()
    processes = [world.process() for _ in range(3)]

    for _ in range(10):
        for process in processes:
            assert world.life(process).status == "running"
        world.clock.advance(BOUNDS.probe_floor / 10)

    assert world.gitlab.calls == [ASK]
    assert world.life() == JobLife(status="running", probe_at=b.NOW + 60, asked_at=b.NOW + 60)
    assert world.waited == []


def test_a_request_that_needs_no_answer_touches_neither_table_nor_gitlab() -> None:
    world = World()
    for life in (
        b.a_life(b.a_state()),
        b.a_life(b.a_state("success")),
        b.a_life(b.a_state(source="probe")).asked(b.NOW),
    ):
        assert world.process().of(b.a_job()).life(life) == life

    assert (world.jobs.calls, world.gitlab.calls) == ([], [])


@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
def test_an_end_that_gitlab_tells_is_shared_and_recorded_once(status: str) -> None:
    world = World()
    world.gitlab.jobs[b.APP, 9001] = status
    lines: list[str] = []
    ended = RecordedEnds(world.jobs, lines.append, lambda: "decision-1")
    world.jobs, plain = ended, world.jobs  # type: ignore[assignment]
    life = world.process().of(b.a_job()).life(NOTHING_HEARD)

    assert life.status == status
    assert plain.states[KEY].finished_at == b.NOW
    assert not ended.put(KEY, b.a_state("failed"))
    assert [json.loads(line) for line in lines] == [
        {
            "v": 1,
            "type": "revocation",
            "at": "2026-09-21T14:13:20.000+00:00",
            "outcome": "refused",
            "decision_id": "decision-1",
            "issuer": "main",
            "project_id": b.APP,
            "job_id": 9001,
            "reason": "job_finished",
            "status": status,
            "source": "probe",
        }
    ]


def test_a_word_of_a_job_that_goes_on_is_no_revocation() -> None:
    lines: list[str] = []

    RecordedEnds(FakeJobStates(), lines.append, lambda: "d").put(KEY, b.a_state())

    assert lines == []


@pytest.mark.parametrize("answer", ["failing", "not_shown", "unheard_of"])
def test_no_answer_leaves_what_was_known_and_is_not_repeated_before_the_floor(
    answer: str,
) -> None:
    world = World()
    before = world.life()
    world.clock.advance(BOUNDS.probe_floor)
    if answer == "failing":
        world.gitlab.failing.add("job_status")
    elif answer == "not_shown":
        world.gitlab.jobs.clear()
    else:
        world.gitlab.jobs[b.APP, 9001] = "a status of GitLab 40"

    lives = [world.life() for _ in range(5)]

    assert lives == [before.asked(b.NOW + 60)] * 5
    assert world.gitlab.calls == [ASK, ASK]
    assert world.waited == []


def test_an_asker_that_dies_blocks_others_no_longer_than_the_floor() -> None:
    world = World()
    world.jobs.ask(KEY, now=b.NOW)

    assert world.life() == JobLife(asked_at=b.NOW, asked_since=b.NOW)
    assert sum(world.waited) == pytest.approx(BOUNDS.lazy_budget)
    assert world.life() == JobLife(asked_at=b.NOW, asked_since=b.NOW)
    assert sum(world.waited) == pytest.approx(BOUNDS.lazy_budget)
    world.clock.now = b.NOW + BOUNDS.probe_floor
    assert world.life().status == "running"


def test_who_comes_while_another_asks_waits_for_the_answer() -> None:
    world = World()
    world.jobs.ask(KEY, now=b.NOW)

    def answer() -> None:
        if len(world.waited) == 2:
            world.jobs.put(KEY, b.a_state(source="probe"))

    world.meanwhile = answer

    assert world.life() == JobLife(status="running", probe_at=b.NOW, asked_at=b.NOW)
    assert len(world.waited) == 2
    assert world.gitlab.calls == []


def test_who_has_read_the_table_just_before_another_asked_waits_too() -> None:
    world = World()
    world.jobs.ask(KEY, now=b.NOW)
    world.meanwhile = lambda: world.jobs.put(KEY, b.a_state("canceled")) and None

    assert world.process().of(b.a_job()).life(NOTHING_HEARD).finished
    assert world.gitlab.calls == []


def test_who_has_a_good_word_does_not_wait_for_a_newer_one() -> None:
    world = World()
    good = b.a_life(b.a_state(source="probe", seen_at=b.NOW - 61)).asked(b.NOW)

    assert world.process().of(b.a_job()).life(good) == good
    assert world.waited == []


def test_an_end_by_a_hook_while_gitlab_answers_is_the_end() -> None:
    world = World()
    job_status = world.gitlab.job_status

    def late(project_id: int, job_id: int) -> str | None:
        status = job_status(project_id, job_id)
        world.jobs.put(KEY, b.a_state("canceled", finished_at=b.NOW))
        return status

    world.gitlab.job_status = late  # type: ignore[method-assign]

    assert world.life().status == "canceled"


def test_an_end_that_cannot_be_shared_counts_here_and_is_shared_later() -> None:
    world = World()
    world.gitlab.jobs[b.APP, 9001] = "failed"
    world.jobs.failing.add("put")
    process = world.process()

    assert [world.life(process).finished for _ in range(3)] == [True] * 3
    world.jobs.failing.clear()
    assert world.life(process).finished
    assert world.jobs.states[KEY].status == "failed"
    assert world.gitlab.calls == [ASK]


def test_where_nobody_can_ask_only_what_was_heard_before_lets_a_job_go_on() -> None:
    world = World()
    world.jobs.failing.add("ask")
    heard = b.a_life(b.a_state(source="probe", seen_at=b.NOW - BOUNDS.probe_floor))

    assert world.process().of(b.a_job()).life(heard) == heard
    for unheard in (NOTHING_HEARD, b.a_life(b.a_state(source="probe", seen_at=b.NOW - 300))):
        with pytest.raises(Unavailable):
            world.process().of(b.a_job()).life(unheard)


def test_a_job_outside_the_known_roots_spends_no_question() -> None:
    world = World()

    assert world.life(project_path="stranger/app") == NOTHING_HEARD
    assert (world.gitlab.calls, world.jobs.calls) == ([], [])


def test_a_status_that_was_told_is_not_asked_for_twice_by_one_request() -> None:
    world = World()
    lookup = world.process().of(b.a_job())

    assert lookup.life(NOTHING_HEARD).status == "running"
    assert lookup.project_runs_job()
    assert world.gitlab.calls == [ASK]


# --- What an exchange makes of it ---


def redeemed(lookups: FakeLookups, **facts: Any) -> Exchanged | Refused:
    return an_exchange(
        verifier=FakeTokenVerifier({"t": b.a_verified_job(expires_at=int(b.NOW) + 7200)}),
        store=FakeExchangeStore(
            b.some_facts(**facts), [b.an_agent(projects={b.APP: b.an_entry()})]
        ),
        lookups=lookups,
    ).redeem("t")


@pytest.mark.parametrize(
    ("life", "reason"),
    [
        (b.a_life(b.a_state("failed", source="probe")), Reason.JOB_FINISHED),
        (b.a_life(b.a_state(source="probe", seen_at=b.NOW - 300)), Reason.JOB_UNKNOWN),
        (NOTHING_HEARD.asked(b.NOW - 900), Reason.JOB_UNKNOWN),
    ],
)
def test_an_exchange_goes_by_what_was_found_out(life: JobLife, reason: Reason) -> None:
    outcome = redeemed(FakeLookups(life=life), state=b.a_state())

    assert isinstance(outcome, Refused)
    assert outcome.reason is reason


@pytest.mark.parametrize(
    ("life", "lives"),
    [(b.a_life(b.a_state(source="probe")), 3600), (NOTHING_HEARD.asked(b.NOW), 900)],
)
def test_a_token_lives_by_what_was_found_out(life: JobLife, lives: int) -> None:
    outcome = redeemed(FakeLookups(life=life))

    assert isinstance(outcome, Exchanged)
    assert outcome.expires_in == lives


@pytest.mark.parametrize("stops", [None, (b.a_stop(StopKind.ALL),)])
def test_nobody_is_asked_about_a_job_that_an_operator_has_stopped(stops: Any) -> None:
    lookups = FakeLookups(life=b.a_life(b.a_state()))

    outcome = redeemed(lookups, stops=stops)

    assert isinstance(outcome, Refused)
    assert (outcome.reason, lookups.lives) == (Reason.STOPPED, [])
