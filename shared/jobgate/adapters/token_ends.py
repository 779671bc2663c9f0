"""Until when GitLab's run-time tokens are good: asked of GitLab, kept in the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.https import HTTPSClient
from jobgate.core.errors import NotForUs, Unavailable
from jobgate.ports.gitlab import TokenEnds

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.adapters.secrets import SecretReader
    from jobgate.core.gitlab_token import TokenEnd
    from jobgate.ports import Deployment

_SECONDS = 5.0
_MAX_BYTES = 64 * 1024


class DynamoDBTokenEnds(TokenEnds):
    """One item an issuer."""

    def __init__(self, call: AWSCall, table: str) -> None:
        self._call = call
        self._table = table

    def token_end(self, issuer: str) -> TokenEnd | None:
        request = {"TableName": self._table, "Key": items.token_end_key(issuer)}
        try:
            return items.token_end_of(self._call("dynamodb", "GetItem", request).get("Item"))
        except AWSError as exc:
            raise Unavailable(f"the table can't be read: {exc.code}") from exc

    def note_token_end(self, issuer: str, end: TokenEnd) -> None:
        request = {"TableName": self._table, "Item": items.token_end_item(issuer, end)}
        try:
            self._call("dynamodb", "PutItem", request)
        except AWSError as exc:
            raise Unavailable(f"the table takes no write: {exc.code}") from exc


def token_end_asker(
    deployment: Callable[[], Deployment], secrets: SecretReader, secret: str
) -> Callable[[str], str | None]:
    """Asks GitLab for the date at which an issuer's stored token ends, None for never.

    Raises NotForUs where GitLab doesn't accept the token, or none is stored.
    """

    def ask(alias: str) -> str | None:
        issuer, token = deployment().issuers.get(alias), secrets.entry(secret, alias)
        if issuer is None or not isinstance(token, str):
            raise NotForUs("no run-time token is stored")
        client = HTTPSClient(f"{issuer.base_url}/api/v4", issuer.ca)
        try:
            answer = client.get(
                "/personal_access_tokens/self",
                headers={"PRIVATE-TOKEN": token},
                seconds=_SECONDS,
                max_bytes=_MAX_BYTES,
            )
        finally:
            client.close()
        if answer.status in (401, 403):
            raise NotForUs("GitLab doesn't accept the run-time token")
        body = answer.json() if answer.status == 200 else None
        if not isinstance(body, dict):
            raise Unavailable(f"GitLab answered {answer.status} about its token")
        expires_at = body.get("expires_at")
        return None if expires_at is None else str(expires_at)

    return ask
