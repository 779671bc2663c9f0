"""The clusters' stored credentials as `reconcile` reads and replaces them, in Secrets Manager.

Secrets Manager has no conditional write, but its staging labels move conditionally: a new version
is written with a label of our own, and AWSCURRENT is then moved from the very version that was
read. So what an operator or another round has stored meanwhile is never replaced, and a renewal
that breaks off in between has changed nothing.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.cluster_secrets import read_secret, secret_in
from jobgate.core.errors import Conflict, Unavailable
from jobgate.ports.renewal import StoredCredential, StoredCredentials

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.agent import Credential
    from jobgate.core.cluster_credential import BearerToken

_STAGE = "jobgate-renewal"


class AWSStoredCredentials(StoredCredentials):
    """Writes new versions of secrets that are there, and never a new secret."""

    def __init__(self, call: AWSCall) -> None:
        self._call = call

    def read(self, credential: Credential) -> StoredCredential:
        answer = read_secret(self._call, credential)
        return StoredCredential(
            credential=credential,
            secret=secret_in(answer, credential.kind),
            version=str(answer.get("VersionId")),
        )

    def replace(self, stored: StoredCredential, *, by: BearerToken) -> None:
        secret, version = stored.credential.secret, str(uuid.uuid4())
        put = {
            "SecretId": secret,
            "ClientRequestToken": version,
            "SecretString": json.dumps({"token": by.token}),
            "VersionStages": [_STAGE],
        }
        move = {
            "SecretId": secret,
            "VersionStage": "AWSCURRENT",
            "MoveToVersionId": version,
            "RemoveFromVersionId": stored.version,
        }
        try:
            self._call("secretsmanager", "PutSecretValue", put)
            self._call("secretsmanager", "UpdateSecretVersionStage", move)
        except AWSError as exc:
            if exc.code == "InvalidParameterException":
                raise Conflict("another version is current by now") from exc
            raise Unavailable(f"a cluster's credential can't be written: {exc.code}") from exc
