"""`jobgate gitlab connect --job-hooks projects`: a webhook on each authorised project.

Their secrets are made from one that they share. First a new one is stored beside the old, then
GitLab is given what is made from it, then the old one is dropped, where no project has failed: so
no delivery is refused in between. With a token of its own (`--job-hooks-token-file`) the schedule
does the same for projects that are authorised later; without it, the next run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jobgate.adapters.gitlab_hooks import GitLabHooks
from jobgate.adapters.gitlab_writes import GitLabWrites
from jobgate.adapters.hook_secrets import SHARED, shared_in
from jobgate.adapters.kept_hooks import kept_hooks
from jobgate.adapters.made_hooks import DynamoDBMadeHooks
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from jobgate.cli import gitlab_tokens, stored_secrets
from jobgate.cli.gitlab_calls import SECONDS
from jobgate.cli.gitlab_tokens import JOB_HOOKS
from jobgate.cli.hooks import SETTLE_SECONDS, Made, hook_entry, new_secrets
from jobgate.cli.set_up_api import PROOF, set_up_token
from jobgate.usecases.job_hooks import JobHooks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from jobgate.cli.connect import Connected
    from jobgate.cli.gitlab_tokens import TokenState
    from jobgate.cli.hooks import Hooks
    from jobgate.core.issuer import Issuer
    from jobgate.usecases.job_hooks import KeptHook


def make_job_hooks(connected: Connected, issuer: Issuer, hooks: Hooks) -> list[Made]:
    """Give each authorised project its webhook, with fresh secrets, and test it."""
    fresh = new_secrets(signing=hooks.signs)
    entry = hook_entry(None, fresh)
    stored = _entries(connected, issuer.alias)
    _store(connected, issuer, [*stored, entry])
    # A warm function may have read them a moment ago, and doesn't again within a second.
    connected.outside.sleep(SETTLE_SECONDS)
    connected.output.progress("the webhooks of the authorised projects")
    token = set_up_token(connected.outside.environment)
    api = GitLabWrites(issuer, token, seconds=SECONDS, proof=PROOF)
    gitlab = GitLabHooks(api, issuer, base_url=connected.registry.known_base_url())
    kept = kept_hooks(issuer.alias, gitlab, replace(fresh, entry_id=entry["id"]), stored)
    found = _keeper(connected).keep(kept, until=float("inf"))
    if not any(hook.error for hook in found):
        _store(connected, issuer, [*(e for e in stored if e.get("scope") != SHARED), entry])
    return [_made(hooks, hook, gitlab.url, entry) for hook in found]


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
    projects = DynamoDBRefreshStore(connected.aws, connected.stack.table)
    homes = [project_id for alias, project_id in projects.all() if alias == issuer.alias]
    made = DynamoDBMadeHooks(connected.aws, connected.stack.table).made(issuer.alias)
    now = connected.outside.clock()
    return gitlab_tokens.check(
        issuer, token, JOB_HOOKS, projects=sorted(made), barred=homes, now=now
    )


def projects_with_job_hooks(connected: Connected, alias: str) -> frozenset[int] | None:
    """The projects that were given one with the newest secrets, None where nobody wanted any."""
    shared = shared_in(_entries(connected, alias))
    if shared is None:
        return None
    made = DynamoDBMadeHooks(connected.aws, connected.stack.table).made(alias)
    return frozenset(i for i, hook in made.items() if hook.entry_id == shared.entry_id)


def stored_job_hooks_token(connected: Connected, issuer: Issuer) -> str | None:
    """The token with which the schedule keeps them, if there is one."""
    secret = connected.stack.gitlab_job_hooks_token
    return gitlab_tokens.stored_token(connected, secret, issuer.alias)


def _keeper(connected: Connected) -> JobHooks:
    return JobHooks(
        agents=DynamoDBRefreshStore(connected.aws, connected.stack.table),
        made=DynamoDBMadeHooks(connected.aws, connected.stack.table),
        recorder=lambda _line: None,
        clock=connected.outside.clock,
        pick=lambda _count: 0,
    )


def _made(hooks: Hooks, hook: KeptHook, url: str, entry: dict[str, Any]) -> Made:
    missing = hook.error
    if hook.hook_id is not None:
        missing = hooks.test(hook.scope, hook.hook_id, entry["id"])
    return Made(
        scope=hook.scope,
        name=str(hook.scope.id),
        url=url,
        created=hook.created,
        signed=entry["signing_token"] is not None,
        missing=missing,
    )


def _entries(connected: Connected, alias: str) -> list[dict[str, Any]]:
    held = stored_secrets.read_map(connected.aws, connected.stack.gitlab_hooks)
    return held.get(alias) or []


def _store(connected: Connected, issuer: Issuer, entries: Iterable[dict[str, Any]]) -> None:
    secret = connected.stack.gitlab_hooks
    stored_secrets.change_entry(connected.aws, secret, issuer.alias, list(entries))
