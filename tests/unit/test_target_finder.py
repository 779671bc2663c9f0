"""How paths become ids: few questions, whatever the number of entries and agents."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject

from tests.support import builders as b
from tests.support.refresh_setting import Setting, a_project

if TYPE_CHECKING:
    from collections.abc import Iterable


def many(projects: int = 0, groups: int = 0) -> Setting:
    """A tree with so many projects and groups beside the setting's own."""
    setting = Setting()
    for number in range(projects):
        project_id = 10_000 + number
        setting.gitlab.projects[project_id] = a_project(project_id, f"top/sub1/P{number}")
    for number in range(groups):
        group = GitLabGroup(group_id=20_000 + number, path=f"top/G{number}", parent_id=b.TOP)
        setting.gitlab.groups[group.group_id] = group
    return setting


def naming(projects: Iterable[str] = (), groups: Iterable[str] = ()) -> bytes:
    lists = {"projects": projects, "groups": groups}
    lines = ["ci_access:"]
    for name, paths in lists.items():
        if paths := list(paths):
            lines += [f"  {name}:", *(f"  - id: {path}" for path in paths)]
    return "\n".join(lines).encode() + b"\n"


def own(count: int) -> list[str]:
    return [f"top/sub1/p{number}" for number in range(count)]


def calls(setting: Setting) -> Counter[str]:
    """What the last push asked of GitLab, by kind; the fake's own check of the head is none."""
    return Counter(method for method, _ in setting.gitlab.calls)


def pushed_to(setting: Setting, content: bytes) -> Counter[str]:
    setting.gitlab.calls.clear()
    setting.push(content)
    return calls(setting)


BASE = Counter(project=1, group=2, head=2, agent_files=1, raw_file=1)


def test_fifty_paths_are_asked_for_one_by_one() -> None:
    setting = many(projects=50)

    assert pushed_to(setting, naming(own(50))) == BASE + Counter(project=50)
    assert set(setting.snapshot.projects) == set(range(10_000, 10_050))


def test_more_are_listed_once() -> None:
    setting = many(projects=500, groups=500)
    groups = [f"top/g{number}" for number in range(500)]

    asked = pushed_to(setting, naming(own(500), groups))

    assert asked == BASE + Counter(projects_below=1, groups_below=1)
    assert set(setting.snapshot.projects) == set(range(10_000, 10_500))
    assert set(setting.snapshot.groups) == set(range(20_000, 20_500))
    assert setting.snapshot.problems == ()


def test_all_agents_of_a_project_share_what_was_found() -> None:
    setting = many(projects=500)
    names = {1000 + n: f"a{n}" for n in range(30)}
    setting.store.config_projects["main", b.CONFIG_PROJECT] = b.a_config_project_item(names)
    for agent_id, name in names.items():
        setting.store.clusters["main", agent_id] = b.a_cluster(agent_id, name=name)
    files = {f".gitlab/agents/{name}/config.yaml": naming(own(500)) for name in names.values()}
    setting.gitlab.calls.clear()

    setting.push(None, **files)

    assert calls(setting) == Counter(
        project=1, group=2, head=2, agent_files=1, raw_file=30, projects_below=1
    )
    assert all(len(s.projects) == 500 for s in setting.store.snapshots.values())


def test_the_root_itself_may_be_named_among_many_groups() -> None:
    setting = many(groups=60)

    pushed_to(setting, naming(groups=["Top", *(f"top/g{number}" for number in range(60))]))

    assert b.TOP in setting.snapshot.groups


def test_the_same_limit_is_shared_by_projects_and_groups() -> None:
    setting = many(projects=30, groups=30)

    asked = pushed_to(setting, naming(own(30), [f"top/g{number}" for number in range(30)]))

    assert asked == BASE + Counter(project=30, groups_below=1)
    assert len(setting.snapshot.groups) == 30


def test_a_known_path_that_a_listing_lacks_is_asked_for_before_it_is_taken_away() -> None:
    # A list by number that moves while it is read can lack a row.
    setting = many(projects=60)
    setting.push(naming(own(60)))
    setting.gitlab.unlisted = {10_007}

    asked = pushed_to(setting, naming(own(60)))

    assert asked == BASE + Counter(projects_below=1, project=1) - Counter(head=1)
    assert 10_007 in setting.snapshot.projects


def test_a_path_that_a_listing_lacks_and_nobody_knew_leads_nowhere() -> None:
    setting = many(projects=60)

    asked = pushed_to(setting, naming([*own(60), "top/sub1/gone"]))

    assert asked == BASE + Counter(projects_below=1)
    assert [problem.code for problem in setting.snapshot.problems] == ["not_found"]


def test_a_path_that_is_gone_is_gone_for_a_known_one_too() -> None:
    setting = many(projects=60)
    setting.push(naming(own(60)))
    del setting.gitlab.projects[10_007]

    pushed_to(setting, naming(own(60)))

    granted = {i for i, entry in setting.snapshot.projects.items() if entry.refused is None}
    assert granted == set(range(10_000, 10_060)) - {10_007}


def test_a_re_registered_path_is_what_it_is_now() -> None:
    setting = many(projects=60)
    setting.push(naming(own(60)))
    del setting.gitlab.projects[10_007]
    setting.gitlab.projects[77] = a_project(77, "top/sub1/p7")

    pushed_to(setting, naming(own(60)))

    refused = {i for i, entry in setting.snapshot.projects.items() if entry.refused is not None}
    assert refused == {77, 10_007}


def foreign(setting: Setting, count: int) -> list[str]:
    for number in range(count):
        project_id = 30_000 + number
        setting.gitlab.projects[project_id] = a_project(
            project_id, f"ext/p{number}", namespace_id=b.OTHER_ROOT
        )
    return [f"ext/p{number}" for number in range(count)]


def test_paths_out_of_scope_cost_fifty_questions_at_most() -> None:
    setting = many()
    paths = foreign(setting, 200)

    asked = pushed_to(setting, naming(paths))

    assert asked == BASE + Counter(project=50, group=1)
    assert len(setting.snapshot.projects) == 50


def test_another_top_level_group_is_listed_where_the_whole_instance_may_be_named() -> None:
    setting = many()
    setting.settings = Settings(instance_wide=True)
    paths = foreign(setting, 200)

    asked = pushed_to(setting, naming(paths))

    assert asked == BASE + Counter(group=1, projects_below=1) + Counter(group=1)
    assert len(setting.snapshot.projects) == 200


@pytest.mark.parametrize("count", [50, 120])
def test_a_users_projects_are_asked_for_one_by_one_since_users_have_no_tree(count: int) -> None:
    setting = many()

    def of_alice(project_id: int, name: str) -> GitLabProject:
        return GitLabProject(
            project_id=project_id,
            path=f"alice/{name}",
            default_branch="main",
            namespace_id=b.USER_NAMESPACE,
            namespace_path="alice",
            namespace_kind="user",
        )

    setting.gitlab.projects[b.CONFIG_PROJECT] = of_alice(b.CONFIG_PROJECT, "agents")
    for number in range(count):
        setting.gitlab.projects[40_000 + number] = of_alice(40_000 + number, f"p{number}")

    asked = pushed_to(setting, naming(f"alice/p{number}" for number in range(count)))

    assert asked == Counter(project=1 + count, head=2, agent_files=1, raw_file=1)
    assert len(setting.snapshot.projects) == count
