"""Access tokens signed by KMS, verified by a library that knows nothing of us."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.kms_signer import KMSSigner
from jobgate.core.access_token import audience, claims_of
from jobgate.core.errors import Unavailable

from tests.support import builders as b
from tests.support.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class KMS:
    """An AWSCall with one P-256 key, as KMS signs: DER over a digest."""

    key: ec.EllipticCurvePrivateKey
    asked: list[Mapping[str, Any]]

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        assert (service, operation) == ("kms", "Sign")
        assert request["MessageType"] == "DIGEST"
        assert request["SigningAlgorithm"] == "ECDSA_SHA_256"
        self.asked.append(request)
        algorithm = ec.ECDSA(Prehashed(hashes.SHA256()))
        return {"Signature": self.key.sign(request["Message"], algorithm)}


def a_kms() -> KMS:
    return KMS(ec.generate_private_key(ec.SECP256R1()), [])


def signer(call: Any, *keys: Any) -> KMSSigner:
    deployment = b.a_deployment(keys=keys or [b.a_public_key()])
    return KMSSigner(call, lambda: deployment, clock=FakeClock())


def test_a_signed_token_is_good_for_whoever_has_the_public_key() -> None:
    kms = a_kms()
    claims = claims_of(b.an_access_token(), base_url=b.BASE_URL, now=b.NOW)

    # Many signatures, since one in 256 has a coordinate with a leading zero byte.
    for number in range(300):
        token = signer(kms).sign(claims | {"jti": f"jti-{number}"})
        decoded = jwt.decode(  # noqa: TID251  an independent verifier
            token,
            kms.key.public_key(),
            algorithms=["ES256"],
            audience=audience(b.BASE_URL),
            options={"verify_exp": False, "verify_iat": False},
        )
        assert decoded["jti"] == f"jti-{number}"
        assert len(base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")) == 64


@pytest.mark.parametrize(("r", "s"), [(1, 1), (2**256 - 1, 1), (255, 2**255)])
def test_both_halves_of_a_signature_have_their_full_length(r: int, s: int) -> None:
    def call(*_: Any) -> dict[str, Any]:
        return {"Signature": encode_dss_signature(r, s)}

    token = signer(call).sign({})

    raw = base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")
    assert (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")) == (r, s)


def test_the_header_names_the_key_that_signed_and_the_tokens_type() -> None:
    kms = a_kms()
    old = b.a_public_key("old", slot="slot-1", not_before=b.NOW - 9)
    new = b.a_public_key("new", slot="slot-2", not_before=b.NOW)

    token = signer(kms, old, new).sign({"a": 1})

    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "at+jwt", "kid": "new"}
    assert kms.asked[0]["KeyId"] == "slot-2"


def test_without_a_key_nothing_is_asked_of_kms() -> None:
    kms = a_kms()

    with pytest.raises(Unavailable):
        signer(kms, b.a_public_key(not_before=b.NOW + 1)).sign({})

    assert kms.asked == []


def test_kms_that_refuses_is_unavailable() -> None:
    def refusing(*_: Any) -> dict[str, Any]:
        raise AWSError("KMSInvalidStateException")

    with pytest.raises(Unavailable):
        signer(refusing).sign({})
