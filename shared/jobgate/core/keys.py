"""The deployment's public signing keys: which one signs now, which ones verify.

A key is published before it signs and is kept after it has signed, so that whoever caches the set
never meets a token of a key that it doesn't know (RFC 7517; the `kid` is RFC 7638's thumbprint).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.core.bounds import Bounds

CACHE_SECONDS = 300
"""How long others may cache the public key set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A published key. `slot` is the KMS key's ARN; times in epoch seconds."""

    kid: str
    slot: str
    jwk: Mapping[str, str]
    not_before: float
    retire_after: float | None = None


def verifying_keys(keys: Iterable[PublicKey], *, now: float) -> dict[str, PublicKey]:
    """The keys whose tokens are good, by `kid`; those published ahead of their use included."""
    return {k.kid: k for k in keys if k.retire_after is None or now < k.retire_after}


def signing_key(keys: Iterable[PublicKey], *, now: float) -> PublicKey:
    """The newest key that may sign already; raises Unavailable where there is none."""
    ready = [k for k in verifying_keys(keys, now=now).values() if k.not_before <= now]
    if not ready:
        raise Unavailable("no signing key is published")
    return max(ready, key=lambda key: key.not_before)


def rotation(
    keys: Iterable[PublicKey], successor: PublicKey, *, bounds: Bounds, now: float
) -> tuple[tuple[PublicKey | None, PublicKey], ...]:
    """What a rotation writes: each key as it is now (None: not published) and as it shall be.

    `successor` comes first, and signs from its `not_before` on; all other keys are retired.

    A key is retired once every token that it signed has ended: signers change at `not_before` by
    their own clocks, and each token lives TOKEN_MAX, or without one no longer than an ID token.
    """
    known = {key.kid: key for key in keys}
    life = bounds.token_max or bounds.job_kept
    last = successor.not_before + bounds.leeway + life + bounds.leeway
    retired = [
        (key, replace(key, retire_after=last))
        for key in verifying_keys(known.values(), now=now).values()
        if key.kid != successor.kid and key.retire_after is None
    ]
    return ((known.get(successor.kid), successor), *retired)


def shortest_wait(bounds: Bounds) -> float:
    """How long a key is published before it signs so that every function knows it, in seconds."""
    return bounds.issuers_max_age + 2 * bounds.leeway


def usual_wait(bounds: Bounds) -> float:
    """The same, so that whoever caches the public key set knows it too."""
    return shortest_wait(bounds) + CACHE_SECONDS


def jwks(keys: Iterable[PublicKey], *, now: float) -> dict[str, list[dict[str, str]]]:
    """The public key set (RFC 7517, 5)."""
    return {
        "keys": [
            {**key.jwk, "kid": key.kid, "use": "sig", "alg": "ES256"}
            for key in verifying_keys(keys, now=now).values()
        ]
    }
