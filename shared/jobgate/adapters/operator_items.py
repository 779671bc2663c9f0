"""The stored items that the operators' command alone writes, but for those of agents.

GitLab instances, stops, public keys, and the deployment's settings.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jobgate.adapters import items
from jobgate.core.issuer import Issuer
from jobgate.core.keys import PublicKey
from jobgate.core.liveness import Stop, StopKind
from jobgate.core.public_settings import PublicSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.adapters.items import Item

SETTINGS_KEY = items.key("SETTINGS", "PUBLIC")
FORMER_URLS_KEY = items.key("SETTINGS", "FORMER_URLS")
"""Of the base URLs that the deployment once had: a set in `urls`."""


def stops_key(issuer: str) -> Item:
    """Of an issuer's active stops."""
    return items.key(f"STOPS#{issuer}", "ACTIVE")


def stops_item(issuer: str, stops: Iterable[Stop]) -> Item:
    """An issuer's active stops."""
    return stops_key(issuer) | items.body(
        {
            "stops": [
                {
                    "kind": stop.kind,
                    "value": stop.value,
                    "until": stop.until,
                    "by": stop.by,
                    "why": stop.why,
                    "at": stop.at,
                }
                for stop in stops
            ]
        }
    )


def stops_of(item: Item | None) -> tuple[Stop, ...] | None:
    """The reverse of `stops_item`; None where the item is missing, which denies."""
    return items.read(
        item,
        lambda body: tuple(Stop(**{**s, "kind": StopKind(s["kind"])}) for s in body["stops"]),
    )


def issuer_item(issuer: Issuer) -> Item:
    """A GitLab instance."""
    return items.key("ISSUERS", issuer.alias) | items.body(
        {
            "url": issuer.url,
            "base_url": issuer.base_url,
            "audience": issuer.audience,
            "ca": issuer.ca,
            "is_default": issuer.is_default,
            "single_use": issuer.single_use,
        }
    )


def issuer_of(item: Item) -> Issuer:
    """The reverse of `issuer_item`."""
    alias = item["sk"]["S"]
    return items.read_body(item, lambda body: Issuer(alias=alias, **body))


def public_key_item(public_key: PublicKey) -> Item:
    """A public signing key."""
    return items.key("KEYS", public_key.kid) | items.body(
        {
            "slot": public_key.slot,
            "jwk": dict(public_key.jwk),
            "not_before": public_key.not_before,
            "retire_after": public_key.retire_after,
        }
    )


def public_key_of(item: Item) -> PublicKey:
    """The reverse of `public_key_item`."""
    kid = item["sk"]["S"]
    return items.read_body(item, lambda body: PublicKey(kid=kid, **body))


def settings_item(settings: PublicSettings) -> Item:
    """The deployment's public settings."""
    return SETTINGS_KEY | items.body(dataclasses.asdict(settings))


def settings_of(item: Item | None) -> PublicSettings | None:
    """The reverse of `settings_item`; None before the first set-up."""
    return items.read(item, lambda body: PublicSettings(**body))
