"""Receive a webhook: authentic or not, a push to a queue, a job's state into the table.

Everything authentic is answered well, so that GitLab never disables the hook; what can't be done at
once goes to the queue.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from jobgate.core.errors import InvalidRequest, InvalidToken, Unavailable
from jobgate.core.webhook import Ignored, JobSeen, Pushed, event_of, proven_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.webhook import HookSecrets
    from jobgate.ports import Clock, HookSightings, HooksOf, JobStates, RefreshQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveWebhook:
    """The webhook's receiver and what it needs."""

    hooks_of: HooksOf
    sightings: HookSightings
    queue: RefreshQueue
    jobs: JobStates
    clock: Clock

    def receive(self, issuer: str, headers: Mapping[str, str], body: bytes) -> str:
        """Take one delivery; returns what came of it, for the log.

        `issuer` is the alias in the path, header names are lower-case. Raises InvalidToken where no
        known webhook sent it, InvalidRequest for a body that isn't a JSON object.
        """
        now = self.clock()
        hook = self._sender(issuer, headers, body, now)
        self.sightings.note(issuer, hook, at=now)
        # Deduplicated by GitLab's own key and never by content: A, B and A again are three pushes.
        deduplication_id = headers.get("idempotency-key") or headers.get("webhook-id")
        match event_of(_payload(body), now=now):
            case Pushed(project_id):
                self.queue.send(issuer, project_id, deduplication_id=deduplication_id)
                return f"project {project_id} is to be refreshed"
            case JobSeen(job_id, state):
                try:
                    written = self.jobs.put(issuer, job_id, state)
                except Unavailable:
                    self.queue.send_job_end(
                        issuer, job_id, state, deduplication_id=deduplication_id
                    )
                    return f"job {job_id} is {state.status}: queued"
                return f"job {job_id} is {state.status}" + ("" if written else ": had ended before")
            case Ignored(why):
                return f"ignored: {why}"
            case unreachable:
                assert_never(unreachable)

    def _sender(
        self, issuer: str, headers: Mapping[str, str], body: bytes, now: float
    ) -> HookSecrets:
        """The webhook that sent it; fresh secrets count before the known ones have aged."""
        for fresh in (False, True):
            hooks = self.hooks_of(issuer, fresh=fresh)
            hook = proven_by(headers, body, hooks=hooks, now=now)
            if hook is not None:
                return hook
        raise InvalidToken("no known webhook sent this")


def _payload(body: bytes) -> Mapping[str, object]:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("The body isn't JSON.") from exc
    if not isinstance(payload, dict):
        raise InvalidRequest("The body isn't a JSON object.")
    return payload
