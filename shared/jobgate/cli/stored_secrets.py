"""Secrets Manager: the two JSON maps by issuer, and the clusters' credentials."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.cli.errors import Refused
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.adapters.aws_api import AWSCall

_SECRET_MAX_BYTES = 65_536


def read_map(aws: AWSCall, secret: str) -> dict[str, Any]:
    """A secret that holds a JSON object; raises Unavailable where it holds something else."""
    text = aws("secretsmanager", "GetSecretValue", {"SecretId": secret})["SecretString"]
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise Unavailable("A secret of the stack isn't JSON; it was changed by hand.") from exc
    if not isinstance(value, dict):
        raise Unavailable("A secret of the stack isn't a JSON object; it was changed by hand.")
    return value


def change_entry(aws: AWSCall, secret: str, name: str, value: object | None) -> None:
    """Set one entry of a map, or remove it (None).

    Secrets Manager has no conditional write: of two operators at the very same moment the later
    one wins, and the other's entry has to be written again. Raises Refused where it gets too large.
    """
    entries = read_map(aws, secret)
    if value is None:
        entries.pop(name, None)
    else:
        entries[name] = value
    text = json.dumps(entries, separators=(",", ":"))
    if len(text.encode()) > _SECRET_MAX_BYTES:
        raise Refused(
            "The stack's secret holds no more: Secrets Manager takes 64 KiB, which is about 150 "
            "webhooks with their old secrets beside the new ones. Connect a group or the instance "
            "instead of single projects."
        )
    aws("secretsmanager", "PutSecretValue", {"SecretId": secret, "SecretString": text})


def write(aws: AWSCall, name: str, value: Mapping[str, str], *, key: str | None) -> None:
    """Create a secret, or give an existing one a new value; `key` encrypts it (None: AWS's)."""
    content = {"SecretString": json.dumps(value)} | ({} if key is None else {"KmsKeyId": key})
    try:
        aws("secretsmanager", "CreateSecret", {"Name": name, **content})
    except AWSError as exc:
        if exc.code != "ResourceExistsException":
            raise
        # Not PutSecretValue, which would go on with the key of the value before.
        aws("secretsmanager", "UpdateSecret", {"SecretId": name, **content})


def delete(aws: AWSCall, name: str) -> None:
    """Delete a secret at once: a credential that nothing uses isn't kept for a grace period."""
    request = {"SecretId": name, "ForceDeleteWithoutRecovery": True}
    try:
        aws("secretsmanager", "DeleteSecret", request)
    except AWSError as exc:
        if exc.code != "ResourceNotFoundException":
            raise
