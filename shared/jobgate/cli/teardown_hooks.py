"""`jobgate teardown`: GitLab's webhooks.

The schedule's stored token goes before they do, or the schedule would make them anew; but only
once GitLab has accepted the set-up token, so that a wrong one loses nothing. What GitLab doesn't
show, or refuses, stays and is named; that is kept in the secret GitLabHooks, which is the last to
go.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.gitlab_hooks import GitLabHooks, hooks_address
from jobgate.adapters.gitlab_writes import GitLabWrites
from jobgate.adapters.hook_secrets import SHARED, scopes_in
from jobgate.adapters.made_hooks import DynamoDBMadeHooks
from jobgate.cli import gitlab_tokens, stored_secrets
from jobgate.cli.errors import Refused
from jobgate.cli.gitlab_calls import SECONDS
from jobgate.cli.hook_entries import place_entry, read_all_entries, read_entries, store_entries
from jobgate.cli.set_up_api import PROOF, set_up_token
from jobgate.core.errors import NotForUs
from jobgate.core.hook import HookScope

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobgate.cli.connect import Connected
    from jobgate.core.issuer import Issuer


@dataclass(frozen=True, slots=True, order=True)
class Webhook:
    """One that was made, by its issuer's alias."""

    alias: str
    scope: HookScope

    def __str__(self) -> str:
        return f"the webhook of {self.scope.kind} {self.scope.id} of {self.alias!r}"


def webhooks(connected: Connected) -> list[Webhook]:
    """All that were made, as far as the secret and the table tell."""
    try:
        stored = read_all_entries(connected)
    except AWSError as exc:
        # An earlier run has begun to remove the stack.
        if exc.code not in ("ResourceNotFoundException", "InvalidRequestException"):
            raise
        return []
    found = {Webhook(alias, s) for alias, entries in stored.items() for s in scopes_in(entries)}
    if connected.table.is_there():
        for alias in {*stored, *connected.registry.issuers()}:
            found |= {Webhook(alias, scope) for scope in _of_projects(connected, alias)}
    return sorted(found)


def remove_webhooks(connected: Connected, found: Sequence[Webhook]) -> list[Webhook]:
    """Remove them in GitLab, and return those that stay; raises Refused for a bad set-up token."""
    if not connected.table.is_there():
        return list(found)  # with the table an earlier run has removed where their GitLab is
    token, issuers = set_up_token(connected.outside.environment), connected.registry.issuers()
    left: list[Webhook] = []
    for alias in dict.fromkeys(hook.alias for hook in found):
        mine, issuer = [hook for hook in found if hook.alias == alias], issuers.get(alias)
        if issuer is None:
            left += mine
        else:
            connected.output.progress(f"the webhooks of {alias}")
            left += _remove(connected, issuer, token, mine)
    return left


def keep_in_mind(connected: Connected, left: Sequence[Webhook]) -> None:
    """Note what stays where a run that comes after the table's end finds it."""
    for alias in dict.fromkeys(hook.alias for hook in left):
        entries = read_entries(connected, alias)
        known = set(scopes_in(entries))
        missing = [h.scope for h in left if h.alias == alias and h.scope not in known]
        # Beyond the secret's 64 KiB, what this run prints is all that there is.
        with contextlib.suppress(Refused):
            store_entries(connected, alias, [*entries, *map(place_entry, missing)])


def _of_projects(connected: Connected, alias: str) -> Iterator[HookScope]:
    """Those of authorised projects, which the table knows."""
    for project_id in DynamoDBMadeHooks(connected.aws, connected.stack.table).made(alias):
        yield HookScope("project", project_id)


def _prove(connected: Connected, issuer: Issuer, token: str) -> None:
    """Raises Refused for a set-up token that isn't good, or may change nothing."""
    now = connected.outside.clock()
    state = gitlab_tokens.check(issuer, token, gitlab_tokens.SET_UP, projects=(), now=now)
    if state.missing:
        raise Refused(gitlab_tokens.sentences(state)[0])


def _remove(
    connected: Connected, issuer: Issuer, token: str, mine: Sequence[Webhook]
) -> list[Webhook]:
    _prove(connected, issuer, token)
    alias, stack = issuer.alias, connected.stack
    stored_secrets.change_entry(connected.aws, stack.gitlab_job_hooks_token, alias, None)
    # A round of the schedule that has begun goes on with no other project without these.
    entries = [e for e in read_entries(connected, alias) if e.get("scope") != SHARED]
    store_entries(connected, alias, entries)
    table = DynamoDBMadeHooks(connected.aws, stack.table)
    made = table.made(alias)
    api = GitLabWrites(issuer, token, seconds=SECONDS, proof=PROOF)
    hooks = GitLabHooks(api, issuer, base_url=connected.registry.known_base_url())
    former = [hooks_address(url, alias) for url in connected.registry.former_urls()]
    left = []
    for scope in sorted({hook.scope for hook in mine} | {HookScope("project", i) for i in made}):
        known = made.get(scope.id) if scope.kind == "project" else None
        addresses = [known.address] if known is not None and known.address is not None else []
        try:
            hooks.remove(scope, formerly=[*former, *addresses])
        except NotForUs:
            _prove(connected, issuer, token)  # else it's the token that has ended
            left.append(Webhook(alias, scope))
            continue
        if known is not None:
            table.forget(alias, scope.id)
    store_entries(connected, alias, [place_entry(hook.scope) for hook in left])
    return left
