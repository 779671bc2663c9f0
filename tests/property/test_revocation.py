"""Access ends: jobs, hooks, questions, stops, keys and clocks in any order.

What is claimed is computed from what GitLab told and when, by the bounds in docs/operations.md, and
never from what Jobgate stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from jobgate.core.liveness import EVERYTHING, Stop, StopKind
from jobgate.core.reasons import Reason
from jobgate.core.stops import with_stop, without_stop

from tests.support import builders as b
from tests.support.revocation_world import BOUNDS, World

if TYPE_CHECKING:
    from jobgate.core.settings import JobEnd

    from tests.support.revocation_world import Truth

ENDS = st.sampled_from(["success", "failed", "canceled"])
# Half of the tolerated difference at most, so that any two are within it.
SKEWS = (0.0, BOUNDS.leeway / 2, -BOUNDS.leeway / 2)
# A clock ahead hears early, a clock behind believes long, and the relay believes for a while.
SLACK = BOUNDS.leeway + BOUNDS.relay_cache + BOUNDS.lazy_budget
STEPS = st.sampled_from([2, 29, 61, 320, 900, 1300])
JOBS = 3
PROCESSES = st.integers(0, len(SKEWS) - 1)
TARGETS = st.sampled_from(
    [
        (StopKind.JOB, "9000"),
        (StopKind.PROJECT, str(b.APP)),
        (StopKind.USER, "99"),
        (StopKind.AGENT, str(b.PROD)),
        (StopKind.ALL, EVERYTHING),
    ]
)


class Revocation(RuleBasedStateMachine):
    """One run of one world."""

    job_end: JobEnd = "both"
    jobs = Bundle("jobs")

    @initialize(target=jobs)
    def begin(self) -> int:
        self.world = World(job_end=self.job_end, skews=SKEWS)
        self.lives: dict[str, tuple[int, float]] = {}
        self.finished: dict[int, float] = {}
        self.refused_by: set[tuple[int, str]] = set()
        self.stopped_since: dict[tuple[StopKind, str], float] = {}
        self.restored_at = 0.0
        self.turn = 0
        return self.world.start_job()

    # --- What happens outside ---

    @rule(target=jobs, job=jobs)
    def start_job(self, job: int) -> int:
        return self.world.start_job() if len(self.world.truths) < JOBS else job

    @rule(job=jobs, status=ENDS)
    def finish_with_a_hook(self, job: int, status: str) -> None:
        self.world.finish(job, status)
        self.world.hook(job, self.world.truths[job].status)

    @rule(job=jobs, status=ENDS)
    def finish_without_a_hook(self, job: int, status: str) -> None:
        self.world.finish(job, status)

    @rule(job=jobs, skew=st.sampled_from(SKEWS))
    def hook_of_the_start(self, job: int, skew: float) -> None:
        """In time, late, or a second time: even after the end."""
        self.world.hook(job, "running", skew=skew)

    @rule(job=jobs)
    def hook_of_the_end_once_more(self, job: int) -> None:
        truth = self.world.truths[job]
        if truth.ended_at is not None:
            self.world.hook(job, truth.status)

    @rule(is_away=st.booleans(), shows_nothing=st.booleans())
    def gitlab_changes(self, *, is_away: bool, shows_nothing: bool) -> None:
        self.world.gitlab.is_away = is_away
        self.world.gitlab.shows_nothing = shows_nothing

    @rule(seconds=st.lists(STEPS, min_size=1, max_size=6))
    def gitlab_is_away_for_a_while(self, seconds: list[float]) -> None:
        self.world.gitlab.is_away = True
        for step in seconds:
            self.world.clock.advance(step)
            self.some_function_is_asked_to_carry_every_token()
        self.world.gitlab.is_away = False

    @rule(job=jobs, process=PROCESSES, seconds=STEPS)
    def the_end_is_not_told_to_a_busy_job(self, job: int, process: int, seconds: float) -> None:
        self.exchange(job, process)
        self.world.clock.advance(seconds)
        self.some_function_is_asked_to_carry_every_token()
        self.world.finish(job, "failed")

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(job=jobs)
    def somebody_asks_and_dies(self, job: int) -> None:
        now = self.world.clock.now
        if self.world.jobs.ask(b.a_job(job_id=job).key, now=now):
            self.world.truths[job].questions.append(now)

    # --- What operators do ---

    @rule(what=TARGETS, seconds=STEPS | st.none())
    def revoke(self, what: tuple[StopKind, str], seconds: float | None) -> None:
        now = self.world.clock.now
        until = None if seconds is None else now + seconds
        stop = Stop(kind=what[0], value=what[1], until=until, by="olga", why="w", at=now)
        stops = with_stop(self.world.stops, stop, now=now)
        assert stops is not None
        if not any(
            (s.kind, s.value) == what and (s.until is None or s.until > now + SLACK)
            for s in self.world.stops
        ):
            self.stopped_since[what] = now
        self.world.stops = stops

    @rule(what=TARGETS)
    def restore(self, what: tuple[StopKind, str]) -> None:
        self.world.stops = without_stop(self.world.stops, *what)
        self.stopped_since.pop(what, None)
        self.restored_at = self.world.clock.now

    @rule()
    def rotate_keys(self) -> None:
        self.world.rotate()

    # --- What jobs do ---

    @rule(job=jobs, process=PROCESSES)
    def exchange(self, job: int, process: int) -> None:
        before = self.world.clock.now
        outcome = self.world.processes[process].redeem(job)
        reason = outcome if isinstance(outcome, Reason) else None
        self._judge(job, f"exchange {process}", reason, before)
        if isinstance(outcome, Reason):
            return
        life = BOUNDS.token_max if self._was_told(job) else BOUNDS.unobserved_life
        self.lives[outcome] = job, self.world.clock.now + life

    @invariant()
    def some_function_is_asked_to_carry_every_token(self) -> None:
        """After each step another one, so that each remembers what the others don't."""
        self.turn += 1
        process = self.turn % len(SKEWS)
        for token in list(self.lives):
            self._use(token, process)

    def _use(self, token: str, process: int) -> None:
        job, ends_at = self.lives[token]
        before = self.world.clock.now
        reason = self.world.processes[process].use(token)
        if before >= ends_at + 2 * BOUNDS.leeway:
            # Its key may be retired by now, too.
            assert reason in (Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID)
            del self.lives[token]
            return
        assert reason is not Reason.TOKEN_INVALID, "a rotation refused a token"
        if reason is Reason.TOKEN_EXPIRED:
            del self.lives[token]
        else:
            self._judge(job, f"relay {process}", reason, before)

    # --- What must hold ---

    def _judge(self, job: int, by: str, reason: Reason | None, before: float) -> None:
        """`reason` of None: the job had access, at a moment between `before` and now."""
        truth = self.world.truths[job]
        if reason is Reason.JOB_FINISHED:
            assert truth.ended_at is not None, "a job that runs was taken for ended"
            self.finished.setdefault(job, self.world.clock.now)
            self.refused_by.add((job, by))
        if reason is None:
            assert (job, by) not in self.refused_by, "a finished job came back"
            assert before <= self.finished.get(job, before) + SLACK, "a finished job came back"
            self._must_not_be_over(truth, before)
            self._must_not_be_stopped(job, before)
        elif reason is Reason.STOPPED:
            assert self._maybe_stopped(before), "nothing is stopped"
        if self._ought_to_work(truth, before) and not self._maybe_stopped(before):
            assert reason is None, f"a running job was refused: {reason}"

    def _must_not_be_over(self, truth: Truth, now: float) -> None:
        if truth.end_told_at is not None:
            assert now <= truth.end_told_at + SLACK, "access after its end was told"
        if truth.ended_at is None or self.job_end == "hook":
            return
        limits = [at + BOUNDS.probe_grace for at in truth.answers]
        if self.job_end == "both":
            limits += [at + BOUNDS.hook_silence + BOUNDS.probe_grace for at in truth.hooks]
        if not limits:
            limits = [at + BOUNDS.unobserved_life for at in truth.questions[:1]]
        assert now <= max(limits) + SLACK, "access though nothing was heard for long"
        if not (self.world.gitlab.is_away or self.world.gitlab.shows_nothing):
            # GitLab would have told: so it was too early to ask.
            silent_until = [at + BOUNDS.probe_floor for at in truth.questions]
            if self.job_end == "both":
                silent_until += [at + BOUNDS.hook_silence for at in truth.hooks]
            assert now <= max(silent_until) + SLACK, "nobody asked"

    def _must_not_be_stopped(self, job: int, now: float) -> None:
        for (kind, value), since in self.stopped_since.items():
            found = [s for s in self.world.stops if (s.kind, s.value) == (kind, value)]
            stop = found[0] if found else None
            ended = stop is None or (stop.until is not None and now >= stop.until - SLACK)
            if kind is StopKind.USER or (kind is StopKind.JOB and value != str(job)) or ended:
                continue
            assert now <= since + SLACK, "access though an operator had stopped it"

    def _ought_to_work(self, truth: Truth, now: float) -> bool:
        """A job that runs, of which GitLab told lately."""
        if truth.ended_at is not None or now > truth.began_at + 3 * 3600:
            return False
        told = [at for at in truth.answers if now - at < BOUNDS.probe_grace - SLACK]
        if self.job_end != "probe":
            told += [at for at in truth.hooks if now - at < BOUNDS.hook_silence - SLACK]
        return bool(told)

    def _maybe_stopped(self, now: float) -> bool:
        return bool(self.world.stops) or now <= self.restored_at + SLACK

    def _was_told(self, job: int) -> bool:
        truth = self.world.truths[job]
        return bool(truth.answers or (truth.hooks and self.job_end != "probe"))


@pytest.mark.parametrize("job_end", ["hook", "probe", "both"])
def test_access_ends_whatever_happens_in_whatever_order(job_end: JobEnd) -> None:
    machine = type(f"Revocation_{job_end}", (Revocation,), {"job_end": job_end})

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine, settings=settings(max_examples=150, stateful_step_count=40)
    )
