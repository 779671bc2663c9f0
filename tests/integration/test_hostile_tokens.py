"""ID tokens, good, borderline, malformed and hostile, over HTTP to the real exchange.

Each refused one gets its status and code, one record with its reason, and leaves nothing: no read,
no count, no signature. The holes that libraries of this kind have had are rows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from local.certificates import CertificateAuthority
from tests.support import builders as b
from tests.support.exchange_server import exchange_server
from tests.support.https_server import https_server
from tests.support.id_tokens import ABSENT, SigningKey, base64url, gitlab_claims

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.exchange_server import ExchangeServer

NOW = int(b.NOW)
KEY, OTHER = SigningKey.generate("key-1"), SigningKey.generate("key-2")
SHORT = SigningKey.generate("short", bits=1024)
STRANGER = SigningKey.generate("key-1")
EC = ec.generate_private_key(ec.SECP256R1())
EC_JWK = {
    **jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key(), as_dict=True),
    "kid": "ec", "use": "sig", "alg": "ES256",
}  # fmt: skip


class Tokens:
    """Makes tokens of the main issuer; `url` is its address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def claims(self, **changes: Any) -> dict[str, Any]:
        return gitlab_claims(**{"iss": self.url, **changes})

    def of(self, **changes: Any) -> str:
        return KEY.sign(self.claims(**changes))

    def under(self, header: Any, *, key: SigningKey = KEY) -> str:
        return key.sign(self.claims(), header=header)

    def written(self, payload: bytes) -> str:
        """Of a payload's own bytes, `%s` in which is the issuer."""
        return KEY.sign(payload.replace(b"%s", self.url.encode()))

    def unsigned(self, alg: str, signature: str = "") -> str:
        head = base64url(json.dumps({"alg": alg, "typ": "JWT", "kid": KEY.kid}).encode())
        return f"{head}.{base64url(json.dumps(self.claims()).encode())}.{signature}"

    def by_secret(self, secret: bytes, alg: str) -> str:
        signed = self.unsigned(alg).removesuffix(".")
        code = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{base64url(code)}"

    def flipped(self, part: int) -> str:
        parts = self.of().split(".")
        raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
        raw[len(raw) // 2] ^= 1
        parts[part] = base64url(bytes(raw))
        return ".".join(parts)


def claim(**changes: Any) -> Callable[[Tokens], str]:
    return lambda tokens: tokens.of(**changes)


def header(**changes: Any) -> Callable[[Tokens], str]:
    return lambda tokens: tokens.under(changes)


def written(payload: bytes) -> Callable[[Tokens], str]:
    return lambda tokens: tokens.written(payload)


GOOD: dict[str, Callable[[Tokens], str]] = {
    "as GitLab writes it": claim(),
    "before 18.4: without the running project": claim(
        job_project_id=ABSENT, job_project_path=ABSENT, job_namespace_id=ABSENT
    ),
    "a list of one audience": claim(aud=[b.AUDIENCE]),
    "a list of audiences, ours the last": claim(aud=["https://vault.example.test", b.AUDIENCE]),
    "ids as numbers": claim(job_id=9001, job_project_id=100, job_namespace_id=2, pipeline_id=7001),
    "the runner as a text": claim(runner_id="33"),
    "no runner": claim(runner_id=None),
    "a real boolean": claim(ref_protected=True),
    "no user": claim(user_id="", user_login="ghost"),
    "unknown claims": claim(new_claim={"deep": [1, 2, None]}, another=1e300),
    "unused claims of another type": claim(user_email=7, sha=[], user_identities="x", sub=None),
    "a customised sub": claim(sub="project_id:100"),
    "a sub of somebody else": claim(sub="project_path:evil/app:ref_type:branch:ref:main"),
    "no sub": claim(sub=ABSENT),
    "an environment without a name": claim(environment=""),
    "200 groups of the user": claim(groups_direct=[f"a/group/{n}" for n in range(200)]),
    "expired, within the leeway": claim(exp=NOW + 1),
    "from the future, within the leeway": claim(iat=NOW + 30, nbf=NOW + 30),
    "not yet older than job states are kept": claim(iat=NOW - 35 * 86_400),
    "another typ": header(typ="at+jwt"),
    "no typ": header(typ=ABSENT),
    "a header that means nothing": header(cty="JWT"),
    "the second published key": lambda t: t.under({}, key=OTHER),
    "as long as it may be": claim(x="A" * 45_000),
}  # fmt: skip

HOSTILE: dict[str, Callable[[Tokens], str]] = {
    # Not a token at all.
    "a word": lambda t: "token",
    "a dot": lambda t: ".",
    "two dots": lambda t: "..",
    "three dots": lambda t: "...",
    "two parts": lambda t: t.of().rpartition(".")[0],
    "four parts": lambda t: t.of() + ".AAAA",
    "five parts, as an encrypted one has": lambda t: "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d",
    "a dot before": lambda t: "." + t.of(),
    "a dot after": lambda t: t.of() + ".",
    "white space before": lambda t: " " + t.of(),
    "a line's end after": lambda t: t.of() + "\n",
    "a line's end within": lambda t: t.of().replace(".", ".\n", 1),
    "with its scheme": lambda t: f"Bearer {t.of()}",
    "a look-alike letter": lambda t: "\u0435" + t.of()[1:],
    "a zero byte": lambda t: t.of() + "\0",
    "JSON serialisation": lambda t: json.dumps(
        dict(zip(("protected", "payload", "signature"), t.of().split("."), strict=True))
    ),
    "standard base64": lambda t: t.of().replace("-", "+").replace("_", "/") + "+",
    "padding": lambda t: t.of() + "====",
    "an older GitLab's job token": lambda t: "glcbt-64_abcdefghijklmnopqrst",
    "an access token of ours": lambda t: jwt.encode(
        {"iss": b.BASE_URL, "aud": f"{b.BASE_URL}/agents", "exp": NOW + 99}, EC, "ES256"
    ),
    "one byte too long": lambda t: t.of() + "A" * (64 * 1024 - len(t.of()) + 1),
    "too long, and well signed": claim(x="A" * 49_000),
    # Parts that aren't JSON objects, or not the same to every reader.
    "a header twice the algorithm": lambda t: t.under(
        b'{"alg":"RS256","alg":"RS256","kid":"key-1"}'
    ),
    "a header twice the key": lambda t: t.under(b'{"alg":"RS256","kid":"x","kid":"key-1"}'),
    "a header that is a list": lambda t: t.under(b'["RS256"]'),
    "a header that is nothing": lambda t: t.under(b"null"),
    "an empty header": lambda t: t.under(b""),
    "a header in UTF-16": lambda t: t.under('{"alg":"RS256","kid":"key-1"}'.encode("utf-16")),
    "a header of 20,000 brackets": lambda t: t.under(b"[" * 20_000),
    "a payload twice the issuer": written(b'{"iss":"https://evil.example.test","iss":"%s"}'),
    "a payload twice the job": written(b'{"iss":"%s","job_id":"1","job_id":"2"}'),
    "a duplicate deep within": written(b'{"iss":"%s","a":{"b":1,"b":2}}'),
    "a payload that is a list": written(b'["%s"]'),
    "a payload that is a text": written(b'"%s"'),
    "a payload that is nothing": written(b"null"),
    "an empty payload": written(b""),
    "half a payload": written(b'{"iss":"%s"'),
    "two payloads": written(b'{"iss":"%s"}{"iss":"%s"}'),
    "a payload of 5,000 levels": written(b'{"a":' * 5_000),
    "a payload that isn't text": written(b'{"iss":"%s","x":"\xff"}'),
    "a number of 5,000 digits": written(b'{"iss":"%s","exp":' + b"9" * 5000 + b"}"),
    # The algorithm (CVE-2022-29217, CVE-2024-33663, CVE-2024-37568, RFC 8725).
    "alg none": lambda t: t.unsigned("none"),
    "alg None": lambda t: t.unsigned("None"),
    "alg nOnE with a signature": lambda t: t.unsigned("nOnE", t.of().rpartition(".")[2]),
    "no alg": header(alg=ABSENT),
    "alg null": header(alg=None),
    "alg rs256": header(alg="rs256"),
    "alg RS384": header(alg="RS384"),
    "alg RS512": header(alg="RS512"),
    "alg PS256": header(alg="PS256"),
    "alg as a list": header(alg=["RS256"]),
    "ES256 by a published key": lambda t: jwt.encode(t.claims(), EC, "ES256", {"kid": "ec"}),
    "RS256 with the kid of an ES256 key": header(kid="ec"),
    "HS256 by the public key's PEM": lambda t: t.by_secret(KEY.public_pem, "HS256"),
    "HS256 by the modulus": lambda t: t.by_secret(KEY.jwk["n"].encode(), "HS256"),
    "HS256 by nothing": lambda t: t.by_secret(b"", "HS256"),
    "RS256 that is an HMAC": lambda t: t.by_secret(KEY.public_pem, "RS256"),
    "a key of 1,024 bits": lambda t: t.under({}, key=SHORT),
    # Keys that a token brings along.
    "jku": header(jku="https://evil.example.test/keys"),
    "x5u": header(x5u="https://evil.example.test/cert"),
    "jwk": lambda t: t.under({"jwk": STRANGER.jwk}, key=STRANGER),
    "x5c": header(x5c=["MIIB"]),
    "crit, known (GHSA-752w-5fwx-jx9f)": header(crit=["exp"]),
    "crit, unknown": header(crit=["bork"], bork=True),
    "crit, empty": header(crit=[]),
    "b64": header(b64=False),
    "zip": header(zip="DEF"),
    "enc": header(enc="A256GCM"),
    "no kid": header(kid=ABSENT),
    "kid null": header(kid=None),
    "kid empty": header(kid=""),
    "kid as a number": header(kid=1),
    "kid as a list": header(kid=["key-1"]),
    "kid as a path": header(kid="../../key-1"),
    "kid in SQL": header(kid="x' UNION SELECT 'key-1"),
    "kid in another case": header(kid="KEY-1"),
    "kid of nobody": header(kid="key-9"),
    # Signatures.
    "another key's signature": lambda t: t.under({}, key=STRANGER),
    "another published key's signature": lambda t: t.under({"kid": "key-1"}, key=OTHER),
    "no signature": lambda t: t.of().rpartition(".")[0] + ".",
    "a signature cut short": lambda t: t.of()[:-4],
    "a bit of the signature": lambda t: t.flipped(2),
    "a bit of the payload": lambda t: t.flipped(1),
    "another token's signature": lambda t: t.of(job_id="1").rpartition(".")[0]
    + "." + t.of().rpartition(".")[2],
    # The issuer (CVE-2025-52477, CVE-2024-53861).
    "no issuer": claim(iss=ABSENT),
    "issuer null": claim(iss=None),
    "issuer as a list": lambda t: t.of(iss=[t.url]),
    "issuer with a slash": lambda t: t.of(iss=f"{t.url}/"),
    "issuer cut short": lambda t: t.of(iss=t.url[:-1]),
    "issuer in capitals": lambda t: t.of(iss=t.url.upper()),
    "issuer within a longer one": lambda t: t.of(iss=f"{t.url} https://evil.example.test"),
    "issuer with a user": lambda t: t.of(iss=t.url.replace("//", "//evil@")),
    "issuer without TLS": lambda t: t.of(iss=t.url.replace("https", "http")),
    "issuer that is the cloud's metadata": claim(iss="http://169.254.169.254/latest/meta-data"),
    "issuer that is a file": claim(iss="file:///etc/passwd"),
    "the alias as the issuer": claim(iss="main"),
    "the other issuer, by our key": lambda t: t.of(iss=f"{t.url}/other"),
    # The audience (CVE-2024-5798).
    "no audience": claim(aud=ABSENT),
    "audience null": claim(aud=None),
    "audience empty": claim(aud=""),
    "an empty list of audiences": claim(aud=[]),
    "the instance's own URL": lambda t: t.of(aud=t.url),
    "audience with a slash": claim(aud=b.AUDIENCE + "/"),
    "audience in capitals": claim(aud=b.AUDIENCE.upper()),
    "audience cut short": claim(aud=b.AUDIENCE[:-1]),
    "a longer audience": claim(aud=b.AUDIENCE + ".evil.test"),
    "two audiences in one": claim(aud=f"{b.AUDIENCE} https://evil.example.test"),
    "a list within a list": claim(aud=[[b.AUDIENCE]]),
    "a list with a number": claim(aud=[b.AUDIENCE, 1]),
    "an object as the audience": claim(aud={b.AUDIENCE: True}),
    "the other issuer's audience": claim(aud="https://other.example.test"),
    # Times.
    "no exp": claim(exp=ABSENT),
    "exp as a text": claim(exp=str(NOW + 60)),
    "exp true": claim(exp=True),
    "exp beyond counting": claim(exp=10**400),
    "exp infinite": claim(exp=float("inf")),
    "exp not a number": claim(exp=float("nan")),
    "exp a fraction": claim(exp=NOW + 60.5),
    "no nbf": claim(nbf=ABSENT),
    "nbf in the future": claim(nbf=NOW + 31),
    "no iat": claim(iat=ABSENT),
    "iat in the future": claim(iat=NOW + 31),
    "iat negative": claim(iat=-1),
    "older than job states are kept": claim(iat=NOW - 35 * 86_400 - 1),
    # Claims that the decision uses.
    "no jti": claim(jti=ABSENT),
    "jti empty": claim(jti=""),
    "jti as a number": claim(jti=7),
    "jti too long": claim(jti="a" * 256),
    "jti with a control character": claim(jti="a\x00b"),
    "no job": claim(job_id=ABSENT),
    "job null": claim(job_id=None),
    "job 0": claim(job_id="0"),
    "job -1": claim(job_id="-1"),
    "job with a zero before": claim(job_id="09001"),
    "job with a plus": claim(job_id="+9001"),
    "job in other digits": claim(job_id="\u0669\u0660\u0660\u0661"),
    "job with white space": claim(job_id="9001 "),
    "job as a fraction": claim(job_id=9001.0),
    "job true": claim(job_id=True),
    "job as a list": claim(job_id=["9001"]),
    "job with a separator of our keys": claim(job_id="9001#STATE"),
    "job beyond GitLab's": claim(job_id=2**63),
    "the running project null": claim(job_project_id=None),
    "the running project without its path": claim(job_project_path=ABSENT),
    "the running project without its namespace": claim(job_namespace_id=ABSENT),
    "half a character in the path": claim(job_project_path="top/\ud800"),
    "a path too long": claim(job_project_path="a/" * 600),
    "no pipeline": claim(pipeline_id=ABSENT),
    "no pipeline's source": claim(pipeline_source=ABSENT),
    "no login": claim(user_login=ABSENT),
    "login null": claim(user_login=None),
    "user as an object": claim(user_id={"id": 1}),
    "runner as a text of words": claim(runner_id="shared"),
    "no ref": claim(ref=ABSENT),
    "no protection": claim(ref_protected=ABSENT),
    "protection True": claim(ref_protected="True"),
    "protection 1": claim(ref_protected=1),
    "protection null": claim(ref_protected=None),
    "an environment that is a number": claim(environment=7),
    "an environment that is a list": claim(environment=["production"]),
    "a tier that is a number": claim(environment="production", deployment_tier=1),
}  # fmt: skip

EXPIRED: dict[str, Callable[[Tokens], str]] = {
    "expired": claim(exp=NOW - 31),
    "expired, at the leeway's end": claim(exp=NOW - 30),
    "expired now, good by the leeway alone": claim(exp=NOW),
    "expired long ago": claim(exp=1),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeServer]:
    folder = tmp_path_factory.mktemp("issuer")
    authority = CertificateAuthority.create(folder)
    with https_server(authority.issue("gitlab", folder), authority.certificate) as gitlab:
        for path, keys in (("", [KEY.jwk, OTHER.jwk, SHORT.jwk, EC_JWK]), ("/other", [OTHER.jwk])):
            url = gitlab.url + path
            document = {"issuer": url, "jwks_uri": f"{url}/keys"}
            gitlab.answer(f"{path}/.well-known/openid-configuration", document)
            gitlab.answer(f"{path}/keys", {"keys": keys})
        main = b.an_issuer(url=gitlab.url, ca=gitlab.ca)
        other = b.an_issuer(
            "other",
            url=f"{gitlab.url}/other",
            audience="https://other.example.test",
            ca=gitlab.ca,
            is_default=False,
        )
        agent = b.an_agent(projects={b.APP: b.an_entry()})
        with exchange_server(main, other, agents=(agent,)) as serving:
            yield serving


@pytest.fixture
def tokens(server: ExchangeServer) -> Tokens:
    server.records.clear()
    server.signer.signed.clear()
    server.counter.counts.clear()
    server.store.reads.clear()
    server.clock.now = b.NOW
    return Tokens(server.issuers[0].url)


def post(server: ExchangeServer, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(server.url + path, urlencode(form).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def redeemed(server: ExchangeServer, token: str) -> tuple[int, dict[str, Any]]:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
    }
    return post(server, "/token", form)


def test_the_table_is_large_and_mostly_of_refusals() -> None:
    assert len(GOOD) + len(HOSTILE) + len(EXPIRED) >= 120
    assert len(HOSTILE) + len(EXPIRED) > 4 * len(GOOD)


@pytest.mark.parametrize("row", GOOD)
def test_a_good_token_gets_a_kubeconfig(server: ExchangeServer, tokens: Tokens, row: str) -> None:
    token = GOOD[row](tokens)

    status, answer = post(server, "/kubeconfig", {"token": token})

    assert (status, answer.get("kind")) == (200, "Config"), answer
    (record,) = server.records
    assert json.loads(record)["outcome"] == "allowed"


@pytest.mark.parametrize(
    ("row", "reason"),
    [(row, "token_invalid") for row in HOSTILE] + [(row, "token_expired") for row in EXPIRED],
)
def test_a_bad_token_gets_its_code_and_leaves_nothing(
    server: ExchangeServer, tokens: Tokens, row: str, reason: str
) -> None:
    token = (HOSTILE | EXPIRED)[row](tokens)

    for path, answered in (
        ("/kubeconfig", (401, "invalid_token", reason)),
        ("/explain", (401, "invalid_token", reason)),
        ("/credential", (401, "invalid_token", reason)),
        ("/token", (400, "invalid_request", reason)),
    ):
        server.records.clear()
        if path == "/token":
            status, answer = redeemed(server, token)
        else:
            status, answer = post(server, path, {"token": token})
        assert (status, answer["error"], answer.get("reason")) == answered, path
        assert answer["decision_id"]
        (line,) = server.records
        record = json.loads(line)
        assert (record["outcome"], record["reason"]) == ("refused", reason)
        assert record["decision_id"] == answer["decision_id"]
        for part in (p for p in token.split(".") if len(p) > 8):
            assert part not in line
            assert part not in json.dumps(answer)
    assert server.left == []


def test_what_is_told_of_a_bad_token_is_the_same_for_each(
    server: ExchangeServer, tokens: Tokens
) -> None:
    """Neither the signature nor the claims may be told apart, nor whether anything exists."""
    answers = []
    for token_of in HOSTILE.values():
        _, answer = post(server, "/kubeconfig", {"token": token_of(tokens)})
        del answer["decision_id"]
        answers.append(answer)

    assert all(answer == answers[0] for answer in answers)
