"""AWS Signature Version 4 (AWS IAM guide, "Create a signed AWS API request").

A few lines of hashes in place of botocore, whose import takes longer than a whole answer.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AWSCredentials:
    """Credentials as Lambda gives them to a function; the session token may be absent."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def signed_headers(
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    *,
    credentials: AWSCredentials,
    region: str,
    service: str,
    at: float,
) -> tuple[tuple[str, str], ...]:
    """`headers`, all of them signed, with date, session token and signature for `POST /`.

    `headers` have distinct names and hold Host; `at` in epoch seconds.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    token = credentials.session_token
    dated = (
        *headers,
        ("X-Amz-Date", stamp),
        *((("X-Amz-Security-Token", token),) if token else ()),
    )
    names, lines = _canonical(dated)
    canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    signature = _signature(canonical, stamp, scope, credentials)
    authorization = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return (*dated, ("Authorization", authorization))


def presigned_url(  # noqa: PLR0913  what a signature is made of
    query: tuple[tuple[str, str], ...],
    headers: tuple[tuple[str, str], ...],
    *,
    credentials: AWSCredentials,
    region: str,
    service: str,
    at: float,
    seconds: int,
) -> str:
    """The URL of a `GET /` that whoever holds it may send for `seconds`, with exactly `headers`.

    `headers` hold Host ("Create a signed AWS API request", query string authentication).
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    names, lines = _canonical(headers)
    token = credentials.session_token
    given = (
        *query,
        ("X-Amz-Algorithm", _ALGORITHM),
        ("X-Amz-Credential", f"{credentials.access_key_id}/{scope}"),
        ("X-Amz-Date", stamp),
        ("X-Amz-Expires", str(seconds)),
        ("X-Amz-SignedHeaders", names),
        *((("X-Amz-Security-Token", token),) if token else ()),
    )
    pairs = [f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in given]
    empty = hashlib.sha256(b"").hexdigest()
    canonical = f"GET\n/\n{'&'.join(sorted(pairs))}\n{lines}\n{names}\n{empty}"
    signature = _signature(canonical, stamp, scope, credentials)
    (host,) = (value for name, value in headers if name.lower() == "host")
    return f"https://{host}/?{'&'.join(pairs)}&X-Amz-Signature={signature}"


def _canonical(headers: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """The names of the signed headers, and their lines."""
    signed = sorted((name.lower(), " ".join(value.split())) for name, value in headers)
    names = ";".join(name for name, _ in signed)
    return names, "".join(f"{name}:{value}\n" for name, value in signed)


def _signature(canonical: str, stamp: str, scope: str, credentials: AWSCredentials) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return _hmac(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}").hex()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
