"""Processes that refresh, killed by SIGKILL before and after each of their calls, and two at once.

At every moment a reader sees an agent's old configuration or its new one, and in the end the new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.aws.emulator import Emulator, start_emulator
from local.certificates import CertificateAuthority
from local.gitlab.server import GitLab
from tests.support.refresh_system import ROOT, RefreshSystem, View
from tests.support.stores import boto_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.stack

OLD = {"prod": ["both", "old"], "staging": ["both"]}
NEW = {"prod": ["both", "new"], "staging": ["new"]}
THIRD = {"prod": ["old"], "staging": ["both", "old", "new"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crashes")


@pytest.fixture(scope="module")
def authority(folder: Path) -> CertificateAuthority:
    return CertificateAuthority.create(folder)


@pytest.fixture(scope="module")
def gitlab(folder: Path, authority: CertificateAuthority) -> Iterator[GitLab]:
    started = GitLab.start(folder / "gitlab", authority=authority)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def emulator(folder: Path, authority: CertificateAuthority) -> Iterator[Emulator]:
    interpreter = ROOT / ".venv-ministack" / "bin" / "python"
    started = start_emulator(interpreter, folder, authority=authority)
    yield started
    started.child.stop()


@pytest.fixture
def system(
    folder: Path,
    authority: CertificateAuthority,
    gitlab: GitLab,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> RefreshSystem:
    """Refreshed once, to OLD."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    call = boto_call(emulator.environment)
    made = RefreshSystem.create(gitlab, emulator, call, authority=authority, folder=folder)
    views = made.push(OLD)
    made.send()
    made.run()
    assert made.views() == views
    return made


def only(system: RefreshSystem, *allowed: dict[int, View]) -> tuple[Callable[[], None], list[str]]:
    """A look that notes every view that isn't one of these, and versions that go back."""
    faults: list[str] = []
    last: dict[int, int] = {}

    def look() -> None:
        views, versions = system.views(), system.versions()
        for agent_id, view in views.items():
            if view not in [one[agent_id] for one in allowed]:
                faults.append(f"agent {agent_id}: {sorted(map(str, view))}")
            if versions[agent_id] < last.get(agent_id, 0):
                faults.append(f"agent {agent_id}: version went back to {versions[agent_id]}")
        last.update(versions)

    return look, faults


def go_on(system: RefreshSystem, look: Callable[[], None]) -> None:
    """What the deployment does after a crash: the message comes again, then the schedule's."""
    if system.waiting():
        system.run(look)
    assert system.waiting() == 0


def calls_of_a_refresh(system: RefreshSystem) -> list[str]:
    """The calls of the refresh to NEW; the system is at OLD again afterwards."""
    system.push(NEW)
    system.send()
    calls = system.run().calls
    system.push(OLD)
    system.send()
    system.run()
    return calls


def writes_of(calls: list[str]) -> list[int]:
    """Which of these calls write to the table, counted from 1."""
    writing = ("PutItem", "UpdateItem", "TransactWriteItems")
    return [number for number, call in enumerate(calls, 1) if call.endswith(writing)]


def kill_at_each(system: RefreshSystem, numbers: Iterable[int]) -> int:
    """Kill the refresh from OLD to NEW, and back, at each of these calls; how many were killed."""
    sides = (OLD, NEW)
    before = system.views()
    count = 0
    for number in numbers:
        for moment in ("before", "after"):
            after = system.push(sides[(count + 1) % 2])
            system.send()
            look, faults = only(system, before, after)

            system.run_and_kill((number, moment), look)
            go_on(system, look)

            assert faults == [], f"killed {moment} call {number}"
            assert system.views() == after, f"killed {moment} call {number}"
            before, count = after, count + 1
    return count


def overtake_at(system: RefreshSystem, number: int, *, killed: bool) -> None:
    """Hold a refresh to NEW at a call of its own, until one to THIRD is through; then let go."""
    old, new, third = system.views(), system.push(NEW), system.view_of(THIRD)
    faster = system.with_another_queue()
    look, faults = only(system, old, new, third)
    system.send()
    with system.held(number, look) as (process, let_go):
        system.push(THIRD)
        faster.send()
        faster.run(look)
        look_at_last, faults_at_last = only(system, third)
        look_at_last()
        if killed:
            process.kill()
        let_go()
        process.wait(timeout=60)
        look_at_last()
    go_on(system, look_at_last)
    assert (faults, faults_at_last) == ([], []), f"overtaken at call {number}"
    assert system.views() == third
    system.push(OLD)
    system.send()
    system.run()


def test_a_killed_refresh_leaves_the_old_or_the_new_and_its_message_brings_the_new(
    system: RefreshSystem,
) -> None:
    writes = writes_of(calls_of_a_refresh(system))
    assert kill_at_each(system, (writes[0], writes[len(writes) // 2])) == 4


def test_an_overtaken_refresh_changes_nothing_any_more(system: RefreshSystem) -> None:
    writes = writes_of(calls_of_a_refresh(system))
    overtake_at(system, writes[len(writes) // 2], killed=False)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_refresh_may_be_killed_at_every_single_step(system: RefreshSystem) -> None:
    calls = calls_of_a_refresh(system)
    assert kill_at_each(system, range(1, len(calls) + 1)) == 2 * len(calls)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("killed", [True, False])
def test_a_refresh_may_be_overtaken_at_every_single_step(
    system: RefreshSystem, *, killed: bool
) -> None:
    for number in range(2, len(calls_of_a_refresh(system)) + 1):
        overtake_at(system, number, killed=killed)
