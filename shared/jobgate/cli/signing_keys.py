"""A KMS key's public half as a published key (JWK, RFC 7517; its thumbprint, RFC 7638)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from jobgate.core.errors import Unavailable
from jobgate.core.keys import PublicKey

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall

_COORDINATE_BYTES = 32


def read_public_key(aws: AWSCall, slot: str, *, not_before: float) -> PublicKey:
    """The public key of a slot (a KMS key's ARN), to sign from `not_before` on."""
    answer = aws("kms", "GetPublicKey", {"KeyId": slot})
    jwk = es256_jwk(answer["PublicKey"])
    return PublicKey(kid=thumbprint(jwk), slot=slot, jwk=jwk, not_before=not_before)


def es256_jwk(der: bytes) -> dict[str, str]:
    """The JWK of a P-256 public key in SubjectPublicKeyInfo form; raises Unavailable otherwise."""
    try:
        key = load_der_public_key(der)
    except ValueError as exc:
        raise Unavailable("KMS gave a public key that can't be read.") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Unavailable("The signing key isn't a P-256 key.")
    point = key.public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": _base64url(point.x.to_bytes(_COORDINATE_BYTES)),
        "y": _base64url(point.y.to_bytes(_COORDINATE_BYTES)),
    }


def thumbprint(jwk: dict[str, str]) -> str:
    """The key's `kid`: the SHA-256 thumbprint of its required members (RFC 7638, 3.2)."""
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    text = json.dumps(required, sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(text.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
