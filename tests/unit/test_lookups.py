"""What a request finds out about configuration projects, forks and environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.core.bounds import Bounds
from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject
from jobgate.usecases.lookups import LazyLookups

from tests.support import builders as b
from tests.support.fakes import FakeClock, FakePlaceStore, a_watch
from tests.support.refresh_fakes import FakeGitLab

if TYPE_CHECKING:
    from jobgate.ports import Deployment
    from jobgate.ports.lookups import JobLookup

BOUNDS = Bounds()
OLD = b.NOW - BOUNDS.chain_fresh - 1
KEY = ("main", b.CONFIG_PROJECT)


class Setting:
    """Lookups on a small GitLab; the configuration project's place is stored and fresh."""

    def __init__(
        self, *, settings: Settings | None = None, deployment: Deployment | None = None
    ) -> None:
        self.gitlab = FakeGitLab(
            groups=[
                GitLabGroup(group_id=b.TOP, path="top", parent_id=None),
                GitLabGroup(group_id=b.SUB1, path="top/sub1", parent_id=b.TOP),
                GitLabGroup(group_id=b.OTHER_ROOT, path="ext", parent_id=None),
            ]
        )
        self.move_config_project(b.SUB1, "top/sub1")
        self.clock = FakeClock()
        self.store = FakePlaceStore()
        self.store.saved_places[KEY] = b.a_config_place()
        self.gitlabs = 0
        self.lookups = LazyLookups(
            lambda: deployment or b.a_deployment(),
            self._gitlab_of,
            self.store,
            a_watch(self.clock),
            settings=settings or Settings(),
            bounds=BOUNDS,
            clock=self.clock,
        )

    def move_config_project(self, namespace_id: int, namespace_path: str) -> None:
        self.gitlab.projects[b.CONFIG_PROJECT] = GitLabProject(
            project_id=b.CONFIG_PROJECT,
            path=f"{namespace_path}/agents",
            default_branch="main",
            namespace_id=namespace_id,
            namespace_path=namespace_path,
            namespace_kind="group",
        )

    def of(self, **job: object) -> JobLookup:
        return self.lookups.of(b.a_job(**job))  # type: ignore[arg-type]  # the builder's own names

    def _gitlab_of(self, _alias: str) -> FakeGitLab:
        self.gitlabs += 1
        return self.gitlab


# --- Configuration projects ---


def test_a_fresh_place_is_read_once_and_then_remembered() -> None:
    setting = Setting()

    for job_id in (1, 2, 3):
        found = setting.of(job_id=job_id).config_places([b.an_agent()])
        assert found == {b.CONFIG_PROJECT: b.a_config_place()}

    assert setting.store.reads == [[b.CONFIG_PROJECT]]
    assert setting.gitlab.calls == []


def test_a_remembered_place_is_believed_as_long_as_a_stored_one() -> None:
    setting = Setting()
    setting.of().config_places([b.an_agent()])
    setting.move_config_project(b.OTHER_ROOT, "ext")

    setting.clock.advance(BOUNDS.chain_fresh)
    before = setting.of().config_places([b.an_agent()])[b.CONFIG_PROJECT]
    setting.clock.advance(1)
    after = setting.of().config_places([b.an_agent()])[b.CONFIG_PROJECT]

    assert (before.root_id, after.root_id) == (b.TOP, b.OTHER_ROOT)
    assert setting.store.saved_places[KEY] == after


def test_a_configuration_project_that_is_not_shown_any_more_is_nowhere_until_it_is_again() -> None:
    setting = Setting()
    setting.of().config_places([b.an_agent()])
    shown = setting.gitlab.projects.pop(b.CONFIG_PROJECT)
    setting.clock.advance(BOUNDS.chain_fresh + 1)

    for _ in range(3):
        assert setting.of().config_places([b.an_agent()]) == {}
        setting.clock.advance(4)
    setting.gitlab.failing.add("project")
    setting.clock.advance(11)
    assert setting.of().config_places([b.an_agent()]) == {}

    setting.gitlab.failing.clear()
    setting.gitlab.projects[b.CONFIG_PROJECT] = shown
    setting.clock.advance(11)
    assert set(setting.of().config_places([b.an_agent()])) == {b.CONFIG_PROJECT}


def test_a_remembered_place_that_its_snapshot_contradicts_is_found_anew() -> None:
    # An event marks what is stored and has the project refreshed: so a warm function learns of it.
    setting = Setting()
    setting.of().config_places([b.an_agent()])
    setting.move_config_project(b.OTHER_ROOT, "ext")
    setting.store.saved_places.clear()
    moved = b.an_agent(config_project=b.a_config_project(root_id=b.OTHER_ROOT))
    in_doubt = b.an_agent(doubt_since=b.NOW)

    for snapshots in ([moved], [b.an_agent(), moved], [in_doubt]):
        setting.lookups.places.keep(KEY, b.a_config_place())
        found = setting.of().config_places(snapshots)
        assert found[b.CONFIG_PROJECT].root_id == b.OTHER_ROOT


def test_a_strangers_job_makes_nobody_ask_where_a_configuration_project_is() -> None:
    setting = Setting()
    setting.store.saved_places.clear()

    found = setting.of(project_path="stranger/app").config_places([b.an_agent()])

    assert (found, setting.gitlab.calls) == ({}, [])


def test_while_gitlab_is_away_a_configuration_project_stays_where_it_was_known_to_be() -> None:
    setting = Setting()
    setting.gitlab.failing.add("project")
    setting.store.saved_places[KEY] = b.a_config_place(fetched_at=OLD)

    for _ in range(3):
        found = setting.of().config_places([b.an_agent()])
        assert found == {b.CONFIG_PROJECT: b.a_config_place(fetched_at=OLD)}

    assert len(setting.gitlab.calls) == 1


def test_a_configuration_project_that_gitlab_does_not_show_is_unknown() -> None:
    setting = Setting()
    setting.store.saved_places.clear()
    setting.gitlab.projects.clear()

    assert setting.of().config_places([b.an_agent()]) == {}


def test_the_jobs_own_project_is_not_looked_up_twice() -> None:
    setting = Setting()

    assert setting.of(project_id=b.CONFIG_PROJECT).config_places([b.an_agent()]) == {}
    assert setting.store.reads == []


def test_where_everything_is_in_scope_nothing_is_looked_up() -> None:
    setting = Setting(settings=Settings(instance_wide=True))

    assert setting.of().config_places([b.an_agent()]) == {}
    assert setting.store.reads == []


def test_instance_wide_a_job_of_any_root_is_looked_up() -> None:
    setting = Setting(settings=Settings(instance_wide=True))
    setting.gitlab.projects[b.APP] = setting.gitlab.projects[b.CONFIG_PROJECT]

    assert setting.of(project_path="stranger/app").surroundings(None, None).place is not None


def test_all_that_one_request_asks_for_shares_one_budget() -> None:
    setting = Setting(settings=Settings(legacy_slugs=True))
    setting.store.saved_places.clear()
    setting.gitlab.jobs[b.APP, 9001] = "running"
    lookup = setting.of(environment="review/1")

    lookup.project_runs_job()
    lookup.surroundings(None, None)
    lookup.config_places([b.an_agent()])
    lookup.environment_slug()

    assert setting.gitlabs == 1
    assert len(setting.gitlab.calls) > 3


# --- Which project runs a job ---


def test_a_job_that_its_project_runs_is_asked_about_once() -> None:
    setting = Setting()
    setting.gitlab.jobs[b.APP, 9001] = "running"

    assert [setting.of().project_runs_job() for _ in range(3)] == [True, True, True]
    assert setting.gitlab.calls == [("job_status", (b.APP, 9001))]


@pytest.mark.parametrize("elsewhere", [(b.APP, 9002), (101, 9001)])
def test_a_job_that_its_project_does_not_run_is_not_confirmed(elsewhere: tuple[int, int]) -> None:
    setting = Setting()
    setting.gitlab.jobs[elsewhere] = "running"

    assert not setting.of().project_runs_job()


def test_a_job_is_confirmed_for_its_own_project_and_issuer_alone() -> None:
    setting = Setting(deployment=b.a_deployment(roots=[("main", "top"), ("other", "top")]))
    setting.gitlab.jobs[b.APP, 9001] = "running"
    setting.of().project_runs_job()
    setting.gitlab.jobs.clear()

    assert not setting.of(issuer="other").project_runs_job()
    assert not setting.of(project_id=101).project_runs_job()


def test_a_job_of_an_unknown_root_spends_no_call() -> None:
    setting = Setting()
    setting.gitlab.jobs[b.APP, 9001] = "running"

    assert not setting.of(project_path="fork/app").project_runs_job()
    assert setting.gitlab.calls == []


def test_while_gitlab_is_away_no_job_is_confirmed_and_soon_it_is_asked_again() -> None:
    setting = Setting()
    setting.gitlab.jobs[b.APP, 9001] = "running"
    setting.gitlab.failing.add("job_status")
    assert not setting.of().project_runs_job()
    setting.gitlab.failing.clear()

    assert not setting.of().project_runs_job()
    setting.clock.advance(11)
    assert setting.of().project_runs_job()


# --- Slugs ---


def a_legacy_setting() -> Setting:
    setting = Setting(settings=Settings(legacy_slugs=True))
    setting.gitlab.slugs[b.APP, "review/1"] = "review-1-a1b2c3"
    return setting


def test_a_slug_that_can_not_be_computed_is_asked_for_once() -> None:
    setting = a_legacy_setting()

    slugs = [setting.of(environment="review/1").environment_slug() for _ in range(3)]

    assert slugs == ["review-1-a1b2c3"] * 3
    assert len(setting.gitlab.calls) == 1


@pytest.mark.parametrize("environment", [None, "production", "staging-1234567890123456", "foo"])
def test_a_slug_that_can_be_computed_is_not_asked_for(environment: str | None) -> None:
    setting = a_legacy_setting()

    assert setting.of(environment=environment).environment_slug() is None
    assert setting.gitlab.calls == []


def test_without_the_parameter_no_slug_is_asked_for() -> None:
    setting = Setting()

    assert setting.of(environment="review/1").environment_slug() is None
    assert setting.gitlab.calls == []


def test_an_environment_that_gitlab_does_not_know_has_no_slug() -> None:
    assert a_legacy_setting().of(environment="review/2").environment_slug() is None


def test_a_slug_is_that_of_one_project() -> None:
    setting = a_legacy_setting()
    setting.of(environment="review/1").environment_slug()

    assert setting.of(project_id=101, environment="review/1").environment_slug() is None
