"""A cluster's credential as Secrets Manager keeps it: JSON, by kind.

`token`: `{"token": "…"}`, a bearer token. `cert`: `{"certificate": "…", "key": "…"}`, both PEM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token for the `Authorization` header."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate chain and its private key, both PEM."""

    certificate: str = field(repr=False)
    key: str = field(repr=False)


ClusterSecret = BearerToken | ClientCertificate


def cluster_secret(kind: str, secret: Mapping[str, object]) -> ClusterSecret:
    """Read a secret's JSON object; raises ValueError, which never quotes the secret."""
    match kind, secret:
        case "token", {"token": str(token)} if _TOKEN.fullmatch(token):
            return BearerToken(token)
        case "cert", {"certificate": str(certificate), "key": str(key)} if certificate and key:
            return ClientCertificate(certificate, key)
    raise ValueError(f"the secret isn't of the form of a credential of kind {kind}")
