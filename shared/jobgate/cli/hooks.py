"""Webhooks: made or repaired in GitLab with fresh secrets, then tested.

Order of the writes: first all new secrets are stored beside the old ones, then GitLab is given
them, then the old ones of the same places are dropped. So no delivery is ever refused in between,
and a run that breaks off is simply run again, which goes on with the new ones that it had stored.
All are stored together, however many they are: Secrets Manager keeps every version of a day, and a
hundred at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters import hook_items
from jobgate.adapters.gitlab_hooks import GitLabHooks, hooks_address, root
from jobgate.adapters.hook_secrets import secrets_in
from jobgate.cli.errors import Refused
from jobgate.cli.hook_entries import hook_entry, is_of, new_secrets, read_entries, store_entries
from jobgate.core.errors import Unanswered, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobgate.cli.connect import Connected
    from jobgate.cli.hook_entries import Entry
    from jobgate.cli.set_up_api import SetUpAPI
    from jobgate.core.hook import HookScope
    from jobgate.core.issuer import Issuer

INSTANCE = 0  # the instance's id, as in the subject index
_SIGNING_SINCE = 19
# GitLab allows five test deliveries a minute; a warm function may take one to see new secrets.
_TEST_PAUSES = (0.0, 5.0, 15.0, 20.0, 30.0)
SETTLE_SECONDS = 1.5
_ARRIVAL_SECONDS = 20.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a webhook is to be made, by id and full path."""

    scope: HookScope
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What became of a webhook; `missing` is what its test lacks, None where it arrived.

    `failed` is why it couldn't be written at all.
    """

    scope: HookScope
    name: str
    url: str
    created: bool
    signed: bool
    missing: str | None = None
    failed: str | None = None


class Hooks:
    """The webhooks of one issuer's deployment."""

    def __init__(self, connected: Connected, issuer: Issuer, api: SetUpAPI, *, major: int) -> None:
        self._connected = connected
        self._issuer = issuer
        self._api = api
        self.signs = major >= _SIGNING_SINCE
        self._hooks = GitLabHooks(api, issuer, base_url=connected.registry.known_base_url())

    def make(self, places: Sequence[Place]) -> list[Made]:
        """Create each place's webhook, or repair the one that is there; raises Refused."""
        alias = self._issuer.alias
        stored = read_entries(self._connected, alias)
        entries = [self._entry(place.scope, stored) for place in places]
        store_entries(self._connected, alias, _united(stored, entries))
        # A warm function may have read them a moment ago, and doesn't again within a second.
        self._connected.outside.sleep(SETTLE_SECONDS)
        former = self._connected.registry.former_urls()
        formerly = [hooks_address(base_url, alias) for base_url in former]
        written: list[tuple[int, bool]] = []
        given = len(entries)
        try:
            for place, entry in zip(places, entries, strict=True):
                secrets = secrets_in(entry)
                written.append(self._hooks.write(place.scope, secrets, formerly=formerly))
        except (Refused, Unavailable) as exc:
            # Where only its answer was lost, both of a webhook's secrets stay.
            given = len(written) + isinstance(exc, Unanswered)
            raise
        finally:
            told = [place.scope for place in places[: len(written)]]
            old = [e for e in stored if not any(is_of(e, scope) for scope in told)]
            store_entries(self._connected, alias, _united(old, entries[:given]))
        return [
            Made(
                scope=place.scope,
                name=place.path,
                url=self._hooks.address,
                created=created,
                signed=entry["signing_token"] is not None,
                missing=self.test(place.scope, hook_id, entry["id"]),
            )
            for place, entry, (hook_id, created) in zip(places, entries, written, strict=True)
        ]

    def _entry(self, scope: HookScope, stored: list[Entry]) -> Entry:
        """Fresh secrets; what an earlier run that broke off has stored beside the old is taken."""
        unfinished = [entry for entry in stored if is_of(entry, scope)][1:]
        if unfinished:
            return unfinished[-1]
        # GitLab 19 signs; whether it does for system hooks isn't documented, so these keep a token.
        return hook_entry(scope, new_secrets(signing=self.signs and scope.kind != "instance"))

    def is_offered(self, scope: HookScope) -> bool:
        """Whether this GitLab has webhooks for such a place: group webhooks need Premium."""
        status, _ = self._api.ask("GET", f"{root(scope)}?per_page=1")
        if status == 404:
            return False
        # Without the licence or without the role: an owner is refused for the first alone.
        return not (status == 403 and owns_group(self._api, scope.id))

    def test(self, scope: HookScope, hook_id: int, entry_id: str) -> str | None:
        """Have GitLab deliver a made-up push, and wait until it's seen here; else what lacks."""
        self._connected.output.progress(f"a test event of {scope.kind} {scope.id}")
        said = ""
        for pause in _TEST_PAUSES:
            self._connected.outside.sleep(pause)
            status, answer = self._api.ask("POST", _test_target(scope, hook_id))
            said = _said(status, answer)
            if 200 <= status < 300:
                return None if self._arrived(scope, entry_id) else _NOT_SEEN
            if "401" not in said:
                break
        return said

    def _arrived(self, scope: HookScope, entry_id: str) -> bool:
        waited = 0.0
        while seen_with(self._connected, self._issuer.alias, scope) != entry_id:
            if waited >= _ARRIVAL_SECONDS:
                return False
            self._connected.outside.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        return True


_NOT_SEEN = (
    "GitLab says that its test event was delivered, but it didn't reach this deployment: what "
    "answers at the webhook's URL isn't this stack."
)


def _united(old: list[Entry], new: list[Entry]) -> list[Entry]:
    return old + [entry for entry in new if entry not in old]


def owns_group(api: SetUpAPI, group_id: int) -> bool:
    """Whether the set-up token's user is an owner of the group or an administrator."""
    user = api("GET", "/user") or {}
    if user.get("is_admin") is True:
        return True
    member = api("GET", f"/groups/{group_id}/members/all/{user.get('id')}") or {}
    return int(member.get("access_level", 0)) >= 50


def seen_with(connected: Connected, alias: str, scope: HookScope) -> str | None:
    """The id of the secrets that the last noted delivery of this webhook proved."""
    seen = hook_items.hook_seen_of(
        connected.table.get(hook_items.hook_seen_key(alias, scope.kind, scope.id))
    )
    return None if seen is None else seen.entry_id


def _test_target(scope: HookScope, hook_id: int) -> str:
    if scope.kind == "instance":
        return f"/hooks/{hook_id}"
    return f"{root(scope)}/{hook_id}/test/push_events"


def _said(status: int, answer: Any) -> str:
    """Why a test event didn't arrive, in GitLab's words."""
    text = answer.get("message") if isinstance(answer, dict) else None
    if status == 404:
        return "This GitLab can't send a test event: push, then look at `jobgate gitlab status`."
    if status == 429:
        return "GitLab sends no more test events for now: try again in a minute."
    return f"GitLab couldn't deliver a test event ({status}): {str(text)[:200]}"
