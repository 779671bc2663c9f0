"""Verifies GitLab's ID tokens against the keys of the issuers that the deployment trusts.

The order matters: nothing is fetched before the token's issuer was found, byte for byte, among the
deployment's own; nothing that a token names (`jku`, `x5u`, `jwk`) is ever fetched or believed.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt

from jobgate.adapters.https import HTTPSClient
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.id_token import verified_job
from jobgate.ports.exchange import TokenVerifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.bounds import Bounds
    from jobgate.core.issuer import Issuer
    from jobgate.core.job import VerifiedJob
    from jobgate.ports import Clock, Deployment

_MAX_BYTES = 64 * 1024
_JWKS_MAX_BYTES = 256 * 1024
_FETCH_SECONDS = 3.0
_UNKNOWN_KID_FLOOR_SECONDS = 60.0
_FAILURE_COOL_DOWN_SECONDS = 10.0
_ALGORITHM = "RS256"
_REFUSED_HEADERS = frozenset({"jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "enc"})
_REQUIRED = ("iss", "aud", "exp", "nbf", "iat", "jti", "job_id")


class IDTokenVerifier(TokenVerifier):
    """PyJWT with every option spelled out."""

    def __init__(
        self, deployment: Callable[[], Deployment], *, bounds: Bounds, clock: Clock
    ) -> None:
        self._deployment = deployment
        self._bounds = bounds
        self._clock = clock
        self._keys: dict[Issuer, IssuerKeys] = {}

    def verify(self, subject_token: str) -> VerifiedJob:
        """See `TokenVerifier.verify`."""
        header, unverified_claims = _unverified_parts(subject_token)
        kid = _checked_kid(header)
        issuer = self._issuer(unverified_claims.get("iss"))
        key = self._keys_of(issuer).key(kid)
        try:
            claims = jwt.decode(  # noqa: TID251  the ID tokens' verifier
                subject_token,
                key=key,
                algorithms=[_ALGORITHM],
                audience=issuer.audience,
                issuer=issuer.url,
                options={
                    "verify_signature": True,
                    "verify_aud": True,
                    "verify_iss": True,
                    "verify_jti": True,
                    "verify_sub": False,  # never read
                    # The times are judged by `verified_job`, on our own clock.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "enforce_minimum_key_length": True,
                    "require": list(_REQUIRED),
                },
            )
        except jwt.PyJWTError as exc:
            raise InvalidToken(f"the ID token was refused: {type(exc).__name__}") from exc
        if claims["iss"] != issuer.url:
            # Defensive: PyJWT has compared by substring before (CVE-2024-53861).
            raise InvalidToken("the ID token's issuer isn't the one whose key signed it")
        return verified_job(
            claims,
            issuer=issuer.alias,
            bounds=self._bounds,
            now=self._clock(),
            not_before=self._deployment().not_before,
        )

    def _issuer(self, unverified_issuer: object) -> Issuer:
        for issuer in self._deployment().issuers.values():
            if issuer.url == unverified_issuer:
                return issuer
        raise InvalidToken("the ID token's issuer isn't one of this deployment")

    def _keys_of(self, issuer: Issuer) -> IssuerKeys:
        keys = self._keys.get(issuer)
        if keys is None:
            keys = self._keys[issuer] = IssuerKeys(issuer, bounds=self._bounds, clock=self._clock)
        return keys


@dataclass(slots=True)
class _Fetched:
    keys: dict[str, jwt.PyJWK]
    at: float


class IssuerKeys:
    """One issuer's keys: by OpenID Connect discovery, kept while GitLab is away (JWKS_STALE)."""

    def __init__(self, issuer: Issuer, *, bounds: Bounds, clock: Clock) -> None:
        self._issuer = issuer
        self._bounds = bounds
        self._clock = clock
        self._client = HTTPSClient(issuer.url, issuer.ca)
        self._fetched: _Fetched | None = None
        self._tried_at = float("-inf")
        self._failed = False

    def key(self, kid: str) -> jwt.PyJWK:
        """The key of this id; raises InvalidToken for an unknown one, Unavailable without keys."""
        now = self._clock()
        known = self._known(now)
        if self._due(kid, known, now):
            self._fetch(now)
            known = self._known(now)
        if known is None:
            raise Unavailable(f"the keys of issuer {self._issuer.alias} can't be fetched")
        if kid not in known.keys:
            raise InvalidToken("the ID token's key isn't one of its issuer")
        return known.keys[kid]

    def _known(self, now: float) -> _Fetched | None:
        fetched = self._fetched
        # Fetched in the future means that the clock was set back: nobody knows how old that is.
        if fetched is None or not 0 <= now - fetched.at <= self._bounds.jwks_stale:
            return None
        return fetched

    def _due(self, kid: str, known: _Fetched | None, now: float) -> bool:
        since = now - self._tried_at
        if self._failed and 0 <= since < _FAILURE_COOL_DOWN_SECONDS:
            return False
        if known is None or known.at + self._bounds.jwks_max_age < now:
            return True
        return kid not in known.keys and since >= _UNKNOWN_KID_FLOOR_SECONDS

    def _fetch(self, now: float) -> None:
        self._tried_at = now
        try:
            discovery = self._json("/.well-known/openid-configuration")
            if discovery.get("issuer") != self._issuer.url:
                raise Unavailable("a discovery document of another issuer")  # noqa: TRY301  one way out
            self._fetched = _Fetched(_usable(self._json(self._target(discovery))), now)
            self._failed = False
        except Unavailable:
            self._failed = True

    def _target(self, discovery: dict[str, Any]) -> str:
        """The path of the key set, which must lie at the issuer's own origin and path."""
        uri = discovery.get("jwks_uri")
        if not isinstance(uri, str) or not uri.startswith(f"{self._issuer.url}/"):
            raise Unavailable("a key set outside of its issuer")
        parts = urlsplit(uri[len(self._issuer.url) :])
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    def _json(self, target: str) -> dict[str, Any]:
        answer = self._client.get(target, seconds=_FETCH_SECONDS, max_bytes=_JWKS_MAX_BYTES)
        body = answer.json() if answer.status == 200 else None
        if not isinstance(body, dict):
            raise Unavailable("a discovery or key set answer that can't be used")
        return body


def _usable(key_set: dict[str, Any]) -> dict[str, jwt.PyJWK]:
    keys: dict[str, jwt.PyJWK] = {}
    entries = key_set.get("keys")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") != "RSA":
            continue
        if entry.get("use", "sig") != "sig" or entry.get("alg", _ALGORITHM) != _ALGORITHM:
            continue
        kid = entry.get("kid")
        if not isinstance(kid, str) or kid in keys:
            continue
        try:
            # The public members alone: an issuer that publishes more still verifies the same.
            public = {name: entry[name] for name in ("kty", "n", "e") if name in entry}
            keys[kid] = jwt.PyJWK(public, algorithm=_ALGORITHM)
        except jwt.PyJWTError:
            continue
    if not keys:
        raise Unavailable("a key set without a usable key")
    return keys


def _unverified_parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if len(token) > _MAX_BYTES or not token.isascii():
        raise InvalidToken("the ID token is too long or not ASCII")
    parts = token.split(".")
    if len(parts) != 3:
        raise InvalidToken("the ID token isn't three parts")
    return _unverified_json(parts[0]), _unverified_json(parts[1])


def _unverified_json(part: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        # Decoded here: from bytes, Python would take UTF-16 and UTF-32 as well (RFC 7515, 2).
        value = json.loads(raw.decode(), object_pairs_hook=_without_duplicates)
    except (binascii.Error, ValueError, RecursionError) as exc:
        raise InvalidToken("a part of the ID token can't be decoded") from exc
    if not isinstance(value, dict):
        raise InvalidToken("a part of the ID token isn't a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in a JSON object")
    return value


def _checked_kid(header: dict[str, Any]) -> str:
    if header.get("alg") != _ALGORITHM:
        raise InvalidToken("the ID token isn't signed by RS256")
    if _REFUSED_HEADERS & header.keys():
        raise InvalidToken("the ID token's header names what isn't supported")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise InvalidToken("the ID token names no key")
    return kid
