from __future__ import annotations

import pytest
from jobgate.core.liveness import JobState, Stop, StopKind, life_refusal
from jobgate.core.reasons import Reason

from tests.support import builders as b


def refusal(
    *,
    agent_id: int | None = b.PROD,
    state: JobState | None = None,
    stops: tuple[Stop, ...] | None = (),
    now: float = b.NOW,
) -> Reason | None:
    return life_refusal(b.a_job(), agent_id=agent_id, state=state, stops=stops, now=now)


@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
def test_a_job_that_has_ended_may_not_go_on(status: str) -> None:
    assert refusal(state=b.a_state(status)) is Reason.JOB_FINISHED


@pytest.mark.parametrize(
    "status", ["created", "pending", "running", "canceling", "skipped", "manual", "scheduled"]
)
def test_a_status_that_a_job_comes_back_from_is_no_end(status: str) -> None:
    assert refusal(state=b.a_state(status)) is None


def test_a_job_of_which_nothing_was_heard_may_go_on() -> None:
    assert refusal() is None


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

    assert life_refusal(job, agent_id=None, state=None, stops=stops, now=b.NOW) is None
