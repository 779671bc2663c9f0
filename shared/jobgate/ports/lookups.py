"""Where projects are and how jobs live: what is stored of both, and what GitLab is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import JobIdentity, JobKey
    from jobgate.core.liveness import JobLife, JobState
    from jobgate.core.namespace import NamespaceChain, ProjectPlace, Surroundings


class PlaceStore(Protocol):
    """Keeps what GitLab said of where things are."""

    def places(self, issuer: str, project_ids: Sequence[int]) -> Mapping[int, ProjectPlace]:
        """By project id; one that isn't stored, or can't be read, is left out."""
        ...

    def save_place(self, issuer: str, project_id: int, place: ProjectPlace) -> None: ...

    def save_chain(self, issuer: str, chain: NamespaceChain) -> None: ...


class PlaceMarks(Protocol):
    """What a webhook sees of where things are, and how it takes that away."""

    def is_config_project(self, issuer: str, project_id: int) -> bool: ...

    def place(self, issuer: str, project_id: int) -> ProjectPlace | None: ...

    def chain(self, issuer: str, namespace_id: int) -> NamespaceChain | None: ...

    def mark_place(self, issuer: str, project_id: int, *, at: float) -> None:
        """Let nothing that was fetched until `at` count; makes no item."""
        ...

    def mark_chain(self, issuer: str, namespace_id: int, *, at: float) -> None:
        """The same of a namespace's chain."""
        ...


class JobLookup(Protocol):
    """What one request finds out about its job, in the table and lazily from GitLab.

    LAZY_BUDGET bounds all that it asks of GitLab. What can't be found out in time stays as it was
    stored, or unknown; only the table can make these raise.
    """

    def project_runs_job(self) -> bool:
        """Whether GitLab confirms that the job's project is the one that runs it."""
        ...

    def surroundings(
        self, place: ProjectPlace | None, chain: NamespaceChain | None
    ) -> Surroundings:
        """Where the job's project is now, without configuration projects."""
        ...

    def config_places(self, agents: Iterable[AgentSnapshot]) -> Mapping[int, ProjectPlace]:
        """Where these agents' configuration projects are now, by id; an unknown one is left out."""
        ...

    def environment_slug(self) -> str | None:
        """The slug of the job's environment, None where it isn't needed or can't be had."""
        ...

    def life(self, stored: JobLife) -> JobLife:
        """What is known of the job's life once GitLab was asked, where that is due."""
        ...


class Lookups(Protocol):
    """Begins a request's lookups."""

    def of(self, job: JobIdentity) -> JobLookup: ...


class JobStates(Protocol):
    """What is stored of jobs' lives, for JOB_KEPT."""

    def put(self, job: JobKey, word: JobState) -> bool:
        """Write what was heard unless the stored state is terminal; false where it was."""
        ...

    def get(self, job: JobKey) -> JobLife:
        """All that is known; read consistently."""
        ...

    def ask(self, job: JobKey, *, now: float) -> bool:
        """Note that GitLab is asked now; false where somebody asked within PROBE_FLOOR.

        False also for a job that has ended.
        """
        ...
