"""What each of GitLab's events asks for, whatever it says beside."""

from __future__ import annotations

from typing import Any

import pytest
from jobgate.core.webhook_event import (
    GroupMoved,
    Ignored,
    JobSeen,
    ProjectMoved,
    Pushed,
    event_of,
)

from tests.support import builders as b

ZERO = "0" * 40
PUSH: dict[str, Any] = {
    "object_kind": "push",
    "event_name": "push",
    "before": "1" * 40,
    "after": "2" * 40,
    "ref": "refs/heads/main",
    "project_id": 50,
    "project": {"id": 50, "default_branch": "main", "path_with_namespace": "top/sub1/agents"},
    "commits": [],
    "total_commits_count": 0,
}
BUILD = {"object_kind": "build", "build_id": 9001, "build_status": "success", "project_id": 100}
UPDATE = {
    "event_name": "repository_update",
    "project_id": 50,
    "project": {"default_branch": "main"},
    "refs": ["refs/heads/a", "refs/heads/main"],
}


def event(payload: dict[str, Any]) -> Any:
    return event_of(payload, now=b.NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"commits": [{"id": "2" * 40}] * 20, "total_commits_count": 21},
        {"before": ZERO},
        {"after": ZERO, "checkout_sha": None},
        {"before": "3" * 40, "commits": []},
        {"object_kind": "push", "event_name": None},
        {"commits": None},
        {"push_options": {"ci": {"skip": True}}},
        # One that doesn't say which branch is the default one may be to it.
        {"project": None},
        {"project": {"default_branch": None}},
    ],
    ids=[
        "plain",
        "more commits than are listed",
        "created",
        "deleted",
        "forced",
        "system hook",
        "no commits",
        "skipped pipeline",
        "no project",
        "no default branch",
    ],
)
def test_a_push_to_the_default_branch_is_a_refresh_whatever_it_did(changes: dict[str, Any]) -> None:
    assert event(PUSH | changes) == Pushed(50)


@pytest.mark.parametrize(
    "ref",
    ["refs/heads/feature", "refs/heads/main2", "refs/tags/main", "main", "refs/heads/Main", ""],
)
def test_a_push_to_another_ref_is_ignored(ref: str) -> None:
    assert event(PUSH | {"ref": ref}) == Ignored("a push to another branch")


def test_a_tag_is_ignored() -> None:
    tag = {"object_kind": "tag_push", "event_name": "tag_push", "ref": "refs/tags/v1"}

    assert isinstance(event(PUSH | tag), Ignored)


def test_a_push_of_more_branches_than_have_events_of_their_own_is_seen_by_a_system_hook() -> None:
    assert event(UPDATE) == Pushed(50)
    assert isinstance(event(UPDATE | {"refs": ["refs/heads/a"]}), Ignored)
    assert isinstance(event(UPDATE | {"refs": "refs/heads/main"}), Ignored)


def test_a_project_whose_settings_changed_may_have_another_default_branch() -> None:
    assert event({"event_name": "project_update", "project_id": 50}) == Pushed(50)


@pytest.mark.parametrize("name", ["project_rename", "project_transfer", "project_destroy"])
def test_a_project_that_moved_is_where_it_was_no_more(name: str) -> None:
    payload = {"event_name": name, "project_id": 100, "path_with_namespace": "ext/app"}

    assert event(payload) == ProjectMoved(100)


@pytest.mark.parametrize("name", ["group_rename", "group_destroy", "subgroup_destroy"])
def test_a_group_that_moved_is_where_it_was_no_more(name: str) -> None:
    assert event({"event_name": name, "group_id": 2, "full_path": "top/new"}) == GroupMoved(2)


@pytest.mark.parametrize(
    "name",
    [
        "user_add_to_group",
        "user_update_for_group",
        "user_remove_from_group",
        "user_access_request_to_group",
        "user_add_to_team",
        "user_remove_from_team",
        "user_create",
        "user_rename",
        "key_create",
        "project_create",
        "group_create",
        "subgroup_create",
        "user_add_to_group_v2",
    ],
)
def test_members_and_what_is_new_change_nothing(name: str) -> None:
    payload = {"event_name": name, "user_id": 7, "project_id": 100, "group_id": 2}

    assert isinstance(event(payload), Ignored)


@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
def test_a_jobs_end_is_seen(status: str) -> None:
    expected = JobSeen(100, 9001, b.a_state(status, finished_at=b.NOW))

    assert event(BUILD | {"build_status": status}) == expected


def test_a_running_job_is_seen() -> None:
    assert event(BUILD | {"build_status": "running"}) == JobSeen(100, 9001, b.a_state("running"))


@pytest.mark.parametrize(
    "status", ["created", "pending", "preparing", "canceling", "skipped", "manual", "new-in-20.0"]
)
def test_a_status_that_says_nothing_of_an_end_is_ignored(status: str) -> None:
    assert isinstance(event(BUILD | {"build_status": status}), Ignored)


MOVED = {"event_name": "project_transfer", "project_id": 100}


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"object_kind": "push"},
        PUSH | {"project_id": "50"},
        PUSH | {"project_id": True},
        PUSH | {"project_id": 0},
        PUSH | {"project_id": -50},
        PUSH | {"project_id": 2**63},
        PUSH | {"project_id": 50.0},
        PUSH | {"object_kind": ["push"], "event_name": {}},
        BUILD | {"build_id": "9001"},
        BUILD | {"build_id": True},
        BUILD | {"build_status": None},
        BUILD | {"project_id": None},
        {"object_kind": "pipeline"},
        {"event_name": "project_update"},
        MOVED | {"project_id": "100"},
        {"event_name": "group_rename", "group_id": [2]},
        {"event_name": "push_to_the_limit", "project_id": 50},
    ],
)
def test_a_payload_of_another_form_is_ignored(payload: dict[str, Any]) -> None:
    assert isinstance(event(payload), Ignored)
