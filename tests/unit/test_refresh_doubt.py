"""What GitLab doesn't confirm: it stays, in doubt, and what it answers late replaces nothing."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.errors import Conflict, NotForUs, Throttled, Unavailable
from jobgate.ports.refresh import Subject

from tests.support import builders as b
from tests.support.refresh_setting import APP, APP_ENTRY, FILE, Setting, pushed

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.ports.refresh import ConfigProjectItem

STAGING_FILE = ".gitlab/agents/staging/config.yaml"
OTHER_ENTRY = b"ci_access: {projects: [{id: top/sub1/other}]}"


def two_agents() -> Setting:
    """Two agents of one project, both published."""
    setting = Setting()
    agents = {b.PROD: "prod", b.STAGING: "staging"}
    setting.store.config_projects["main", b.CONFIG_PROJECT] = b.a_config_project_item(agents)
    setting.store.clusters["main", b.STAGING] = b.a_cluster(b.STAGING, name="staging")
    setting.push(APP_ENTRY, **{STAGING_FILE: APP_ENTRY})
    return setting


def doubts(setting: Setting) -> dict[int, float | None]:
    return {i: s.doubt_since for (_, i), s in setting.store.snapshots.items()}


def run(setting: Setting) -> None:
    """Refresh, whether it must be tried again or not."""
    with contextlib.suppress(Unavailable):
        setting.run()


def void(_value: object) -> None:
    """Drop a value."""


AWAY = Unavailable("GitLab answered 502")
REFUSED = NotForUs("GitLab answered 401")


@pytest.mark.parametrize("fault", [AWAY, REFUSED, NotForUs("GitLab answered 403")])
@pytest.mark.parametrize("method", ["project", "group", "head", "agent_files", "raw_file"])
def test_what_gitlab_does_not_confirm_is_in_doubt_from_the_first_time_on(
    method: str, fault: Unavailable
) -> None:
    setting = pushed()
    granted, began = setting.snapshot.projects, setting.clock.now
    setting.gitlab.faults[method] = fault

    run(setting)
    setting.clock.advance(1000)
    run(setting)

    assert setting.snapshot.projects == granted
    assert doubts(setting) == {b.PROD: began}
    assert setting.note == str(fault)


def test_a_doubt_that_was_noted_by_a_clock_ahead_counts_from_now_on() -> None:
    setting = pushed()
    setting.gitlab.faults["head"] = AWAY
    setting.clock.advance(90_000)
    run(setting)
    setting.clock.advance(-90_000)

    run(setting)
    setting.clock.advance(1000)
    run(setting)

    assert doubts(setting) == {b.PROD: b.NOW}


@pytest.mark.parametrize("changed", [False, True])
def test_a_confirmed_configuration_is_in_doubt_no_more(*, changed: bool) -> None:
    setting = pushed()
    setting.gitlab.faults["head"] = AWAY
    run(setting)
    setting.gitlab.faults.clear()

    setting.push(OTHER_ENTRY if changed else APP_ENTRY)

    assert doubts(setting) == {b.PROD: None}
    assert setting.note is None


def test_a_broken_file_is_confirmed_too() -> None:
    setting = pushed()
    setting.gitlab.faults["head"] = AWAY
    run(setting)
    setting.gitlab.faults.clear()

    setting.push(b"ci_access: [")

    assert (doubts(setting), setting.snapshot.valid) == ({b.PROD: None}, True)


def test_what_another_try_cannot_mend_is_left_to_the_schedule_and_recorded() -> None:
    setting = pushed()
    setting.records.clear()
    setting.gitlab.faults["project"] = REFUSED

    setting.run()

    (line,) = setting.records
    record = json.loads(line)
    assert (record["type"], record["reason"]) == ("refresh", "config_unknown")
    assert record["outcome"] == "refused"
    assert record["problems"] == ["GitLab answered 401"]


def test_how_old_what_is_not_confirmed_has_become_is_recorded() -> None:
    setting = pushed()
    setting.records.clear()
    setting.gitlab.faults["project"] = REFUSED

    for _ in range(3):
        setting.run()
        setting.clock.advance(300)

    ages = [json.loads(line)["unconfirmed_seconds"] for line in setting.records]
    assert ages == [0, 300, 600]


@pytest.mark.parametrize("fault", [AWAY, Throttled("GitLab answered 429", retry_after=7)])
def test_what_another_try_may_mend_comes_again(fault: Unavailable) -> None:
    setting = pushed()
    setting.gitlab.faults["head"] = fault

    with pytest.raises(type(fault)) as raised:
        setting.run()

    assert raised.value is fault


def test_an_empty_repository_is_no_empty_configuration_and_stays_in_doubt() -> None:
    setting = pushed()
    del setting.gitlab.files[b.CONFIG_PROJECT]

    setting.run()

    assert set(setting.snapshot.projects) == {b.APP}
    assert doubts(setting) == {b.PROD: b.NOW}


def test_a_project_that_never_had_a_configuration_has_none_to_doubt() -> None:
    setting = Setting()

    setting.run()

    assert setting.store.snapshots == {}
    assert setting.note == "the repository is empty, or not for our token"


def test_an_agent_that_cannot_be_read_holds_no_other_back() -> None:
    setting = two_agents()
    setting.gitlab.push(b.CONFIG_PROJECT, {FILE: OTHER_ENTRY, STAGING_FILE: OTHER_ENTRY})
    setting.gitlab.hidden_files.add(FILE)

    with pytest.raises(Unavailable):
        setting.run()

    prod, staging = (setting.store.snapshots["main", i] for i in (b.PROD, b.STAGING))
    assert (set(prod.projects), set(staging.projects)) == ({b.APP}, {101})
    assert doubts(setting) == {b.PROD: b.NOW, b.STAGING: None}

    setting.gitlab.hidden_files.clear()
    setting.run()
    assert set(setting.snapshot.projects) == {101}
    assert doubts(setting) == {b.PROD: None, b.STAGING: None}


def test_a_gitlab_that_throttles_is_not_asked_for_the_other_agents() -> None:
    setting = two_agents()
    setting.gitlab.faults["raw_file"] = Throttled("GitLab answered 429", retry_after=7)
    setting.gitlab.calls.clear()

    run(setting)

    assert [method for method, _ in setting.gitlab.calls].count("raw_file") == 1


def test_a_doubt_about_a_version_that_was_replaced_meanwhile_is_not_written() -> None:
    setting = pushed()
    older = setting.snapshot
    setting.push(OTHER_ENTRY)

    setting.store.note_doubt(older, since=b.NOW)

    assert doubts(setting) == {b.PROD: None}


# --- Late answers ---


def overtaken(setting: Setting, moment: str, by: Callable[[], None]) -> None:
    """Let a slow refresh stop once: after what it asks of GitLab, or before what it writes."""
    asks = not hasattr(setting.store, moment)
    told = setting.gitlab if asks else setting.store
    original = getattr(told, moment)
    stopped: list[bool] = []

    def slow(*arguments: Any, **named: Any) -> Any:
        if stopped:
            return original(*arguments, **named)
        stopped.append(True)
        answer = original(*arguments, **named) if asks else None
        by()
        return answer if asks else original(*arguments, **named)

    setattr(told, moment, slow)


def granted(setting: Setting) -> set[int]:
    return set(setting.snapshot.projects)


MOMENTS = ["project", "head", "begin_reading", "agent_files", "add_to_index", "publish"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("newest", "expected"),
    [(APP_ENTRY, {b.APP}), (OTHER_ENTRY, {101}), (b"ci_access: {}", set())],
    ids=["as before", "another", "nothing"],
)
def test_an_older_head_never_replaces_a_newer_one(
    moment: str, newest: bytes, expected: set[int]
) -> None:
    # What versions alone don't see is "as before": A is published, B is read slowly, and A again,
    # read fast meanwhile, has nothing to publish.
    setting = pushed(APP_ENTRY)
    overtaken(setting, moment, lambda: setting.push(newest))

    with contextlib.suppress(Conflict):
        setting.push(b"ci_access: {projects: [{id: top/sub1/app}, {id: top/sub1/other}]}")

    item: ConfigProjectItem = setting.store.config_projects["main", b.CONFIG_PROJECT]
    assert granted(setting) == expected
    assert {Subject("project", i) for i in expected} <= setting.indexed
    assert item.last_commit == setting.gitlab.head(b.CONFIG_PROJECT, "main")


def test_a_refresh_that_finds_nothing_new_notices_a_reading_that_began_meanwhile() -> None:
    # The unchanged head is read after the other reading's, which would be published over it.
    setting = pushed(APP_ENTRY)
    overtaken(
        setting,
        "raw_file",
        lambda: void(setting.store.begin_reading("main", b.CONFIG_PROJECT, after=1)),
    )

    with pytest.raises(Conflict):
        setting.run()
    setting.run()

    item = setting.store.config_projects["main", b.CONFIG_PROJECT]
    assert (item.reading, item.finished) == (3, 3)


def test_a_reading_that_stalled_publishes_nothing_after_the_branch_was_reset() -> None:
    setting = pushed(APP_ENTRY)
    overtaken(setting, "add_to_index", lambda: setting.push(APP_ENTRY))

    with pytest.raises(Conflict):
        setting.push(OTHER_ENTRY)

    assert granted(setting) == {b.APP}
    assert APP in setting.indexed


def test_a_late_note_does_not_bring_an_older_commit_back() -> None:
    setting = pushed(APP_ENTRY)
    overtaken(setting, "note_refresh", lambda: setting.push(OTHER_ENTRY))

    setting.push(APP_ENTRY, **{"README.md": b"older"})

    item = setting.store.config_projects["main", b.CONFIG_PROJECT]
    assert item.last_commit == setting.gitlab.head(b.CONFIG_PROJECT, "main")


def test_a_failed_reading_of_a_new_head_is_begun_again_and_finished() -> None:
    setting = pushed()
    setting.gitlab.push(b.CONFIG_PROJECT, {FILE: OTHER_ENTRY})
    setting.gitlab.faults["raw_file"] = AWAY
    run(setting)
    setting.gitlab.faults.clear()

    setting.run()

    assert set(setting.snapshot.projects) == {101}
    assert setting.store.writes[0] == "reading 3"
