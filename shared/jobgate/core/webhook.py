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

from jobgate.core.hook import HookScope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


def secrets_of_project(shared: HookSecrets, project_id: int) -> HookSecrets:
    """The secrets of one project's webhook, made from those that all authorised projects share.

    By HMAC-SHA256 (RFC 2104) of its id: who learns a project's, as its maintainers can by pointing
    its webhook elsewhere, learns no other's, and they prove nothing about another project.
    """

    def derived(key: str, use: str) -> bytes:
        return hmac.digest(key.encode(), f"{use} of project {project_id}".encode(), hashlib.sha256)

    secret, signing = shared.secret_token, shared.signing_token
    return HookSecrets(
        secret_token=None if secret is None else derived(secret, "secret token").hex(),
        signing_token=None if signing is None else signing_token(derived(signing, "signing token")),
        entry_id=shared.entry_id,
        scope=HookScope("project", project_id),
    )


def signing_token(key: bytes) -> str:
    """A signing token in the form of Standard Webhooks, as GitLab takes it."""
    return _KEY_PREFIX + base64.b64encode(key).decode()


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
