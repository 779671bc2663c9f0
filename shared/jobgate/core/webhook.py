"""GitLab's webhooks: whether one is authentic.

Sources: GitLab, "Webhooks"; the Standard Webhooks specification for the signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.core.hook import HookScope

_REPLAY_WINDOW_SECONDS = 300
_SIGNATURES_MAX = 10
_KEY_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSecrets:
    """What one webhook proves itself with: by the secret token, by the signing token, or by both.

    `entry_id` names these secrets, and is none; `scope` is None where they were stored without one.
    """

    secret_token: str | None
    signing_token: str | None
    entry_id: str | None = None
    scope: HookScope | None = None


def proven_by(
    headers: Mapping[str, str], body: bytes, *, hooks: Iterable[HookSecrets], now: float
) -> HookSecrets | None:
    """Which of the known webhooks sent this, or None. Header names are lower-case.

    Compares in constant time, and looks at every hook whatever the first ones gave. A body is
    hashed for those alone whose secret token, where they have one, came with it: a stranger may
    send megabytes, and there may be hundreds of hooks.
    """
    outcomes = [(hook, _proves(hook, headers, body, now)) for hook in hooks]
    return next((hook for hook, proves in outcomes if proves), None)


def _proves(hook: HookSecrets, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    if hook.secret_token and not _same(headers.get("x-gitlab-token", ""), hook.secret_token):
        return False
    if hook.signing_token is not None:
        return _is_signed(hook.signing_token, headers, body, now)
    return bool(hook.secret_token)


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
