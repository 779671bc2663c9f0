"""ID tokens as GitLab signs them, and as somebody would forge them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.builders import AUDIENCE, ISSUER_URL, NOW

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
"""As a claim's value: leave the claim out."""


def gitlab_claims(**changes: Any) -> dict[str, Any]:
    """The payload of a GitLab 18.9 ID token, with changes; every id a string but the runner's."""
    claims: dict[str, Any] = {
        "namespace_id": "2",
        "namespace_path": "top/sub1",
        "project_id": "100",
        "project_path": "top/sub1/app",
        "job_project_id": "100",
        "job_project_path": "top/sub1/app",
        "job_namespace_id": "2",
        "job_namespace_path": "top/sub1",
        "user_id": "12",
        "user_login": "dana",
        "user_email": "dana@example.test",
        "user_access_level": "developer",
        "pipeline_id": "7001",
        "pipeline_source": "push",
        "job_id": "9001",
        "ref": "main",
        "ref_type": "branch",
        "ref_path": "refs/heads/main",
        "ref_protected": "true",
        "runner_id": 33,
        "runner_environment": "self-hosted",
        "sha": "0123456789abcdef0123456789abcdef01234567",
        "project_visibility": "private",
        "ci_config_ref_uri": None,
        "jti": "6f7d3c0e-7c7a-4a6e-9a0e-3f7f6f0f7a11",
        "iss": ISSUER_URL,
        "iat": int(NOW),
        "nbf": int(NOW) - 5,
        "exp": int(NOW) + 3600,
        "sub": "project_path:top/sub1/app:ref_type:branch:ref:main",
        "aud": AUDIENCE,
    }
    return {name: value for name, value in (claims | changes).items() if value is not ABSENT}


@dataclass(frozen=True)
class SigningKey:
    """An RSA key pair and the id that it's published under."""

    kid: str
    private: rsa.RSAPrivateKey

    @classmethod
    def generate(cls, kid: str, *, bits: int = 2048) -> SigningKey:
        return cls(kid, rsa.generate_private_key(public_exponent=65537, key_size=bits))

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as GitLab publishes it."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "kid": self.kid,
            "use": "sig",
            "alg": "RS256",
            "n": _integer(numbers.n),
            "e": _integer(numbers.e),
        }

    @property
    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(
        self, claims: Mapping[str, Any] | bytes, *, header: Mapping[str, Any] | bytes | None = None
    ) -> str:
        """Sign a payload; `header` is put over the usual one, or stands for it as bytes."""
        usual = {"alg": "RS256", "typ": "JWT", "kid": self.kid}
        if not isinstance(header, bytes):
            given = {**usual, **(header or {})}
            header = json.dumps({k: v for k, v in given.items() if v is not ABSENT}).encode()
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{base64url(header)}.{base64url(payload)}"
        signature = self.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64url(signature)}"


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515, appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _integer(number: int) -> str:
    return base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))
