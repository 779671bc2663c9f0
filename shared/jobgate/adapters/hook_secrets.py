"""The secrets of webhooks in the secret GitLabHooks: a list for each issuer's alias.

An entry's `scope` says whose it is: of a project, a group, the instance, or what the webhooks of
all authorised projects share, from which each one's own secrets are made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobgate.core.hook import HookScope
from jobgate.core.webhook import HookSecrets, secrets_of_project

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jobgate.adapters.secrets import SecretReader
    from jobgate.ports.hooks import HooksOf

SHARED = {"kind": "projects", "id": 0}
_FRESH_SECONDS = 1.0


def hooks_in(secrets: SecretReader, secret: str) -> HooksOf:
    """An issuer's webhooks from the secret that holds them all, by alias."""

    def hooks_of(alias: str, project_id: int | None, *, fresh: bool) -> list[HookSecrets]:
        # Strangers' deliveries ask for fresh ones too, so these are kept for a moment all the same.
        held = secrets.json(secret, max_age=_FRESH_SECONDS) if fresh else secrets.json(secret)
        found = (_hook(entry, project_id) for entry in held.get(alias, []))
        return [hook for hook in found if hook is not None]

    return hooks_of


def scopes_in(entries: Iterable[Mapping[str, Any]]) -> Iterator[HookScope]:
    """The places whose webhooks have secrets of their own."""
    for entry in entries:
        scope = entry.get("scope")
        if scope is not None and scope != SHARED:
            yield HookScope(scope["kind"], int(scope["id"]))


def shared_in(entries: Iterable[Mapping[str, Any]]) -> HookSecrets | None:
    """The newest of what the webhooks of all authorised projects share, if there is any."""
    shared = [secrets_in(entry) for entry in entries if entry.get("scope") == SHARED]
    return shared[-1] if shared else None


def _hook(entry: Mapping[str, Any], project_id: int | None) -> HookSecrets | None:
    """What is shared proves a webhook of this project alone, and none where that isn't known."""
    hook, scope = secrets_in(entry), entry.get("scope")
    if scope is None:
        return hook
    if scope == SHARED:
        return None if project_id is None else secrets_of_project(hook, project_id)
    return replace(hook, scope=HookScope(scope["kind"], scope["id"]))


def secrets_in(entry: Mapping[str, Any]) -> HookSecrets:
    """An entry's secrets, with its id."""
    return HookSecrets(
        secret_token=entry.get("secret_token"),
        signing_token=entry.get("signing_token"),
        entry_id=entry.get("id"),
    )
