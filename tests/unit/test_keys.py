from __future__ import annotations

import pytest
from jobgate.core.errors import Unavailable
from jobgate.core.keys import PublicKey, jwks, signing_key, verifying_keys

from tests.support import builders as b

OLD = b.a_public_key("old", not_before=b.NOW - 1000)
NEW = b.a_public_key("new", not_before=b.NOW + 1000)
RETIRING = b.a_public_key("retiring", not_before=b.NOW - 2000, retire_after=b.NOW + 10)


def test_a_key_verifies_before_it_signs() -> None:
    assert set(verifying_keys([OLD, NEW], now=b.NOW)) == {"old", "new"}
    assert signing_key([OLD, NEW], now=b.NOW) == OLD


def test_the_newest_key_that_may_sign_signs() -> None:
    assert signing_key([NEW, OLD], now=b.NOW + 999) == OLD
    assert signing_key([NEW, OLD], now=b.NOW + 1000) == NEW


def test_a_key_verifies_until_it_is_retired() -> None:
    assert set(verifying_keys([RETIRING], now=b.NOW + 9)) == {"retiring"}
    assert verifying_keys([RETIRING], now=b.NOW + 10) == {}


@pytest.mark.parametrize(
    "keys", [[], [NEW], [b.a_public_key(retire_after=b.NOW)]], ids=["none", "early", "retired"]
)
def test_without_a_key_that_may_sign_nothing_is_signed(keys: list[PublicKey]) -> None:
    with pytest.raises(Unavailable):
        signing_key(keys, now=b.NOW)


def test_the_key_set_names_use_and_algorithm_of_each_key() -> None:
    assert jwks([OLD], now=b.NOW) == {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "eA",
                "y": "eQ",
                "kid": "old",
                "use": "sig",
                "alg": "ES256",
            }
        ]
    }
