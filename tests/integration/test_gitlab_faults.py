"""GitLab as it is, bad days included: a refresh over HTTP from the stand-in, with faults.

Whatever happens, what was granted stays as it was, and the next good refresh brings what is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.gitlab_memory import Blobs, Listings
from jobgate.adapters.https import HTTPSClient
from jobgate.core.errors import Throttled, Unavailable
from jobgate.core.settings import Settings
from jobgate.ports.refresh import Subject
from jobgate.usecases.refresh import Refresh

from local.certificates import CertificateAuthority
from local.gitlab.server import GitLab
from tests.support import builders as b
from tests.support.fakes import FakeClock, FakePlaceStore
from tests.support.refresh_fakes import FakeRefreshStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.core.agent import AgentSnapshot

    from local.gitlab.control import Control

FILE = ".gitlab/agents/prod/config.yaml"
ALWAYS = 1000
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    authority = CertificateAuthority.create(tmp_path_factory.mktemp("ca"))
    started = GitLab.start(tmp_path_factory.mktemp("gitlab"), authority=authority)
    yield started
    started.stop()


class Deployment:
    """A tree of its own in GitLab, with a configuration project, and what was published of it."""

    def __init__(self, server: GitLab, *, seconds: float = 30) -> None:
        self.control: Control = server.control
        self.root = f"root{next(_numbers)}"
        self.control.create_group(self.root)
        self.control.create_group(f"{self.root}/sub")
        self.ids: dict[str, int] = {}
        for name in ("agents", "app", "other", "third"):
            path = f"{self.root}/sub/{name}"
            self.ids[name] = int(self.control.create_project(path)["id"])
        self.agents = f"{self.root}/sub/agents"
        self.token = self.control.create_token(["read_api"], group=self.root)
        self.client = HTTPSClient(f"{server.url}/api/v4", self.control.ca.read_text())
        self.seconds = seconds
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is published, and no function is warm."""
        self.blobs, self.listings = Blobs(), Listings()
        self.clock, self.places, self.store = FakeClock(), FakePlaceStore(), FakeRefreshStore()
        project_id = self.ids["agents"]
        self.store.config_projects["main", project_id] = b.a_config_project_item(
            project_id=project_id
        )
        self.store.clusters["main", b.PROD] = b.a_cluster(config_project_id=project_id)

    def run(self) -> None:
        self.store.writes.clear()
        Refresh(
            gitlab_of=lambda _alias: GitLabAPI(
                self.client,
                self.token,
                seconds=self.seconds,
                blobs=self.blobs,
                listings=self.listings,
            ),
            store=self.store,
            places=self.places,
            recorder=lambda _line: None,
            settings=Settings(),
            clock=self.clock,
            pick=lambda _count: 0,
        ).run("main", self.ids["agents"])

    def push(self, *names: str, groups: tuple[str, ...] = ()) -> None:
        """Push who may use the agent; nothing tells of it."""
        entries = "".join(f"    - id: {self.root}/sub/{name}\n" for name in names)
        content = "ci_access:\n" + (f"  projects:\n{entries}" if names else "")
        if groups:
            content += "  groups:\n" + "".join(f"    - id: {path}\n" for path in groups)
        self.control.commit(self.agents, {FILE: content if names or groups else "ci_access: {}\n"})

    @property
    def snapshot(self) -> AgentSnapshot:
        return self.store.snapshots["main", b.PROD]

    @property
    def granted(self) -> set[str]:
        """The names of the projects that are granted something."""
        named = {i for i, entry in self.snapshot.projects.items() if entry.refused is None}
        return {name for name, i in self.ids.items() if i in named}

    @property
    def note(self) -> str | None:
        return self.store.config_projects["main", self.ids["agents"]].last_error


@pytest.fixture
def deployment(server: GitLab) -> Iterator[Deployment]:
    """One whose agent grants `app`; `other` is pushed and not read yet."""
    made = Deployment(server)
    made.push("app")
    made.run()
    made.push("other", groups=(f"{made.root}/sub",))
    yield made
    server.control.clear_faults()
    server.control.set_rate_limits(enabled=False)
    made.client.close()


PLACES = {
    "project": r"GET /api/v4/projects/\d+( |$|\?)",
    "group": r"GET /api/v4/groups/\d+",
    "head": r"GET /api/v4/projects/\d+/repository/branches/",
    "tree": r"GET /api/v4/projects/\d+/repository/tree",
    "file": r"GET /api/v4/projects/\d+/repository/files/",
    "path of a project": r"GET /api/v4/projects/root\d+%2F",
    "path of a group": r"GET /api/v4/groups/root\d+%2F",
}


def fails(deployment: Deployment) -> Unavailable | None:
    """Refresh once; what was raised, if anything was."""
    try:
        deployment.run()
    except Unavailable as exc:
        return exc
    return None


def stays_and_heals(deployment: Deployment) -> None:
    """Nothing of what was granted has changed, it is in doubt, and the next refresh heals it."""
    assert deployment.granted == {"app"}
    assert deployment.snapshot.doubt_since == b.NOW
    assert deployment.note is not None

    deployment.control.clear_faults()
    deployment.run()

    assert deployment.granted == {"other"}
    assert (deployment.snapshot.doubt_since, deployment.note) == (None, None)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("status", "comes_again"), [(401, False), (403, False), (500, True), (502, True), (503, True)]
)
def test_a_status_that_is_no_answer_changes_no_access(
    deployment: Deployment, place: str, status: int, *, comes_again: bool
) -> None:
    deployment.control.fail_next(PLACES[place], status=status, times=ALWAYS)

    raised = fails(deployment)

    assert (raised is not None) is comes_again
    assert deployment.note == f"GitLab answered {status}"
    stays_and_heals(deployment)


OTHER_FORMS = [
    "",
    "<html>Sign in</html>",
    '{"id": ',
    "[]",
    "null",
    '{"id": "7", "message": "x"}',
    "[7]",
]


@pytest.mark.parametrize(
    ("place", "body"),
    [
        (place, body)
        for place in PLACES
        for body in OTHER_FORMS
        # An empty tree is a deleted folder.
        if (place, body) != ("tree", "[]")
    ],
)
def test_an_answer_of_another_form_changes_no_access(
    deployment: Deployment, place: str, body: str
) -> None:
    deployment.control.fail_next(PLACES[place], status=200, body=body, times=ALWAYS)

    assert fails(deployment) is not None
    stays_and_heals(deployment)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404, "body": "default backend - 404"},
        {"status": 302, "body": "", "headers": {"Location": "https://sso.test/sign_in"}},
    ],
    ids=["404", "302"],
)
def test_a_proxys_own_answer_changes_no_access(
    deployment: Deployment, place: str, answer: dict[str, Any]
) -> None:
    deployment.control.fail_next(PLACES[place], times=ALWAYS, **answer)

    assert fails(deployment) is not None
    stays_and_heals(deployment)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", [{"drop": True}, {"half": True}], ids=["dropped", "cut"])
def test_an_answer_that_breaks_off_changes_no_access(
    deployment: Deployment, place: str, how: dict[str, bool]
) -> None:
    deployment.control.disturb_next(PLACES[place], times=ALWAYS, **how)

    assert fails(deployment) is not None
    stays_and_heals(deployment)


@pytest.mark.parametrize("place", ["project", "file"])
def test_a_gitlab_that_is_too_slow_changes_no_access(deployment: Deployment, place: str) -> None:
    deployment.seconds = 0.5
    deployment.control.disturb_next(PLACES[place], times=ALWAYS, delay=5)

    assert fails(deployment) is not None
    deployment.seconds = 30
    stays_and_heals(deployment)


@pytest.mark.parametrize("place", PLACES)
def test_a_gitlab_that_throttles_says_when_to_come_again(
    deployment: Deployment, place: str
) -> None:
    deployment.control.fail_next(
        PLACES[place], status=429, headers={"Retry-After": "17"}, body="Retry later", times=ALWAYS
    )

    raised = fails(deployment)

    assert isinstance(raised, Throttled)
    assert raised.retry_after == 17
    stays_and_heals(deployment)


def test_a_token_that_was_revoked_takes_nothing_away(deployment: Deployment) -> None:
    good, deployment.token = deployment.token, "glpat-revoked"

    assert fails(deployment) is None
    assert deployment.note == "GitLab answered 401"
    deployment.token = good
    stays_and_heals(deployment)


def test_a_project_out_of_the_tokens_sight_is_in_doubt_and_not_gone(
    deployment: Deployment,
) -> None:
    deployment.control.create_group(f"{deployment.root}x")
    good = deployment.token
    deployment.token = deployment.control.create_token(["read_api"], group=f"{deployment.root}x")

    assert fails(deployment) is None
    assert deployment.note == "the configuration project isn't there, or not for our token"
    deployment.token = good
    stays_and_heals(deployment)


def test_a_token_that_may_not_see_code_is_in_doubt(deployment: Deployment) -> None:
    good = deployment.token
    deployment.token = deployment.control.create_token(
        ["read_api"], group=deployment.root, role="guest"
    )

    assert fails(deployment) is None
    deployment.token = good
    stays_and_heals(deployment)


def test_a_deleted_project_stays_in_doubt(deployment: Deployment) -> None:
    deployment.control.delete_project(deployment.agents)

    for _ in range(3):
        assert fails(deployment) is None
        deployment.clock.advance(1000)

    assert deployment.granted == {"app"}
    assert deployment.snapshot.doubt_since == b.NOW


def test_a_deleted_folder_is_an_empty_configuration(deployment: Deployment) -> None:
    deployment.control.commit(deployment.agents, {FILE: None, "README.md": "x"})

    deployment.run()

    assert (deployment.granted, deployment.snapshot.valid) == (set(), True)
    indexed = {subject for (_, subject), agents in deployment.store.index.items() if agents}
    assert indexed == {Subject("project", deployment.ids["agents"])}


def test_a_folders_404_with_the_commits_is_no_deleted_folder(deployment: Deployment) -> None:
    gone = r"GET /api/v4/projects/\d+/repository/(tree|commits)"
    deployment.control.fail_next(gone, status=404, times=ALWAYS)

    assert fails(deployment) is None
    stays_and_heals(deployment)


def test_a_file_that_is_listed_and_then_answers_404_is_no_deleted_file(
    deployment: Deployment,
) -> None:
    deployment.control.fail_next(PLACES["file"], status=404, times=ALWAYS)

    assert fails(deployment) is not None
    stays_and_heals(deployment)


def test_a_head_that_answers_404_once_is_no_empty_repository(deployment: Deployment) -> None:
    deployment.control.fail_next(PLACES["head"], status=404, times=1)

    assert fails(deployment) is None
    stays_and_heals(deployment)


def test_an_empty_repository_changes_nothing(server: GitLab) -> None:
    empty = Deployment(server)

    assert fails(empty) is None

    assert empty.store.snapshots == {}
    assert empty.note == "the repository is empty, or not for our token"
    empty.client.close()


def test_a_renamed_configuration_project_is_found_by_its_id(deployment: Deployment) -> None:
    deployment.control.rename_project(deployment.agents, "clusters")

    deployment.run()

    assert deployment.snapshot.context == f"{deployment.root}/sub/clusters:prod"
    assert deployment.granted == {"other"}


def test_a_renamed_target_loses_its_entry_and_who_takes_its_path_is_somebody_else(
    deployment: Deployment,
) -> None:
    deployment.run()
    deployment.control.rename_project(f"{deployment.root}/sub/other", "renamed")

    deployment.run()
    assert deployment.granted == set()
    assert [problem.code for problem in deployment.snapshot.problems] == ["not_found"]

    squatter = deployment.control.create_project(f"{deployment.root}/sub/other")
    deployment.run()
    assert set(deployment.snapshot.projects) == {squatter["id"], deployment.ids["other"]}
    assert deployment.granted == set()


def test_a_transferred_target_is_out_of_scope(deployment: Deployment) -> None:
    deployment.run()
    deployment.control.create_group(f"{deployment.root}y")
    deployment.control.transfer_project(f"{deployment.root}/sub/other", f"{deployment.root}y")

    deployment.run()

    assert deployment.granted == set()


def test_a_transferred_configuration_project_takes_its_scope_along(deployment: Deployment) -> None:
    deployment.run()
    deployment.control.create_group(f"{deployment.root}z")
    deployment.control.transfer_project(deployment.agents, f"{deployment.root}z")
    deployment.token = deployment.control.create_token(["read_api"])

    deployment.run()

    place = deployment.places.saved_places["main", deployment.ids["agents"]]
    assert deployment.granted == set()
    assert {problem.code for problem in deployment.snapshot.problems} == {"out_of_scope"}
    assert deployment.snapshot.config_project.root_id == place.root_id
    assert place.path == f"{deployment.root}z/agents"


def test_another_default_branch_is_read_without_a_push(deployment: Deployment) -> None:
    deployment.control.commit(
        deployment.agents,
        {FILE: f"ci_access: {{projects: [{{id: {deployment.root}/sub/third}}]}}"},
        branch="next",
    )
    deployment.run()
    deployment.control.edit_project(deployment.agents, default_branch="next")

    deployment.run()

    assert deployment.granted == {"third"}


def test_a_branch_that_was_set_back_is_what_it_is_now(deployment: Deployment) -> None:
    before = deployment.snapshot.commit
    deployment.run()
    deployment.control.update_ref(deployment.agents, "refs/heads/main", before)

    deployment.run()

    assert deployment.granted == {"app"}


def test_an_archived_configuration_project_still_counts(deployment: Deployment) -> None:
    deployment.control.edit_project(deployment.agents, archived=True)

    deployment.run()

    assert deployment.granted == {"other"}


# --- Many entries, under GitLab.com's limits ---


@pytest.fixture(scope="module")
def large(server: GitLab) -> Iterator[Deployment]:
    """130 projects and 20 groups, all of them named in one file."""
    made = Deployment(server)
    for number in range(130):
        name = f"p{number}"
        made.ids[name] = int(made.control.create_project(f"{made.root}/sub/{name}")["id"])
    groups = tuple(f"{made.root}/sub/g{number}" for number in range(20))
    for path in groups:
        made.control.create_group(path)
    made.push(*(f"p{number}" for number in range(130)), groups=groups)
    yield made
    made.client.close()


ALL = {f"p{number}" for number in range(130)}


def test_hundreds_of_entries_are_read_under_gitlab_coms_limits(
    large: Deployment, count: Callable[[], dict[str, int]]
) -> None:
    large.begin_anew()
    # A tenth of them, for a tenth of the entries: 40 questions a minute about single projects.
    large.control.set_rate_limits(enabled=True, factor=0.1)

    large.run()

    assert large.granted == ALL
    assert len(large.snapshot.groups) == 20
    # The project, its two groups, the head twice, a page of the tree, the file; two pages of
    # projects; and the twenty groups, one by one, since that many are left.
    assert count() == {"200": 29}


def test_an_unchanged_head_asks_little_and_writes_nothing(
    large: Deployment, count: Callable[[], dict[str, int]]
) -> None:
    large.run()
    large.control.clear_requests()

    large.run()

    assert large.store.writes == []
    # The same without the second look at the head and without the file.
    assert count() == {"200": 27}


@pytest.mark.parametrize(
    "page",
    [
        {"status": 200, "body": "[]", "headers": {"X-Total": "133"}},
        {"status": 200, "body": "[]", "headers": {}},
        {"status": 404},
        {"status": 500},
    ],
    ids=["a row less", "no count", "gone", "500"],
)
def test_a_listing_that_changes_or_breaks_in_its_middle_takes_no_access(
    large: Deployment, page: dict[str, Any]
) -> None:
    large.run()
    large.control.fail_next(r"GET /api/v4/groups/\d+/projects\?.*page=2", times=ALWAYS, **page)
    before = large.snapshot

    fails(large)

    assert dataclasses.replace(large.snapshot, doubt_since=None) == before
    assert large.snapshot.doubt_since is not None
    large.control.clear_faults()
    large.run()
    assert large.snapshot == before


def test_a_tree_whose_listing_takes_longer_than_a_run_is_read_by_several(
    large: Deployment,
) -> None:
    large.begin_anew()
    # Two pages, of which a run has time for one.
    large.seconds = 3.5
    large.control.disturb_next(r"GET /api/v4/groups/\d+/projects", times=ALWAYS, delay=2)

    raised = [fails(large) for _ in range(4)]

    large.control.clear_faults()
    large.seconds = 30
    assert raised[0] is not None
    assert None in raised
    assert large.granted == ALL


def test_throttled_in_the_middle_it_goes_on_later_and_loses_nothing(large: Deployment) -> None:
    large.run()
    large.control.set_rate_limits(enabled=True, factor=0.0005)
    before = large.snapshot.projects

    raised = fails(large)

    assert isinstance(raised, Throttled)
    assert large.snapshot.projects == before
    large.control.set_rate_limits(enabled=False)
    large.run()
    assert large.snapshot.doubt_since is None


@pytest.fixture
def count(large: Deployment) -> Iterator[Callable[[], dict[str, int]]]:
    """How many requests the test made, by status."""
    large.control.clear_requests()

    def counted() -> dict[str, int]:
        statuses = [str(r["status"]) for r in large.control.requests("/api/v4/")]
        return {status: statuses.count(status) for status in sorted(set(statuses))}

    yield counted
    with contextlib.suppress(Unavailable):
        large.control.set_rate_limits(enabled=False)
