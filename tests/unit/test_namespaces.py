from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.core.authorization import Denied, Rule, authorize
from jobgate.core.bounds import Bounds
from jobgate.core.errors import Unavailable
from jobgate.core.namespace import Surroundings
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject
from jobgate.usecases.lookups import LazyLookups
from jobgate.usecases.namespaces import NamespaceTree

from tests.support import builders as b
from tests.support.fakes import FakeClock, FakePlaceStore, a_watch
from tests.support.refresh_fakes import FakeGitLab

if TYPE_CHECKING:
    from jobgate.ports import Deployment

BOUNDS = Bounds()
OLD = b.NOW - BOUNDS.chain_fresh - 1


def a_gitlab(*, namespace_id: int = b.SUB1, kind: str = "group") -> FakeGitLab:
    return FakeGitLab(
        groups=[
            GitLabGroup(group_id=b.TOP, path="top", parent_id=None),
            GitLabGroup(group_id=b.SUB1, path="top/sub1", parent_id=b.TOP),
            GitLabGroup(group_id=b.OTHER_ROOT, path="ext", parent_id=None),
        ],
        projects=[
            GitLabProject(
                project_id=b.APP,
                path="top/sub1/app",
                default_branch="main",
                namespace_id=namespace_id,
                namespace_path="alice",
                namespace_kind=kind,
            )
        ],
    )


def known(*, fetched_at: float = b.NOW) -> Surroundings:
    """Where the default job is, just fetched."""
    return Surroundings(
        place=b.a_place(fetched_at=fetched_at), chain=b.a_chain(fetched_at=fetched_at)
    )


def lazy(
    gitlab: FakeGitLab,
    *,
    deployment: Deployment | None = None,
    store: FakePlaceStore | None = None,
    clock: FakeClock | None = None,
    settings: Settings | None = None,
) -> LazyLookups:
    clock = clock or FakeClock()
    return LazyLookups(
        lambda: deployment or b.a_deployment(),
        lambda _alias: gitlab,
        store or FakePlaceStore(),
        a_watch(clock),
        settings=settings or Settings(),
        bounds=BOUNDS,
        clock=clock,
    )


def test_a_projects_place_and_chain_are_read_upwards_root_first() -> None:
    gitlab = a_gitlab()

    place, chain = NamespaceTree(gitlab, now=b.NOW).place(gitlab.projects[b.APP])

    assert (place, chain) == (b.a_place(), b.a_chain())


def test_a_user_namespace_is_its_own_root_and_no_group() -> None:
    gitlab = a_gitlab(namespace_id=b.USER_NAMESPACE, kind="user")

    place, chain = NamespaceTree(gitlab, now=b.NOW).place(gitlab.projects[b.APP])

    assert place.root_id == b.USER_NAMESPACE
    assert chain == b.a_chain((b.USER_NAMESPACE, "alice"), kind="user")
    assert chain.groups == ()


def test_a_group_is_asked_for_once() -> None:
    gitlab = a_gitlab()
    tree = NamespaceTree(gitlab, now=b.NOW)

    tree.place(gitlab.projects[b.APP])
    tree.place(gitlab.projects[b.APP])

    assert gitlab.calls == [("group", b.SUB1), ("group", b.TOP)]


def test_an_ancestor_that_is_not_shown_makes_the_chain_unknown() -> None:
    gitlab = a_gitlab()
    del gitlab.groups[b.TOP]

    with pytest.raises(Unavailable):
        NamespaceTree(gitlab, now=b.NOW).place(gitlab.projects[b.APP])


def test_a_group_that_is_its_own_ancestor_is_no_endless_loop() -> None:
    gitlab = a_gitlab()
    gitlab.groups[b.TOP] = GitLabGroup(group_id=b.TOP, path="top", parent_id=b.SUB1)

    with pytest.raises(Unavailable):
        NamespaceTree(gitlab, now=b.NOW).place(gitlab.projects[b.APP])


def test_what_is_fresh_is_not_asked_for() -> None:
    gitlab = a_gitlab()
    fetched_at = b.NOW - BOUNDS.chain_fresh

    found = (
        lazy(gitlab)
        .of(b.a_job())
        .surroundings(b.a_place(fetched_at=fetched_at), b.a_chain(fetched_at=fetched_at))
    )

    assert found == known(fetched_at=fetched_at)
    assert gitlab.calls == []


@pytest.mark.parametrize(
    "stored",
    [
        Surroundings(place=None, chain=None),
        Surroundings(place=b.a_place(), chain=None),
        Surroundings(place=None, chain=b.a_chain()),
        known(fetched_at=OLD),
        Surroundings(place=b.a_place(), chain=b.a_chain(fetched_at=OLD)),
        Surroundings(place=b.a_place(fetched_at=OLD), chain=b.a_chain()),
    ],
    ids=["nothing", "no chain", "no place", "old", "old chain", "old place"],
)
def test_what_is_unknown_or_old_is_asked_for_and_kept(stored: Surroundings) -> None:
    store = FakePlaceStore()

    found = lazy(a_gitlab(), store=store).of(b.a_job()).surroundings(stored.place, stored.chain)

    assert found == known()
    assert store.saved_places == {("main", b.APP): b.a_place()}
    assert store.saved_chains == {("main", b.SUB1): b.a_chain()}


def test_a_stranger_spends_no_call() -> None:
    gitlab = a_gitlab()
    jobs = [b.a_job(project_path=f"stranger{i}/app", project_id=1000 + i) for i in range(50)]
    jobs += [b.a_job(project_path="topless/app"), b.a_job(issuer="other")]

    for job in jobs:
        found = lazy(gitlab).of(job).surroundings(None, None)
        assert found == Surroundings(place=None, chain=None)

    assert gitlab.calls == []


def test_a_known_root_is_known_whatever_its_case() -> None:
    found = lazy(a_gitlab()).of(b.a_job(project_path="TOP/sub1/app")).surroundings(None, None)

    assert found == known()


@pytest.mark.parametrize("method", ["project", "group"])
def test_while_gitlab_is_away_what_was_stored_stays_as_old_as_it_is(method: str) -> None:
    gitlab = a_gitlab()
    gitlab.failing.add(method)

    found = (
        lazy(gitlab)
        .of(b.a_job())
        .surroundings(b.a_place(fetched_at=OLD), b.a_chain(fetched_at=OLD))
    )

    assert found == known(fetched_at=OLD)


def test_a_project_that_is_not_shown_stays_unknown() -> None:
    gitlab = a_gitlab()
    gitlab.projects.clear()

    assert lazy(gitlab).of(b.a_job()).surroundings(None, None) == Surroundings(
        place=None, chain=None
    )


def test_what_cannot_be_kept_is_not_believed() -> None:
    store = FakePlaceStore(failing=True)

    found = lazy(a_gitlab(), store=store).of(b.a_job()).surroundings(None, None)

    assert found == Surroundings(place=None, chain=None)


def test_a_project_that_moved_during_the_job_is_asked_for_once_and_not_at_each_request() -> None:
    gitlab = a_gitlab(namespace_id=b.OTHER_ROOT)
    places = lazy(gitlab)

    moved = places.of(b.a_job()).surroundings(b.a_place(fetched_at=OLD), b.a_chain(fetched_at=OLD))
    calls = len(gitlab.calls)
    again = places.of(b.a_job()).surroundings(moved.place, b.a_chain(fetched_at=OLD))

    assert moved.place is not None
    assert moved.place.namespace_id == b.OTHER_ROOT
    assert again.place == moved.place
    assert len(gitlab.calls) == calls


@pytest.mark.parametrize("hidden", [False, True], ids=["away", "not shown"])
def test_a_gitlab_that_has_just_failed_is_not_waited_for_at_each_request(*, hidden: bool) -> None:
    gitlab, clock = a_gitlab(), FakeClock()
    if hidden:
        gitlab.projects.clear()
    else:
        gitlab.failing.add("project")
    places = lazy(gitlab, clock=clock)
    stored = known(fetched_at=OLD)

    # A project that GitLab doesn't show has left the place where it was.
    expected = Surroundings(place=None, chain=None) if hidden else stored

    for _ in range(20):
        assert places.of(b.a_job()).surroundings(stored.place, stored.chain) == expected
        clock.advance(0.4)

    assert len(gitlab.calls) == 1


@pytest.mark.parametrize("passed", [11, -3600], ids=["later", "the clock was set back"])
def test_a_gitlab_that_failed_is_asked_again_soon(passed: float) -> None:
    gitlab, clock = a_gitlab(), FakeClock()
    gitlab.failing.add("project")
    places = lazy(gitlab, clock=clock)
    places.of(b.a_job()).surroundings(None, None)
    gitlab.failing.clear()
    clock.advance(passed)

    found = places.of(b.a_job()).surroundings(None, None)

    assert found == known(fetched_at=clock.now)


def test_one_project_that_gitlab_does_not_show_keeps_no_other_from_being_asked_for() -> None:
    places = lazy(a_gitlab())
    places.of(b.a_job(project_id=999, project_path="top/gone")).surroundings(None, None)

    assert places.of(b.a_job()).surroundings(None, None) == known()


@pytest.mark.parametrize("late", ["place", "chain"])
def test_what_was_fetched_under_a_clock_that_ran_ahead_is_asked_for_again(late: str) -> None:
    ahead = b.NOW + BOUNDS.leeway + 1
    place = b.a_place(fetched_at=ahead if late == "place" else b.NOW)
    chain = b.a_chain(fetched_at=ahead if late == "chain" else b.NOW)

    assert lazy(a_gitlab()).of(b.a_job()).surroundings(place, chain) == known()


@pytest.mark.parametrize("root", ["stranger", "top"], ids=["unknown root", "GitLab is away"])
def test_a_project_that_was_moved_keeps_nothing_by_the_place_that_it_has_left(root: str) -> None:
    gitlab = a_gitlab()
    gitlab.failing.add("project")
    moved = b.a_job(project_path=f"{root}/app", namespace_id=b.OTHER_ROOT)
    agent = b.an_agent(projects={b.APP: b.an_entry()})

    found = lazy(gitlab).of(moved).surroundings(b.a_place(fetched_at=OLD), None)

    assert found == Surroundings(place=None, chain=None)
    decision = authorize(moved, agent, found, settings=Settings(), bounds=BOUNDS, now=b.NOW)
    assert decision == Denied(
        Reason.CHAIN_UNKNOWN, Rule(kind="project", id=b.APP, path="top/sub1/app")
    )
