from __future__ import annotations

import math
from dataclasses import replace

import pytest
from jobgate.core.bounds import Bounds
from jobgate.core.liveness import (
    ALIVE_STATUSES,
    NOTHING_HEARD,
    JobLife,
    Stop,
    StopKind,
    end_refusal,
    is_being_asked,
    is_observed,
    probe_is_due,
    stop_refusal,
    unasked_until,
)
from jobgate.core.reasons import Reason
from jobgate.core.settings import JobEnd, Settings

from tests.support import builders as b

BOUNDS = Bounds()
FLOOR, GRACE, SILENCE = BOUNDS.probe_floor, BOUNDS.probe_grace, BOUNDS.hook_silence
UNOBSERVED, LEEWAY = BOUNDS.unobserved_life, BOUNDS.leeway
ENDS: tuple[JobEnd, ...] = ("hook", "probe", "both")


def ended(
    life: JobLife = NOTHING_HEARD,
    *,
    job_end: JobEnd = "both",
    after: float = 0,
    bounds: Bounds = BOUNDS,
) -> Reason | None:
    return end_refusal(life, settings=Settings(job_end=job_end), bounds=bounds, now=b.NOW + after)


def due(life: JobLife = NOTHING_HEARD, *, job_end: JobEnd = "both", after: float = 0) -> bool:
    return probe_is_due(life, settings=Settings(job_end=job_end), bounds=BOUNDS, now=b.NOW + after)


def observed(life: JobLife, *, job_end: JobEnd = "both", after: float = 0) -> bool:
    return is_observed(life, settings=Settings(job_end=job_end), bounds=BOUNDS, now=b.NOW + after)


HOOK = b.a_life(b.a_state())
PROBE = b.a_life(b.a_state(source="probe")).asked(b.NOW)
ASKED = NOTHING_HEARD.asked(b.NOW)


# --- What is heard ---


@pytest.mark.parametrize("job_end", ENDS)
@pytest.mark.parametrize("source", ["hook", "probe"])
@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
def test_a_job_that_has_ended_may_not_go_on(status: str, source: str, job_end: JobEnd) -> None:
    life = b.a_life(b.a_state(status, source=source))  # type: ignore[arg-type]

    assert ended(life, job_end=job_end) is Reason.JOB_FINISHED
    assert ended(life, job_end=job_end, after=-1e6) is Reason.JOB_FINISHED
    assert not due(life, job_end=job_end, after=1e6)


@pytest.mark.parametrize("status", sorted(ALIVE_STATUSES))
def test_a_status_that_a_job_comes_back_from_is_no_end(status: str) -> None:
    assert ended(b.a_life(b.a_state(status))) is None


@pytest.mark.parametrize("late", ["running", "success", "canceled"])
def test_no_later_word_changes_an_end(late: str) -> None:
    life = b.a_life(b.a_state("failed", finished_at=b.NOW))

    assert life.after(b.a_state(late, source="probe", seen_at=b.NOW + 9)) == life


def test_a_word_of_one_source_keeps_when_the_other_was_heard() -> None:
    life = b.a_life(b.a_state(), b.a_state("canceling", source="probe", seen_at=b.NOW + 9))

    assert life == JobLife(status="canceling", hook_at=b.NOW, probe_at=b.NOW + 9)


# --- Whom to ask, and when ---


def test_a_job_of_which_nothing_was_heard_is_asked_about_unless_hooks_alone_count() -> None:
    assert [due(job_end=job_end) for job_end in ENDS] == [False, True, True]


@pytest.mark.parametrize("job_end", ["probe", "both"])
@pytest.mark.parametrize("life", [ASKED, PROBE])
def test_nobody_asks_again_before_the_floor_answered_or_not(life: JobLife, job_end: JobEnd) -> None:
    moments = (0, FLOOR - 0.1, FLOOR, -LEEWAY, -LEEWAY - 0.1)

    # A question from the far future was put under a clock that ran ahead.
    assert [due(life, job_end=job_end, after=moment) for moment in moments] == [
        *(False, False, True),
        *(False, True),
    ]


def test_a_hook_that_was_seen_spares_the_question_for_a_while_where_both_count() -> None:
    assert [due(HOOK, after=moment) for moment in (0, SILENCE - 0.1, SILENCE)] == [
        *(False, False, True)
    ]
    assert due(HOOK, job_end="probe")
    assert not due(HOOK, job_end="hook", after=1e6)


@pytest.mark.parametrize(
    ("life", "after", "expected"),
    [
        (NOTHING_HEARD, 0, False),
        (ASKED, 0, True),
        (ASKED, BOUNDS.lazy_budget - 0.1, True),
        (ASKED, BOUNDS.lazy_budget, False),
        (PROBE, 0, False),
        (replace(PROBE, asked_at=b.NOW + 60), 61, True),
        (ASKED, -LEEWAY - 1, False),
    ],
)
def test_an_answer_is_awaited_as_long_as_its_asker_may_wait(
    life: JobLife, after: float, *, expected: bool
) -> None:
    assert is_being_asked(life, bounds=BOUNDS, now=b.NOW + after) is expected


def test_a_hook_from_a_moment_ahead_is_no_reason_not_to_ask_where_questions_alone_count() -> None:
    assert due(HOOK, job_end="probe", after=-LEEWAY / 2)
    assert not due(HOOK, job_end="both", after=-LEEWAY / 2)


# --- How long a word counts ---


@pytest.mark.parametrize(
    ("life", "job_end", "counts"),
    [
        (PROBE, "probe", GRACE),
        (PROBE, "both", GRACE),
        (HOOK, "both", SILENCE + GRACE),
        (HOOK.after(b.a_state(source="probe", seen_at=b.NOW + SILENCE)), "both", SILENCE + GRACE),
        (HOOK.after(b.a_state(source="probe", seen_at=b.NOW + 1000)), "both", 1000 + GRACE),
    ],
)
def test_the_last_word_counts_for_a_while_and_then_the_job_is_unknown(
    life: JobLife, job_end: JobEnd, counts: float
) -> None:
    for asked in (life, life.asked(b.NOW + counts - 1)):
        assert ended(asked, job_end=job_end, after=counts - 0.1) is None
        assert observed(asked, job_end=job_end, after=counts - 0.1)
        assert ended(asked, job_end=job_end, after=counts) is Reason.JOB_UNKNOWN
        assert not observed(asked, job_end=job_end, after=counts)


def test_where_hooks_alone_count_a_job_goes_on_until_its_end_is_heard() -> None:
    assert ended(HOOK, job_end="hook", after=1e6) is None
    assert observed(HOOK, job_end="hook", after=1e6)
    assert ended(job_end="hook", after=1e6) is None
    assert not observed(NOTHING_HEARD, job_end="hook")
    assert not observed(PROBE, job_end="hook")


def test_where_questions_alone_count_a_hook_is_no_observation() -> None:
    assert not observed(HOOK, job_end="probe")


def test_an_answer_counts_at_least_until_anybody_may_ask_again() -> None:
    bounds = Bounds(probe_grace=0)

    assert ended(PROBE, after=FLOOR - 0.1, bounds=bounds) is None
    assert ended(PROBE, after=FLOOR, bounds=bounds) is Reason.JOB_UNKNOWN


@pytest.mark.parametrize("job_end", ENDS)
@pytest.mark.parametrize("life", [HOOK, PROBE])
def test_a_word_from_the_future_is_not_believed(life: JobLife, job_end: JobEnd) -> None:
    assert not observed(life, job_end=job_end, after=-LEEWAY - 1)


def test_a_job_that_was_never_heard_of_goes_on_for_a_while_after_the_first_question() -> None:
    asked = ASKED.asked(b.NOW + UNOBSERVED - 1)

    assert ended() is None
    assert ended(asked, after=UNOBSERVED - 0.1) is None
    assert ended(asked, after=UNOBSERVED) is Reason.JOB_UNKNOWN
    assert ended(asked, after=-LEEWAY - 1) is Reason.JOB_UNKNOWN
    assert not observed(ASKED)


@pytest.mark.parametrize(
    ("life", "job_end", "ends"),
    [
        (NOTHING_HEARD, "probe", UNOBSERVED),
        (NOTHING_HEARD, "both", UNOBSERVED),
        (HOOK, "probe", UNOBSERVED),
        (b.a_life(b.a_state(seen_at=b.NOW + LEEWAY + 1)), "both", UNOBSERVED),
        (NOTHING_HEARD, "hook", math.inf),
        (ASKED, "both", math.inf),
        (HOOK, "both", math.inf),
        (PROBE, "probe", math.inf),
    ],
)
def test_a_job_about_which_nobody_asks_goes_on_for_a_while_after_its_start(
    life: JobLife, job_end: JobEnd, ends: float
) -> None:
    settings = Settings(job_end=job_end)

    until = unasked_until(life, issued_at=b.NOW, settings=settings, bounds=BOUNDS, now=b.NOW)

    assert until == b.NOW + ends


# --- Operators' stops ---


def refusal(
    *, agent_id: int | None = b.PROD, stops: tuple[Stop, ...] | None = (), now: float = b.NOW
) -> Reason | None:
    return stop_refusal(b.a_job(), agent_id=agent_id, stops=stops, now=now)


def test_missing_stops_stop_everything() -> None:
    assert refusal(stops=None) is Reason.STOPPED


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (StopKind.JOB, 9001),
        (StopKind.PIPELINE, 7001),
        (StopKind.PROJECT, b.APP),
        (StopKind.USER, 12),
        (StopKind.RUNNER, 33),
        (StopKind.AGENT, b.PROD),
        (StopKind.ISSUER, "*"),
        (StopKind.ALL, "*"),
    ],
)
def test_a_stop_stops_what_it_names_until_its_end(kind: StopKind, value: int | str) -> None:
    stop = b.a_stop(kind, value, until=b.NOW + 60)

    assert refusal(stops=(stop,)) is Reason.STOPPED
    assert refusal(stops=(stop,), now=b.NOW + 59.9) is Reason.STOPPED
    assert refusal(stops=(stop,), now=b.NOW + 60) is None
    assert refusal(stops=(b.a_stop(kind, value),), now=b.NOW + 1e9) is Reason.STOPPED


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (StopKind.JOB, 7001),
        (StopKind.JOB, "*"),
        (StopKind.PIPELINE, 9001),
        (StopKind.PROJECT, 10),
        (StopKind.USER, "dana"),
        (StopKind.RUNNER, 3),
        (StopKind.AGENT, b.STAGING),
    ],
)
def test_a_stop_stops_nothing_else(kind: StopKind, value: int | str) -> None:
    assert refusal(stops=(b.a_stop(kind, value),)) is None


def test_a_stop_of_an_agent_does_not_stop_the_job_at_others() -> None:
    assert refusal(agent_id=None, stops=(b.a_stop(StopKind.AGENT, b.PROD),)) is None


def test_a_job_without_user_or_runner_is_not_stopped_by_the_text_none() -> None:
    job = b.a_job(user_id=None, runner_id=None)
    stops = (b.a_stop(StopKind.USER, "None"), b.a_stop(StopKind.RUNNER, "None"))

    assert stop_refusal(job, agent_id=None, stops=stops, now=b.NOW) is None
