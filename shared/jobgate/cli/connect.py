"""What every command starts with: the options that all have, and a connection to the stack."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from jobgate.adapters.aws_api import AWSCall
from jobgate.cli.output import Output
from jobgate.cli.registry import Registry
from jobgate.cli.stack import Stack, read_stack
from jobgate.cli.table import Table
from jobgate.ports import Clock

StackName = Annotated[
    str, typer.Option("--stack", envvar="JOBGATE_STACK", help="The deployed stack's name.")
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print one JSON document for scripts.")]
IssuerAlias = Annotated[
    str | None, typer.Option("--issuer", help="The GitLab instance's alias; else the default one.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What commands reach: AWS with the operator's rights, the environment, the time."""

    aws: AWSCall
    environment: Mapping[str, str]
    clock: Clock
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """One command's connection to one stack."""

    outside: Outside
    stack: Stack
    table: Table
    registry: Registry
    output: Output

    @property
    def aws(self) -> AWSCall:
        """AWS with the operator's rights."""
        return self.outside.aws


def outside_of(context: typer.Context) -> Outside:
    """What this command reaches."""
    return context.obj if isinstance(context.obj, Outside) else _real_outside()


def connect(context: typer.Context, stack_name: str, *, as_json: bool) -> Connected:
    """Raises InvalidRequest for a stack that isn't there, Unavailable where AWS can't be asked."""
    outside = outside_of(context)
    stack = read_stack(outside.aws, stack_name)
    table = Table(outside.aws, stack.table)
    return Connected(
        outside=outside,
        stack=stack,
        table=table,
        registry=Registry(table),
        output=Output(as_json=as_json),
    )


def _real_outside() -> Outside:
    # Imported here so that `jobgate --help` and a shell's completion needn't wait for boto3.
    import boto3  # noqa: PLC0415  see above

    from jobgate.adapters.boto_aws import BotoAWS  # noqa: PLC0415  see above

    environment = os.environ  # noqa: TID251  this is where the command begins, like an app.py
    # boto3 alone of AWS's SDKs doesn't read AWS_REGION.
    session = boto3.Session(region_name=environment.get("AWS_REGION"))
    return Outside(
        aws=BotoAWS(session),
        environment=environment,
        clock=time.time,  # noqa: TID251  the same
    )
