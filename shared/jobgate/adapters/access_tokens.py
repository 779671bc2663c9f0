"""Verifies Jobgate's own access tokens with the published keys, without a call for a token."""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import jwt

from jobgate.core import access_token, connection_check
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.keys import verifying_keys
from jobgate.ports.relay import AccessTokenVerifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.access_token import AccessToken
    from jobgate.core.bounds import Bounds
    from jobgate.core.keys import PublicKey
    from jobgate.ports import Clock, Deployment

_VERIFIED_MAX = 1024
_KEYS_MAX = 16
_HEADER = {"alg", "typ", "kid"}
_REQUIRED = ["iss", "aud", "sub", "jti", "iat", "exp"]


class PublishedKeysVerifier(AccessTokenVerifier):
    """PyJWT with every option spelled out; times are compared with the clock that it's given.

    What was verified is remembered by the whole token, for as long as the deployment's keys and
    base URL stay what they were.
    """

    def __init__(
        self, deployment: Callable[[], Deployment], *, bounds: Bounds, clock: Clock
    ) -> None:
        self._deployment = deployment
        self._bounds = bounds
        self._clock = clock
        self._believed: Deployment | None = None
        self._verified: OrderedDict[str, tuple[AccessToken, PublicKey]] = OrderedDict()
        self._keys: OrderedDict[str, tuple[PublicKey, jwt.PyJWK]] = OrderedDict()

    def verify(self, access_token: str) -> AccessToken:
        deployment = self._deployment()
        if deployment is not self._believed:
            self._verified.clear()
            self._believed = deployment
        now = self._clock()
        known = self._verified.get(access_token)
        if known is None:
            known = self._verify(access_token, deployment, now)
            self._verified[access_token] = known
            if len(self._verified) > _VERIFIED_MAX:
                self._verified.popitem(last=False)
        token, key = known
        if token.expires_at + self._bounds.leeway <= now:
            raise InvalidToken("the access token has expired", expired=True)
        if key.retire_after is not None and key.retire_after <= now:
            raise InvalidToken("the access token's key is retired")
        return token

    def check(self, token: str) -> tuple[str, int]:
        """The issuer and the agent of an operator's check; raises InvalidToken."""
        now = self._clock()
        claims, _ = self._claims(token, self._deployment(), now, kind=connection_check.TYPE)
        if claims["exp"] <= now:
            raise InvalidToken("the check's token has expired", expired=True)
        return connection_check.checked_agent(claims)

    def _verify(
        self, token: str, deployment: Deployment, now: float
    ) -> tuple[AccessToken, PublicKey]:
        claims, key = self._claims(token, deployment, now, kind=access_token.TYPE)
        return access_token.token_of(claims), key

    def _claims(
        self, token: str, deployment: Deployment, now: float, *, kind: str
    ) -> tuple[dict[str, Any], PublicKey]:
        if deployment.base_url is None:
            raise Unavailable("the deployment has no base URL yet")
        kid = _kid(token, kind)
        key = verifying_keys(deployment.keys, now=now).get(kid)
        if key is None:
            raise InvalidToken("the access token's key isn't published")
        try:
            claims: dict[str, Any] = jwt.decode(  # noqa: TID251  the access tokens' verifier
                token,
                key=self._public_key(key),
                algorithms=[access_token.ALGORITHM],
                audience=access_token.audience(deployment.base_url),
                issuer=deployment.base_url,
                options={
                    "verify_signature": True,
                    "verify_aud": True,
                    "strict_aud": True,
                    "verify_iss": True,
                    "verify_sub": True,
                    "verify_jti": True,
                    "require": _REQUIRED,
                    # Compared by us, with our own clock; there is no nbf.
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.PyJWTError as exc:
            raise InvalidToken(f"the access token was refused: {type(exc).__name__}") from exc
        if claims["iss"] != deployment.base_url:
            # Defensive: PyJWT has compared by substring before (CVE-2024-53861).
            raise InvalidToken("the access token's issuer isn't this deployment")
        _check_times(claims, latest=now + self._bounds.leeway, earliest=deployment.not_before)
        return claims, key

    def _public_key(self, key: PublicKey) -> jwt.PyJWK:
        known = self._keys.get(key.kid)
        if known is None or known[0] != key:
            parsed = jwt.PyJWK(dict(key.jwk), algorithm=access_token.ALGORITHM)
            known = self._keys[key.kid] = key, parsed
            if len(self._keys) > _KEYS_MAX:
                self._keys.popitem(last=False)
        return known[1]


def _kid(token: str, kind: str) -> str:
    """The key's id in a token's header, which holds what ours hold and nothing else."""
    if len(token) > access_token.MAX_BYTES:
        raise InvalidToken("an access token that is too long")
    part = token.split(".", 1)[0]
    try:
        header = json.loads(
            base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        )
    except (binascii.Error, ValueError, RecursionError) as exc:
        raise InvalidToken("an access token without a header") from exc
    if not isinstance(header, dict) or header.keys() != _HEADER:
        raise InvalidToken("an access token's header that isn't of our form")
    if header["alg"] != access_token.ALGORITHM or header["typ"] != kind:
        raise InvalidToken("a token of another kind")
    if not isinstance(header["kid"], str):
        raise InvalidToken("an access token that names no key")
    return header["kid"]


def _check_times(claims: dict[str, Any], *, latest: float, earliest: int | None) -> None:
    for name in ("iat", "exp"):
        if type(claims[name]) is not int:
            raise InvalidToken(f"an access token whose {name} isn't a whole number")
    if claims["iat"] > latest:
        raise InvalidToken("an access token from the future")
    if earliest is not None and claims["iat"] < earliest:
        cause = "the access token is older than the table, which was restored"
        raise InvalidToken(cause, expired=True)
