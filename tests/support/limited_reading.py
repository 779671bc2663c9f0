"""Reads checkouts' agents by `jobgate lint` and by a refresh, within limits of CPU time and memory.

`python -m tests.support.limited_reading` takes a checkout's path a line and answers with a line of
JSON. Each is read in a child process of its own, so that a reader without bounds dies alone. The
refresh finds an agent `prod` that has had a good configuration, with an entry for `builders.APP`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from jobgate.cli.checkouts import agents_folder, read_agents_folder
from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject
from jobgate.usecases.refresh import Refresh

from tests.support import builders as b
from tests.support.fakes import FakeClock
from tests.support.given_files import run
from tests.support.refresh_fakes import FakeGitLab, FakeRefreshStore

CPU_SECONDS = 5
SECONDS = 60
MEMORY_BYTES = 256 * 1024 * 1024


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_in_a_child(Path(line.rstrip("\n")))) + "\n")
        sys.stdout.flush()


def _in_a_child(checkout: Path) -> dict[str, Any]:
    """How it ended (a negative number is a signal's) and what it found, or else its trace."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _read(checkout, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return {"ended": os.waitstatus_to_exitcode(status), "said": said}


def _read(checkout: Path, writer: int) -> None:
    ended = 1
    with os.fdopen(writer, "w") as pipe:
        try:
            _limit()
            found = {"lint": _linted(checkout), "refresh": _refreshed(checkout)}
            pipe.write(json.dumps(found))
            ended = 0
        except BaseException:  # noqa: BLE001  whatever it is, the test shows it
            traceback.print_exc(file=pipe)
    os._exit(ended)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.alarm(SECONDS)


def _linted(checkout: Path) -> dict[str, Any]:
    found = run("lint", str(checkout), "--json")
    answer = json.loads(found.stdout) if found.stdout else {"problems": []}
    return {"exit": found.exit_code, "said": found.stderr, "problems": answer["problems"]}


def _refreshed(checkout: Path) -> dict[str, Any]:
    tree = read_agents_folder(agents_folder(checkout))
    project = GitLabProject(
        project_id=b.CONFIG_PROJECT,
        path="top/agents",
        default_branch="main",
        namespace_id=b.TOP,
        namespace_path="top",
        namespace_kind="group",
    )
    gitlab = FakeGitLab(
        groups=[GitLabGroup(group_id=b.TOP, path="top", parent_id=None)], projects=[project]
    )
    gitlab.kinds = {path: checked_out.kind for path, checked_out in tree.items()}
    gitlab.push(b.CONFIG_PROJECT, {path: found.content for path, found in tree.items()})
    store = FakeRefreshStore()
    store.config_projects["main", b.CONFIG_PROJECT] = b.a_config_project_item()
    store.clusters["main", b.PROD] = b.a_cluster()
    store.snapshots["main", b.PROD] = b.an_agent(projects={b.APP: b.an_entry()})
    Refresh(
        gitlab_of=lambda _alias: gitlab,
        store=store,
        recorder=lambda _line: None,
        settings=Settings(),
        clock=FakeClock(),
        pick=lambda _count: 0,
    ).run("main", b.CONFIG_PROJECT)
    snapshot = store.snapshots["main", b.PROD]
    problems = [{name: getattr(p, name) for name in p.__slots__} for p in snapshot.problems]
    return {"projects": [*snapshot.projects], "problems": problems}


if __name__ == "__main__":
    main()
