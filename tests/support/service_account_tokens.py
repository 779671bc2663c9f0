"""ServiceAccount tokens as the API server signs them, and a cluster's own for any moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from pathlib import Path

_KEY = "a key that nobody verifies with, since nothing here does"


def claims_of(token: str) -> dict[str, Any]:
    """The payload of a token, whoever signed it."""
    payload: dict[str, Any] = jwt.api_jwt.decode_complete(
        token, options={"verify_signature": False}
    )["payload"]
    return payload


def a_service_account_token(
    issued_at: float,
    expires_at: float,
    *,
    account: str = "jobgate-relay",
    namespace: str = "jobgate",
    **bound_to: dict[str, str],
) -> str:
    """A token in the form of Kubernetes 1.36; `bound_to` such as `secret={"name", "uid"}`."""
    claims = {
        "aud": ["https://kubernetes.default.svc"],
        "exp": expires_at,
        "iat": issued_at,
        "iss": "https://kubernetes.default.svc",
        "jti": "b1c0a6d0-2d1f-4f4f-8a0e-000000000000",
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": account, "uid": "0f7e"},
            **bound_to,
        },
        "nbf": issued_at,
        "sub": f"system:serviceaccount:{namespace}:{account}",
    }
    return jwt.encode(claims, _KEY)


def moved(token: str, key: Path, *, issued_at: int, expires_at: int) -> str:
    """A cluster's own token at another time, signed with the cluster's own key."""
    claims = claims_of(token) | {"iat": issued_at, "nbf": issued_at, "exp": expires_at}
    headers = {"kid": jwt.get_unverified_header(token)["kid"]}
    return jwt.encode(claims, key.read_text(), algorithm="ES256", headers=headers)
