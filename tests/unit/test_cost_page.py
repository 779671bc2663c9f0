"""docs/cost.md says what is counted; a large deployment reads no more and has no hot key."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmarks import cost, prices
from benchmarks.counts import counted
from benchmarks.simulation import READ_LIMIT, WRITE_LIMIT, Found, Simulation, Size

PAGE = Path(__file__).parents[2] / "docs/cost.md"


def test_the_page_has_the_tables_that_are_counted_now() -> None:
    page = PAGE.read_text()

    assert cost.written(page, cost.blocks()) == page, "run: python -m benchmarks.cost --docs docs"


def test_the_page_says_what_a_watch_costs() -> None:
    assert f"${cost.watches():.2f}" in PAGE.read_text()


def test_a_place_that_the_page_lacks_is_told() -> None:
    with pytest.raises(ValueError, match="no place"):
        cost.written("", {"counts": []})


def test_what_costs_nothing_stays_so() -> None:
    counts = counted()

    assert counts["refresh with nothing new"].writes == 0
    believed = counts["request, warm, within RelayCacheSeconds of the last"]
    assert (believed.table_calls, believed.gitlab, believed.secrets) == (0, 0, 0)
    told = counts["exchange, warm, job told by a hook"]
    assert (told.table_calls, told.writes, told.gitlab, told.signatures) == (3, 0, 0, 1)


def test_every_price_is_used_or_said_to_be_a_choice() -> None:
    counts = counted()
    used = cost.jobs(counts).keys() | cost.idle(counts).keys()

    assert prices.PRICES.keys() == used


@pytest.fixture(scope="module")
def found() -> list[Found]:
    sizes = [Size(agents=n, projects=10 * n, jobs=40, seconds=2) for n in (100, 1000)]
    return [Simulation(size).run() for size in sizes]


def test_a_deployment_ten_times_as_large_reads_no_more_for_a_decision(found: list[Found]) -> None:
    small, large = found

    assert statistics.mean(large.exchanges) < statistics.mean(small.exchanges) * 1.2
    # Of more projects fewer have been met, so that places are looked up; that is one read each.
    assert statistics.mean(large.requests) < statistics.mean(small.requests) + 1


def test_no_key_of_a_busy_deployment_is_hot(found: list[Found]) -> None:
    for each in found:
        to_the_full_rate = 200 / each.size.jobs
        # What jobs don't share grows with their rate at most.
        assert each.hottest_reads[0][1] * to_the_full_rate < READ_LIMIT
        assert each.hottest_writes[0][1] * to_the_full_rate < WRITE_LIMIT
