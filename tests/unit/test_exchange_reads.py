"""What an exchange reads of the table: it depends on the job's agents, never on all agents."""

from __future__ import annotations

import pytest

from tests.support.deployments import ManyAgents, Reads


@pytest.mark.parametrize("candidates", [1, 3])
def test_what_an_exchange_reads_does_not_grow_with_the_deployment(candidates: int) -> None:
    small = ManyAgents(agents=10, candidates=candidates)
    large = ManyAgents(agents=10_000, candidates=candidates)

    cold, warm = small.reads(), small.reads()

    assert (large.reads(), large.reads()) == (cold, warm)
    assert warm.agents == candidates


@pytest.mark.parametrize("candidates", [1, 2, 10, 99, 100])
def test_a_warm_exchange_with_up_to_a_hundred_agents_takes_three_round_trips(
    candidates: int,
) -> None:
    deployment = ManyAgents(agents=candidates, candidates=candidates)
    deployment.reads()

    warm = deployment.reads()

    # The job's five items, its two groups' and the instance's, and the agents.
    keys = 5 + 3 + candidates
    assert (warm.round_trips, warm.keys, warm.agents) == (3, keys, candidates)
    assert warm.items <= warm.keys


@pytest.mark.parametrize("candidates", [1, 100])
def test_the_first_exchange_of_a_function_reads_the_configuration_projects_too(
    candidates: int,
) -> None:
    deployment = ManyAgents(agents=candidates, candidates=candidates)

    cold, warm = deployment.reads(), deployment.reads()

    assert cold == Reads(
        round_trips=warm.round_trips + 1,
        keys=warm.keys + candidates,
        items=warm.items + candidates,
        agents=warm.agents,
    )


@pytest.mark.parametrize(("candidates", "round_trips"), [(101, 4), (200, 4), (201, 5), (1000, 12)])
def test_each_further_hundred_agents_take_one_round_trip_more(
    candidates: int, round_trips: int
) -> None:
    deployment = ManyAgents(agents=candidates, candidates=candidates)
    deployment.reads()

    assert deployment.reads().round_trips == round_trips
