"""AWS calls for tests: on moto in this process, on ministack, and with faults in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.boto_aws import BotoAWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.job import JobKey
    from jobgate.core.liveness import JobState

TABLE = "jobgate"


def job_item(job: JobKey, *words: JobState, expires_at: int) -> items.Item:
    """A job's item as these words leave it."""
    item = items.job_key(job) | {"expires_at": items.number(expires_at)}
    for word in words:
        item |= items.job_word(word)
    return item


def boto_call(environment: Mapping[str, str]) -> AWSCall:
    """An AWSCall by boto3 to DynamoDB where this environment leads, and stays so when it's gone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("AWS_ENDPOINT_URL", raising=False)
        for name, value in environment.items():
            patched.setenv(name, value)
        call = BotoAWS(boto3.Session())
        call("dynamodb", "ListTables", {})
    endpoint = call._clients["dynamodb"].meta.endpoint_url
    assert endpoint == environment.get("AWS_ENDPOINT_URL", endpoint)
    assert ("AWS_ENDPOINT_URL" in environment) is not endpoint.endswith(".amazonaws.com")
    return call


def create_table(call: AWSCall, name: str = TABLE) -> None:
    """The deployment's table, as far as its keys matter."""
    call(
        "dynamodb",
        "CreateTable",
        {
            "TableName": name,
            "KeySchema": [
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            "BillingMode": "PAY_PER_REQUEST",
        },
    )


class CountedCall:
    """An AWSCall that keeps the operations that went through it."""

    def __init__(self, call: AWSCall) -> None:
        self._call = call
        self.operations: list[str] = []

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.operations.append(operation)
        return self._call(service, operation, request)


class RefusingCall:
    """An AWSCall that refuses one operation with an error code, and must be asked for no other."""

    def __init__(self, operation: str, code: str) -> None:
        self._operation = operation
        self._code = code

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        assert operation == self._operation
        raise AWSError(self._code)


class UnprocessedCall:
    """An AWSCall whose BatchGetItem leaves the keys that `leaves` picks, `times` times."""

    def __init__(
        self, call: AWSCall, leaves: Callable[[Mapping[str, Any]], bool], *, times: int
    ) -> None:
        self._call = call
        self._leaves = leaves
        self._times = times

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation != "BatchGetItem" or self._times == 0:
            return self._call(service, operation, request)
        self._times -= 1
        ((table, given),) = request["RequestItems"].items()
        kept = [key for key in given["Keys"] if not self._leaves(key)]
        left = [key for key in given["Keys"] if self._leaves(key)]
        answer: dict[str, Any] = {"Responses": {table: []}}
        if kept:
            asked = {table: {**given, "Keys": kept}}
            answer = self._call(service, operation, {"RequestItems": asked})
        if left:
            answer["UnprocessedKeys"] = {table: {**given, "Keys": left}}
        return answer
