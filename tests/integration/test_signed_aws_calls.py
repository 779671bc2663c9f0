"""Our own AWS calls and boto3's, side by side on an AWS that isn't ours."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.adapters.signed_aws import SignedAWS

from local.aws.build import REPOSITORY
from local.aws.emulator import start_emulator
from local.certificates import CertificateAuthority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("aws")
    authority = CertificateAuthority.create(folder / "ca")
    interpreter = REPOSITORY / ".venv-ministack" / "bin" / "python"
    emulator = start_emulator(interpreter, folder, authority=authority)
    yield emulator.environment
    emulator.child.stop()


@pytest.fixture(scope="module")
def ours(environment: dict[str, str]) -> Iterator[SignedAWS]:
    call = SignedAWS(environment, clock=time.time)  # noqa: TID251  AWS checks the time of a signature
    yield call
    call.close()


@pytest.fixture(scope="module")
def botos(environment: dict[str, str]) -> AWSCall:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        call = BotoAWS(boto3.Session())
        for service in ("dynamodb", "iam", "kms", "secretsmanager"):
            call._clients[service] = call._session.client(service)
        return call


@pytest.fixture(scope="module")
def table(botos: AWSCall) -> str:
    key = [("pk", "HASH"), ("sk", "RANGE")]
    request: dict[str, Any] = {
        "TableName": "signed",
        "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in key],
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for n, _ in key],
        "BillingMode": "PAY_PER_REQUEST",
    }
    botos("dynamodb", "CreateTable", request)
    item = {
        "pk": {"S": "A"},
        "sk": {"S": "\u03bb"},
        "raw": {"B": b"\0\xff"},
        "raws": {"BS": [b"\0", b"\xff"]},
        "B": {"M": {"B": {"S": "AP8="}, "n": {"N": "5"}}},
    }
    botos("dynamodb", "PutItem", {"TableName": "signed", "Item": item})
    return "signed"


@pytest.mark.parametrize(
    ("operation", "request_of"),
    [
        ("GetItem", lambda key: {"TableName": "signed", "Key": key, "ConsistentRead": True}),
        (
            "BatchGetItem",
            lambda key: {"RequestItems": {"signed": {"Keys": [key], "ConsistentRead": True}}},
        ),
        (
            "Query",
            lambda _key: {
                "TableName": "signed",
                "KeyConditionExpression": "pk = :pk",
                "ExpressionAttributeValues": {":pk": {"S": "A"}},
            },
        ),
    ],
)
def test_the_table_reads_the_same(
    ours: SignedAWS, botos: AWSCall, table: str, operation: str, request_of: Any
) -> None:
    assert table == "signed"
    request = request_of({"pk": {"S": "A"}, "sk": {"S": "\u03bb"}})
    theirs = botos("dynamodb", operation, request)
    del theirs["ResponseMetadata"]
    assert ours("dynamodb", operation, request) == theirs


def test_bytes_are_written_and_read_back(ours: SignedAWS, table: str) -> None:
    key = {"pk": {"S": "W"}, "sk": {"S": "1"}}
    item = {**key, "raw": {"B": bytes(range(256))}}
    ours("dynamodb", "PutItem", {"TableName": table, "Item": item})
    assert ours("dynamodb", "GetItem", {"TableName": table, "Key": key})["Item"] == item


def test_a_condition_that_fails_is_its_code(ours: SignedAWS, table: str) -> None:
    item = {"pk": {"S": "C"}, "sk": {"S": "1"}}
    request = {
        "TableName": table,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(pk)",
    }
    ours("dynamodb", "PutItem", request)
    with pytest.raises(AWSError) as refused:
        ours("dynamodb", "PutItem", request)
    assert refused.value.code == "ConditionalCheckFailedException"


def test_kms_signs_what_the_public_key_verifies(ours: SignedAWS, botos: AWSCall) -> None:
    request = {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}
    key_id = botos("kms", "CreateKey", request)["KeyMetadata"]["KeyId"]
    signature = ours(
        "kms",
        "Sign",
        {
            "KeyId": key_id,
            "Message": b"message",
            "MessageType": "RAW",
            "SigningAlgorithm": "ECDSA_SHA_256",
        },
    )["Signature"]
    public = load_der_public_key(ours("kms", "GetPublicKey", {"KeyId": key_id})["PublicKey"])
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_a_secret_is_read(ours: SignedAWS, botos: AWSCall) -> None:
    request = {"Name": "jobgate/x", "SecretString": '{"token":"\u03bb"}'}
    arn = botos("secretsmanager", "CreateSecret", request)["ARN"]
    answer = ours("secretsmanager", "GetSecretValue", {"SecretId": arn})
    assert answer["SecretString"] == '{"token":"\u03bb"}'


def test_a_secret_that_is_not_there_is_its_code(ours: SignedAWS) -> None:
    with pytest.raises(AWSError) as refused:
        ours("secretsmanager", "GetSecretValue", {"SecretId": "jobgate/none"})
    assert refused.value.code == "ResourceNotFoundException"


def test_a_role_is_assumed_over_the_older_wire_form(ours: SignedAWS, botos: AWSCall) -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": statement})
    made = botos("iam", "CreateRole", {"RoleName": "cluster", "AssumeRolePolicyDocument": trust})
    request = {"RoleArn": made["Role"]["Arn"], "RoleSessionName": "relay"}

    given = ours("sts", "AssumeRole", request)

    credentials = given["Credentials"]
    assert credentials.keys() >= {
        "AccessKeyId",
        "SecretAccessKey",
        "SessionToken",
        "Expiration",
    }
    assert all(credentials.values())
    assert given["AssumedRoleUser"]["Arn"].endswith("/cluster/relay")


def test_a_refused_role_carries_awss_code(ours: SignedAWS) -> None:
    with pytest.raises(AWSError) as raised:
        ours("sts", "AssumeRole", {"RoleArn": "x", "RoleSessionName": ""})
    assert raised.value.code
