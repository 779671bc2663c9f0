from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jobgate.adapters.access_tokens import PublishedKeysVerifier
from jobgate.core import access_token, connection_check
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.keys import PublicKey
from jobgate.ports import Deployment
from jwt.algorithms import ECAlgorithm

from tests.support.relay_parts import AGENT, NOW, Clock, a_token

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = "https://jobgate.test/live"
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def _public(kid: str, key: ec.EllipticCurvePrivateKey, **changes: Any) -> PublicKey:
    jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return replace(PublicKey(kid=kid, slot="arn", jwk=jwk, not_before=0), **changes)


class Verifier:
    def __init__(self) -> None:
        self.clock = Clock()
        self.reads = 0
        self.deployment = Deployment(
            base_url=BASE,
            ca=None,
            issuers={},
            keys=(_public("k1", KEY), _public("k2", OTHER)),
            not_before=None,
            roots=frozenset(),
        )
        self.verifier = PublishedKeysVerifier(
            self._read, bounds=Bounds(leeway=30), clock=self.clock
        )

    def _read(self) -> Deployment:
        self.reads += 1
        return self.deployment

    def __call__(self, token: str) -> access_token.AccessToken:
        return self.verifier.verify(token)


@pytest.fixture
def verify() -> Verifier:
    return Verifier()


def _claims(**changes: Any) -> dict[str, Any]:
    claims = access_token.claims_of(a_token(agent_id=AGENT), base_url=BASE, now=NOW)
    return {k: v for k, v in {**claims, **changes}.items() if v is not ...}


def _part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _es256(signed: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def _token(
    claims: dict[str, Any] | None = None,
    *,
    sign: Callable[[bytes], bytes] = _es256,
    **header: Any,
) -> str:
    given = {"alg": "ES256", "typ": "at+jwt", "kid": "k1", **header}
    head = {name: value for name, value in given.items() if value is not ...}
    signed = f"{_part(head)}.{_part(_claims() if claims is None else claims)}"
    return f"{signed}.{_part(sign(signed.encode()))}"


def _other(signed: bytes) -> bytes:
    return _es256(signed, OTHER)


def test_a_token_of_ours_is_read_back_whole(verify: Verifier) -> None:
    assert verify(_token()) == a_token(agent_id=AGENT)


def test_any_published_key_is_good(verify: Verifier) -> None:
    assert verify(_token(sign=_other, kid="k2")) == a_token(agent_id=AGENT)


def test_a_token_that_is_longer_than_any_of_ours_is_refused_however_well_signed(
    verify: Verifier,
) -> None:
    room = access_token.MAX_BYTES - len(_token(_claims(x="")))
    # Base64 has four characters for three bytes.
    longest, too_long = (_token(_claims(x="y" * (room * 3 // 4 + more))) for more in (-3, 3))
    assert len(longest) <= access_token.MAX_BYTES < len(too_long)

    assert verify(longest) == a_token(agent_id=AGENT)
    with pytest.raises(InvalidToken):
        verify(too_long)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.test"},
        {"iss": f"{BASE}/"},
        {"iss": BASE.upper()},
        {"iss": "https://jobgate.test"},
        {"iss": [BASE]},
        {"iss": ...},
        {"aud": BASE},
        {"aud": f"{BASE}/agents/"},
        {"aud": [f"{BASE}/agents"]},
        {"aud": [f"{BASE}/agents", "x"]},
        {"aud": ...},
        {"exp": ...},
        {"exp": str(int(NOW) + 60)},
        {"exp": True},
        {"exp": NOW + 60.5},
        {"iat": ...},
        {"iat": "1"},
        {"iat": int(NOW) + 31},
        {"jti": ...},
        {"jti": 5},
        {"sub": ...},
        {"v": 2},
        {"v": ...},
        {"did": ...},
        {"job": ...},
        {"job": {}},
        {"job": "x"},
    ],
)
def test_a_token_with_other_claims_is_refused(verify: Verifier, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        verify(_token(_claims(**changes)))


def test_a_token_from_before_the_table_was_restored_has_expired(verify: Verifier) -> None:
    token = _token()
    assert verify(token) == a_token(agent_id=AGENT)
    verify.deployment = replace(verify.deployment, not_before=int(NOW) + 1)

    with pytest.raises(InvalidToken) as refused:
        verify(token)

    assert refused.value.expired
    verify.deployment = replace(verify.deployment, not_before=int(NOW))
    assert verify(token) == a_token(agent_id=AGENT)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": None},
        {"typ": ...},
        {"typ": "AT+JWT"},
        {"kid": "k3"},
        {"kid": None},
        {"kid": ...},
        {"kid": ["k1"]},
        {"kid": ""},
        {"crit": ["x"], "x": 1},
        {"jku": "https://evil.test/jwks"},
        {"jwk": {}},
        {"x5u": "https://evil.test"},
        {"b64": True},
        {"cty": "JWT"},
    ],
)
def test_a_token_with_another_header_is_refused(verify: Verifier, header: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        verify(_token(**header))


def test_a_signature_of_another_key_is_refused(verify: Verifier) -> None:
    with pytest.raises(InvalidToken):
        verify(_token(sign=_other))


def test_other_algorithms_are_refused(verify: Verifier) -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for token in (
        _token(alg="none", sign=lambda _signed: b""),
        _token(alg="None", sign=lambda _signed: b""),
        _token(sign=lambda _signed: b""),
        _token(alg="HS256", sign=lambda signed: hmac.digest(public, signed, "sha256")),
        _token(alg="RS256", sign=lambda x: rsa_key.sign(x, padding.PKCS1v15(), hashes.SHA256())),
        _token(alg="ES384"),
        _token(alg="es256"),
        _token(alg=...),
        _token(alg=["ES256"]),
        # (r, s) of zero once verified anything (CVE-2022-21449).
        _token(sign=lambda _signed: bytes(64)),
    ):
        with pytest.raises(InvalidToken):
            verify(token)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_part_is_refused(verify: Verifier, place: int) -> None:
    parts = _token().split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[place] + "=="))
    raw[-3] ^= 1
    parts[place] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    with pytest.raises(InvalidToken):
        verify(".".join(parts))


@pytest.mark.parametrize(
    "token",
    ["", "a", "a.b", "a.b.c", "..", "." * 50, "e30.e30.", "W10.e30.x", "\u03bb.b.c", "a" * 4097],
)
def test_what_is_no_token_is_refused(verify: Verifier, token: str) -> None:
    with pytest.raises(InvalidToken):
        verify(token)


def test_a_deeply_nested_header_is_refused(verify: Verifier) -> None:
    header = base64.urlsafe_b64encode(b"[" * 3000).decode().rstrip("=")
    with pytest.raises(InvalidToken):
        verify(f"{header}.e30.x")


def test_a_token_is_good_until_its_end_and_the_leeway(verify: Verifier) -> None:
    token, ends = _token(), a_token().expires_at
    for now, good in ((NOW, True), (ends + 29, True), (ends + 30, False), (ends + 999, False)):
        verify.clock.now = now
        if good:
            verify(token)
        else:
            with pytest.raises(InvalidToken) as refused:
                verify(token)
            assert refused.value.expired


def test_an_expired_token_that_was_never_seen_is_expired(verify: Verifier) -> None:
    verify.clock.now = a_token().expires_at + 31
    with pytest.raises(InvalidToken) as refused:
        verify(_token())
    assert refused.value.expired


def test_a_key_that_is_taken_away_takes_its_tokens_along(verify: Verifier) -> None:
    token = _token()
    verify(token)
    verify.deployment = replace(verify.deployment, keys=(_public("k2", OTHER),))
    with pytest.raises(InvalidToken):
        verify(token)


def test_a_key_that_retires_takes_its_tokens_along(verify: Verifier) -> None:
    verify.deployment = replace(
        verify.deployment, keys=(_public("k1", KEY, retire_after=NOW + 10),)
    )
    token = _token()
    verify(token)
    verify.clock.now = NOW + 10
    with pytest.raises(InvalidToken):
        verify(token)


def test_another_key_under_a_known_id_is_another_key(verify: Verifier) -> None:
    token = _token()
    verify(token)
    verify.deployment = replace(verify.deployment, keys=(_public("k1", OTHER),))
    with pytest.raises(InvalidToken):
        verify(token)
    assert verify(_token(sign=_other)) == a_token(agent_id=AGENT)


def test_another_base_url_is_another_audience(verify: Verifier) -> None:
    token = _token()
    verify(token)
    verify.deployment = replace(verify.deployment, base_url="https://other.test")
    with pytest.raises(InvalidToken):
        verify(token)


def test_without_a_base_url_nothing_is_known(verify: Verifier) -> None:
    verify.deployment = replace(verify.deployment, base_url=None)
    with pytest.raises(Unavailable):
        verify(_token())


def test_a_key_that_is_none_refuses_its_tokens(verify: Verifier) -> None:
    broken = replace(_public("k1", KEY), jwk={"kty": "EC"})
    verify.deployment = replace(verify.deployment, keys=(broken,))
    with pytest.raises(InvalidToken):
        verify(_token())


def test_what_is_remembered_is_bounded(verify: Verifier) -> None:
    token = _token()
    verify(token)
    verify.verifier._verified = type(verify.verifier._verified)(
        (str(number), verify.verifier._verified[token]) for number in range(1024)
    )
    verify(token)
    assert len(verify.verifier._verified) == 1024
    assert token in verify.verifier._verified


def _check(**changes: Any) -> dict[str, Any]:
    return connection_check.claims_of("main", AGENT, base_url=BASE, jti="j", now=NOW) | changes


def test_a_check_is_read_back(verify: Verifier) -> None:
    token = _token(_check(), typ=connection_check.TYPE)
    assert verify.verifier.check(token) == ("main", AGENT)


def test_a_check_is_no_access_token_and_an_access_token_no_check(verify: Verifier) -> None:
    # With each other's claims as well, since the type alone has to tell them apart.
    with pytest.raises(InvalidToken):
        verify(_token(_claims(), typ=connection_check.TYPE))
    with pytest.raises(InvalidToken):
        verify.verifier.check(_token(_check()))


@pytest.mark.parametrize(
    "changes", [{"exp": int(NOW)}, {"aud": "https://evil.test"}, {"iss": "https://evil.test"}]
)
def test_a_check_ends_and_is_for_this_deployment(verify: Verifier, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        verify.verifier.check(_token(_check(**changes), typ=connection_check.TYPE))


def test_a_check_is_signed_by_a_published_key(verify: Verifier) -> None:
    with pytest.raises(InvalidToken):
        verify.verifier.check(_token(_check(), typ=connection_check.TYPE, sign=_other))
