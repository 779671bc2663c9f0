"""A configuration project with an agent, in a small GitLab, and its refresh on the fakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject
from jobgate.ports.refresh import Subject
from jobgate.usecases.refresh import Refresh

from tests.support import builders as b
from tests.support.fakes import FakeClock, FakeCommitStatuses
from tests.support.refresh_fakes import FakeGitLab, FakeRefreshStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.agent import AgentSnapshot

FILE = ".gitlab/agents/prod/config.yaml"
APP_ENTRY = b"ci_access: {projects: [{id: top/sub1/app}]}"
BROKEN = b"ci_access: ["
APP, OTHER, CONFIG, GROUP = (
    Subject("project", b.APP),
    Subject("project", 101),
    Subject("project", b.CONFIG_PROJECT),
    Subject("group", b.TOP),
)


def a_project(project_id: int, path: str, namespace_id: int = b.SUB1) -> GitLabProject:
    return GitLabProject(
        project_id=project_id,
        path=path,
        default_branch="main",
        namespace_id=namespace_id,
        namespace_path=path.rpartition("/")[0],
        namespace_kind="group",
    )


class Setting:
    """A configuration project with the agent `prod`, registered; nothing is pushed yet."""

    def __init__(self) -> None:
        self.gitlab = FakeGitLab(
            groups=[
                GitLabGroup(group_id=b.TOP, path="top", parent_id=None),
                GitLabGroup(group_id=b.SUB1, path="top/sub1", parent_id=b.TOP),
                GitLabGroup(group_id=b.OTHER_ROOT, path="ext", parent_id=None),
            ],
            projects=[
                a_project(b.CONFIG_PROJECT, "top/sub1/agents"),
                a_project(b.APP, "top/sub1/app"),
                a_project(101, "top/sub1/other"),
            ],
        )
        self.store = FakeRefreshStore()
        self.store.config_projects["main", b.CONFIG_PROJECT] = b.a_config_project_item()
        self.store.clusters["main", b.PROD] = b.a_cluster()
        self.records: list[str] = []
        self.clock = FakeClock()
        self.settings = Settings()
        self.statuses = FakeCommitStatuses()
        self.pick: Callable[[int], int] = lambda _count: 0

    @property
    def refresh(self) -> Refresh:
        return Refresh(
            gitlab_of=lambda _alias: self.gitlab,
            store=self.store,
            recorder=self.records.append,
            settings=self.settings,
            clock=self.clock,
            pick=self.pick,
            statuses=self.statuses,
        )

    def push(self, content: bytes | None, **more: bytes) -> None:
        """Push config.yaml (None: delete it) and refresh."""
        files = {} if content is None else {FILE: content}
        self.gitlab.push(b.CONFIG_PROJECT, files | more)
        self.run()

    def run(self) -> None:
        self.store.writes.clear()
        self.refresh.run("main", b.CONFIG_PROJECT)

    @property
    def snapshot(self) -> AgentSnapshot:
        return self.store.snapshots["main", b.PROD]

    @property
    def indexed(self) -> set[Subject]:
        return {subject for (_, subject), agents in self.store.index.items() if agents}

    @property
    def note(self) -> str | None:
        return self.store.config_projects["main", b.CONFIG_PROJECT].last_error


def pushed(content: bytes | None = APP_ENTRY) -> Setting:
    setting = Setting()
    setting.push(content)
    return setting
