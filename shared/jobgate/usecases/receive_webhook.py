"""Receive a webhook: authentic or not, then what its event asks for.

Everything authentic is answered well, so that GitLab never disables the hook: GitLab doesn't send
again whatever is answered, and the schedule heals what was lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.webhook import proven_by
from jobgate.core.webhook_event import Ignored, event_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.webhook import HookSecrets
    from jobgate.core.webhook_event import HookEvent
    from jobgate.ports import Clock
    from jobgate.ports.hooks import HookSightings, HooksOf
    from jobgate.usecases.hook_events import HookEvents


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveWebhook:
    """The webhook's receiver and what it needs."""

    hooks_of: HooksOf
    sightings: HookSightings
    events: HookEvents
    clock: Clock

    def receive(
        self,
        issuer: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        project_id: int | None = None,
    ) -> str:
        """Take one delivery; returns what came of it, for the log.

        `issuer` is the alias in the path, header names are lower-case; `project_id` is whose
        webhook it says that it is. Raises InvalidToken where no known webhook sent it, Unavailable
        where that can't be told.
        """
        now = self.clock()
        hook = self._sender(issuer, project_id, headers, body, now)
        self.sightings.note(issuer, hook, at=now)
        # Deduplicated by GitLab's own key and never by content: A, B and A again are three pushes.
        # Where both are there they are the same, and only the second is signed.
        deduplication_id = headers.get("webhook-id") or headers.get("idempotency-key")
        try:
            return self.events.handle(
                issuer, _event(body, now), hook.scope, deduplication_id=deduplication_id
            )
        except Unavailable as exc:
            return f"lost: {exc}"

    def _sender(
        self,
        issuer: str,
        project_id: int | None,
        headers: Mapping[str, str],
        body: bytes,
        now: float,
    ) -> HookSecrets:
        """The webhook that sent it; fresh secrets count before the known ones have aged."""
        for fresh in (False, True):
            hooks = self.hooks_of(issuer, project_id, fresh=fresh)
            hook = proven_by(headers, body, hooks=hooks, now=now)
            if hook is not None:
                return hook
        raise InvalidToken("no known webhook sent this")


def _event(body: bytes, now: float) -> HookEvent:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return Ignored("a body that isn't JSON")
    if not isinstance(payload, dict):
        return Ignored("a body that isn't a JSON object")
    return event_of(payload, now=now)
