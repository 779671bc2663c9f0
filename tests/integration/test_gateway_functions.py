"""What the local gateway reads of a deployed stack, from an emulator of AWS's API."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from local.aws.emulator import start_emulator
from local.certificates import CertificateAuthority
from local.gateway.functions import Credentials, Function, read_functions

if TYPE_CHECKING:
    from collections.abc import Iterator

_MINISTACK = Path(__file__).parent.parent.parent / ".venv-ministack/bin/python"
_URI = (
    "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2021-11-15/functions/${Relay.Arn}"
)
_RESOURCES: dict[str, Any] = {
    "Role": {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": {
                    "Effect": "Allow",
                    "Principal": {"Service": "lambda.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                },
            }
        },
    },
    "Queue": {"Type": "AWS::SQS::Queue", "Properties": {}},
    "Relay": {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Code": {"ZipFile": "def handler(event, context): pass"},
            "Environment": {"Variables": {"QUEUE": {"Ref": "Queue"}}},
            "Handler": "index.handler",
            "LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "WARN"},
            "MemorySize": 512,
            "ReservedConcurrentExecutions": 7,
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "Runtime": "python3.13",
            "Timeout": 900,
        },
    },
    "Plain": {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Code": {"ZipFile": "def handler(event, context): pass"},
            "Handler": "index.handler",
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "Runtime": "python3.13",
        },
    },
}
_API: dict[str, Any] = {
    "Front": {
        "Type": "AWS::ApiGateway::RestApi",
        "Properties": {
            "Body": {
                "paths": {
                    "/{proxy+}": {
                        "get": {
                            "x-amazon-apigateway-integration": {
                                "type": "aws_proxy",
                                "responseTransferMode": "STREAM",
                                "uri": {"Fn::Sub": f"{_URI}/response-streaming-invocations"},
                            }
                        }
                    }
                }
            }
        },
    },
    "Stage": {"Type": "AWS::ApiGateway::Stage", "Properties": {"StageName": "live"}},
}


@pytest.fixture(scope="module")
def client_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("aws")
    authority = CertificateAuthority.create(folder)
    emulator = start_emulator(_MINISTACK, folder, authority=authority)
    options = {
        "endpoint_url": emulator.endpoint_url,
        "region_name": "eu-central-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "verify": str(authority.certificate),
    }
    cloudformation = boto3.client("cloudformation", **options)
    cloudformation.create_stack(
        StackName="tried",
        TemplateBody=json.dumps({"Resources": _RESOURCES}),
        Capabilities=["CAPABILITY_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="tried", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    yield options
    emulator.child.stop()


def test_functions_are_read_as_deployed_with_their_built_code(
    client_options: dict[str, Any], tmp_path: Path
) -> None:
    resources = {
        **_RESOURCES,
        **_API,
        "Relay": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                **_RESOURCES["Relay"]["Properties"],
                "Layers": [{"Ref": "SharedLayer0123456789"}],
            },
        },
    }
    for name in ("Relay", "Plain", "SharedLayer"):
        (tmp_path / name).mkdir()
    relay, plain = read_functions(
        client_options,
        "tried",
        build_folder=tmp_path,
        translated_template={"Resources": resources},
    )
    cloudformation = boto3.client("cloudformation", **client_options)
    physical = {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in cloudformation.describe_stack_resources(StackName="tried")["StackResources"]
    }
    for function in (relay, plain):
        assert (
            caller(client_options, function) == f"assumed-role/{physical['Role']}/{function.name}"
        )
    assert replace(relay, credentials=Credentials()) == Function(
        name=physical["Relay"],
        logical_id="Relay",
        handler="index.handler",
        task_root=tmp_path / "Relay",
        layer=tmp_path / "SharedLayer",
        environment={"QUEUE": physical["Queue"]},
        timeout_seconds=900,
        memory_mb=512,
        streaming=True,
        reserved_concurrency=7,
        log_format="JSON",
        log_level="WARN",
    )
    assert replace(plain, credentials=Credentials()) == Function(
        name=physical["Plain"],
        logical_id="Plain",
        handler="index.handler",
        task_root=tmp_path / "Plain",
        # Lambda's own default, where the template says nothing of logs.
        log_group=f"/aws/lambda/{physical['Plain']}",
    )


def caller(client_options: dict[str, Any], function: Function) -> str:
    """Whom AWS takes the function for: the last part of an ARN."""
    session = function.credentials
    own = {
        "aws_access_key_id": session.access_key_id,
        "aws_secret_access_key": session.secret_access_key,
        "aws_session_token": session.session_token,
    }
    identity = boto3.client("sts", **{**client_options, **own}).get_caller_identity()
    return str(identity["Arn"]).rpartition(":")[2]


def test_code_that_wasnt_built_is_said(client_options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run sam build first"):
        read_functions(
            client_options,
            "tried",
            build_folder=tmp_path,
            translated_template={"Resources": {**_RESOURCES, **_API}},
        )
