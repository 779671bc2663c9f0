"""`jobgate gitlab connect --job-hooks projects`: a webhook on each authorised project.

Their secrets are made from one that they share. First a new one is stored beside the old, then
GitLab is given what is made from it, then the old ones are dropped that no webhook may have any
more: so no delivery is refused in between. With a token of its own (`--job-hooks-token-file`) the
schedule does the same for projects that are authorised later; without it, the next run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.gitlab_hooks import GitLabProjectHooks, hooks_address
from jobgate.adapters.gitlab_writes import GitLabWrites
from jobgate.adapters.hook_secrets import SHARED, secrets_in
from jobgate.adapters.https import HTTPSClient
from jobgate.adapters.kept_hooks import newest_in, others_in
from jobgate.adapters.made_hooks import DynamoDBMadeHooks
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from jobgate.cli import gitlab_tokens, stored_secrets
from jobgate.cli.gitlab_calls import SECONDS
from jobgate.cli.gitlab_tokens import JOB_HOOKS
from jobgate.cli.hook_entries import hook_entry, new_secrets, read_entries, store_entries
from jobgate.cli.hooks import SETTLE_SECONDS, Made
from jobgate.cli.set_up_api import PROOF, set_up_token
from jobgate.cli.snapshots import config_projects
from jobgate.ports.hooks import KeptHooks
from jobgate.usecases.job_hooks import JobHooks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.cli.connect import Connected
    from jobgate.cli.gitlab_tokens import TokenState
    from jobgate.cli.hook_entries import Entry
    from jobgate.cli.hooks import Hooks
    from jobgate.core.hook import HookMade
    from jobgate.core.issuer import Issuer
    from jobgate.usecases.job_hooks import KeptHook

# Beside the newest. So many runs with other projects failing in each leave no more behind.
_OLD_MAX = 5
_LISTS_SECONDS = 600.0


def make_job_hooks(connected: Connected, issuer: Issuer, hooks: Hooks) -> list[Made]:
    """Give each authorised project its webhook, with fresh secrets, and test it."""
    entry = _shared_entry(connected, issuer.alias, signing=hooks.signs)
    # A warm function may have read them a moment ago, and doesn't again within a second.
    connected.outside.sleep(SETTLE_SECONDS)
    connected.output.progress("the webhooks of the authorised projects")
    keeper = JobHooks(
        agents=DynamoDBRefreshStore(connected.aws, connected.stack.table),
        made=DynamoDBMadeHooks(connected.aws, connected.stack.table),
        recorder=lambda _line: None,
        clock=connected.outside.clock,
        pick=lambda _count: 0,
    )
    found = keeper.keep(_kept(connected, issuer, entry), until=math.inf)
    url = hooks_address(connected.registry.known_base_url(), issuer.alias)
    return [_made(hooks, hook, url, entry) for hook in found]


def drop_old_secrets(connected: Connected, alias: str) -> None:
    """Drop what all webhooks of authorised projects shared once, where none may have it still."""
    stored = read_entries(connected, alias)
    needed = _needed(connected, alias, stored)
    if needed == stored:
        return
    store_entries(connected, alias, needed)
    # The schedule may have begun a write with an old one meanwhile; from now on it would see that
    # this is gone (usecases/job_hooks.py).
    again = _needed(connected, alias, stored)
    if again != needed:
        store_entries(connected, alias, again)


def old_secrets(connected: Connected, alias: str) -> list[str]:
    """What is told of old secrets that are good still."""
    shared = [entry for entry in read_entries(connected, alias) if entry.get("scope") == SHARED]
    old = {entry["id"] for entry in shared[:-1]}
    if not old:
        return []
    made = made_job_hooks(connected, alias)
    holders = sorted(project_id for project_id, hook in made.items() if hook.entries & old)
    whose = f"projects {', '.join(map(str, holders))}" if holders else "no project any more"
    remedy = "`jobgate gitlab connect GROUP --job-hooks projects`, once GitLab takes the new ones"
    return [
        f"Older secrets of projects' webhooks are still good, for {whose}; to end them: {remedy}."
    ]


def made_job_hooks(connected: Connected, alias: str) -> Mapping[int, HookMade]:
    """The authorised projects that were given a webhook, by id."""
    return DynamoDBMadeHooks(connected.aws, connected.stack.table).made(alias)


def keep_job_hooks(connected: Connected, issuer: Issuer, token: str) -> TokenState:
    """Store the token with which the schedule keeps them, unless it lacks something."""
    state = check_job_hooks_token(connected, issuer, token)
    if not state.missing:
        secret = connected.stack.gitlab_job_hooks_token
        stored_secrets.change_entry(connected.aws, secret, issuer.alias, token)
    return state


def check_job_hooks_token(connected: Connected, issuer: Issuer, token: str) -> TokenState:
    """Whether it may make webhooks where they are, and may push to no configuration project.

    It's stored, and who reads it must not decide what a configuration grants.
    """
    return gitlab_tokens.check(
        issuer,
        token,
        JOB_HOOKS,
        projects=(),
        maintained=made_job_hooks(connected, issuer.alias),
        barred=[project.project_id for project in config_projects(connected, issuer.alias)],
        now=connected.outside.clock(),
    )


def projects_with_job_hooks(connected: Connected, alias: str) -> frozenset[int] | None:
    """The projects that need none any more, None where nobody wanted any."""
    newest = newest_in(read_entries(connected, alias))
    if newest is None:
        return None
    made = made_job_hooks(connected, alias)
    return frozenset(i for i, hook in made.items() if hook.archived or hook.entry_id == newest)


def stored_job_hooks_token(connected: Connected, issuer: Issuer) -> str | None:
    """The token with which the schedule keeps them, if there is one."""
    secret = connected.stack.gitlab_job_hooks_token
    return gitlab_tokens.stored_token(connected, secret, issuer.alias)


def _shared_entry(connected: Connected, alias: str, *, signing: bool) -> Entry:
    """What they are to share from now on, stored beside what is needed still.

    Where many runs have failed, each for other projects, the last one's is taken.
    """
    needed = _needed(connected, alias, read_entries(connected, alias))
    shared = [entry for entry in needed if entry.get("scope") == SHARED]
    if len(shared) > _OLD_MAX:
        return shared[-1]
    entry = hook_entry(None, new_secrets(signing=signing))
    store_entries(connected, alias, [*needed, entry])
    return entry


def _needed(connected: Connected, alias: str, entries: list[Entry]) -> list[Entry]:
    """Without what was shared once and no webhook may have any more."""
    named = {newest_in(entries)}.union(
        *(hook.entries for hook in made_job_hooks(connected, alias).values())
    )
    return [e for e in entries if e.get("scope") != SHARED or e.get("id") in named]


def _kept(connected: Connected, issuer: Issuer, entry: Entry) -> KeptHooks:
    token = set_up_token(connected.outside.environment)
    api = GitLabWrites(issuer, token, seconds=SECONDS, proof=PROOF)
    client = HTTPSClient(f"{issuer.base_url}/api/v4", issuer.ca)
    reads = GitLabAPI(client, token, seconds=_LISTS_SECONDS)
    base_url = connected.registry.known_base_url()
    return KeptHooks(
        issuer=issuer.alias,
        gitlab=GitLabProjectHooks(api, reads, issuer, base_url=base_url),
        shared=secrets_in(entry),
        newest=lambda: newest_in(read_entries(connected, issuer.alias)),
        others=others_in(read_entries(connected, issuer.alias)),
    )


def _made(hooks: Hooks, hook: KeptHook, url: str, entry: Entry) -> Made:
    missing = None
    if hook.hook_id is not None:
        missing = hooks.test(hook.scope, hook.hook_id, entry["id"])
    return Made(
        scope=hook.scope,
        name=str(hook.scope.id),
        url=url,
        created=hook.created,
        signed=entry["signing_token"] is not None,
        missing=missing,
        failed=hook.error,
    )
