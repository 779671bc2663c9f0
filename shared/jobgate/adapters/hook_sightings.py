"""When each webhook was last heard: one small item a webhook, written once a minute at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import hook_items
from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import Unavailable
from jobgate.core.hook import HookSeen
from jobgate.ports.hooks import HookSightings

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.hook import HookScope
    from jobgate.core.webhook import HookSecrets

_EVERY_SECONDS = 60.0


class DynamoDBHookSightings(HookSightings):
    """Sightings in the table. Secrets that prove a delivery for the first time count at once."""

    def __init__(self, call: AWSCall, table: str, *, log: Callable[[str], None]) -> None:
        self._call = call
        self._table = table
        self._log = log
        self._noted: dict[tuple[str, HookScope, str], float] = {}

    def note(self, issuer: str, hook: HookSecrets, *, at: float) -> None:
        if hook.entry_id is None or hook.scope is None:
            return
        key = issuer, hook.scope, hook.entry_id
        if 0 <= at - self._noted.get(key, float("-inf")) < _EVERY_SECONDS:
            return
        seen = HookSeen(hook.entry_id, at)
        item = hook_items.hook_seen_item(issuer, hook.scope.kind, hook.scope.id, seen)
        try:
            self._call("dynamodb", "PutItem", {"TableName": self._table, "Item": item})
        except (AWSError, Unavailable) as exc:
            self._log(f"a webhook's sighting can't be noted: {exc}")
            return
        self._noted[key] = at
