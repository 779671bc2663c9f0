"""What the operators' command alone may write of a deployment: settings, keys, issuers, stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import items
from jobgate.cli import agent_ids
from jobgate.cli.errors import Refused
from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.cli.table import Table
    from jobgate.core.issuer import Issuer
    from jobgate.core.keys import PublicKey


class Registry:
    """The deployment's own items."""

    def __init__(self, table: Table) -> None:
        self._table = table

    # --- Settings and keys ---

    def settings(self) -> tuple[str, str | None] | None:
        """The public base URL and the private CA behind it; None before `jobgate setup`."""
        return items.settings_of(self._table.get(items.SETTINGS_KEY))

    def known_base_url(self) -> str:
        """The public base URL; raises InvalidRequest before `jobgate setup`."""
        settings = self.settings()
        if settings is None:
            raise InvalidRequest("This stack isn't set up yet: run `jobgate setup` first.")
        return settings[0]

    def save_settings(self, base_url: str, ca: str | None) -> None:
        """Write the settings; `ca` is PEM text, None for a public certificate."""
        self._table.put(items.settings_item(base_url, ca))

    def public_keys(self) -> tuple[PublicKey, ...]:
        """The published signing keys."""
        return tuple(items.public_key_of(item) for item in self._table.query("KEYS"))

    def publish(self, key: PublicKey) -> bool:
        """Publish a signing key; false where it was published before."""
        return self._table.put_new(items.public_key_item(key))

    # --- Issuers ---

    def issuers(self) -> Mapping[str, Issuer]:
        """Every GitLab instance by alias."""
        found = (items.issuer_of(item) for item in self._table.query("ISSUERS"))
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

    def prepare_issuer(self, issuer: Issuer) -> None:
        """Write what an issuer needs before it is trusted: its counter of ids and its stops.

        Raises Refused where the alias ever stood for another instance: stored items and identities
        in clusters carry the alias, and would be taken for the new instance's.
        """
        self._table.put_new(agent_ids.first_item(issuer.alias, issuer.url))
        stored = agent_ids.read(self._table.get(items.agent_ids_key(issuer.alias)))
        if stored.issuer_url != issuer.url:
            raise Refused(
                f"The alias {issuer.alias!r} stands for {stored.issuer_url} for ever: take another."
            )
        self._table.put_new(items.stops_item(issuer.alias, ()))

    def save_issuer(self, issuer: Issuer) -> None:
        """From now on the instance's ID tokens are accepted."""
        self._table.put(items.issuer_item(issuer))

    def remove_issuer(self, alias: str) -> None:
        """From now on they aren't. The ids and the stops stay."""
        self._table.delete(items.key("ISSUERS", alias))
