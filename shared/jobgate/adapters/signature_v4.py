"""AWS Signature Version 4 for the JSON APIs (AWS IAM guide, "Create a signed AWS API request").

A few lines of hashes in place of botocore, whose import takes longer than a whole answer.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field

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
    signed = sorted((name.lower(), " ".join(value.split())) for name, value in dated)
    names = ";".join(name for name, _ in signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (stamp[:8], region, service, "aws4_request"):
        key = _hmac(key, part)
    signature = _hmac(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}").hex()
    credential = f"{credentials.access_key_id}/{scope}"
    authorization = (
        f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    )
    return (*dated, ("Authorization", authorization))


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
