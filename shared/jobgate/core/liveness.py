"""Whether a job still runs, and whether an operator has stopped it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from jobgate.core.job import JobIdentity

# GitLab, Job events: the states from which a job never runs again under the same id.
# `skipped` and `manual` aren't among them, and `canceling` still runs `after_script`.
TERMINAL_STATUSES = frozenset({"success", "failed", "canceled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """The last that was heard of a job; times in epoch seconds."""

    status: str
    source: Literal["hook", "probe"]
    seen_at: float
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        """The job has ended and never comes back under this id."""
        return self.status in TERMINAL_STATUSES


class StopKind(StrEnum):
    """What an operator's stop is about."""

    JOB = "job"
    PIPELINE = "pipeline"
    PROJECT = "project"
    USER = "user"
    RUNNER = "runner"
    AGENT = "agent"
    ISSUER = "issuer"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """An operator's stop of one thing; `value` is its id ('*' for issuer and all)."""

    kind: StopKind
    value: str
    until: float | None
    by: str
    why: str


def life_refusal(
    job: JobIdentity,
    *,
    agent_id: int | None,
    state: JobState | None,
    stops: tuple[Stop, ...] | None,
    now: float,
) -> Reason | None:
    """Why this job may not go on, or None. `stops` of None means that the item is missing: denied.

    A job of which nothing was heard may go on: its token's life is short for that very reason.
    """
    if stops is None or any(_covers(stop, job, agent_id) for stop in stops if _active(stop, now)):
        return Reason.STOPPED
    if state is not None and state.finished:
        return Reason.JOB_FINISHED
    return None


def _active(stop: Stop, now: float) -> bool:
    return stop.until is None or now < stop.until


def _covers(stop: Stop, job: JobIdentity, agent_id: int | None) -> bool:
    of_job = {
        StopKind.JOB: job.job_id,
        StopKind.PIPELINE: job.pipeline_id,
        StopKind.PROJECT: job.project_id,
        StopKind.USER: job.user_id,
        StopKind.RUNNER: job.runner_id,
        StopKind.AGENT: agent_id,
    }
    if stop.kind in (StopKind.ISSUER, StopKind.ALL):
        return True
    value = of_job[stop.kind]
    return value is not None and stop.value == str(value)
