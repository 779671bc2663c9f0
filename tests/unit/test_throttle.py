"""How often may be asked: a project's jobs together, and all strangers together."""

from __future__ import annotations

import pytest
from jobgate.core.errors import Unavailable
from jobgate.core.settings import Settings
from jobgate.usecases.throttle import Throttle

from tests.support import builders as b
from tests.support.fakes import FakeClock, FakeExchangeCounter

JOB = b.a_job()
STRANGER = b.a_job(project_id=900, project_path="stranger/app")


def a_throttle(
    counter: FakeExchangeCounter | None = None,
    *,
    project_rate: int = 40,
    stranger_rate: int = 5,
    instance_wide: bool = False,
    clock: FakeClock | None = None,
) -> Throttle:
    settings = Settings(
        project_rate=project_rate, stranger_rate=stranger_rate, instance_wide=instance_wide
    )
    return Throttle(
        deployment=b.a_deployment,
        counter=counter or FakeExchangeCounter(),
        settings=settings,
        clock=clock or FakeClock(),
    )


def admitted(throttle: Throttle, *jobs: object) -> int:
    return sum(throttle.admits(job) for job in jobs)  # type: ignore[arg-type]


def test_a_projects_jobs_are_admitted_up_to_its_limit_and_a_twentieth() -> None:
    throttle = a_throttle(project_rate=40)

    jobs = [b.a_job(job_id=number) for number in range(1, 101)]

    assert admitted(throttle, *jobs) == 42


@pytest.mark.parametrize(("limit", "uncounted"), [(1, 0), (19, 0), (20, 1), (600, 10), (9999, 10)])
def test_what_a_function_lets_through_uncounted_is_a_twentieth_and_ten_at_most(
    limit: int, uncounted: int
) -> None:
    counter = FakeExchangeCounter()
    throttle = a_throttle(counter, project_rate=limit)

    assert admitted(throttle, *[JOB] * (uncounted + 1)) == uncounted + 1
    assert sum(counter.counts.values()) == 1


def test_functions_share_the_count() -> None:
    counter = FakeExchangeCounter()
    functions = [a_throttle(counter, project_rate=10) for _ in range(5)]

    assert sum(admitted(function, *[JOB] * 10) for function in functions) == 10


def test_another_project_and_another_issuers_project_of_one_id_have_counts_of_their_own() -> None:
    throttle = Throttle(
        deployment=lambda: b.a_deployment(roots=[("main", "top"), ("other", "top")]),
        counter=FakeExchangeCounter(),
        settings=Settings(project_rate=1),
        clock=FakeClock(),
    )

    assert admitted(throttle, JOB, b.a_job(project_id=101), b.a_job(issuer="other")) == 3
    assert admitted(throttle, JOB, b.a_job(project_id=101), b.a_job(issuer="other")) == 0


def test_the_next_minute_begins_anew() -> None:
    clock = FakeClock(now=120.0)
    throttle = a_throttle(project_rate=2, stranger_rate=2, clock=clock)
    jobs = [JOB, JOB, JOB, STRANGER, STRANGER, STRANGER]

    assert admitted(throttle, *jobs) == 4
    clock.advance(59)
    assert admitted(throttle, *jobs) == 0
    clock.advance(1)
    assert admitted(throttle, *jobs) == 4


def test_strangers_share_one_budget_and_never_reach_the_table() -> None:
    counter = FakeExchangeCounter(failing=True)
    throttle = a_throttle(counter, stranger_rate=5)

    jobs = [b.a_job(project_id=n, project_path=f"stranger{n}/app") for n in range(1, 10_001)]

    assert admitted(throttle, *jobs) == 5
    assert len(throttle.seen) == 1


def test_strangers_leave_the_known_roots_projects_their_own() -> None:
    throttle = a_throttle(stranger_rate=1)
    admitted(throttle, *[STRANGER] * 100)

    assert throttle.admits(JOB)


def test_where_the_whole_instance_counts_there_are_no_strangers() -> None:
    throttle = a_throttle(instance_wide=True, stranger_rate=1)

    assert admitted(throttle, *[STRANGER] * 30) == 30


def test_what_cannot_be_counted_is_not_admitted() -> None:
    throttle = a_throttle(FakeExchangeCounter(failing=True), project_rate=1)

    with pytest.raises(Unavailable):
        throttle.admits(JOB)


def test_the_memory_is_bounded() -> None:
    throttle = a_throttle(project_rate=600)

    assert all(throttle.admits(b.a_job(project_id=n)) for n in range(1, 5001))
    assert len(throttle.seen) == 4096
