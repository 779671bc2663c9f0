"""Delivers a webhook's event as GitLab would, with what proves a stored webhook's deliveries."""

from __future__ import annotations

import json
import secrets
import ssl
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3

from local.gitlab.hook_headers import signature

if TYPE_CHECKING:
    from local.stack import Stack


def group_hook(stack: Stack, alias: str) -> dict[str, Any]:
    """The stored secrets of an issuer's only group webhook."""
    store = boto3.client("secretsmanager", **stack.aws.client_options)
    stored = store.get_secret_value(SecretId=stack.aws.outputs["GitLabHooksArn"])
    hooks = json.loads(stored["SecretString"])[alias]
    (hook,) = [hook for hook in hooks if hook["scope"]["kind"] == "group"]
    found: dict[str, Any] = hook
    return found


def deliver(stack: Stack, alias: str, hook: dict[str, Any], payload: dict[str, Any]) -> int:
    """The status with which the webhooks' route of `alias` answers an event, proven by `hook`."""
    body = json.dumps(payload).encode()
    delivery = secrets.token_hex(16)
    now = int(time.time())  # noqa: TID251  the function compares it with its own clock
    headers = {
        "Content-Type": "application/json",
        "X-Gitlab-Token": hook["secret_token"],
        "webhook-id": delivery,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(
            hook["signing_token"], body, delivery=delivery, timestamp=now
        ),
    }
    url = f"{stack.gateway.url}/webhooks/gitlab/{alias}"
    request = urllib.request.Request(url, data=body, headers=headers)
    trust = ssl.create_default_context(cafile=str(stack.authority.certificate))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
