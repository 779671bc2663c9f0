"""Valid tokens of foreign projects cost GitLab nothing, whatever they say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.core.bounds import Bounds
from jobgate.core.settings import Settings
from jobgate.ports import TokenVerifier
from jobgate.usecases.lookups import LazyLookups
from jobgate.usecases.presented_token import Refused

from tests.support import builders as b
from tests.support.exchanges import an_exchange, explain_of
from tests.support.fakes import FakeClock, FakeExchangeStore, FakePlaceStore, a_watch

if TYPE_CHECKING:
    from jobgate.core.job import VerifiedJob
    from jobgate.ports import GitLabOfJobs

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
