"""Control verbs about tokens, hooks, deliveries, faults and limits."""

from __future__ import annotations

import secrets
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from local.gitlab.faults import Fault
from local.gitlab.instance import ROOT_USER_ID
from local.gitlab.records import InvalidError
from local.gitlab.rest_hooks import changed_hook, new_hook
from local.gitlab.shapes import hook_shape

if TYPE_CHECKING:
    from local.gitlab.context import GitLabParts
    from local.gitlab.records import User

Given = dict[str, Any]

_SETTLE_SECONDS = 60.0


def _bearer(parts: GitLabParts, given: Given) -> User:
    """The user that a new token acts as: a named one, a place's new bot, or the administrator."""
    instance = parts.instance
    if "user" in given:
        return instance.user(given["user"])
    if "group" not in given and "project" not in given:
        return instance.user(ROOT_USER_ID)
    if "group" in given:
        kind, place_id = "group", instance.group(given["group"]).id
    else:
        kind, place_id = "project", instance.project(given["project"]).id
    bot = instance.add_user(f"{kind}_{place_id}_bot_{secrets.token_hex(4)}", bot=True)
    instance.add_member(kind, place_id, user=bot, role=given.get("role", "reporter"))
    return bot


async def create_token(parts: GitLabParts, given: Given) -> Given:
    """A token with `scopes`.

    Of a `user`, of a `group` or `project` with a `role` (reporter), or of the administrator.
    Optional `name`, `expires_at` (a date), `secret`.
    """
    token = parts.instance.add_token(
        _bearer(parts, given),
        name=given.get("name", "token"),
        scopes=given["scopes"],
        expires_at=given.get("expires_at"),
        secret=given.get("secret"),
    )
    return {"id": token.id, "token": token.secret, "user_id": token.user_id}


async def edit_token(parts: GitLabParts, given: Given) -> Given:
    """Change the `expires_at`, `revoked` or `scopes` of a `token`, named by its id."""
    token = parts.instance.token_by_id(given.pop("token"))
    if "scopes" in given:
        given["scopes"] = tuple(given["scopes"])
    parts.instance.tokens[token.secret] = replace(token, **given)
    return {}


async def create_hook(parts: GitLabParts, given: Given) -> Given:
    """A hook of a `project`, a `group`, or the system; the rest as in GitLab's API."""
    instance = parts.instance
    owner: tuple[str, int | None] = ("system", None)
    if "project" in given:
        owner = ("project", instance.project(given.pop("project")).id)
    elif "group" in given:
        owner = ("group", instance.group(given.pop("group")).id)
    hook = new_hook(instance, *owner, given)
    instance.hooks[hook.id] = hook
    return hook_shape(hook, now=instance.clock())


async def edit_hook(parts: GitLabParts, given: Given) -> Given:
    """Change a `hook`, named by its id."""
    instance = parts.instance
    hook = changed_hook(instance.hook(given.pop("hook")), given)
    instance.hooks[hook.id] = hook
    return hook_shape(hook, now=instance.clock())


async def delete_hook(parts: GitLabParts, given: Given) -> Given:
    """Delete a `hook`, named by its id."""
    del parts.instance.hooks[parts.instance.hook(given["hook"]).id]
    return {}


async def hooks(parts: GitLabParts, given: Given) -> Given:
    """Every hook, without its secrets."""
    del given
    now = parts.instance.clock()
    return {"hooks": [hook_shape(hook, now=now) for hook in parts.instance.hooks.values()]}


async def deliveries(parts: GitLabParts, given: Given) -> Given:
    """The delivery log, oldest first, optionally of one `hook`."""
    hook = given.get("hook")
    found = [d for d in parts.deliveries.entries() if hook is None or d["hook_id"] == hook]
    return {"deliveries": found}


async def settle(parts: GitLabParts, given: Given) -> Given:
    """Wait until no delivery is under way, at most `seconds`."""
    seconds = min(float(given.get("seconds", 30)), _SETTLE_SECONDS)
    return {"settled": await parts.deliveries.settle(seconds)}


async def resend(parts: GitLabParts, given: Given) -> Given:
    """Deliver a `delivery` once more."""
    return asdict(parts.deliveries.resend(given["delivery"]))


async def lose_deliveries(parts: GitLabParts, given: Given) -> Given:
    """Let the next `times` deliveries vanish."""
    parts.deliveries.lose(int(given.get("times", 1)))
    return {}


async def add_fault(parts: GitLabParts, given: Given) -> Given:
    """A fault, with the fields of `faults.Fault`."""
    parts.faults.add(Fault(**given))
    return {}


async def clear_faults(parts: GitLabParts, given: Given) -> Given:
    """Forget all faults; tells how many were `left` to happen."""
    del given
    return {"left": parts.faults.clear()}


async def set_rate_limits(parts: GitLabParts, given: Given) -> Given:
    """Switch GitLab.com's rate limits by `enabled`; `factor` scales them."""
    factor = float(given.get("factor", 1.0))
    parts.rate_limits.switch(enabled=bool(given["enabled"]), factor=factor)
    return {}


async def requests(parts: GitLabParts, given: Given) -> Given:
    """The requests so far whose `METHOD path` matches `pattern`."""
    return {"requests": parts.requests.entries(given.get("pattern", ""))}


async def clear_requests(parts: GitLabParts, given: Given) -> Given:
    """Forget the requests so far."""
    del given
    parts.requests.clear()
    return {}


async def set_instance(parts: GitLabParts, given: Given) -> Given:
    """Set the `version` that is told, the `tier`, and whether it `disables_failing_hooks`."""
    if "version" in given:
        parts.instance.version = str(given["version"])
    if "tier" in given:
        if given["tier"] not in {"free", "premium"}:
            raise InvalidError("no such tier")
        parts.instance.tier = given["tier"]
    if "disables_failing_hooks" in given:
        parts.instance.disables_failing_hooks = bool(given["disables_failing_hooks"])
    return {}
