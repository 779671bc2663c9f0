"""A ServiceAccount's bound token: what the API server's TokenRequest makes, and how it's asked for.

It's read without being verified: it comes out of our own secrets, and the cluster alone judges it.
(Kubernetes, "Managing Service Accounts": the private claims `kubernetes.io`.)
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any

# The API server refuses a shorter or longer one (TokenRequestSpec.expirationSeconds).
_LIFE_MIN_SECONDS, _LIFE_MAX_SECONDS = 600, 1 << 32
_OBJECTS = {"pod": "Pod", "secret": "Secret", "node": "Node"}
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123, a label
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # RFC 1123, a subdomain


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundToken:
    """Whose a token is, and from when to when in epoch seconds.

    `bound_to` is kind, name and UID of an object with which the token ends, beside its account.
    """

    namespace: str
    account: str
    issued_at: float
    expires_at: float
    bound_to: tuple[str, str, str] | None = None

    def is_due(self, now: float) -> bool:
        """Whether half its life is over."""
        return now >= (self.issued_at + self.expires_at) / 2


def bound_token(token: str) -> BoundToken | None:
    """Read a token; None for one that ends without us or never: another issuer's, an old Secret's.

    Older ServiceAccount tokens, out of a Secret, have no end and no such claims.
    """
    try:
        claims: Any = json.loads(_base64url(token.split(".")[1]))
        own = claims["kubernetes.io"]
        namespace, account = own["namespace"], own["serviceaccount"]["name"]
        issued_at, expires_at = float(claims["iat"]), float(claims["exp"])
        bound_to = next(
            (
                (kind, str(own[name]["name"]), str(own[name]["uid"]))
                for name, kind in _OBJECTS.items()
                if name in own
            ),
            None,
        )
    except (IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError):
        return None
    # Both go into a request's path.
    if not (_is(_NAMESPACE, namespace) and _is(_NAME, account) and issued_at < expires_at):
        return None
    return BoundToken(
        namespace=namespace,
        account=account,
        issued_at=issued_at,
        expires_at=expires_at,
        bound_to=bound_to,
    )


def token_request(token: BoundToken) -> tuple[str, bytes]:
    """Path and body of the request for another token like this one, with a life as long.

    The audience is left to the API server: its own, as the token is for itself.
    """
    life = min(max(token.expires_at - token.issued_at, _LIFE_MIN_SECONDS), _LIFE_MAX_SECONDS)
    spec: dict[str, Any] = {"expirationSeconds": round(life)}
    if token.bound_to is not None:
        kind, name, uid = token.bound_to
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = f"/api/v1/namespaces/{token.namespace}/serviceaccounts/{token.account}/token"
    return path, json.dumps(body).encode()


def requested_token(answer: bytes, *, like: BoundToken) -> str:
    """The token in the API server's answer; raises ValueError, which never quotes it."""
    try:
        token = json.loads(answer)["status"]["token"]
    except (KeyError, TypeError, ValueError, RecursionError):
        # Not "from": the library's text would quote the answer.
        raise ValueError("the cluster's answer holds no token") from None
    made = bound_token(token) if isinstance(token, str) else None
    if made is None or (made.namespace, made.account) != (like.namespace, like.account):
        raise ValueError("the cluster's answer holds a token of another account")
    return str(token)


def _base64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _is(form: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None
