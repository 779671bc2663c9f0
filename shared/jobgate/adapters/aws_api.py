"""How adapters call AWS's JSON APIs, whoever signs the request.

Two callers fit: `signed_aws.SignedAWS` (own Signature Version 4, for the functions that a job waits
for) and `boto_aws.BotoAWS` (boto3, for everything else). Binary values are bytes on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobgate.core.errors import JobgateError

AWSCall = Callable[[str, str, Mapping[str, Any]], dict[str, Any]]
"""`call(service, operation, request) -> answer`: ("dynamodb", "GetItem", {…}), names as in AWS's
API reference. Raises AWSError where AWS refuses, Unavailable where it can't be reached."""


class AWSError(JobgateError):
    """AWS refused a call; `code` is its error code (ConditionalCheckFailedException…).

    `reasons` are the codes of a cancelled transaction, one for each of its actions.
    """

    def __init__(self, code: str, *, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(code)
        self.code = code
        self.reasons = reasons
