"""A large deployment in memory, on a clock of its own: what a decision reads, and which key is hot.

    .venv/bin/python -m benchmarks.simulation [--agents N] [--projects N] [--jobs N] [--seconds N]
                                              [--docs docs]

Jobs come at an even rate from projects of which few are busy; each is told by a hook, exchanges its
token, makes twelve requests to one agent's cluster in bursts, and ends. Every function is one of a
pool, chosen anew for each call, so that no cache is warmer than Lambda's. The real use cases and
adapters run; the table counts its units by partition key and second.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import itertools
import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jobgate.adapters import agent_items, items, operator_items
from jobgate.core.agent import AsCIJob
from jobgate.core.public_settings import PublicSettings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject

from benchmarks.cost import written
from tests.support import builders as b
from tests.support.counted_functions import (
    CountedStack,
    ExchangeFunction,
    RelayFunction,
    WebhookFunction,
)
from tests.support.fakes import FakeClock
from tests.support.refresh_fakes import FakeGitLab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.core.job import JobIdentity

READ_LIMIT, WRITE_LIMIT = 3000, 1000  # units a second of one partition (AWS, "Partitions")
AGENTS_OF_A_PROJECT, PROJECTS_OF_AN_AGENT, SUBGROUPS = 10, 10, 20
REQUESTS = tuple(burst + step / 4 for burst in (2, 8, 14) for step in range(4))
ENDS_AFTER = 20.0
_TOPS, _GROUPS, _PROJECTS, _CONFIGS = 1, 10_000, 1_000_000, 5_000_000
_AGENTS = 1_000_000_001

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a deployment is, and how busy for how long."""

    agents: int = 10_000
    projects: int = 100_000
    jobs: int = 200  # a second
    seconds: int = 15

    @property
    def tops(self) -> int:
        """Top-level groups, of a hundred agents each."""
        return max(1, self.agents // 100)


@dataclass
class Found:
    """What was seen; units of each decision, and the hottest second of each partition key."""

    size: Size
    exchanges: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    gitlab_calls: int = 0
    hottest_reads: list[tuple[str, float]] = field(default_factory=list)
    hottest_writes: list[tuple[str, float]] = field(default_factory=list)


class Simulation:
    """One run."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.clock = FakeClock()
        self.gitlab = _GitLab(size)
        self.stack = CountedStack(self.clock, self.gitlab)
        self.stack.aws.secrets = defaultdict(lambda: {"token": "canary"})
        self.stack.aws.store(_stored(size))
        busy = size.jobs
        # As many as Lambda runs at once where a call takes a tenth of a second.
        self._exchanges = [ExchangeFunction(self.stack) for _ in range(max(2, busy // 10))]
        self._relays = [RelayFunction(self.stack) for _ in range(max(2, busy))]
        self._webhooks = [WebhookFunction(self.stack) for _ in range(max(2, busy // 10))]
        self._turn = itertools.count()
        self._warm_up()

    def run(self) -> Found:
        """Let the time pass."""
        found = Found(self.size)
        began = self.clock.now
        queue: list[tuple[float, int, Callable[[], None]]] = []
        number = itertools.count()

        def later(at: float, what: Callable[[], None]) -> None:
            heapq.heappush(queue, (at, next(number), what))

        for n in range(self.size.jobs * self.size.seconds):
            at = began + n / self.size.jobs
            job = self._job(n)
            later(at, lambda job=job: self._hook(job, "running"))
            later(at + 1, lambda job=job, at=at: self._exchange(job, at, later, found))
            later(at + ENDS_AFTER, lambda job=job: self._hook(job, "success"))
        while queue:
            at, _, what = heapq.heappop(queue)
            self.clock.now = max(self.clock.now, at)
            what()
        found.gitlab_calls = len(self.gitlab.calls)
        found.hottest_reads = self._hottest(0)
        found.hottest_writes = self._hottest(1)
        return found

    def _warm_up(self) -> None:
        """Let each function have read the deployment at a time of its own, as after a while."""
        functions = [*self._exchanges, *self._relays]
        now, age = self.clock.now, self.stack.bounds.issuers_max_age
        for number, function in enumerate(functions):
            self.clock.now = now - age * number / len(functions)
            function.warm_up()
        self.clock.now = now
        self.stack.aws.by_partition.clear()

    def _hook(self, job: JobIdentity, status: str) -> None:
        self._one_of(self._webhooks).job(job, status)

    def _exchange(
        self,
        job: JobIdentity,
        at: float,
        later: Callable[[float, Callable[[], None]], None],
        found: Found,
    ) -> None:
        used = self.stack.aws.start()
        agents = self._one_of(self._exchanges).redeem(job)
        found.exchanges.append(used.reads)
        for seconds in REQUESTS:
            later(at + seconds, lambda: self._request(job, agents[0], found))

    def _request(self, job: JobIdentity, agent_id: int, found: Found) -> None:
        used = self.stack.aws.start()
        assert self._one_of(self._relays).request(job, agent_id) == 200
        found.requests.append(used.reads)

    def _one_of(self, functions: list[T]) -> T:
        return functions[_hashed(next(self._turn)) % len(functions)]

    def _job(self, number: int) -> JobIdentity:
        """Four jobs of five are of a tenth of the projects."""
        chosen = _hashed(number, "project")
        projects = self.size.projects
        index = chosen % (projects // 10 if chosen % 5 else projects)
        # Every project has a group's agent in any case.
        return b.a_job(
            job_id=number + 1,
            project_id=_PROJECTS + index,
            project_path=f"{_path(self.size, index)}/p{index}",
            namespace_id=_subgroup(self.size, index),
        )

    def _hottest(self, kind: int) -> list[tuple[str, float]]:
        most: Counter[str] = Counter()
        for (pk, _), units in self.stack.aws.by_partition.items():
            most[pk] = max(most[pk], units[kind])
        return [(pk, float(units)) for pk, units in most.most_common(5)]


class _GitLab(FakeGitLab):
    """Knows every project and group by its number."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._size = size

    def project(self, ref: int | str) -> GitLabProject | None:
        self.calls.append(("project", ref))
        assert isinstance(ref, int)
        index = ref - (_CONFIGS if ref >= _CONFIGS else _PROJECTS)
        return GitLabProject(
            project_id=ref,
            path=f"{_path(self._size, index)}/p{index}",
            default_branch="main",
            namespace_id=_subgroup(self._size, index),
            namespace_path=_path(self._size, index),
            namespace_kind="group",
        )

    def group(self, ref: int | str) -> GitLabGroup | None:
        self.calls.append(("group", ref))
        assert isinstance(ref, int)
        if ref < _GROUPS:
            return GitLabGroup(group_id=ref, path=f"t{ref - _TOPS}", parent_id=None)
        top, sub = divmod(ref - _GROUPS, SUBGROUPS)
        return GitLabGroup(group_id=ref, path=f"t{top}/s{sub}", parent_id=_TOPS + top)


def _stored(size: Size) -> Iterator[items.Item]:
    yield operator_items.settings_item(PublicSettings(base_url=b.BASE_URL, table_id="live"))
    yield operator_items.issuer_item(b.an_issuer())
    yield operator_items.public_key_item(b.a_public_key())
    yield operator_items.stops_item("main", ())
    subjects: dict[tuple[str, int], dict[str, items.Item]] = defaultdict(dict)
    for number in range(size.agents):
        snapshot = _snapshot(size, number)
        yield agent_items.snapshot_item(snapshot)
        yield agent_items.cluster_item(b.a_cluster(snapshot.agent_id, name=snapshot.agent_name))
        named = [("project", i) for i in snapshot.projects] + [
            ("group", i) for i in snapshot.groups
        ]
        for subject in named:
            subjects[subject][items.stamp(snapshot.agent_id)] = {"N": "1"}
    for (kind, subject_id), stamps in subjects.items():
        yield items.subject_key("main", kind, subject_id) | stamps
    for number in range(math.ceil(size.agents / AGENTS_OF_A_PROJECT)):
        first = number * AGENTS_OF_A_PROJECT
        agents = {_AGENTS + n: f"a{n}" for n in range(first, first + AGENTS_OF_A_PROJECT)}
        project = b.a_config_project_item(agents, project_id=_CONFIGS + number)
        root = f"t{number % size.tops}"
        yield agent_items.config_project_item(project) | {"root_path": {"S": root}}


def _snapshot(size: Size, number: int) -> agent_items.AgentSnapshot:
    """Every fifth agent names a subgroup, every other one ten projects of its top-level group."""
    config = number // AGENTS_OF_A_PROJECT
    top, of_top = config % size.tops, size.projects // size.tops
    turn = number // AGENTS_OF_A_PROJECT // size.tops * AGENTS_OF_A_PROJECT + number % 10
    entry = b.an_entry(f"t{top}", access_as=AsCIJob())
    by_group = turn % 5 == 0
    sub = _GROUPS + top * SUBGROUPS + turn // 5 % SUBGROUPS
    named = [(turn * PROJECTS_OF_AN_AGENT + j) % of_top for j in range(PROJECTS_OF_AN_AGENT)]
    return b.an_agent(
        _AGENTS + number,
        name=f"a{number}",
        config_project=b.a_config_project(
            _CONFIGS + config,
            path=f"t{top}/s0/p{config}",
            namespace_id=_subgroup(size, config),
            root_id=_TOPS + top,
        ),
        groups={sub: entry} if by_group else {},
        projects={} if by_group else {_PROJECTS + n * size.tops + top: entry for n in named},
    )


def _subgroup(size: Size, index: int) -> int:
    top, within = index % size.tops, index // size.tops
    return _GROUPS + top * SUBGROUPS + within % SUBGROUPS


def _path(size: Size, index: int) -> str:
    return f"t{index % size.tops}/s{index // size.tops % SUBGROUPS}"


def _hashed(number: int, salt: str = "") -> int:
    digest = hashlib.blake2b(f"{salt}{number}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")


def report(found: list[Found]) -> list[str]:
    """The tables of a page."""
    head = (
        "agents",
        "projects",
        "jobs a second",
        "read units of an exchange, median (p99)",
        "of a request",
        "GitLab's calls a job",
        "most read units of a key in a second",
        "most write units",
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for each in found:
        size = each.size
        (read_key, reads), (write_key, writes) = each.hottest_reads[0], each.hottest_writes[0]
        calls = each.gitlab_calls / (size.jobs * size.seconds)
        lines.append(
            f"| {size.agents:,} | {size.projects:,} | {size.jobs} | {_spread(each.exchanges)} "
            f"| {_spread(each.requests)} | {calls:.1f} "
            f"| {reads:,.0f} (`{read_key}`) | {writes:,.0f} (`{write_key}`) |"
        )
    return lines


def _spread(units: list[float]) -> str:
    p99 = statistics.quantiles(units, n=100)[98]
    return f"{statistics.median(units):g} ({p99:g})"


def main() -> None:
    """Run it small, ten times as large and whole, and print the table."""
    parser = argparse.ArgumentParser()
    for name, value in (("agents", 10_000), ("projects", 100_000), ("jobs", 200), ("seconds", 15)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--docs", type=Path, help="Write the table into cost.md of this folder.")
    given = parser.parse_args()
    sizes = [
        Size(
            agents=given.agents // part,
            projects=given.projects // part,
            jobs=given.jobs,
            seconds=given.seconds,
        )
        for part in (100, 10, 1)
    ]
    found = []
    for size in sizes:
        found.append(Simulation(size).run())
        print(f"{size}: {found[-1].hottest_reads} {found[-1].hottest_writes}", flush=True)
    print("\n".join(report(found)))
    if given.docs is not None:
        page = given.docs / "cost.md"
        page.write_text(written(page.read_text(), {"simulation": report(found)}))


if __name__ == "__main__":
    main()
