from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.agent_folder import FileKind
from jobgate.core.commit_status import CommitStatus
from jobgate.core.errors import Conflict, OutOfTime, Throttled, TimedOut, Unavailable
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup
from jobgate.ports.refresh import Subject
from jobgate.usecases.reconcile import Reconcile

from tests.support import builders as b
from tests.support.fakes import FakeRefreshQueue
from tests.support.refresh_fakes import FakeRefreshStore
from tests.support.refresh_machine import Killed
from tests.support.refresh_setting import (
    APP,
    APP_ENTRY,
    BROKEN,
    CONFIG,
    FILE,
    OTHER,
    Setting,
    a_project,
    pushed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports.refresh import IndexChange


def unchanged(setting: Setting, *, after: Any) -> bool:
    """Whether the same is granted as before; what is in doubt is granted for a while."""
    before = (setting.snapshot, setting.indexed)
    after()
    snapshot = dataclasses.replace(setting.snapshot, doubt_since=None)
    return (snapshot, setting.indexed) == before


def test_a_push_publishes_what_the_file_grants_at_that_commit() -> None:
    setting = pushed()

    head = setting.gitlab.head(b.CONFIG_PROJECT, "main")
    assert setting.snapshot == b.an_agent(
        commit=head or "",
        projects={b.APP: b.an_entry()},
        valid_since=b.NOW,
        blob=hashlib.sha256(APP_ENTRY).hexdigest()[:40],
    )
    assert setting.indexed == {APP, CONFIG}


def test_ids_are_added_before_the_snapshot_and_removed_after_it() -> None:
    setting = pushed()

    setting.push(b"ci_access: {projects: [{id: top/sub1/other}], groups: [{id: top}]}")

    writes = setting.store.writes
    assert writes[0] == "reading 2"
    assert set(writes[1:3]) == {"add project 101", "add group 1"}
    assert writes[3:] == [
        "publish 501 v2",
        "remove project 100",
        "unlist 501",
        "note good",
    ]


def test_a_conflict_publishes_and_removes_nothing_and_comes_again() -> None:
    setting = pushed()
    faster = b.an_agent(version=2, projects={b.APP: b.an_entry(namespace="faster")})
    original = setting.gitlab.agent_files

    def overtaken(project_id: int, commit: str) -> Mapping[str, str]:
        setting.store.snapshots["main", b.PROD] = faster
        return original(project_id, commit)

    setting.gitlab.agent_files = overtaken  # type: ignore[method-assign]  # the overtaking itself

    with pytest.raises(Conflict):
        setting.push(b"ci_access: {projects: [{id: top/sub1/other}]}")

    assert setting.snapshot == faster
    assert APP in setting.indexed
    assert not any(write.startswith("remove") for write in setting.store.writes)


def test_a_broken_file_keeps_what_the_last_good_one_granted_and_shows_its_problems() -> None:
    setting = pushed()
    good = setting.snapshot

    setting.push(BROKEN)

    assert (setting.snapshot.projects, setting.snapshot.commit) == (good.projects, good.commit)
    assert setting.snapshot.valid
    assert [problem.code for problem in setting.snapshot.problems] == ["yaml_syntax"]
    assert APP in setting.indexed


def test_a_mended_file_shows_no_problems_any_more() -> None:
    setting = pushed()
    setting.push(BROKEN)

    setting.push(APP_ENTRY)

    assert setting.snapshot.problems == ()


def test_a_file_that_was_never_valid_grants_nothing() -> None:
    setting = pushed(BROKEN)

    assert not setting.snapshot.valid
    assert dict(setting.snapshot.projects) == {}


def test_a_deleted_file_is_an_empty_one() -> None:
    setting = pushed()

    setting.push(None, **{"README.md": b""})

    assert setting.snapshot.valid
    assert dict(setting.snapshot.projects) == {}
    assert setting.indexed == {CONFIG}


@pytest.mark.parametrize(
    "path",
    [
        ".gitlab/agents/prod/config.yml",
        ".gitlab/agents/prod/Config.yaml",
        ".gitlab/agents/Prod/config.yaml",
        ".gitlab/agents/prod/sub/config.yaml",
        "agents/prod/config.yaml",
    ],
)
def test_only_the_agents_own_config_yaml_counts(path: str) -> None:
    setting = Setting()
    setting.gitlab.push(b.CONFIG_PROJECT, {path: APP_ENTRY})

    setting.run()

    assert dict(setting.snapshot.projects) == {}


def test_the_file_of_an_agent_that_is_not_registered_has_no_effect() -> None:
    setting = Setting()

    setting.push(None, **{".gitlab/agents/stranger/config.yaml": APP_ENTRY})

    assert list(setting.store.snapshots) == [("main", b.PROD)]
    assert setting.indexed == {CONFIG}


@pytest.mark.parametrize(
    "cluster",
    [None, b.a_cluster(config_project_id=51), b.a_cluster(name="production")],
    ids=["none", "project", "name"],
)
def test_an_agent_whose_connection_disagrees_is_not_published(cluster: Any) -> None:
    setting = Setting()
    if cluster is None:
        del setting.store.clusters["main", b.PROD]
    else:
        setting.store.clusters["main", b.PROD] = cluster

    setting.push(APP_ENTRY)

    assert setting.store.snapshots == {}
    assert setting.indexed == set()


def test_a_project_that_is_no_configuration_project_is_not_even_asked_about() -> None:
    setting = Setting()

    setting.refresh.run("main", 999)

    assert setting.gitlab.calls == []


def test_an_unchanged_head_writes_nothing() -> None:
    setting = pushed()

    setting.run()

    assert setting.store.writes == []


def test_a_commit_elsewhere_in_the_repository_is_only_noted() -> None:
    setting = pushed()

    setting.push(APP_ENTRY, **{"README.md": b"new"})

    assert setting.store.writes == ["reading 2", "note good"]


def test_a_target_that_moved_away_is_found_at_an_unchanged_head() -> None:
    setting = pushed()
    del setting.gitlab.projects[b.APP]

    setting.run()

    assert refused_of(setting) == {b.APP: Reason.NOT_LISTED}
    assert [problem.code for problem in setting.snapshot.problems] == ["not_found"]


def test_a_configuration_project_that_moved_is_found_at_an_unchanged_head() -> None:
    setting = pushed()
    setting.gitlab.projects[b.CONFIG_PROJECT] = a_project(
        b.CONFIG_PROJECT, "ext/agents", b.OTHER_ROOT
    )

    setting.run()

    assert setting.snapshot.config_project.root_id == b.OTHER_ROOT
    assert setting.snapshot.context == "ext/agents:prod"


def test_a_target_that_moved_into_scope_counts_from_the_next_refresh_on() -> None:
    setting = Setting()
    setting.gitlab.projects[300] = a_project(300, "ext/app", b.OTHER_ROOT)
    setting.push(b"ci_access: {projects: [{id: ext/app}]}")
    before = setting.snapshot
    setting.gitlab.projects[b.CONFIG_PROJECT] = a_project(
        b.CONFIG_PROJECT, "ext/agents", b.OTHER_ROOT
    )

    setting.run()

    assert before.projects[300].refused is Reason.OUT_OF_SCOPE
    assert setting.snapshot.projects == {300: b.an_entry("ext/app")}
    assert setting.snapshot.problems == ()


def test_a_broken_file_of_a_project_that_moved_is_judged_by_its_new_scope() -> None:
    setting = pushed()
    setting.gitlab.projects[b.CONFIG_PROJECT] = a_project(
        b.CONFIG_PROJECT, "ext/agents", b.OTHER_ROOT
    )

    setting.push(BROKEN)

    assert setting.snapshot.config_project.root_id == b.OTHER_ROOT


@pytest.mark.parametrize("method", ["project", "group", "head", "agent_files", "raw_file"])
def test_a_fault_of_gitlabs_changes_no_access_and_is_noted(method: str) -> None:
    setting = pushed()
    setting.gitlab.push(b.CONFIG_PROJECT, {FILE: b"ci_access: {groups: [{id: top}]}"})
    setting.gitlab.failing.add(method)

    def run() -> None:
        with pytest.raises(Unavailable):
            setting.run()

    assert unchanged(setting, after=run)
    assert setting.note == f"GitLab answered 500 to {method}"


def test_a_fault_in_the_middle_of_resolving_changes_no_access() -> None:
    setting = pushed()
    del setting.gitlab.groups[b.TOP]

    def push() -> None:
        with pytest.raises(Unavailable):
            setting.push(b"ci_access: {groups: [{id: top/sub1}]}")

    assert unchanged(setting, after=push)


def test_a_configuration_project_that_is_not_found_changes_no_access() -> None:
    setting = pushed()
    del setting.gitlab.projects[b.CONFIG_PROJECT]

    assert unchanged(setting, after=setting.run)
    assert setting.note == "the configuration project isn't there, or not for our token"


def test_an_empty_repository_changes_no_access_and_is_noted() -> None:
    setting = pushed()
    del setting.gitlab.files[b.CONFIG_PROJECT]

    assert unchanged(setting, after=setting.run)
    assert setting.note == "the repository is empty, or not for our token"


def test_a_file_that_is_listed_and_then_not_found_is_a_fault_and_not_deleted() -> None:
    setting = pushed()
    setting.gitlab.hidden_files.add(FILE)

    def run() -> None:
        with pytest.raises(Unavailable):
            setting.run()

    assert unchanged(setting, after=run)


def test_a_good_refresh_clears_the_note_of_a_bad_one() -> None:
    setting = pushed()
    setting.gitlab.failing.add("head")
    with pytest.raises(Unavailable):
        setting.run()
    setting.gitlab.failing.clear()

    setting.run()

    assert setting.note is None


def test_the_stored_version_is_read_before_gitlab_is_asked() -> None:
    setting = pushed()
    reads: list[str] = []
    original = setting.store.snapshot

    def noticed(issuer: str, agent_id: int) -> AgentSnapshot | None:
        reads.append(f"after {len(setting.gitlab.calls)} calls")
        return original(issuer, agent_id)

    setting.store.snapshot = noticed  # type: ignore[method-assign]  # to see when it is read
    setting.gitlab.calls.clear()

    setting.run()

    assert reads == ["after 0 calls"]


def test_a_path_is_asked_for_once_whatever_its_case_and_how_often_it_stands() -> None:
    setting = Setting()
    entries = ", ".join(f"{{id: {path}}}" for path in ["top/sub1/app", "TOP/sub1/APP"] * 50)
    setting.push(f"ci_access: {{projects: [{entries}]}}".encode())

    asked = [argument for method, argument in setting.gitlab.calls if method == "project"]

    assert asked == [b.CONFIG_PROJECT, "top/sub1/app"]


def test_each_agent_of_a_project_is_published_from_its_own_file() -> None:
    setting = Setting()
    agents = {b.PROD: "prod", b.STAGING: "staging"}
    setting.store.config_projects["main", b.CONFIG_PROJECT] = b.a_config_project_item(agents)
    setting.store.clusters["main", b.STAGING] = b.a_cluster(b.STAGING, name="staging")

    setting.push(
        BROKEN, **{".gitlab/agents/staging/config.yaml": b"ci_access: {groups: [{id: top}]}"}
    )

    assert not setting.store.snapshots["main", b.PROD].valid
    assert set(setting.store.snapshots["main", b.STAGING].groups) == {b.TOP}


def test_a_refresh_is_recorded_with_its_problems_and_no_content_of_the_file() -> None:
    setting = pushed(b"ci_access: {projects: [{id: top/canary}]}")

    (line,) = setting.records
    record = json.loads(line)
    assert (record["type"], record["outcome"], record["version"]) == ("refresh", "allowed", 1)
    assert record["problems"] == [f"{FILE}:1 not_found"]
    assert "canary" not in line


def test_a_file_that_was_never_valid_is_recorded_as_refused() -> None:
    assert json.loads(pushed(BROKEN).records[0])["outcome"] == "refused"


def test_the_known_root_is_kept_for_lazy_look_ups() -> None:
    setting = Setting()
    setting.gitlab.groups[b.TOP] = GitLabGroup(group_id=b.TOP, path="Top", parent_id=None)

    setting.push(APP_ENTRY)

    item = setting.store.config_projects["main", b.CONFIG_PROJECT]
    assert item.root_path == "top"


def test_reconcile_queues_every_configuration_project_without_a_key() -> None:
    store, queue = FakeRefreshStore(), FakeRefreshQueue()
    for issuer, project_id in (("main", 50), ("main", 60), ("other", 50)):
        store.config_projects[issuer, project_id] = b.a_config_project_item(
            issuer=issuer, project_id=project_id
        )

    count = Reconcile(projects=store, queue=queue).run()

    assert count == 3
    assert queue.refreshes == [("main", 50, None), ("main", 60, None), ("other", 50, None)]


def test_a_project_that_cannot_be_queued_holds_no_other_up() -> None:
    store, queue = FakeRefreshStore(), FakeRefreshQueue()
    for project_id in (50, 60, 70):
        item = b.a_config_project_item(project_id=project_id)
        store.config_projects["main", project_id] = item
    queue.refused = {60}

    with pytest.raises(Unavailable):
        Reconcile(projects=store, queue=queue).run()

    assert queue.refreshes == [("main", 50, None), ("main", 70, None)]


NARROW = b"ci_access: {projects: [{id: top/sub1/other}]}"
WIDE = b"ci_access: {projects: [{id: top/sub1/other}, {id: top/sub1/app}], groups: [{id: top}]}"


@pytest.mark.parametrize(("slow", "fast"), [(NARROW, WIDE), (WIDE, NARROW)])
def test_the_index_is_a_superset_however_a_slow_and_a_fast_refresh_interleave(
    slow: bytes, fast: bytes
) -> None:
    setting = pushed()
    original = setting.store.remove_from_index
    overtaken: list[bool] = []

    def late(gone: IndexChange) -> None:
        if not overtaken:
            overtaken.append(True)
            setting.push(fast)
        original(gone)

    setting.store.remove_from_index = late  # type: ignore[method-assign]  # the overtaking itself
    with contextlib.suppress(Conflict):  # where it still has something to repair
        setting.push(slow)

    named = {Subject("project", i) for i in setting.snapshot.projects}
    named |= {Subject("group", i) for i in setting.snapshot.groups}
    assert overtaken == [True]
    assert setting.snapshot.version == 3
    assert named <= setting.indexed


@pytest.mark.parametrize("kind", [FileKind.FOLDER, FileKind.LINK, FileKind.SUBMODULE])
def test_a_configuration_that_is_no_file_keeps_the_last_good_one(kind: FileKind) -> None:
    setting = pushed()
    good = setting.snapshot
    setting.gitlab.kinds[FILE] = kind

    setting.push(b"../elsewhere.yaml")

    assert (setting.snapshot.projects, setting.snapshot.commit) == (good.projects, good.commit)
    assert [p.code for p in setting.snapshot.problems] == ["not_a_file"]
    assert ("raw_file", FILE) not in setting.gitlab.calls[-3:]


def test_an_agents_folder_that_is_a_link_takes_no_access_away() -> None:
    setting = pushed()
    setting.gitlab.kinds[".gitlab/agents/prod"] = FileKind.LINK

    setting.push(None, **{".gitlab/agents/prod": b"staging"})

    assert setting.snapshot.projects == {b.APP: b.an_entry()}
    assert [p.code for p in setting.snapshot.problems] == ["not_a_file"]


def test_files_beside_the_configuration_are_shown_and_change_nothing() -> None:
    setting = pushed()
    beside = {f".gitlab/agents/prod/{name}": b"a: [" for name in ("config.yml", "jobgate.yaml")}

    setting.push(APP_ENTRY, **beside)

    assert setting.snapshot.valid
    assert setting.snapshot.projects == {b.APP: b.an_entry()}
    assert [(p.code, p.file) for p in setting.snapshot.problems] == [
        ("other_name", ".gitlab/agents/prod/config.yml"),
        ("jobgate_yaml", ".gitlab/agents/prod/jobgate.yaml"),
    ]


def test_files_beside_a_broken_configuration_are_shown_with_its_problems() -> None:
    setting = pushed()

    setting.push(BROKEN, **{".gitlab/agents/prod/config.yml": b""})

    assert [p.code for p in setting.snapshot.problems] == ["other_name", "yaml_syntax"]


# --- Since when ---


def test_a_broken_file_leaves_the_last_good_one_in_force_since_it_was_published() -> None:
    setting = pushed()
    good = setting.snapshot
    setting.clock.advance(1000)

    setting.push(BROKEN)

    assert (setting.snapshot.commit, setting.snapshot.valid_since) == (good.commit, b.NOW)
    assert setting.snapshot.projects == good.projects


def test_a_configuration_counts_since_its_entries_last_changed() -> None:
    setting = pushed()
    setting.clock.advance(1000)
    setting.push(APP_ENTRY, **{"README.md": b"new"})
    assert setting.snapshot.valid_since == b.NOW

    setting.push(b"ci_access: {groups: [{id: top}]}")

    assert setting.snapshot.valid_since == b.NOW + 1000


def test_a_configuration_that_was_never_valid_counts_since_never() -> None:
    assert pushed(BROKEN).snapshot.valid_since is None


# --- The deployment's settings ---


@pytest.mark.parametrize("instance_wide", [True, False])
def test_an_instance_entry_is_found_by_everybody_only_instance_wide(*, instance_wide: bool) -> None:
    setting = Setting()
    setting.settings = Settings(instance_wide=instance_wide)

    setting.push(b"ci_access: {instance: {}}")

    assert (setting.snapshot.instance is not None) is instance_wide
    assert (Subject("instance", 0) in setting.indexed) is instance_wide


# --- Commit statuses ---


def test_a_pushed_commit_gets_a_status_once() -> None:
    setting = pushed()
    setting.run()

    head = setting.gitlab.head(b.CONFIG_PROJECT, "main")
    assert [(commit, status.state) for commit, status in setting.statuses.posted] == [
        (head, "success")
    ]


def test_the_status_of_a_broken_file_names_its_first_problem() -> None:
    setting = pushed(b"ci_access: {projects: [{id: top/gone}, {id: top/lost}]}")

    ((_, status),) = setting.statuses.posted
    assert status == CommitStatus(
        state="failed",
        description=f"{FILE}:1: not_found: top/gone (and 1 more: jobgate agent show)",
        file=FILE,
        line=1,
    )


def test_a_target_that_is_gone_later_changes_the_status_of_the_same_commit() -> None:
    setting = pushed()
    del setting.gitlab.projects[b.APP]

    setting.run()

    assert [status.state for _, status in setting.statuses.posted] == ["success", "failed"]
    assert len({commit for commit, _ in setting.statuses.posted}) == 1


def test_a_refresh_without_statuses_does_the_same_work() -> None:
    setting = Setting()
    setting.statuses = None  # type: ignore[assignment]  # as in a deployment without the parameter

    setting.push(APP_ENTRY)

    assert set(setting.snapshot.projects) == {b.APP}


def test_a_folder_of_no_registered_agent_is_noted_and_is_no_error() -> None:
    setting = pushed()

    setting.push(APP_ENTRY, **{".gitlab/agents/staging/config.yaml": APP_ENTRY})
    noted = setting.store.config_projects["main", b.CONFIG_PROJECT]
    setting.push(APP_ENTRY)
    cleared = setting.store.config_projects["main", b.CONFIG_PROJECT]

    assert noted.last_note == "folders of no registered agent: staging"
    assert (noted.last_error, cleared.last_note) == (None, None)
    assert len(setting.store.snapshots) == 1


# --- Paths that lead elsewhere than they did ---


def taken_over() -> Setting:
    """The entry's project was renamed away, and somebody made another one at its path."""
    setting = pushed()
    setting.gitlab.projects[b.APP] = a_project(b.APP, "top/sub1/renamed")
    setting.gitlab.projects[777] = a_project(777, "top/sub1/app")
    return setting


def refused_of(setting: Setting) -> dict[int, Reason | None]:
    return {i: entry.refused for i, entry in setting.snapshot.projects.items()}


def test_a_path_that_names_another_project_now_is_suspended_and_says_so() -> None:
    setting = taken_over()

    for _ in range(2):
        setting.run()

        assert refused_of(setting) == {b.APP: Reason.NOT_LISTED, 777: Reason.NOT_LISTED}
        (problem,) = setting.snapshot.problems
        assert problem.code == "path_reused"
        assert problem.text == "top/sub1/app (was project 100, is project 777)"


def test_a_path_that_led_nowhere_in_between_is_suspended_too() -> None:
    setting = pushed()
    setting.gitlab.projects[b.APP] = a_project(b.APP, "top/sub1/renamed")
    setting.run()
    assert refused_of(setting) == {b.APP: Reason.NOT_LISTED}
    setting.gitlab.projects[777] = a_project(777, "top/sub1/app")

    setting.run()

    assert refused_of(setting) == {b.APP: Reason.NOT_LISTED, 777: Reason.NOT_LISTED}


def test_other_changes_of_the_file_do_not_let_the_newcomer_in() -> None:
    setting = taken_over()

    setting.push(b"ci_access: {projects: [{id: top/sub1/app}, {id: top/sub1/other}]}")
    setting.push(BROKEN)
    setting.push(APP_ENTRY.replace(b"app", b"APP"))

    assert refused_of(setting) == {b.APP: Reason.NOT_LISTED, 777: Reason.NOT_LISTED}


def test_an_entry_that_was_taken_out_and_written_anew_counts() -> None:
    setting = taken_over()
    setting.run()

    setting.push(b"ci_access: {}")
    setting.push(APP_ENTRY)

    assert refused_of(setting) == {777: None}
    assert setting.snapshot.problems == ()


def test_a_path_that_names_its_project_again_counts_again() -> None:
    setting = taken_over()
    setting.run()
    del setting.gitlab.projects[777]
    setting.gitlab.projects[b.APP] = a_project(b.APP, "top/sub1/app")

    setting.run()

    assert refused_of(setting) == {b.APP: None}


def test_a_groups_path_is_suspended_like_a_projects() -> None:
    setting = pushed(b"ci_access: {groups: [{id: top/sub1}]}")
    setting.gitlab.groups[b.SUB1] = GitLabGroup(group_id=b.SUB1, path="top/was", parent_id=b.TOP)
    setting.gitlab.groups[888] = GitLabGroup(group_id=888, path="top/sub1", parent_id=b.TOP)

    setting.run()

    refused = {i: e.refused for i, e in setting.snapshot.groups.items()}
    assert refused == {b.SUB1: Reason.NOT_LISTED, 888: Reason.NOT_LISTED}


# --- More agents than one try can do ---


def many_agents(count: int) -> Setting:
    """A project with many agents, each with a file of its own; a read of a file takes 0.5 s."""
    setting = Setting()
    agents = {1000 + n: f"a{n}" for n in range(count)}
    setting.store.config_projects["main", b.CONFIG_PROJECT] = b.a_config_project_item(agents)
    for agent_id, name in agents.items():
        setting.store.clusters["main", agent_id] = b.a_cluster(agent_id, name=name)
    push_to(setting, {})
    setting.gitlab.after = {"raw_file": lambda: setting.clock.advance(0.5)}
    return setting


def push_to(setting: Setting, changed: Mapping[int, bytes]) -> str:
    """Push every agent's file, the same for all but these; returns the head."""
    agents = setting.store.config_projects["main", b.CONFIG_PROJECT].agents
    return setting.gitlab.push(
        b.CONFIG_PROJECT,
        {
            f".gitlab/agents/{name}/config.yaml": changed.get(agent_id, APP_ENTRY)
            for agent_id, name in agents.items()
        },
    )


def tries(setting: Setting) -> int:
    """Refresh as the queue does until nothing is left to do; how often."""
    for count in range(1, 10):
        try:
            setting.run()
        except OutOfTime:
            continue
        return count
    raise AssertionError("it never ends")


def killed(*_arguments: object, **_named: object) -> None:
    raise Killed


def throttle_after(setting: Setting, count: int) -> None:
    """At the count-th file GitLab asks for fewer calls."""
    if sum(method == "raw_file" for method, _ in setting.gitlab.calls) > count:
        setting.gitlab.faults = {"raw_file": Throttled("too many", retry_after=60)}


def read_in(setting: Setting, run: Callable[[], object]) -> int:
    """How many files were read meanwhile."""
    setting.gitlab.calls.clear()
    with contextlib.suppress(OutOfTime, Unavailable):
        run()
    return sum(method == "raw_file" for method, _ in setting.gitlab.calls)


def test_a_refresh_that_runs_out_of_time_goes_on_where_it_was() -> None:
    setting = many_agents(150)

    read = [read_in(setting, setting.run) for _ in range(3)]

    assert read == [71, 71, 8]
    item = setting.store.config_projects["main", b.CONFIG_PROJECT]
    assert (item.last_commit, item.done) == (push_to(setting, {}), frozenset())


def test_access_that_a_push_takes_from_the_last_of_many_agents_ends_with_the_first_try() -> None:
    setting = many_agents(150)
    tries(setting)

    head = push_to(setting, {1149: b"{}"})
    with pytest.raises(OutOfTime):
        setting.run()

    assert dict(setting.store.snapshots["main", 1149].projects) == {}
    assert tries(setting) == 2
    assert setting.store.config_projects["main", b.CONFIG_PROJECT].last_commit == head


def test_a_try_does_not_begin_to_publish_what_it_may_not_end() -> None:
    setting = many_agents(150)
    add = setting.store.add_to_index

    def slow(named: IndexChange) -> None:
        setting.clock.advance(20)
        add(named)

    setting.store.add_to_index = slow  # type: ignore[method-assign]  # a slow table
    began = setting.clock()

    with pytest.raises(OutOfTime):
        setting.run()

    assert setting.clock() - began <= 50
    assert len(setting.store.snapshots) == 50
    assert tries(setting) == 2


def test_a_push_between_two_tries_is_read_though_its_agent_was_done_before() -> None:
    setting = many_agents(150)
    with pytest.raises(OutOfTime):
        setting.run()

    push_to(setting, {1000: b"{}"})
    tries(setting)

    assert dict(setting.store.snapshots["main", 1000].projects) == {}


def test_a_try_that_is_killed_after_another_commits_publication_leaves_nothing_of_it() -> None:
    setting = many_agents(150)
    first = push_to(setting, {})
    with pytest.raises(OutOfTime):
        setting.run()
    push_to(setting, {1000: b"ci_access: {projects: [{id: top/sub1/other}]}"})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FakeRefreshStore, "note_refresh", killed)
        with pytest.raises(Killed):
            setting.run()

    assert push_to(setting, {}) == first
    tries(setting)

    assert set(setting.store.snapshots["main", 1000].projects) == {b.APP}


def test_every_agent_is_looked_at_again_though_pushes_never_cease() -> None:
    setting = many_agents(150)
    tries(setting)
    setting.gitlab.projects[b.APP] = a_project(b.APP, "top/sub1/moved")

    for n in range(3):
        push_to(setting, {1000: b"ci_access: {projects: [{id: top}]} # %d" % n})
        with contextlib.suppress(OutOfTime):
            setting.run()

    found = {s.projects[b.APP].refused for s in setting.store.snapshots.values() if s.projects}
    assert found == {Reason.NOT_LISTED}


def test_changed_files_that_a_try_did_not_reach_are_in_doubt_until_the_next_one() -> None:
    setting = many_agents(150)
    tries(setting)

    push_to(setting, {1000 + n: b"{}" for n in range(100)})
    with pytest.raises(OutOfTime):
        setting.run()

    doubted = {i for (_, i), s in setting.store.snapshots.items() if s.doubt_since is not None}
    assert doubted == set(range(1071, 1100))
    tries(setting)
    assert {s.doubt_since for s in setting.store.snapshots.values()} == {None}


def test_a_try_that_reaches_no_agent_is_a_failure_and_doubts_them_all() -> None:
    setting = many_agents(3)
    tries(setting)
    push_to(setting, {1000 + n: b"{}" for n in range(3)})
    setting.gitlab.after = {"raw_file": lambda: setting.clock.advance(40)}
    setting.gitlab.failing = {"raw_file"}

    with pytest.raises(Unavailable) as failed:
        setting.run()

    assert not isinstance(failed.value, OutOfTime)
    assert None not in {s.doubt_since for s in setting.store.snapshots.values()}


@pytest.mark.parametrize("is_unchanged", [False, True])
def test_an_agent_that_takes_all_the_time_keeps_no_other_from_its_turn(
    *, is_unchanged: bool
) -> None:
    setting = many_agents(3)
    tries(setting)
    if not is_unchanged:
        push_to(setting, {1000 + n: b"{}" for n in range(3)})
    setting.gitlab.after = {"raw_file": lambda: take_all_the_time(setting, "a0")}
    numbers = itertools.count()
    setting.pick = lambda count: next(numbers) % count

    for _ in range(12):
        with contextlib.suppress(OutOfTime, Unavailable):
            setting.run()
        setting.clock.advance(300)

    slow, *others = (setting.store.snapshots["main", i] for i in (1000, 1001, 1002))
    assert slow.doubt_since is not None
    assert slow.doubt_since < b.NOW + 600
    lately = setting.clock() - 1200
    assert all(s.doubt_since is None or s.doubt_since > lately for s in others)
    assert [bool(s.projects) for s in others] == [is_unchanged, is_unchanged]


def take_all_the_time(setting: Setting, name: str) -> None:
    """Never answer for this agent's file; a question of the others' takes half a second."""
    if setting.gitlab.calls[-1] != ("raw_file", f".gitlab/agents/{name}/config.yaml"):
        setting.clock.advance(0.5)
        return
    setting.clock.advance(50)
    raise TimedOut("GitLab didn't answer in time")


def test_what_was_done_before_gitlab_throttles_is_not_done_again() -> None:
    setting = many_agents(10)
    setting.gitlab.after = {"raw_file": lambda: throttle_after(setting, 4)}
    with pytest.raises(Throttled):
        setting.run()
    setting.gitlab.after, setting.gitlab.faults = {}, {}

    assert read_in(setting, setting.run) == 6


def test_a_round_that_fails_for_one_agent_looks_at_all_of_them_again() -> None:
    setting = many_agents(3)
    tries(setting)
    setting.gitlab.hidden_files = {".gitlab/agents/a1/config.yaml"}

    assert [read_in(setting, setting.run) for _ in range(2)] == [3, 3]


def test_the_status_of_a_commit_names_the_problems_of_all_tries() -> None:
    setting = many_agents(150)
    push_to(setting, {1000: BROKEN})

    tries(setting)

    assert [status.state for _, status in setting.statuses.posted] == ["failed"]


# --- The index, compared and mended ---


def index_of(setting: Setting) -> dict[Subject, int]:
    """The version that the agent is stamped with, by subject."""
    return {s: found[b.PROD] for (_, s), found in setting.store.index.items() if b.PROD in found}


def test_a_subject_that_the_index_has_lost_is_added_at_an_unchanged_head() -> None:
    setting = pushed()
    del setting.store.index["main", APP][b.PROD]

    setting.run()

    assert setting.indexed == {APP, CONFIG}
    assert setting.store.writes == ["add project 100"]
    assert '"index_repaired":["added project 100"]' in setting.records[-1]


def test_what_a_killed_refresh_left_in_the_index_is_removed_at_an_unchanged_head() -> None:
    setting = pushed()
    late = replace(setting.snapshot, projects={101: b.an_entry()}, version=2)
    # Killed after its additions: it never published.
    setting.store.add_to_index({OTHER: [late]})

    setting.run()

    assert setting.indexed == {APP, CONFIG}
    assert setting.store.lists["main", b.PROD][1] == {APP, CONFIG}
    setting.run()
    assert setting.store.writes == []


def test_an_addition_is_removed_only_once_its_refresh_can_no_longer_publish() -> None:
    setting = pushed()
    late = replace(setting.snapshot, projects={101: b.an_entry()}, version=2)
    setting.store.add_to_index({OTHER: [late]})

    setting.run()

    assert setting.store.writes[:2] == ["reading 2", "remove project 101"]
    with pytest.raises(Conflict):
        setting.store.publish(late, replaces=1, reading=1)


def test_a_late_repair_takes_nothing_away_from_a_newer_reading() -> None:
    setting = pushed()
    late = replace(setting.snapshot, projects={101: b.an_entry()}, version=2)
    setting.store.add_to_index({OTHER: [late]})
    remove = setting.store.remove_from_index

    def overtaken(gone: IndexChange, **named: Any) -> None:
        # The repair stalls here, and a push publishes what it is about to take out.
        setting.store.remove_from_index = remove  # type: ignore[method-assign]  # once
        setting.push(b"ci_access: {projects: [{id: top/sub1/other}]}")
        remove(gone, **named)

    setting.store.remove_from_index = overtaken  # type: ignore[method-assign]  # the overtaking

    with pytest.raises(Conflict):
        setting.run()

    assert set(setting.snapshot.projects) == {101}
    assert setting.indexed == setting.store.lists["main", b.PROD][1] == {OTHER, CONFIG}


def test_an_index_that_is_as_it_should_be_is_not_written() -> None:
    setting = pushed()
    setting.push(b"ci_access: {projects: [{id: top/sub1/other}]}")

    setting.run()

    assert setting.store.writes == []


def test_a_list_that_a_newer_refresh_adds_to_is_not_trimmed() -> None:
    setting = pushed()
    newer = replace(setting.snapshot, version=9)
    setting.store.add_to_index({OTHER: [newer]})
    setting.store.index["main", OTHER].clear()

    setting.run()

    assert setting.store.lists["main", b.PROD] == (9, frozenset({APP, CONFIG, OTHER}))
