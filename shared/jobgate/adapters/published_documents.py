"""What anybody may read: our discovery document and our public keys (OpenID Connect Discovery, 3).

So a cluster, too, could trust the access tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters.exchange_request import GRANT_TYPE
from jobgate.adapters.proxy_event import json_answer
from jobgate.core import access_token, keys
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.adapters.proxy_event import Request
    from jobgate.ports import Clock, Deployment

_PUBLIC = {"Cache-Control": f"public, max-age={keys.CACHE_SECONDS}"}


class PublishedDocuments:
    """Answers with the deployment's documents; raises Unavailable before the first set-up."""

    def __init__(self, deployment: Callable[[], Deployment], *, clock: Clock) -> None:
        self._deployment = deployment
        self._clock = clock

    def keys(self, _request: Request) -> dict[str, Any]:
        """The keys that verify access tokens (RFC 7517, 5)."""
        key_set = keys.jwks(self._deployment().keys, now=self._clock())
        return json_answer(200, key_set, _PUBLIC)

    def discovery(self, _request: Request) -> dict[str, Any]:
        """Where everything is."""
        base_url = self._deployment().base_url
        if base_url is None:
            raise Unavailable("the deployment has no base URL yet")
        document = {
            "issuer": base_url,
            "jwks_uri": f"{base_url}/.well-known/jwks.json",
            "token_endpoint": f"{base_url}/token",
            "grant_types_supported": [GRANT_TYPE],
            "response_types_supported": ["none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [access_token.ALGORITHM],
        }
        return json_answer(200, document, _PUBLIC)
