"""GitLab's webhooks: whether one is authentic, and what it means for us.

Sources: GitLab, "Webhooks" and "Webhook events"; Standard Webhooks specification for the signature.
The payload is only a hint: content is always read again through the API. What a payload may change
by itself is only to take away, a job's end.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.liveness import TERMINAL_STATUSES, JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.core.hook import HookScope

_REPLAY_WINDOW_SECONDS = 300
_SIGNATURES_MAX = 10
_KEY_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSecrets:
    """What one webhook proves itself with; a signing token, where set, must have signed.

    `entry_id` names these secrets, and is none; `scope` is None where they were stored without one.
    """

    secret_token: str | None
    signing_token: str | None
    entry_id: str | None = None
    scope: HookScope | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push to a project's default branch."""

    project_id: int


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A job runs, or has ended."""

    job_id: int
    state: JobState


@dataclass(frozen=True, slots=True)
class Ignored:
    """An authentic event that changes nothing here."""

    why: str


def proven_by(
    headers: Mapping[str, str], body: bytes, *, hooks: Iterable[HookSecrets], now: float
) -> HookSecrets | None:
    """Which of the known webhooks sent this, or None. Header names are lower-case.

    Compares in constant time, and looks at every hook whatever the first ones gave.
    """
    outcomes = [(hook, _proves(hook, headers, body, now)) for hook in hooks]
    return next((hook for hook, proves in outcomes if proves), None)


def event_of(payload: Mapping[str, Any], *, now: float) -> Pushed | JobSeen | Ignored:
    """What an authentic event asks for."""
    match payload:
        case {
            "object_kind": "push",
            "ref": str(ref),
            "project_id": int(project_id),
            "project": {"default_branch": str(branch)},
        } if not isinstance(project_id, bool):
            if ref != f"refs/heads/{branch}":
                return Ignored("a push to another branch")
            return Pushed(project_id)
        case {"object_kind": "build", "build_id": int(job_id), "build_status": str(status)} if (
            not isinstance(job_id, bool)
        ):
            return _job(job_id, status, now)
        case _:
            return Ignored("an event of another kind")


def _job(job_id: int, status: str, now: float) -> JobSeen | Ignored:
    if status in TERMINAL_STATUSES:
        state = JobState(status=status, source="hook", seen_at=now, finished_at=now)
        return JobSeen(job_id, state)
    if status == "running":
        return JobSeen(job_id, JobState(status=status, source="hook", seen_at=now))
    return Ignored(f"a job that is {status[:20]}")


def _proves(hook: HookSecrets, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    if hook.signing_token is not None:
        return _is_signed(hook.signing_token, headers, body, now)
    if not hook.secret_token:
        return False
    given = headers.get("x-gitlab-token", "")
    return _same(given, hook.secret_token)


def _is_signed(signing_token: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    identifier = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    try:
        key = base64.b64decode(signing_token.removeprefix(_KEY_PREFIX), validate=True)
        age = abs(now - int(timestamp))
    except (binascii.Error, ValueError, OverflowError):
        return False
    if not key or age > _REPLAY_WINDOW_SECONDS:
        return False
    message = b".".join((_bytes(identifier), _bytes(timestamp), body))
    expected = base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split(" ")[:_SIGNATURES_MAX]
    outcomes = [_same(one, f"v1,{expected}") for one in given]
    return any(outcomes)


def _same(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(_bytes(given), _bytes(expected))


def _bytes(text: str) -> bytes:
    """A header's bytes, whatever was in it: half a character is no reason to fail."""
    return text.encode("utf-8", "surrogatepass")
