"""The entries of the secret GitLabHooks, a list by issuer, as commands read and write them."""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, Any

from jobgate.adapters.hook_secrets import SHARED
from jobgate.cli import stored_secrets
from jobgate.core.webhook import HookSecrets, signing_token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.cli.connect import Connected
    from jobgate.core.hook import HookScope

Entry = dict[str, Any]


def read_all_entries(connected: Connected) -> dict[str, list[Entry]]:
    """Those of every issuer, by alias."""
    return stored_secrets.read_map(connected.aws, connected.stack.gitlab_hooks)


def read_entries(connected: Connected, alias: str) -> list[Entry]:
    """Those of one issuer, the newest last."""
    return read_all_entries(connected).get(alias) or []


def store_entries(connected: Connected, alias: str, entries: Iterable[Entry]) -> None:
    """Replace an issuer's; with none left it's forgotten. Raises Refused for too many."""
    secret = connected.stack.gitlab_hooks
    stored_secrets.change_entry(connected.aws, secret, alias, list(entries) or None)


def new_secrets(*, signing: bool) -> HookSecrets:
    """Fresh secrets of a webhook."""
    return HookSecrets(
        secret_token=secrets.token_urlsafe(32),
        signing_token=signing_token(secrets.token_bytes(32)) if signing else None,
    )


def hook_entry(scope: HookScope | None, made: HookSecrets) -> Entry:
    """The form in which the webhook's function reads them.

    `scope` is None for what all authorised projects share. `id` names these secrets where a
    delivery's arrival is noted; it's no secret.
    """
    return {
        "id": str(uuid.uuid4()),
        "secret_token": made.secret_token,
        "signing_token": made.signing_token,
        "scope": SHARED if scope is None else _fields(scope),
    }


def place_entry(scope: HookScope) -> Entry:
    """Says that a webhook is there, and proves nothing: for what can't be removed in GitLab."""
    return {"scope": _fields(scope)}


def is_of(entry: Entry, scope: HookScope) -> bool:
    """Whether an entry holds the secrets of this place's webhook."""
    return bool(entry.get("scope") == _fields(scope))


def _fields(scope: HookScope) -> dict[str, Any]:
    return {"kind": scope.kind, "id": scope.id}
