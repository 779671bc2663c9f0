"""Whether a job still runs, found out from GitLab where no hook tells.

Many requests of a job come at once, in many processes: the table decides who asks, and the answer
goes back through it to all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core import record
from jobgate.core.errors import Unavailable
from jobgate.core.liveness import (
    ALIVE_STATUSES,
    TERMINAL_STATUSES,
    JobState,
    is_being_asked,
    is_observed,
    probe_is_due,
)
from jobgate.core.reasons import Reason
from jobgate.ports.lookups import JobStates
from jobgate.usecases.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.bounds import Bounds
    from jobgate.core.job import JobIdentity, JobKey
    from jobgate.core.liveness import JobLife
    from jobgate.core.settings import Settings
    from jobgate.ports import Clock, Recorder

_POLL_SECONDS = 0.2


class JobWatch:
    """Asks about jobs, each at most once every PROBE_FLOOR whoever needs to know."""

    def __init__(
        self,
        jobs: JobStates,
        *,
        settings: Settings,
        bounds: Bounds,
        clock: Clock,
        wait: Callable[[float], None],
    ) -> None:
        self._jobs = jobs
        self._settings = settings
        self._bounds = bounds
        self._clock = clock
        self._wait = wait
        self._ends = Memory[JobState]()

    def is_due(self, life: JobLife) -> bool:
        """Whether to ask about this job; see `probe_is_due`."""
        return probe_is_due(life, settings=self._settings, bounds=self._bounds, now=self._clock())

    def asked(self, job: JobIdentity, life: JobLife, ask: Callable[[], str | None]) -> JobLife:
        """What is known after GitLab was asked by this request, or else by another one.

        `ask` gives the job's status, None for no such job, and raises Unavailable.
        """
        now = self._clock()
        try:
            if not self._jobs.ask(job.key, now=now):
                return self.answered(job, self._jobs.get(job.key))
        except Unavailable:
            # Nobody may ask, so nobody will: what was heard before must be good enough.
            if self._is_observed(life):
                return life
            raise
        life = life.asked(now)
        word = _word(ask, now)
        return life if word is None else self._heard(job, life, word)

    def answered(self, job: JobIdentity, life: JobLife) -> JobLife:
        """What is known of a job once the answer that another request waits for has come.

        Waits only where nothing else lets the job go on, and not beyond LAZY_BUDGET.
        """
        end = self._ends.get(job.key)
        if end is not None and not life.finished:
            # The end was heard here, and couldn't be written.
            return self._heard(job, life, end)
        for _ in range(math.ceil(self._bounds.lazy_budget / _POLL_SECONDS)):
            needed = not (life.finished or self._is_observed(life))
            if not (needed and is_being_asked(life, bounds=self._bounds, now=self._clock())):
                break
            self._wait(_POLL_SECONDS)
            life = self._jobs.get(job.key)
        return life

    def _heard(self, job: JobIdentity, life: JobLife, word: JobState) -> JobLife:
        """Share what GitLab said; a word that can't be shared still counts here."""
        if word.finished:
            self._ends.keep(job.key, word)
        try:
            if not self._jobs.put(job.key, word):
                return self._jobs.get(job.key)
        except Unavailable:
            pass
        return life.after(word)

    def _is_observed(self, life: JobLife) -> bool:
        return is_observed(life, settings=self._settings, bounds=self._bounds, now=self._clock())


def _word(ask: Callable[[], str | None], now: float) -> JobState | None:
    """GitLab's answer, as old as the question; None where it says nothing.

    A job that isn't shown is no end: it may be deleted, or just not for our token. So it counts as
    no answer, and the last one runs out.
    """
    try:
        status = ask()
    except Unavailable:
        return None
    if status in TERMINAL_STATUSES:
        return JobState(status=status, source="probe", seen_at=now, finished_at=now)
    if status in ALIVE_STATUSES:
        return JobState(status=status, source="probe", seen_at=now)
    return None


@dataclass(frozen=True, slots=True)
class RecordedEnds(JobStates):
    """Job states, each first end of which is recorded as a revocation."""

    jobs: JobStates
    recorder: Recorder
    new_id: Callable[[], str]

    def put(self, job: JobKey, word: JobState) -> bool:
        """See `JobStates.put`."""
        written = self.jobs.put(job, word)
        if written and word.finished:
            self.recorder(
                record.record(
                    "revocation",
                    at=word.seen_at,
                    outcome="refused",
                    decision_id=self.new_id(),
                    issuer=job.issuer,
                    project_id=job.project_id,
                    job_id=job.job_id,
                    reason=Reason.JOB_FINISHED,
                    status=word.status,
                    source=word.source,
                )
            )
        return written

    def get(self, job: JobKey) -> JobLife:
        """See `JobStates.get`."""
        return self.jobs.get(job)

    def ask(self, job: JobKey, *, now: float) -> bool:
        """See `JobStates.ask`."""
        return self.jobs.ask(job, now=now)
