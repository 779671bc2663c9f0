"""How long an agent's file takes, against PyYAML's `safe_load` of the same text in the same run.

    .venv/bin/python -m benchmarks.configuration [--rounds N]

Ratios are what to compare between machines: each round times every part once, one after the other,
so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from typing import TYPE_CHECKING

import yaml
from jobgate.core.agent import AgentSnapshot, ConfigProject
from jobgate.core.agent_configuration import (
    AgentConfiguration,
    InvalidConfiguration,
    read_configuration,
)
from jobgate.core.settings import Settings
from jobgate.core.snapshot import SnapshotHead, Target, Targets, compile_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = ".gitlab/agents/prod/config.yaml"
_ENTRIES = 500
_ENTRY = """\
    - id: top/sub{number}/name-{number}
      default_namespace: n{number}
      access_as: {{ci_job: {{}}}}
      environments: [production]
"""
_MISTAKES = """\
ci_access:
  project: []
  projects:
    - id: 12
    - name: x
      id: a
    - id: b
      environments: production
    - id: c
      access_as: {}
    - id: d
      access_as: {ci_user: {}}
    - id: e
      access_as: {impersonate: {groups: [g]}}
    - id: f
      protected_branches_only: maybe
    - {}
  groups:
    - id: g
      environments: [""]
"""
_MISTAKES_COUNT = 10


def _large(*, wrong: bool = False) -> str:
    """500 projects and 500 groups; `wrong` puts a mistyped key into each of the last ten."""
    entries = [_ENTRY.format(number=number) for number in range(_ENTRIES)]
    bad = [entry.replace("environments", "enviroments") for entry in entries[-_MISTAKES_COUNT:]]
    groups = entries[:-_MISTAKES_COUNT] + bad if wrong else entries
    return f"ci_access:\n  projects:\n{''.join(entries)}  groups:\n{''.join(groups)}"


def _read(text: str) -> AgentConfiguration:
    configuration = read_configuration(text.encode(), file=_FILE)
    if isinstance(configuration, InvalidConfiguration):
        raise TypeError(f"the benchmark's file has problems: {configuration.problems[0]}")
    return configuration


def _problems(text: str) -> None:
    read = read_configuration(text.encode(), file=_FILE)
    if isinstance(read, AgentConfiguration) or len(read.problems) != _MISTAKES_COUNT:
        raise TypeError(f"the benchmark's file has other than {_MISTAKES_COUNT} problems")


def _compile(configuration: AgentConfiguration) -> AgentSnapshot:
    targets = {
        entry.path: Target(id=number, path=entry.path, root_id=1)
        for number, entry in enumerate(configuration.projects, start=1)
    }
    head = SnapshotHead(
        issuer="main",
        agent_id=501,
        agent_name="prod",
        version=1,
        commit="2" * 40,
        config_project=ConfigProject(project_id=50, path="top/agents", namespace_id=1, root_id=1),
        file=_FILE,
        at=0.0,
    )
    both = Targets(projects=targets, groups=targets)
    snapshot = compile_snapshot(configuration, both, head, settings=Settings())
    if len(snapshot.projects) != _ENTRIES or len(snapshot.groups) != _ENTRIES or snapshot.problems:
        raise TypeError("the benchmark's snapshot isn't whole")
    return snapshot


def _medians(parts: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each part."""
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, run in parts.items():
            start = time.perf_counter()
            run()
            taken[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Run and print one table a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    large, wrong = _large(), _large(wrong=True)
    whole = _read(large)
    files: dict[str, tuple[str, dict[str, Callable[[], object]]]] = {
        f"{_ENTRIES} + {_ENTRIES} entries": (
            large,
            {
                "read": lambda: _read(large),
                "compile": lambda: _compile(whole),
                "read and compile": lambda: _compile(_read(large)),
            },
        ),
        "the same with ten mistakes": (wrong, {"ten problems": lambda: _problems(wrong)}),
        "ten mistakes alone": (_MISTAKES, {"ten problems": lambda: _problems(_MISTAKES)}),
    }
    for name, (text, parts) in files.items():
        base = "yaml.safe_load"
        medians = _medians({base: functools.partial(yaml.safe_load, text), **parts}, rounds)
        print(f"{name}: {len(text.encode()):,} bytes, median of {rounds}")
        for part, median in medians.items():
            print(f"  {part:<18} {median:9.2f} ms   {median / medians[base]:6.3f} of {base}")


if __name__ == "__main__":
    main()
