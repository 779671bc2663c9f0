"""A webhook changes what is within its project, group or instance, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.core.errors import Unavailable
from jobgate.core.hook import HookScope, Reach, reach_of_group, reach_of_project
from jobgate.core.liveness import NOTHING_HEARD
from jobgate.core.webhook_event import GroupMoved, Ignored, JobSeen, ProjectMoved, Pushed
from jobgate.usecases.hook_events import HookEvents

from tests.support import builders as b
from tests.support.fakes import FakeClock, FakeJobStates, FakePlaceMarks, FakeRefreshQueue

if TYPE_CHECKING:
    from jobgate.core.liveness import JobState
    from jobgate.core.namespace import NamespaceChain, ProjectPlace
    from jobgate.core.webhook_event import HookEvent

FRESH = 300.0
INSTANCE, TOP, SUB1 = (
    HookScope("instance", 0),
    HookScope("group", b.TOP),
    HookScope("group", b.SUB1),
)
OF_APP, OTHER = HookScope("project", b.APP), HookScope("group", b.OTHER_ROOT)
OF_CONFIG = HookScope("project", b.CONFIG_PROJECT)
END = JobSeen(b.APP, 9001, b.a_state("success", finished_at=b.NOW))
RUNNING = JobSeen(b.APP, 9001, b.a_state("running"))
OLD = b.NOW - FRESH - 1


class Setting:
    """The events' use case; the job's project and the configuration project are in `top/sub1`."""

    def __init__(self, *, known: bool = True, fetched_at: float = b.NOW) -> None:
        self.places, self.jobs = FakePlaceMarks(), FakeJobStates()
        self.queue = FakeRefreshQueue()
        if known:
            for project_id in (b.APP, b.CONFIG_PROJECT):
                self.places.places["main", project_id] = b.a_place(fetched_at=fetched_at)
            self.places.chains["main", b.SUB1] = b.a_chain(fetched_at=fetched_at)
        self.use_case = HookEvents(
            places=self.places,
            jobs=self.jobs,
            queue=self.queue,
            chain_fresh=FRESH,
            clock=FakeClock(),
        )

    def handle(self, event: HookEvent, scope: HookScope | None) -> str:
        return self.use_case.handle("main", event, scope, deduplication_id="k")

    @property
    def changed(self) -> bool:
        changed = (self.jobs.states, self.queue.refreshes, self.queue.jobs, self.places.marked)
        return any(changed)


# --- Who reaches what ---


@pytest.mark.parametrize("scope", [INSTANCE, TOP, SUB1, OF_APP])
def test_a_job_is_told_of_by_the_hooks_above_it(scope: HookScope) -> None:
    setting = Setting()

    setting.handle(END, scope)

    assert setting.jobs.states[b.a_job().key].status == "success"


@pytest.mark.parametrize("word", [END.state, RUNNING.state])
def test_a_hook_tells_nothing_of_another_projects_job(word: JobState) -> None:
    setting = Setting()

    # The job's id is another project's; the project that the event names is the hook's own.
    setting.handle(JobSeen(b.CONFIG_PROJECT, b.a_job().job_id, word), OF_CONFIG)

    assert setting.jobs.get(b.a_job().key) == NOTHING_HEARD


@pytest.mark.parametrize("event", [END, RUNNING])
@pytest.mark.parametrize("scope", [OTHER, HookScope("group", 3), OF_CONFIG, None])
def test_a_job_is_not_told_of_by_another_hook(event: JobSeen, scope: HookScope | None) -> None:
    setting = Setting()

    said = setting.handle(event, scope)

    assert said.startswith("refused: ")
    assert not setting.changed


@pytest.mark.parametrize("scope", [TOP, SUB1, OTHER])
def test_a_groups_hook_says_nothing_of_a_job_whose_project_is_not_known(scope: HookScope) -> None:
    # A job that has a token had its project looked up at the exchange.
    setting = Setting(known=False)

    said = setting.handle(END, scope)

    assert said.startswith("ignored: ")
    assert not setting.changed


def test_a_project_that_was_moved_into_a_group_long_after_it_was_looked_up_is_not_refused() -> None:
    setting = Setting(fetched_at=OLD)

    assert setting.handle(END, OTHER).startswith("ignored: ")
    assert setting.handle(Pushed(b.CONFIG_PROJECT), OTHER).endswith("to be refreshed")


def test_the_path_or_the_namespace_in_a_payload_is_never_asked() -> None:
    setting = Setting(known=False)
    setting.places.chains["main", b.SUB1] = b.a_chain()

    assert setting.handle(END, SUB1).startswith("ignored: ")


def test_projects_of_another_issuer_with_the_same_ids_are_other_projects() -> None:
    setting = Setting()

    setting.use_case.handle("other", END, TOP, deduplication_id=None)

    assert not setting.changed


@pytest.mark.parametrize(
    ("scope", "place", "chain", "expected"),
    [
        (TOP, b.a_place(), None, Reach.INSIDE),
        (SUB1, b.a_place(), None, Reach.INSIDE),
        (HookScope("group", 3), b.a_place(), None, Reach.UNKNOWN),
        (HookScope("group", 3), b.a_place(), b.a_chain(), Reach.OUTSIDE),
        (HookScope("group", 3), b.a_place(), b.a_chain(fetched_at=OLD), Reach.UNKNOWN),
        (HookScope("group", 3), b.a_place(fetched_at=OLD), b.a_chain(), Reach.UNKNOWN),
        (TOP, b.a_place(fetched_at=OLD), None, Reach.INSIDE),
        (TOP, None, b.a_chain(), Reach.UNKNOWN),
        # A chain of another namespace than the project's says nothing of it.
        (OTHER, b.a_place(), b.a_chain((b.OTHER_ROOT, "ext")), Reach.UNKNOWN),
    ],
)
def test_the_reach_of_a_groups_hook(
    scope: HookScope, place: ProjectPlace | None, chain: NamespaceChain | None, expected: Reach
) -> None:
    reach = reach_of_project(scope, b.APP, place, chain, fresh_since=b.NOW - FRESH)

    assert reach is expected


def test_a_users_namespace_is_no_group() -> None:
    place = b.a_place(namespace_id=b.USER_NAMESPACE, root_id=b.USER_NAMESPACE)
    scope = HookScope("group", 3)

    assert reach_of_project(scope, b.APP, place, None, fresh_since=0) is Reach.UNKNOWN


@pytest.mark.parametrize(("scope", "reads"), [(INSTANCE, []), (OF_APP, []), (TOP, ["place"])])
def test_what_says_enough_is_not_read(scope: HookScope, reads: list[str]) -> None:
    setting = Setting()

    setting.handle(END, scope)

    assert setting.places.reads == reads


# --- Jobs ---


def test_a_jobs_end_is_never_undone() -> None:
    setting = Setting()

    setting.handle(END, TOP)
    said = setting.handle(RUNNING, TOP)

    assert setting.jobs.states[b.a_job().key].status == "success"
    assert said.endswith("had ended before")


@pytest.mark.parametrize("away", ["jobs", "places"])
def test_a_job_that_cannot_be_judged_or_written_goes_to_the_queue(away: str) -> None:
    setting = Setting()
    if away == "jobs":
        setting.jobs.failing = frozenset({"put"})
    else:
        setting.places.failing = True

    setting.handle(END, TOP)

    assert setting.queue.jobs == [("main", END, TOP, "k")]


def test_a_job_from_the_queue_is_judged_there() -> None:
    setting = Setting()

    setting.use_case.job_seen("main", END, OTHER)
    assert not setting.changed
    setting.use_case.job_seen("main", END, TOP)
    assert setting.changed

    setting.places.failing = True
    with pytest.raises(Unavailable):
        setting.use_case.job_seen("main", END, TOP)


# --- Pushes ---


@pytest.mark.parametrize("scope", [INSTANCE, TOP, SUB1, OF_CONFIG])
def test_a_push_is_queued_under_gitlabs_own_key(scope: HookScope) -> None:
    setting = Setting()

    setting.handle(Pushed(b.CONFIG_PROJECT), scope)

    assert setting.queue.refreshes == [("main", b.CONFIG_PROJECT, "k")]


@pytest.mark.parametrize("scope", [OTHER, OF_APP, None])
def test_a_push_out_of_reach_is_refused(scope: HookScope | None) -> None:
    setting = Setting()

    assert setting.handle(Pushed(b.CONFIG_PROJECT), scope).startswith("refused: ")
    assert not setting.changed


def test_a_push_to_a_project_that_configures_nothing_is_no_work() -> None:
    setting = Setting()

    said = setting.handle(Pushed(b.APP), TOP)

    assert said == f"ignored: project {b.APP} configures no agent"
    assert not setting.changed


def test_a_push_is_a_hint_and_not_lost_where_its_reach_is_not_known() -> None:
    unknown = Setting(known=False)
    unknown.handle(Pushed(b.CONFIG_PROJECT), TOP)
    away = Setting()
    away.places.failing = True
    away.handle(Pushed(b.APP), OTHER)

    assert unknown.queue.refreshes == [("main", b.CONFIG_PROJECT, "k")]
    assert away.queue.refreshes == [("main", b.APP, "k")]


# --- Moves: only taken away ---


@pytest.mark.parametrize("scope", [INSTANCE, TOP, OF_APP])
def test_a_moved_project_is_marked(scope: HookScope) -> None:
    setting = Setting()

    setting.handle(ProjectMoved(b.APP), scope)

    assert setting.places.marked == [("main", "project", b.APP, b.NOW)]
    assert setting.queue.refreshes == []


def test_a_moved_configuration_project_is_marked_and_refreshed() -> None:
    setting = Setting()

    setting.handle(ProjectMoved(b.CONFIG_PROJECT), INSTANCE)

    assert setting.places.marked == [("main", "project", b.CONFIG_PROJECT, b.NOW)]
    assert setting.queue.refreshes == [("main", b.CONFIG_PROJECT, "k")]


@pytest.mark.parametrize("scope", [OTHER, OF_CONFIG, None])
def test_a_move_out_of_reach_marks_nothing(scope: HookScope | None) -> None:
    setting = Setting()

    setting.handle(ProjectMoved(b.APP), scope)
    setting.handle(GroupMoved(b.SUB1), scope)

    assert not setting.changed


@pytest.mark.parametrize("scope", [INSTANCE, TOP, SUB1])
def test_a_moved_group_is_marked(scope: HookScope) -> None:
    setting = Setting()

    setting.handle(GroupMoved(b.SUB1), scope)

    assert setting.places.marked == [("main", "namespace", b.SUB1, b.NOW)]


def test_a_projects_hook_says_nothing_of_a_group_that_has_its_projects_number() -> None:
    chain = b.a_chain()

    assert reach_of_group(HookScope("group", b.SUB1), chain) is Reach.INSIDE
    assert reach_of_group(HookScope("project", b.SUB1), chain) is Reach.OUTSIDE


def test_a_group_that_is_not_known_has_nothing_to_take_away() -> None:
    setting = Setting(known=False)

    setting.handle(GroupMoved(b.SUB1), TOP)

    assert not setting.changed


def test_what_is_ignored_says_why() -> None:
    assert Setting().handle(Ignored("a tag"), INSTANCE) == "ignored: a tag"
