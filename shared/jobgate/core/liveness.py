"""Whether a job still runs, and whether an operator has stopped it.

What is heard of a job is a word of GitLab's, by a hook or as the answer to a question of ours (a
probe). Each word is believed for a while; when all are too old, the job is unknown and denied.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from jobgate.core.reasons import Reason

if TYPE_CHECKING:
    from jobgate.core.bounds import Bounds
    from jobgate.core.job import JobIdentity
    from jobgate.core.settings import Settings

# GitLab, Job events: the states from which a job never runs again under the same id.
# `skipped` and `manual` aren't among them, and `canceling` still runs `after_script`.
TERMINAL_STATUSES = frozenset({"success", "failed", "canceled"})
ALIVE_STATUSES = frozenset(
    {
        "created",
        "waiting_for_resource",
        "preparing",
        "waiting_for_callback",
        "pending",
        "running",
        "canceling",
        "skipped",
        "manual",
        "scheduled",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """One word about a job; times in epoch seconds, `seen_at` no later than it was true."""

    status: str
    source: Literal["hook", "probe"]
    seen_at: float
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        """The job has ended and never comes back under this id."""
        return self.status in TERMINAL_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLife:
    """All that is known of a job's life; times in epoch seconds, None where it never was.

    `hook_at` and `probe_at` are when the last hook came and when the last answered question was
    put; `asked_at` when the last question was put, answered or not; `asked_since` the first
    question since the last answer.
    """

    status: str | None = None
    finished_at: float | None = None
    hook_at: float | None = None
    probe_at: float | None = None
    asked_at: float | None = None
    asked_since: float | None = None

    @property
    def finished(self) -> bool:
        """The job has ended and never comes back under this id."""
        return self.status in TERMINAL_STATUSES

    def after(self, word: JobState) -> JobLife:
        """What is known after a word; an end stays the end whatever is heard later."""
        if self.finished:
            return self
        known = dataclasses.replace(self, status=word.status, finished_at=word.finished_at)
        if word.source == "hook":
            return dataclasses.replace(known, hook_at=word.seen_at)
        return dataclasses.replace(known, probe_at=word.seen_at, asked_since=None)

    def asked(self, now: float) -> JobLife:
        """What is known once a question is put."""
        since = now if self.asked_since is None else self.asked_since
        return dataclasses.replace(self, asked_at=now, asked_since=since)


NOTHING_HEARD = JobLife()


def probe_is_due(life: JobLife, *, settings: Settings, bounds: Bounds, now: float) -> bool:
    """Whether GitLab is to be asked about this job now.

    At most once every PROBE_FLOOR; where both ways are on, not before a hook that was seen has been
    silent for HOOK_SILENCE.
    """
    if settings.job_end == "hook" or life.finished:
        return False
    if _is_within(bounds.probe_floor, life.asked_at, bounds, now):
        return False
    if settings.job_end == "probe":
        return True
    return not _is_within(bounds.hook_silence, life.hook_at, bounds, now)


def is_being_asked(life: JobLife, *, bounds: Bounds, now: float) -> bool:
    """Whether another request may be waiting for GitLab's answer about this job."""
    if life.asked_at is None or (life.probe_at is not None and life.probe_at >= life.asked_at):
        return False
    return _is_within(bounds.lazy_budget, life.asked_at, bounds, now)


def is_observed(life: JobLife, *, settings: Settings, bounds: Bounds, now: float) -> bool:
    """Whether a word about this job is still believed, so that its end won't be missed."""
    until = _believed_until(life, settings, bounds, now)
    return until is not None and now < until


def end_refusal(life: JobLife, *, settings: Settings, bounds: Bounds, now: float) -> Reason | None:
    """Why a job may not go on by what is known of its life, or None.

    A job of which nothing was ever heard may go on for UNOBSERVED_LIFE after GitLab was first asked
    about it; its tokens live no longer. Where nobody asks, `unasked_until` bounds it.
    """
    if life.finished:
        return Reason.JOB_FINISHED
    if settings.job_end == "hook":
        return None
    until = _believed_until(life, settings, bounds, now)
    if until is not None:
        return None if now < until else Reason.JOB_UNKNOWN
    if life.asked_since is None:
        return None
    is_doubted = not _is_within(bounds.unobserved_life, life.asked_since, bounds, now)
    return Reason.JOB_UNKNOWN if is_doubted else None


def unasked_until(
    life: JobLife, *, issued_at: float, settings: Settings, bounds: Bounds, now: float
) -> float:
    """When access ends of a job of which nothing was heard and about which nobody asks.

    GitLab isn't asked about a job of an unknown root, so that the first question can't begin
    UNOBSERVED_LIFE: its ID token does, which was issued as the job began. Infinite for any other.
    """
    if settings.job_end == "hook" or life.asked_since is not None:
        return math.inf
    if _believed_until(life, settings, bounds, now) is not None:
        return math.inf
    return issued_at + bounds.unobserved_life


def _believed_until(life: JobLife, settings: Settings, bounds: Bounds, now: float) -> float | None:
    """When the last word about a job ceases to count; None where there is no word."""
    hook_counts, probe_counts = {
        "hook": (math.inf, None),
        "probe": (None, max(bounds.probe_grace, bounds.probe_floor)),
        "both": (
            bounds.hook_silence + bounds.probe_grace,
            # Nobody may ask before the floor, so an answer counts at least as long.
            max(bounds.probe_grace, bounds.probe_floor),
        ),
    }[settings.job_end]
    words = ((life.hook_at, hook_counts), (life.probe_at, probe_counts))
    ends = [
        at + counts
        for at, counts in words
        # A word from the future was heard under a clock that ran ahead: nobody knows when.
        if at is not None and counts is not None and at <= now + bounds.leeway
    ]
    return max(ends, default=None)


def _is_within(seconds: float, at: float | None, bounds: Bounds, now: float) -> bool:
    """Whether `at` is less than `seconds` ago; what is from the future isn't."""
    return at is not None and -bounds.leeway <= now - at < seconds


# --- Operators' stops ---


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


EVERYTHING = "*"
"""The value of a stop of a whole issuer, or of all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """An operator's stop of one thing; `value` is its id, EVERYTHING for an issuer and for all.

    `at` and `until` are epoch seconds, `until` of None is for ever.
    """

    kind: StopKind
    value: str
    until: float | None
    by: str
    why: str
    at: float | None = None


def stop_refusal(
    job: JobIdentity, *, agent_id: int | None, stops: tuple[Stop, ...] | None, now: float
) -> Reason | None:
    """STOPPED where an operator has stopped this job at this agent, or None.

    `stops` of None means that the item is missing: denied.
    """
    if stops is None or any(_covers(stop, job, agent_id) for stop in stops if _active(stop, now)):
        return Reason.STOPPED
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
