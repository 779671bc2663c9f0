"""The RSA keys of the instance, its JWKS, and the signing of tokens."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key and its id, which is the key's RFC 7638 thumbprint."""

    key: rsa.RSAPrivateKey
    kid: str
    jwk: dict[str, str]

    @classmethod
    def generate(cls) -> SigningKey:
        """A new RSA 2048 key, the size that GitLab uses."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        numbers = key.public_key().public_numbers()
        required = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
        canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
        kid = _text(hashlib.sha256(canonical).digest())
        return cls(key, kid, {**required, "kid": kid, "use": "sig", "alg": "RS256"})

    def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
        """A compact JWS over the claims; `header` overrides its fields, or adds to them.

        Made by hand, since a library would refuse the malformed tokens that tests want.
        """
        head = {"typ": "JWT", "kid": self.kid, "alg": "RS256", **(header or {})}
        parts = [_text(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims)]
        signature = self.key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
        return ".".join([*parts, _text(signature)])


class KeySet:
    """The two keys that GitLab publishes: one signs logins, the other CI tokens."""

    def __init__(self) -> None:
        self.openid = SigningKey.generate()
        self.ci = SigningKey.generate()
        self._former: list[SigningKey] = []

    def rotate(self, *, keep_old: bool) -> None:
        """Replace the CI key; the old one stays in the set only with `keep_old`."""
        self._former = [*self._former, self.ci] if keep_old else []
        self.ci = SigningKey.generate()

    def jwks(self) -> dict[str, Any]:
        """The JSON Web Key Set."""
        return {"keys": [key.jwk for key in (self.openid, self.ci, *self._former)]}


def discovery(url: str) -> dict[str, Any]:
    """The OpenID configuration of an instance."""
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/oauth/authorize",
        "token_endpoint": f"{url}/oauth/token",
        "revocation_endpoint": f"{url}/oauth/revoke",
        "introspection_endpoint": f"{url}/oauth/introspect",
        "userinfo_endpoint": f"{url}/oauth/userinfo",
        "jwks_uri": f"{url}/oauth/discovery/keys",
        "scopes_supported": ["api", "read_api", "read_user", "read_repository", "openid"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "password", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claim_types_supported": ["normal"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat"],
        "code_challenge_methods_supported": ["plain", "S256"],
    }


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
