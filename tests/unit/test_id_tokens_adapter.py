"""Verification of ID tokens with real RSA keys and a real HTTPS server for the issuer's keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jobgate.adapters.id_tokens import IDTokenVerifier
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken, JobgateError, Unavailable

from local.certificates import CertificateAuthority
from tests.support import builders as b
from tests.support.fakes import FakeClock
from tests.support.https_server import HTTPSServer, https_server
from tests.support.id_tokens import ABSENT, SigningKey, base64url, gitlab_claims

if TYPE_CHECKING:
    from collections.abc import Iterator

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/oauth/discovery/keys"
BOUNDS = Bounds()
KEY = SigningKey.generate("key-1")
OTHER = SigningKey.generate("key-2")


@dataclass
class GitLab:
    """An issuer with a real server, and the verifier that trusts it."""

    server: HTTPSServer
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.url = self.server.url
        self.verifier = self.another_verifier()
        self.publish(KEY.jwk)

    def another_verifier(self) -> IDTokenVerifier:
        issuer = b.an_issuer(url=self.url, ca=self.server.ca)
        return IDTokenVerifier(lambda: b.a_deployment(issuer), bounds=BOUNDS, clock=self.clock)

    def discovery(self, **changes: Any) -> dict[str, Any]:
        return {"issuer": self.url, "jwks_uri": self.url + KEYS, **changes}

    def publish(self, *jwks: dict[str, Any], **discovery: Any) -> None:
        self.server.answer(DISCOVERY, self.discovery(**discovery))
        self.server.answer(KEYS, {"keys": list(jwks)})

    def redirect(self, path: str, good: dict[str, Any], *, status: int) -> None:
        """What would be good is in the redirect's own body, and where it leads to."""
        self.server.answer("/elsewhere", good)
        elsewhere = {"Location": f"{self.url}/elsewhere"}
        self.server.answer(path, good, status=status, headers=elsewhere)

    def claims(self, **changes: Any) -> dict[str, Any]:
        return gitlab_claims(**{"iss": self.url, **changes})

    def token(
        self, *, key: SigningKey = KEY, header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        return key.sign(self.claims(**changes), header=header)

    def verify(self, token: str | None = None) -> Any:
        return self.verifier.verify(self.token() if token is None else token)

    def outcome(self, token: str | None = None) -> str:
        """In a word: good, invalid or unavailable."""
        try:
            self.verify(token)
        except JobgateError as exc:
            return {InvalidToken: "invalid", Unavailable: "unavailable"}[type(exc)]
        return "good"

    @property
    def fetches(self) -> tuple[int, int]:
        return self.server.count(DISCOVERY), self.server.count(KEYS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HTTPSServer]:
    folder = tmp_path_factory.mktemp("issuer")
    authority = CertificateAuthority.create(folder)
    with https_server(authority.issue("gitlab", folder), authority.certificate) as listening:
        yield listening


@pytest.fixture
def gitlab(server: HTTPSServer) -> GitLab:
    server.asked.clear()
    return GitLab(server)


def test_a_good_token_is_the_job_that_it_names(gitlab: GitLab) -> None:
    assert gitlab.verify() == b.a_verified_job()


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [b.AUDIENCE]},
        {"aud": ["https://elsewhere.example.test", b.AUDIENCE]},
        {"sub": ABSENT},
        {"sub": None},
        {"sub": 7},
        {"exp": int(b.NOW) - 29},
        {"nbf": int(b.NOW) + 30},
    ],
)
def test_other_forms_of_a_good_token_are_good(gitlab: GitLab, changes: dict[str, Any]) -> None:
    assert gitlab.verify(gitlab.token(**changes)).job == b.a_job()


# --- Tokens that aren't good, though validly signed ---


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ABSENT},
        {"aud": None},
        {"aud": ""},
        {"aud": []},
        {"aud": "https://elsewhere.example.test"},
        {"aud": b.AUDIENCE + "/"},
        {"aud": b.AUDIENCE[:-1]},
        {"aud": b.AUDIENCE.upper()},
        {"aud": f"{b.AUDIENCE} https://elsewhere.example.test"},
        {"aud": f" {b.AUDIENCE}"},
        {"aud": b.AUDIENCE.removeprefix("https://")},
        {"aud": [b.AUDIENCE + "x"]},
        {"aud": [[b.AUDIENCE]]},
        {"aud": [b.AUDIENCE, 7]},
        {"aud": {b.AUDIENCE: True}},
        {"aud": 7},
        {"aud": True},
        {"exp": ABSENT},
        {"exp": None},
        {"exp": int(b.NOW) - 30},
        {"exp": str(int(b.NOW) + 60)},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"exp": True},
        {"nbf": ABSENT},
        {"nbf": int(b.NOW) + 31},
        {"nbf": "soon"},
        {"nbf": float("-inf")},
        {"iat": ABSENT},
        {"iat": int(b.NOW) + 31},
        {"iat": int(b.NOW) - 36 * 86_400},
        {"iat": []},
        {"jti": ABSENT},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"job_id": ABSENT},
        {"job_id": None},
        {"job_id": "9001 or 1"},
        {"job_project_id": None},
        {"ref_protected": ABSENT},
        {"ref_protected": "True"},
        {"user_login": None},
    ],
    ids=str,
)
def test_a_signed_token_with_another_claim_is_invalid(
    gitlab: GitLab, changes: dict[str, Any]
) -> None:
    assert gitlab.outcome(gitlab.token(**changes)) == "invalid"


@pytest.mark.parametrize(
    "header",
    [
        {"kid": ABSENT},
        {"kid": None},
        {"kid": ""},
        {"kid": 1},
        {"kid": ["key-1"]},
        {"kid": "KEY-1"},
        {"kid": "key-1 "},
        {"kid": "../key-1"},
        {"alg": ABSENT},
        {"alg": None},
        {"alg": "rs256"},
        {"alg": "RS512"},
        {"alg": "PS256"},
        {"alg": ["RS256"]},
        {"jku": "https://evil.example.test/keys"},
        {"x5u": "https://evil.example.test/cert"},
        {"jwk": KEY.jwk},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"zip": "DEF"},
        {"enc": "A256GCM"},
    ],
    ids=str,
)
def test_a_signed_token_with_another_header_is_invalid(
    gitlab: GitLab, header: dict[str, Any]
) -> None:
    assert gitlab.outcome(gitlab.token(header=header)) == "invalid"


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize(
    "json_text",
    [
        b'{"alg":"RS256","alg":"RS256","kid":"key-1","iss":"%s"}',
        b'{"alg":"RS256","kid":"key-1","kid":"key-1","iss":"%s"}',
        b'{"alg":"RS256","kid":"key-1","iss":"%s","iss":"%s"}',
        b'{"alg":"RS256","kid":"key-1","iss":"%s","a":{"b":1,"b":2}}',
        b"[]",
        b'"text"',
        b"null",
        b"7",
        b"",
        b"{",
        b'{"alg":"RS256"} {}',
        b"\xff\xfe",
        b"[" * 20_000,
        b'{"a":' * 5_000,
        b'{"iss":' + b"9" * 5000 + b"}",
    ],
    ids=range(15),
)
def test_a_part_that_is_no_plain_json_object_is_invalid(
    gitlab: GitLab, part: int, json_text: bytes
) -> None:
    content = json_text.replace(b"%s", gitlab.url.encode())
    token = (
        KEY.sign(gitlab.claims(), header=content)
        if part == 0
        else KEY.sign(content, header={"kid": KEY.kid})
    )

    assert gitlab.outcome(token) == "invalid"


# --- Forged tokens ---


def test_an_unsigned_token_is_invalid(gitlab: GitLab) -> None:
    claims = gitlab.claims()
    for alg in ("none", "None", "NONE", ""):
        head = base64url(json.dumps({"alg": alg, "typ": "JWT", "kid": KEY.kid}).encode())
        unsigned = f"{head}.{base64url(json.dumps(claims).encode())}."
        assert gitlab.outcome(unsigned) == "invalid"


@pytest.mark.parametrize("secret", [KEY.public_pem, KEY.jwk["n"].encode(), b""])
@pytest.mark.parametrize("alg", ["HS256", "RS256"])
def test_a_token_signed_with_the_public_key_as_a_secret_is_invalid(
    gitlab: GitLab, secret: bytes, alg: str
) -> None:
    head = base64url(json.dumps({"alg": alg, "kid": KEY.kid}).encode())
    signed = f"{head}.{base64url(json.dumps(gitlab.claims()).encode())}"
    code = hmac.new(secret, signed.encode(), hashlib.sha256).digest()

    assert gitlab.outcome(f"{signed}.{base64url(code)}") == "invalid"


@pytest.mark.parametrize("header", [{"alg": "RS512"}, {"alg": "ES256"}, {"crit": []}, {"kid": 1}])
def test_a_header_that_is_refused_anyway_makes_nobody_fetch_keys(
    gitlab: GitLab, header: dict[str, Any]
) -> None:
    assert gitlab.outcome(gitlab.token(header=header)) == "invalid"
    assert gitlab.fetches == (0, 0)


def test_a_token_of_another_algorithm_is_invalid_even_with_a_published_key(gitlab: GitLab) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    public = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    gitlab.publish(KEY.jwk, {**public, "kid": "ec", "use": "sig", "alg": "ES256"})

    token = jwt.encode(gitlab.claims(), private, algorithm="ES256", headers={"kid": "ec"})
    disguised = KEY.sign(gitlab.claims(), header={"kid": "ec"})

    assert gitlab.outcome(token) == "invalid"
    assert gitlab.outcome(disguised) == "invalid"


def test_a_token_of_a_key_that_the_issuer_does_not_publish_is_invalid(gitlab: GitLab) -> None:
    stranger = SigningKey.generate(KEY.kid)

    assert gitlab.outcome(gitlab.token(key=stranger)) == "invalid"
    assert gitlab.outcome(gitlab.token(key=OTHER)) == "invalid"


def test_a_token_with_one_bit_changed_is_invalid(gitlab: GitLab) -> None:
    head, payload, signature = gitlab.token().split(".")
    flipped = base64url(
        bytes([base64.urlsafe_b64decode(signature + "==")[0] ^ 1])
        + base64.urlsafe_b64decode(signature + "==")[1:]
    )
    other_payload = base64url(json.dumps(gitlab.claims(job_project_id="101")).encode())

    assert gitlab.outcome(f"{head}.{payload}.{flipped}") == "invalid"
    assert gitlab.outcome(f"{head}.{other_payload}.{signature}") == "invalid"
    assert gitlab.outcome(f"{head}.{payload}.") == "invalid"


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: ".",
        lambda token: "..",
        lambda token: "...",
        lambda token: token + ".",
        lambda token: token + ".AAAA",
        lambda token: "." + token,
        lambda token: token.rsplit(".", 1)[0],
        lambda token: token.replace(".", "..", 1),
        lambda token: token + "\u00e9",
        lambda token: "\u0435" + token[1:],
        lambda token: " " + token,
        lambda token: token.replace(".", ".\n", 1),
        lambda token: token.replace(".", "!.", 1),
        lambda token: f"Bearer {token}",
        lambda token: "A" * 65_537,
        lambda token: token + "A" * 65_536,
        lambda token: token.split(".")[0] + "." + "A" * 65_000 + "." + token.split(".")[2],
        lambda token: '{"payload":"","signatures":[]}',
    ],
    ids=range(19),
)
def test_what_is_no_compact_token_is_invalid_and_asks_nobody(gitlab: GitLab, change: Any) -> None:
    assert gitlab.outcome(change(gitlab.token())) == "invalid"


# --- Who the issuer is ---


@pytest.mark.parametrize(
    "change",
    [
        lambda url: ABSENT,
        lambda url: None,
        lambda url: "",
        lambda url: url + "/",
        lambda url: url[:-1],
        lambda url: url + "0",
        lambda url: url.upper(),
        lambda url: url.replace("https", "http"),
        lambda url: url.replace("https://", "https://user@"),
        lambda url: f"{url} https://evil.example.test",
        lambda url: f" {url}",
        lambda url: [url],
        lambda url: {"url": url},
        lambda url: 7,
        lambda url: "https://evil.example.test",
        lambda url: url.removeprefix("https://"),
        lambda url: "main",
        lambda url: url.replace("127.0.0.1", "localhost"),
    ],
    ids=range(18),
)
def test_another_issuer_is_refused_before_anything_is_fetched(gitlab: GitLab, change: Any) -> None:
    assert gitlab.outcome(gitlab.token(iss=change(gitlab.url))) == "invalid"
    assert gitlab.fetches == (0, 0)


def test_a_token_is_verified_with_its_own_issuers_keys_alone(gitlab: GitLab) -> None:
    other = b.an_issuer("other", url=f"{gitlab.url}/other", ca=gitlab.server.ca, is_default=False)
    main = b.an_issuer(url=gitlab.url, ca=gitlab.server.ca)
    document = {"issuer": other.url, "jwks_uri": f"{other.url}/keys"}
    gitlab.server.answer(f"/other{DISCOVERY}", document)
    gitlab.server.answer("/other/keys", {"keys": [OTHER.jwk]})
    verifier = IDTokenVerifier(
        lambda: b.a_deployment(main, other), bounds=BOUNDS, clock=gitlab.clock
    )

    good = verifier.verify(gitlab.token(key=OTHER, iss=other.url))

    assert good.job == b.a_job(issuer="other")
    for token in (gitlab.token(key=OTHER), gitlab.token(iss=other.url)):
        with pytest.raises(InvalidToken):
            verifier.verify(token)


# --- The issuer's keys ---


def test_keys_are_fetched_once_and_kept(gitlab: GitLab) -> None:
    for _ in range(20):
        gitlab.verify()

    assert gitlab.fetches == (1, 1)


def test_keys_are_fetched_again_when_they_are_too_old(gitlab: GitLab) -> None:
    gitlab.verify()
    gitlab.clock.advance(BOUNDS.jwks_max_age)
    gitlab.verify()
    assert gitlab.fetches == (1, 1)

    gitlab.clock.advance(1)
    gitlab.verify()

    assert gitlab.fetches == (2, 2)


def test_keys_that_were_fetched_before_the_clock_was_set_back_are_fetched_again(
    gitlab: GitLab,
) -> None:
    token = gitlab.token(iat=int(b.NOW) - 3600, nbf=int(b.NOW) - 3600)
    gitlab.verify(token)
    gitlab.publish(OTHER.jwk)
    gitlab.clock.advance(-3600)

    assert gitlab.outcome(token) == "invalid"


def test_a_rotated_key_is_found_once_the_floor_has_passed(gitlab: GitLab) -> None:
    gitlab.verify()
    gitlab.publish(KEY.jwk, OTHER.jwk)

    assert gitlab.outcome(gitlab.token(key=OTHER)) == "invalid"
    gitlab.clock.advance(60)

    assert gitlab.outcome(gitlab.token(key=OTHER)) == "good"
    assert gitlab.fetches == (2, 2)


def test_unknown_keys_ask_the_issuer_at_most_once_a_minute(gitlab: GitLab) -> None:
    gitlab.verify()
    for number in range(60):
        gitlab.clock.advance(2)
        assert gitlab.outcome(gitlab.token(header={"kid": f"unknown-{number}"})) == "invalid"

    assert gitlab.fetches == (3, 3)


def test_a_key_that_the_issuer_withdraws_stops_working(gitlab: GitLab) -> None:
    gitlab.verify()
    gitlab.publish(OTHER.jwk)
    gitlab.clock.advance(BOUNDS.jwks_max_age + 1)

    assert gitlab.outcome() == "invalid"


OUTAGES = {
    "500": lambda g: g.server.answer(DISCOVERY, {}, status=500),
    "404": lambda g: g.server.answer(DISCOVERY, {}, status=404),
    "redirected discovery": lambda g: g.redirect(DISCOVERY, g.discovery(), status=302),
    "redirected keys": lambda g: g.redirect(KEYS, {"keys": [KEY.jwk]}, status=307),
    "not JSON": lambda g: g.server.answer(DISCOVERY, b"<html>"),
    "a list": lambda g: g.server.answer(DISCOVERY, [1]),
    "deep JSON": lambda g: g.server.answer(KEYS, b"[" * 100_000),
    "huge": lambda g: g.server.answer(KEYS, {"keys": [KEY.jwk], "x": "y" * 300_000}),
    "cut short": lambda g: g.server.answer(KEYS, b'{"keys"', headers={"Content-Length": "500"}),
    "without an end": lambda g: g.server.answer_raw(
        KEYS, b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"keys": [KEY.jwk]}).encode()
    ),
    "no HTTP": lambda g: g.server.answer_raw(DISCOVERY, b"SSH-2.0-OpenSSH\r\n"),
    "nothing": lambda g: g.server.answer_raw(DISCOVERY, b""),
    "another issuer": lambda g: g.publish(KEY.jwk, issuer=f"{g.url}/"),
    "no issuer": lambda g: g.publish(KEY.jwk, issuer=None),
    "keys elsewhere": lambda g: g.publish(KEY.jwk, jwks_uri="https://evil.example.test/keys"),
    "keys at a longer name": lambda g: g.publish(KEY.jwk, jwks_uri=f"{g.url}.evil.test/keys"),
    "keys over http": lambda g: g.publish(KEY.jwk, jwks_uri=g.url.replace("s:", ":") + KEYS),
    "no key set's place": lambda g: g.publish(KEY.jwk, jwks_uri=None),
    "keys that are no list": lambda g: g.server.answer(KEYS, {"keys": {"a": KEY.jwk}}),
    "no keys": lambda g: g.publish(),
    "unusable keys": lambda g: g.publish({"kty": "RSA", "kid": "key-1"}, "text", 7),
}


def test_a_key_set_elsewhere_is_not_looked_for_at_the_issuer_either(gitlab: GitLab) -> None:
    # As long as the issuer's URL, so that what is left after it is a path that has the keys.
    elsewhere = "https://evil"[: len(gitlab.url)].ljust(len(gitlab.url), "x")
    gitlab.publish(KEY.jwk, jwks_uri=elsewhere + KEYS)

    assert gitlab.outcome() == "unavailable"
    assert gitlab.fetches == (1, 0)


@pytest.mark.parametrize("outage", OUTAGES)
def test_without_keys_nothing_is_verified(gitlab: GitLab, outage: str) -> None:
    OUTAGES[outage](gitlab)

    assert gitlab.outcome() == "unavailable"


@pytest.mark.parametrize("outage", OUTAGES)
def test_known_keys_survive_an_outage_up_to_a_stated_age(gitlab: GitLab, outage: str) -> None:
    gitlab.verify()
    OUTAGES[outage](gitlab)

    gitlab.clock.advance(BOUNDS.jwks_stale)
    long_lived = gitlab.token(exp=int(b.NOW) + 200_000)
    assert gitlab.outcome(long_lived) == "good"

    gitlab.clock.advance(11)
    assert gitlab.outcome(long_lived) == "unavailable"


def test_an_outage_is_asked_about_once_in_ten_seconds(gitlab: GitLab) -> None:
    gitlab.server.answer(DISCOVERY, {}, status=500)

    for _ in range(30):
        assert gitlab.outcome() == "unavailable"
        gitlab.clock.advance(1)

    assert gitlab.fetches == (3, 0)


def test_an_issuer_that_answers_byte_by_byte_is_not_waited_for(gitlab: GitLab) -> None:
    gitlab.server.drip(DISCOVERY, b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 1000)

    assert gitlab.outcome() == "unavailable"


def test_an_outage_that_ends_is_noticed(gitlab: GitLab) -> None:
    gitlab.server.answer(DISCOVERY, {}, status=500)
    assert gitlab.outcome() == "unavailable"
    gitlab.publish(KEY.jwk)
    gitlab.clock.advance(10)

    assert gitlab.outcome() == "good"


def test_an_issuer_whose_certificate_is_not_trusted_gives_no_keys(gitlab: GitLab) -> None:
    issuer = b.an_issuer(url=gitlab.url, ca=None)
    verifier = IDTokenVerifier(lambda: b.a_deployment(issuer), bounds=BOUNDS, clock=gitlab.clock)

    with pytest.raises(Unavailable):
        verifier.verify(gitlab.token())

    assert gitlab.fetches == (0, 0)


@pytest.mark.parametrize(
    "odd",
    [
        {"kty": "oct", "kid": "odd", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "odd", "n": "AQAB"},
        {"kty": "RSA", "kid": "odd", "n": 7, "e": 7},
        {"kty": "RSA", "kid": "odd", "n": "!!", "e": "AQAB"},
        {"kty": "RSA", "kid": "odd", "n": "AA", "e": "AA"},
        {"kty": "RSA", "kid": 7, "n": "AQAB", "e": "AQAB"},
        {**OTHER.jwk, "kid": "odd", "use": "enc"},
        {**OTHER.jwk, "kid": "odd", "alg": "RS512"},
        {**OTHER.jwk, "kid": KEY.kid},
        {},
    ],
    ids=range(10),
)
def test_an_odd_key_beside_a_good_one_changes_nothing(gitlab: GitLab, odd: dict[str, Any]) -> None:
    gitlab.publish(KEY.jwk, odd)

    assert gitlab.outcome() == "good"
    assert gitlab.outcome(gitlab.token(key=OTHER, header={"kid": "odd"})) == "invalid"


def test_a_key_that_is_published_with_its_private_part_still_verifies(gitlab: GitLab) -> None:
    gitlab.publish({**KEY.jwk, "d": "AQAB"})

    assert gitlab.outcome() == "good"


def test_a_key_that_is_too_short_verifies_nothing(gitlab: GitLab) -> None:
    short = SigningKey.generate("short", bits=1024)
    gitlab.publish(short.jwk)

    assert gitlab.outcome(gitlab.token(key=short)) == "invalid"


def test_no_refusal_holds_a_part_of_the_token(gitlab: GitLab) -> None:
    token = gitlab.token(aud="https://elsewhere.example.test")

    with pytest.raises(InvalidToken) as refused:
        gitlab.verify(token)

    assert not any(part in str(refused.value) for part in token.split("."))
