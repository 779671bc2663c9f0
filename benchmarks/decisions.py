"""How long decisions take as candidate agents grow, and what an exchange reads of the table.

    .venv/bin/python -m benchmarks.decisions [--rounds N]

Ratios are what to compare between machines: each round times every part once, one after the other,
so that a busy machine slows all of them. Reads are counted, not timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

from jobgate.core.agent import AsCIJob
from jobgate.core.authorization import Allowed, authorize
from jobgate.core.bounds import Bounds
from jobgate.core.impersonation import identity_of
from jobgate.core.settings import Settings

from tests.support import builders as b
from tests.support.deployments import ManyAgents

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.agent import AgentSnapshot

_CANDIDATES = (1, 100, 1000)
_ENTRIES = 20  # of a usual file
_DEPLOYMENTS = (10, 100, 1000, 10_000)
_SETTINGS, _BOUNDS, _ISSUER = Settings(), Bounds(), b.an_issuer()


def _agents(count: int) -> list[AgentSnapshot]:
    """Agents whose group entry lets the job in, among entries for other projects and groups."""
    entry = b.an_entry("top", access_as=AsCIJob(), environments=["review/*", "production"])
    others = {10_000 + number: entry for number in range(_ENTRIES)}
    return [b.an_agent(i, projects=others, groups={**others, b.TOP: entry}) for i in range(count)]


def _decide(agents: list[AgentSnapshot]) -> None:
    job = b.a_job(environment="production", tier="production")
    where = b.known_surroundings()
    for agent in agents:
        decision = authorize(job, agent, where, settings=_SETTINGS, bounds=_BOUNDS, now=b.NOW)
        if not isinstance(decision, Allowed):
            raise TypeError(f"the benchmark's job is denied: {decision}")
        identity_of(job, decision.grant, issuer=_ISSUER, chain=where.chain)


def _medians(parts: dict[int, Callable[[], None]], rounds: int) -> dict[int, float]:
    """Milliseconds of each part."""
    taken: dict[int, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, run in parts.items():
            start = time.perf_counter()
            run()
            taken[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(times) for name, times in taken.items()}


def _print_times(title: str, medians: dict[int, float]) -> None:
    print(title)
    for count, median in medians.items():
        ratio = median / medians[1]
        print(f"  {count:>6,} agents {median:9.3f} ms   {ratio:8.1f} of one agent's")


def _print_reads(title: str, given: dict[str, ManyAgents]) -> None:
    print(title)
    for name, deployment in given.items():
        cold, warm = deployment.reads(), deployment.reads()
        print(
            f"  {name:<28} {warm.round_trips:>3} round trips {warm.items:>5,} items"
            f"   (first: {cold.round_trips}, {cold.items:,})"
        )


def main() -> None:
    """Run and print one table a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    groups = {count: _agents(count) for count in _CANDIDATES}
    decided = {count: lambda agents=agents: _decide(agents) for count, agents in groups.items()}
    _print_times(
        f"Decision and identity, in memory, median of {rounds}:", _medians(decided, rounds)
    )
    many = {count: ManyAgents(agents=count, candidates=count) for count in _CANDIDATES}
    exchanged = {count: lambda given=given: _read(given) for count, given in many.items()}
    _print_times(
        f"Exchange, its items unpacked, without network and signature, median of {rounds}:",
        _medians(exchanged, rounds),
    )
    _print_reads(
        "Reads of an exchange with 3 candidate agents, as the deployment grows:",
        {f"{n:,} agents": ManyAgents(agents=n, candidates=3) for n in _DEPLOYMENTS},
    )
    _print_reads(
        "Reads of an exchange, as its candidate agents grow:",
        {f"{n:,} candidates": ManyAgents(agents=n, candidates=n) for n in (1, 10, 100, 1000)},
    )


def _read(deployment: ManyAgents) -> None:
    deployment.reads()


if __name__ == "__main__":
    main()
