"""AWS calls through boto3: for the functions that nobody waits for, and for the operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3


class BotoAWS:
    """An `AWSCall` on one boto3 session; its clients are made when first needed."""

    def __init__(self, session: boto3.Session) -> None:
        self._session: Any = session  # the stubs know literal service names only
        self._clients: dict[str, Any] = {}

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """See `AWSCall`."""
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self._session.client(service)
        try:
            answer: dict[str, Any] = getattr(client, xform_name(operation))(**request)
        except ClientError as exc:
            # Only a cancelled transaction has reasons, which the stubs don't know.
            response: dict[str, Any] = dict(exc.response)
            reasons = tuple(str(r.get("Code")) for r in response.get("CancellationReasons", ()))
            raise AWSError(response["Error"]["Code"], reasons=reasons) from exc
        except BotoCoreError as exc:
            raise Unavailable(f"{service} {operation}: {type(exc).__name__}") from exc
        return answer
