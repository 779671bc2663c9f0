"""What a warm relay believes, for how long, and what it reads for that."""

from __future__ import annotations

import pytest
from jobgate.adapters import operator_items
from jobgate.adapters.decision_store import DecisionStore
from jobgate.core.bounds import Bounds
from jobgate.core.liveness import StopKind
from jobgate.usecases.relay_facts import RelayFactsCache

from tests.support import builders as b
from tests.support.fakes import FakeClock, FakeLookups
from tests.support.metered_aws import MeteredAWS

CACHE = Bounds().relay_cache
TABLE = "jobgate"


class Warm:
    """A warm relay's cache on a table in memory."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.aws = MeteredAWS(TABLE, clock=self.clock)
        self.stop()
        store = DecisionStore(self.aws, TABLE, clock=self.clock, stops_believed=CACHE)
        self.cache = RelayFactsCache(store, FakeLookups(), bounds=Bounds(), clock=self.clock)

    def stop(self, *stops: StopKind) -> None:
        self.aws.store([operator_items.stops_item("main", [b.a_stop(kind) for kind in stops])])

    def read(self, job_id: int = 9001, issuer: str = "main") -> tuple[int, int]:
        """How many stops are known for a job, and how many units that took."""
        used = self.aws.start()
        known = self.cache.of(b.a_job(job_id=job_id, issuer=issuer), b.PROD)
        return len(known.facts.stops or ()), int(used.reads)


def test_stops_are_read_once_for_all_jobs_of_a_warm_relay() -> None:
    warm = Warm()

    assert [warm.read(job_id) for job_id in (1, 2, 3)] == [(0, 6), (0, 5), (0, 5)]


@pytest.mark.parametrize("seconds", [0, 0.1, 1.5, 2.9])
def test_a_stop_counts_for_every_job_within_the_cache_whenever_the_stops_were_read(
    seconds: float,
) -> None:
    warm = Warm()
    warm.read(1)
    warm.clock.advance(seconds)
    warm.read(2)
    warm.stop(StopKind.ALL)

    warm.clock.advance(CACHE - seconds)

    assert warm.read(2) == (1, 6)
    assert warm.read(1) == (1, 5)


def test_what_is_believed_of_a_job_is_as_old_as_its_stops() -> None:
    warm = Warm()
    warm.read(1)
    warm.clock.advance(CACHE - 0.1)
    assert warm.read(2) == (0, 5)
    assert warm.read(2) == (0, 0)

    warm.clock.advance(0.1)

    assert warm.read(2) == (0, 6)


def test_stops_from_the_future_are_read_again() -> None:
    warm = Warm()
    warm.read(1)
    warm.stop(StopKind.ALL)

    warm.clock.advance(-3600)

    assert warm.read(2) == (1, 6)


def test_stops_of_one_issuer_are_not_those_of_another() -> None:
    warm = Warm()
    warm.aws.store([operator_items.stops_item("other", [b.a_stop(StopKind.ALL)])])
    assert warm.read() == (0, 6)

    assert warm.read(issuer="other") == (1, 6)
    assert warm.read(2) == (0, 5)


def test_missing_stops_are_no_empty_ones_for_any_job() -> None:
    warm = Warm()
    warm.read(1, issuer="other")

    for job_id in (1, 2):
        job = b.a_job(job_id=job_id, issuer="other")
        assert warm.cache.of(job, b.PROD).facts.stops is None


def test_an_exchange_reads_the_stops_each_time() -> None:
    warm = Warm()
    store = DecisionStore(warm.aws, TABLE, clock=warm.clock)
    assert store.exchange_facts(b.a_job()).stops == ()

    warm.stop(StopKind.ALL)

    assert len(store.exchange_facts(b.a_job()).stops or ()) == 1
    assert len(store.relay_facts(b.a_job(), b.PROD).stops or ()) == 1
