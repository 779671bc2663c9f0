"""Signs access tokens with a key that never leaves KMS (RFC 7515; ES256: RFC 7518, 3.4)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from jobgate.adapters.aws_api import AWSError
from jobgate.core import access_token, keys
from jobgate.core.errors import Unavailable
from jobgate.ports.exchange import TokenSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.ports import Clock, Deployment

_COORDINATE_BYTES = 32


class KMSSigner(TokenSigner):
    """Signs with the newest published key that may sign already."""

    def __init__(
        self,
        call: AWSCall,
        deployment: Callable[[], Deployment],
        *,
        clock: Clock,
        kind: str = access_token.TYPE,
    ) -> None:
        self._call = call
        self._deployment = deployment
        self._clock = clock
        self._kind = kind

    def sign(self, claims: Mapping[str, object]) -> str:
        """See `TokenSigner.sign`."""
        key = keys.signing_key(self._deployment().keys, now=self._clock())
        header = {"alg": access_token.ALGORITHM, "typ": self._kind, "kid": key.kid}
        signed = f"{_part(header)}.{_part(claims)}"
        try:
            answer = self._call(
                "kms",
                "Sign",
                {
                    "KeyId": key.slot,
                    "Message": hashlib.sha256(signed.encode()).digest(),
                    "MessageType": "DIGEST",
                    "SigningAlgorithm": "ECDSA_SHA_256",
                },
            )
        except AWSError as exc:
            raise Unavailable(f"KMS refused to sign: {exc.code}") from exc
        r, s = decode_dss_signature(answer["Signature"])
        raw = r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)
        return f"{signed}.{_base64url(raw)}"


def _part(value: Mapping[str, object]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
