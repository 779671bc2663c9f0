"""What the operators' command alone may write of a deployment: settings, keys, issuers, stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import items, operator_items
from jobgate.cli import agent_ids
from jobgate.cli.errors import Refused
from jobgate.core.errors import Conflict, InvalidRequest
from jobgate.core.liveness import StopKind
from jobgate.core.stops import with_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jobgate.cli.table import Table
    from jobgate.core.issuer import Issuer
    from jobgate.core.keys import PublicKey
    from jobgate.core.liveness import Stop
    from jobgate.core.public_settings import PublicSettings

_CHANGES_MAX = 50


class Registry:
    """The deployment's own items."""

    def __init__(self, table: Table) -> None:
        self._table = table

    # --- Settings and keys ---

    def settings(self) -> PublicSettings | None:
        """What is written of the deployment; None before `jobgate setup`."""
        return operator_items.settings_of(self._table.get(operator_items.SETTINGS_KEY))

    def known_base_url(self) -> str:
        """The public base URL; raises InvalidRequest before `jobgate setup`."""
        settings = self.settings()
        if settings is None:
            raise InvalidRequest("This stack isn't set up yet: run `jobgate setup` first.")
        return settings.base_url

    def save_settings(self, settings: PublicSettings) -> None:
        """Write the settings over those that are there."""
        self._table.put(operator_items.settings_item(settings))

    def keep_former_url(self, base_url: str) -> None:
        """Remember a base URL that is about to be replaced: webhooks have it still."""
        self._table.update(
            operator_items.FORMER_URLS_KEY,
            "ADD #urls :url",
            names={"#urls": "urls"},
            values={":url": {"SS": [base_url]}},
        )

    def former_urls(self) -> list[str]:
        """The base URLs that the deployment once had."""
        found = self._table.get(operator_items.FORMER_URLS_KEY)
        return [] if found is None else sorted(found["urls"]["SS"])

    def public_keys(self) -> tuple[PublicKey, ...]:
        """The published signing keys."""
        return tuple(operator_items.public_key_of(item) for item in self._table.query("KEYS"))

    def publish(self, key: PublicKey) -> bool:
        """Publish a signing key; false where it was published before."""
        return self._table.put_new(operator_items.public_key_item(key))

    def replace_keys(self, replaced: Sequence[tuple[PublicKey | None, PublicKey]]) -> None:
        """Write keys in the place of what was read of them, all or none; raises Conflict."""
        stored = {item["sk"]["S"]: item for item in self._table.query("KEYS")}
        changes = []
        for before, after in replaced:
            found = stored.get(after.kid)
            if before != (None if found is None else operator_items.public_key_of(found)):
                raise Conflict("The keys have just been changed; look with `jobgate keys list`.")
            changes.append((found, operator_items.public_key_item(after)))
        if not self._table.replace(changes):
            raise Conflict("The keys have just been changed; look with `jobgate keys list`.")

    # --- Issuers ---

    def issuers(self) -> Mapping[str, Issuer]:
        """Every GitLab instance by alias."""
        found = (operator_items.issuer_of(item) for item in self._table.query("ISSUERS"))
        return {issuer.alias: issuer for issuer in found}

    def issuer(self, alias: str | None) -> Issuer:
        """The issuer of an alias, or the default one; raises InvalidRequest where there is none."""
        issuers = self.issuers()
        if alias is not None:
            if alias not in issuers:
                raise InvalidRequest(
                    f"No issuer has the alias {alias!r}: see `jobgate issuer list`."
                )
            return issuers[alias]
        for issuer in issuers.values():
            if issuer.is_default:
                return issuer
        raise InvalidRequest("There is no default issuer: name one with --issuer.")

    def prepare_issuer(self, issuer: Issuer, *, now: float) -> None:
        """Write what an issuer needs before it is trusted: its counter of ids and its stops.

        What is stopped for all issuers is so for this one, however often it is added.

        Raises Refused where the alias ever stood for another instance: stored items and identities
        in clusters carry the alias, and would be taken for the new instance's.
        """
        self._table.put_new(agent_ids.first_item(issuer.alias, issuer.url))
        stored = agent_ids.read(self._table.get(items.agent_ids_key(issuer.alias)))
        if stored.issuer_url != issuer.url:
            raise Refused(
                f"The alias {issuer.alias!r} stands for {stored.issuer_url} for ever: take another."
            )
        stopped = self._stops_of_all(besides=issuer.alias)
        if not self._table.put_new(operator_items.stops_item(issuer.alias, stopped)) and stopped:
            self.change_stops(issuer.alias, lambda stops: _with_all(stops or (), stopped, now=now))

    def stops(self, alias: str) -> tuple[Stop, ...] | None:
        """An issuer's stops, those that are over included; None where the item is missing."""
        return operator_items.stops_of(self._table.get(operator_items.stops_key(alias)))

    def change_stops(
        self, alias: str, change: Callable[[tuple[Stop, ...] | None], tuple[Stop, ...]]
    ) -> None:
        """Replace an issuer's stops by what `change` makes of them, again where others wrote first.

        Raises Conflict where that never ends.
        """
        for _ in range(_CHANGES_MAX):
            before = self._table.get(operator_items.stops_key(alias))
            after = operator_items.stops_item(alias, change(operator_items.stops_of(before)))
            if self._table.replace([(before, after)]):
                return
        raise Conflict("Too many commands change the stops at once; run this one again.")

    def _stops_of_all(self, *, besides: str) -> tuple[Stop, ...]:
        """What was stopped for all issuers, and is to hold for one that comes later."""
        for alias in self.issuers():
            found = () if alias == besides else self.stops(alias) or ()
            if of_all := tuple(stop for stop in found if stop.kind is StopKind.ALL):
                return of_all
        return ()

    def save_issuer(self, issuer: Issuer) -> None:
        """From now on the instance's ID tokens are accepted."""
        self._table.put(operator_items.issuer_item(issuer))

    def remove_issuer(self, alias: str) -> None:
        """From now on they aren't. The ids and the stops stay."""
        self._table.delete(items.key("ISSUERS", alias))


def _with_all(
    stops: tuple[Stop, ...], stopped: tuple[Stop, ...], *, now: float
) -> tuple[Stop, ...]:
    for stop in stopped:
        # Never None: a stop of everything always finds room.
        stops = with_stop(stops, stop, now=now) or (stop,)
    return stops
