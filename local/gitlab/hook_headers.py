"""The headers of a webhook request, with the Standard Webhooks signature.

https://docs.gitlab.com/user/project/integrations/webhooks/#delivery-headers
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.gitlab.records import Hook

#: Names whose values the delivery log doesn't keep.
SECRET_HEADERS = frozenset({"X-Gitlab-Token", "webhook-signature"})
_KEY_PREFIX = "whsec_"


def hook_headers(  # noqa: PLR0913  a request has this many headers
    hook: Hook, body: bytes, *, event: str, idempotency_key: str, url: str, version: str, now: int
) -> dict[str, str]:
    """Headers of one request; only ids of the request itself are made up here."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"GitLab/{version}",
        "Idempotency-Key": idempotency_key,
        "X-Gitlab-Event": "System Hook" if hook.kind == "system" else event,
        "X-Gitlab-Webhook-UUID": str(uuid.uuid4()),
        "X-Gitlab-Instance": url,
        "X-Gitlab-Event-UUID": str(uuid.uuid4()),
        "webhook-id": idempotency_key,
        "webhook-timestamp": str(now),
    }
    if hook.token:
        headers["X-Gitlab-Token"] = hook.token
    if hook.signing_token:
        headers["webhook-signature"] = signature(
            hook.signing_token, body, delivery=idempotency_key, timestamp=now
        )
    return {**headers, **dict(hook.custom_headers)}


def signature(signing_token: str, body: bytes, *, delivery: str, timestamp: int) -> str:
    """The value of `webhook-signature`; the key is the base64 after `whsec_`."""
    key = base64.b64decode(signing_token.removeprefix(_KEY_PREFIX))
    message = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode()
