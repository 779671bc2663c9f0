"""What a refresh needs: configuration projects, agents' snapshots, the index, the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from jobgate.core.agent import AgentSnapshot, ClusterConnection, ConfigProject
    from jobgate.core.commit_status import CommitStatus
    from jobgate.core.hook import HookScope
    from jobgate.core.webhook_event import JobSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProjectItem:
    """A configuration project as stored: its agents (id to name) and its last refresh.

    `last_note` is a sentence for people about what has no effect, and no error. `reading` counts
    the readings of a new head that have begun: the newest alone may publish. `finished` is the last
    one that came to its end. `done` are the agents that a round of several tries, which isn't at
    its end yet, has been through.
    """

    issuer: str
    project_id: int
    agents: Mapping[int, str]
    root_path: str | None = None
    last_commit: str | None = None
    last_error: str | None = None
    last_note: str | None = None
    last_at: float | None = None
    reading: int = 0
    finished: int = 0
    done: frozenset[int] = frozenset()


class RefreshStore(Protocol):
    """Reads and writes of a refresh."""

    def config_project(self, issuer: str, project_id: int) -> ConfigProjectItem | None: ...

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None: ...

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None: ...

    def begin_reading(self, issuer: str, project_id: int, *, after: int) -> int:
        """Begin the reading after reading `after`; raises Conflict where another one has begun.

        From then on no older reading publishes: what it read may be older than what is there now.
        """
        ...

    def add_to_index(self, named: IndexChange) -> None:
        """Stamp each agent with its snapshot's version in the subject's item, unless newer.

        The subjects are put into the agent's list before.
        """
        ...

    def indexed(
        self, issuer: str, subjects: Collection[Subject]
    ) -> Mapping[Subject, Mapping[int, int]]:
        """The agents that the index leads to from each of these, with their stamps."""
        ...

    def listed(self, issuer: str, agent_ids: Iterable[int]) -> Mapping[int, frozenset[Subject]]:
        """By agent: every subject that may lead to it, those that it was taken out of included."""
        ...

    def unlist(
        self, snapshot: AgentSnapshot, subjects: Collection[Subject], *, reading: int | None = None
    ) -> None:
        """Take subjects out of an agent's list, unless a newer snapshot has added any.

        Raises Conflict where `reading`, if it's given, isn't the newest any more.
        """
        ...

    def publish(self, snapshot: AgentSnapshot, *, replaces: int | None, reading: int = 0) -> None:
        """Replace the snapshot of version `replaces` (None: the first).

        Raises Conflict where another version is there, `reading` isn't the newest any more, or the
        agent was removed since it began.
        """
        ...

    def remove_from_index(self, gone: IndexChange, *, reading: int | None = None) -> None:
        """Take each agent out where its stamp is no newer than its snapshot's version.

        Raises Conflict where `reading`, if it's given, isn't the newest any more: then some may be
        out and others not.
        """
        ...

    def note_doubt(self, snapshot: AgentSnapshot, *, since: float | None) -> None:
        """Write since when this very version isn't confirmed by GitLab; None: it is again."""
        ...

    def note_refresh(  # noqa: PLR0913  one argument for each attribute that it writes
        self,
        issuer: str,
        project_id: int,
        *,
        root_path: str | None,
        commit: str | None,
        error: str | None,
        at: float,
        note: str | None = None,
        reading: int = 0,
        finished: int = 0,
        done: Collection[int] = (),
    ) -> None:
        """Write what the refresh of a configuration project came to, unless a newer one reads."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """Who an entry is about: `kind` is project, group or instance; the instance's id is 0."""

    kind: str
    id: int


IndexChange = Mapping[Subject, Sequence["AgentSnapshot"]]
"""For each subject the agents to add or to take out, each by its snapshot's version."""


class CommitStatuses(Protocol):
    """Tells who has pushed, beside the commit, what their configuration came to."""

    def post(self, issuer: str, project: ConfigProject, commit: str, status: CommitStatus) -> None:
        """Never raises: a status decides nothing."""
        ...


class RefreshQueue(Protocol):
    """The queue of configuration projects to refresh, in order for each project."""

    def send(self, issuer: str, project_id: int, *, deduplication_id: str | None) -> None: ...

    def send_job(
        self,
        issuer: str,
        event: JobSeen,
        scope: HookScope | None,
        *,
        deduplication_id: str | None,
    ) -> None:
        """Hand over what a webhook said of a job, where it couldn't be judged or written."""
        ...


class ConfigProjects(Protocol):
    """The configuration projects of all issuers."""

    def all(self) -> Iterable[tuple[str, int]]:
        """Issuer alias and project id of each."""
        ...
