"""Valid tokens of foreign projects cost GitLab nothing, whatever they say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.core.bounds import Bounds
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.ports.exchange import TokenVerifier
from jobgate.usecases.exchange import Exchanged
from jobgate.usecases.lookups import LazyLookups
from jobgate.usecases.presented_token import Refused

from tests.support import builders as b
from tests.support.exchanges import an_exchange, explain_of
from tests.support.fakes import (
    FakeClock,
    FakeExchangeStore,
    FakeJobStates,
    FakePlaceStore,
    FakeTokenVerifier,
    a_watch,
)

if TYPE_CHECKING:
    from jobgate.core.job import VerifiedJob
    from jobgate.core.settings import JobEnd
    from jobgate.ports.gitlab import GitLabOfJobs
    from jobgate.usecases.exchange import Exchange

TOKENS = 10_000


class StrangersTokens(TokenVerifier):
    """Token `n` is one of project n below a root of its own, of every kind of pipeline in turn."""

    def verify(self, subject_token: str) -> VerifiedJob:
        number = int(subject_token)
        job = b.a_job(
            job_id=number,
            project_id=1_000_000 + number,
            namespace_id=2_000_000 + number,
            project_path=f"stranger{number}/top/sub1/app",
            pipeline_source=("push", "merge_request_event", "parent_pipeline")[number % 3],
            environment="review/Ä1" if number % 2 else None,
            tier="development" if number % 2 else None,
        )
        return b.a_verified_job(job, project_is_certain=number % 3 == 0)


@pytest.mark.parametrize("stranger_rate", [60, 10**9])
@pytest.mark.parametrize("legacy_slugs", [False, True])
def test_ten_thousand_valid_tokens_of_foreign_projects_cause_no_call_to_gitlab(
    stranger_rate: int, *, legacy_slugs: bool
) -> None:
    asked: list[str] = []

    def gitlab_of(alias: str) -> GitLabOfJobs:
        asked.append(alias)
        raise AssertionError("a stranger made us ask GitLab")

    settings = Settings(stranger_rate=stranger_rate, legacy_slugs=legacy_slugs)
    clock = FakeClock()
    # Nothing is stored of them, and an index that knows them wrongly.
    facts = b.some_facts(place=b.a_place(fetched_at=0), chain=b.a_chain(fetched_at=0))
    store = FakeExchangeStore(facts, [b.an_agent(projects={b.APP: b.an_entry()})])
    exchange = an_exchange(
        verifier=StrangersTokens(),
        store=store,
        lookups=LazyLookups(
            b.a_deployment,
            gitlab_of,
            FakePlaceStore(),
            a_watch(clock),
            settings=settings,
            bounds=Bounds(),
            clock=clock,
        ),
        settings=settings,
        clock=clock,
    )

    outcomes = [exchange.redeem(str(number)) for number in range(1, TOKENS + 1)]
    explained = explain_of(exchange).run("1")

    assert all(isinstance(outcome, Refused) for outcome in outcomes)
    assert asked == []
    assert getattr(explained, "agents", ()) == ()
    # Beyond the budget nothing is read either.
    read = store.reads.count("exchange_facts")
    assert read == min(stranger_rate, TOKENS + 1)


# --- Jobs of an unknown root that an agent names all the same ---

UNOBSERVED = Bounds().unobserved_life
ENTRIES = {"an entry of its own": b.APP, "the implicit entry": b.CONFIG_PROJECT}


class Renamed:
    """A job whose root was renamed since it began, of a GitLab that is never to be asked."""

    def __init__(self, project_id: int = b.APP, *, job_end: JobEnd = "both") -> None:
        self.clock, self.jobs = FakeClock(), FakeJobStates()
        settings = Settings(job_end=job_end)
        verified = b.a_verified_job(b.a_job(project_id=project_id), expires_at=int(b.NOW) + 36_000)
        deployment = b.a_deployment(roots=[("main", "renamed")])
        places = FakePlaceStore()
        places.saved_places["main", b.CONFIG_PROJECT] = b.a_config_place()
        self.exchange: Exchange = an_exchange(
            deployment=lambda: deployment,
            verifier=FakeTokenVerifier({"token": verified}),
            store=FakeExchangeStore(b.some_facts(), [b.an_agent(projects={b.APP: b.an_entry()})]),
            lookups=LazyLookups(
                lambda: deployment,
                self._gitlab_of,
                places,
                a_watch(self.clock, jobs=self.jobs, settings=settings),
                settings=settings,
                bounds=Bounds(),
                clock=self.clock,
            ),
            settings=settings,
            clock=self.clock,
        )

    def outcome(self, *, after: float) -> int | Reason:
        """How long after its start the job has access by a token of that moment, or why not."""
        self.clock.now = b.NOW + after
        outcome = self.exchange.redeem("token")
        if isinstance(outcome, Exchanged):
            return outcome.expires_at - int(b.NOW)
        return outcome.reason

    def _gitlab_of(self, alias: str) -> GitLabOfJobs:
        raise AssertionError(f"{alias} was asked about a job of an unknown root")


@pytest.mark.parametrize("job_end", ["probe", "both"])
@pytest.mark.parametrize("project_id", ENTRIES.values(), ids=ENTRIES)
def test_a_job_about_which_nobody_asks_has_access_for_a_while_after_its_start_and_no_longer(
    project_id: int, job_end: JobEnd
) -> None:
    renamed = Renamed(project_id, job_end=job_end)

    outcomes = [renamed.outcome(after=s) for s in (0, 600, UNOBSERVED - 1, UNOBSERVED, 3000)]

    assert outcomes == [UNOBSERVED] * 3 + [Reason.JOB_UNKNOWN] * 2
    assert renamed.jobs.calls == []


def test_where_hooks_alone_count_such_a_job_goes_on_by_short_tokens() -> None:
    renamed = Renamed(job_end="hook")

    assert [renamed.outcome(after=s) for s in (0, 3000)] == [UNOBSERVED, 3000 + UNOBSERVED]


def test_a_job_that_no_agent_names_is_told_that_also_when_it_is_old() -> None:
    renamed = Renamed(101)

    assert renamed.outcome(after=3000) is Reason.NOT_LISTED
