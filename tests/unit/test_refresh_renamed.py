"""Nobody gets out of an entry of their own by a new path: no wider entry takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.core.authorization import Allowed, Denied, authorize
from jobgate.core.bounds import Bounds
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject

from tests.support import builders as b
from tests.support.refresh_setting import FILE, Setting, a_project, pushed

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.authorization import Decision

STAGING_ONLY = "environments: [staging]"
WIDE = "groups: [{id: top}]"
OF_PROJECT = f"ci_access: {{projects: [{{id: top/sub1/app, {STAGING_ONLY}}}], {WIDE}}}"
OF_SUBGROUP = f"ci_access: {{groups: [{{id: top}}, {{id: top/sub1, {STAGING_ONLY}}}]}}"
OF_ITSELF = f"ci_access: {{projects: [{{id: top/sub1/agents, {STAGING_ONLY}}}]}}"


def decided(setting: Setting, project_id: int = b.APP) -> Decision:
    """What a job of this project outside `staging` gets."""
    job = b.a_job(project_id=project_id, environment="production")
    return authorize(
        job,
        setting.snapshot,
        b.known_surroundings(),
        settings=Settings(),
        bounds=Bounds(),
        now=b.NOW,
    )


def rename_project(setting: Setting) -> None:
    setting.gitlab.projects[b.APP] = a_project(b.APP, "top/sub1/renamed")


def take_the_path_over(setting: Setting) -> None:
    rename_project(setting)
    setting.gitlab.projects[777] = a_project(777, "top/sub1/app")


def rename_subgroup(setting: Setting) -> None:
    setting.gitlab.groups[b.SUB1] = GitLabGroup(
        group_id=b.SUB1, path="top/renamed", parent_id=b.TOP
    )


def rename_configuration_project(setting: Setting) -> None:
    setting.gitlab.projects[b.CONFIG_PROJECT] = a_project(b.CONFIG_PROJECT, "top/sub1/renamed")


@pytest.mark.parametrize(
    ("file", "project_id", "rename"),
    [
        (OF_PROJECT, b.APP, rename_project),
        (OF_PROJECT, b.APP, take_the_path_over),
        (OF_SUBGROUP, b.APP, rename_subgroup),
        (OF_ITSELF, b.CONFIG_PROJECT, rename_configuration_project),
    ],
)
def test_no_wider_entry_takes_over_for_what_was_renamed(
    file: str, project_id: int, rename: Callable[[Setting], None]
) -> None:
    setting = pushed(file.encode())
    assert isinstance(decided(setting, project_id), Denied)

    for _ in range(2):
        rename(setting)
        setting.run()

        decision = decided(setting, project_id)
        assert isinstance(decision, Denied)
        assert decision.reason is Reason.NOT_LISTED


def test_a_renamed_project_has_what_its_new_path_is_given() -> None:
    setting = pushed(OF_PROJECT.encode())
    rename_project(setting)
    setting.run()

    setting.push(OF_PROJECT.replace("sub1/app", "sub1/renamed").replace("[staging]", "[]").encode())

    assert isinstance(decided(setting), Allowed)
    assert setting.snapshot.problems == ()


def test_a_renamed_project_that_is_listed_by_both_paths_has_what_the_new_one_is_given() -> None:
    both = "ci_access: {projects: [{id: top/sub1/renamed}, {id: top/sub1/app}]}"
    setting = pushed(b"ci_access: {projects: [{id: top/sub1/app}]}")
    rename_project(setting)

    setting.push(both.encode())

    assert isinstance(decided(setting), Allowed)
    assert [(p.code, p.text) for p in setting.snapshot.problems] == [("not_found", "top/sub1/app")]


def test_whoever_is_taken_out_of_the_file_has_what_the_group_is_given() -> None:
    setting = pushed(OF_PROJECT.encode())
    rename_project(setting)
    setting.run()

    setting.push(f"ci_access: {{{WIDE}}}".encode())

    assert isinstance(decided(setting), Allowed)


def test_a_project_that_is_not_found_for_once_has_its_own_entry_again() -> None:
    setting = pushed(OF_PROJECT.encode())
    shown: GitLabProject = setting.gitlab.projects.pop(b.APP)
    before = setting.snapshot
    setting.run()
    assert isinstance(decided(setting), Denied)
    setting.gitlab.projects[b.APP] = shown

    setting.run()

    assert setting.snapshot.projects == before.projects
    assert setting.gitlab.files[b.CONFIG_PROJECT][FILE] == OF_PROJECT.encode()
