"""The deployed functions: what CloudFormation and Lambda say of them, with their built code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from local.cloudformation import evaluated
from local.gateway.api import read_api

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_lambda.client import LambdaClient
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

# SAM names a layer's version after the resource and the first ten hex digits of its content's hash.
_LAYER_HASH_DIGITS = 10


# The longest that a role allows a session to last, for a stack that stays up all day.
_SESSION_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Credentials:
    """What AWS's environment variables of a function hold."""

    access_key_id: str = "test"
    secret_access_key: str = field(default="test", repr=False)
    session_token: str = field(default="test", repr=False)


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function, with its code unpacked.

    `task_root` stands for /var/task, `layer` for /opt. `environment` is the function's own
    variables alone. `streaming` says whether its routes invoke it with response streaming.
    Without a `log_group` of its own it has the one that Lambda gives it.
    """

    name: str
    logical_id: str
    handler: str
    task_root: Path
    layer: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 3
    memory_mb: int = 128
    streaming: bool = False
    reserved_concurrency: int | None = None
    log_format: str = "Text"
    log_level: str | None = None
    log_group: str = ""
    credentials: Credentials = field(default_factory=Credentials)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Function:
        """The function that `dataclasses.asdict` and JSON wrote."""
        layer = value["layer"]
        parsed = {
            "task_root": Path(value["task_root"]),
            "layer": layer and Path(layer),
            "credentials": Credentials(**value["credentials"]),
        }
        return cls(**{**value, **parsed})


def read_functions(
    client_options: Mapping[str, Any],
    stack_name: str,
    *,
    build_folder: Path,
    translated_template: Mapping[str, Any],
) -> tuple[Function, ...]:
    """The functions of the stack `stack_name`, in the order of the template.

    Names, variables and the credentials of each one's role come from AWS's API, as deployed; code
    from `build_folder`, with one folder a function and one for the layer. `client_options` are
    boto3's: endpoint_url and so on. Raises botocore's ClientError for a stack or function that
    isn't there and FileNotFoundError for code that wasn't built.
    """
    cloudformation = boto3.client("cloudformation", **client_options)
    described = cloudformation.describe_stack_resources(StackName=stack_name)
    physical = {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for resource in described["StackResources"]
        if "PhysicalResourceId" in resource
    }
    client = boto3.client("lambda", **client_options)
    streaming = {
        route.function for route in read_api(translated_template).routes if route.streaming
    }
    return tuple(
        replace(
            _read(client, physical[logical_id], resource["Properties"], build_folder / logical_id),
            logical_id=logical_id,
            credentials=_credentials(client_options, physical[logical_id]),
            streaming=logical_id in streaming,
            reserved_concurrency=_reserved(resource["Properties"], translated_template),
        )
        for logical_id, resource in translated_template["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
    )


def _read(
    client: LambdaClient, name: str, properties: Mapping[str, Any], task_root: Path
) -> Function:
    if not task_root.is_dir():
        raise FileNotFoundError(f"{task_root} isn't there: run sam build first.")
    deployed = _deployed(client, name)
    logging = properties.get("LoggingConfig", {})
    return Function(
        name=name,
        logical_id="",
        handler=deployed["Handler"],
        task_root=task_root.resolve(),
        layer=_layer(properties, task_root.parent),
        environment=deployed.get("Environment", {}).get("Variables", {}),
        timeout_seconds=deployed["Timeout"],
        memory_mb=deployed["MemorySize"],
        log_format=logging.get("LogFormat", "Text"),
        log_level=logging.get("ApplicationLogLevel"),
        log_group=deployed.get("LoggingConfig", {}).get("LogGroup", ""),
    )


def _deployed(client: LambdaClient, name: str) -> FunctionConfigurationResponseTypeDef:
    """What the function's one alias stands for; without an alias the function as it is."""
    aliases = client.list_aliases(FunctionName=name)["Aliases"]
    if len(aliases) > 1:
        raise ValueError(f"{name} has several aliases; which one has its routes isn't looked up.")
    if not aliases:
        return client.get_function_configuration(FunctionName=name)
    return client.get_function_configuration(FunctionName=name, Qualifier=aliases[0]["Name"])


def _credentials(client_options: Mapping[str, Any], name: str) -> Credentials:
    """Of a session of the function's role, as Lambda makes one."""
    described = boto3.client("lambda", **client_options).get_function_configuration(
        FunctionName=name
    )
    role = described["Role"]
    iam = boto3.client("iam", **client_options)
    iam.update_role(RoleName=role.rpartition("/")[2], MaxSessionDuration=_SESSION_SECONDS)
    session = boto3.client("sts", **client_options).assume_role(
        RoleArn=role, RoleSessionName=name[:64], DurationSeconds=_SESSION_SECONDS
    )["Credentials"]
    return Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])


def _reserved(properties: Mapping[str, Any], template: Mapping[str, Any]) -> int | None:
    """From the template, since ministack's CloudFormation doesn't set it."""
    value = evaluated(dict(properties), template).get("ReservedConcurrentExecutions")
    return None if value is None else int(value)


def _layer(properties: Mapping[str, Any], build_folder: Path) -> Path | None:
    layers = properties.get("Layers", [])
    if not layers:
        return None
    if len(layers) > 1:
        raise ValueError("A function with two layers can't run here: /opt is one folder.")
    folder = build_folder / str(layers[0]["Ref"])[:-_LAYER_HASH_DIGITS]
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} isn't there: run sam build first.")
    return folder.resolve()
