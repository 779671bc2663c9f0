"""A deployed stack as the operators' command sees it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.adapters.aws_api import AWSCall

# The log groups that hold lines about decisions; the last is there where AccessLogs is on.
_LOGS = (
    "TokenExchangeLogName",
    "RelayLogName",
    "ConfigRefreshLogName",
    "OperatorLogName",
    "AccessLogGroupName",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The outputs of a deployed stack (template.yaml, Outputs), and what its parameters say."""

    name: str
    base_url: str
    table: str
    signing_key_a: str
    signing_key_b: str
    gitlab_tokens: str
    gitlab_status_token: str
    gitlab_hooks: str
    gitlab_job_hooks_token: str
    refresh_queue_url: str
    refresh_dead_letter_queue_url: str
    cluster_secret_prefix: str
    operator_log: str
    data_key: str | None = None
    logs: tuple[str, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    settings: Settings = field(default_factory=Settings)


def read_stack(aws: AWSCall, name: str) -> Stack:
    """Raises InvalidRequest for a stack that doesn't exist or isn't Jobgate's."""
    try:
        answer = aws("cloudformation", "DescribeStacks", {"StackName": name})
    except AWSError as exc:
        # CloudFormation has no error code of its own for an unknown stack.
        if exc.code != "ValidationError":
            raise
        raise InvalidRequest(f"This account and region have no stack {name!r}.") from exc
    stack: Mapping[str, Any] = answer["Stacks"][0]
    outputs = {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", ())}
    if not outputs and stack["StackStatus"].endswith("_IN_PROGRESS"):
        raise Unavailable(f"The stack {name!r} isn't ready yet: {stack['StackStatus']}.")
    try:
        return Stack(
            name=name,
            base_url=outputs["BaseUrl"],
            table=outputs["TableName"],
            signing_key_a=outputs["SigningKeyAArn"],
            signing_key_b=outputs["SigningKeyBArn"],
            gitlab_tokens=outputs["GitLabTokensArn"],
            gitlab_status_token=outputs["GitLabStatusTokenArn"],
            gitlab_hooks=outputs["GitLabHooksArn"],
            gitlab_job_hooks_token=outputs["GitLabJobHooksTokenArn"],
            refresh_queue_url=outputs["RefreshQueueUrl"],
            refresh_dead_letter_queue_url=outputs["RefreshDeadLetterQueueUrl"],
            cluster_secret_prefix=outputs["ClusterSecretPrefix"],
            operator_log=outputs["OperatorLogName"],
            data_key=outputs.get("DataKeyArn"),
            logs=tuple(outputs[name] for name in _LOGS if name in outputs),
            bounds=_bounds(stack),
            settings=_settings(stack),
        )
    except KeyError as exc:
        if {"BaseUrl", "TableName", "SigningKeyAArn"} <= outputs.keys():
            raise InvalidRequest(
                f"The stack {name!r} is of an older version than this command (it has no output "
                f"{exc}): deploy this version first."
            ) from exc
        raise InvalidRequest(f"The stack {name!r} isn't Jobgate's: no output {exc}.") from exc


def _bounds(stack: Mapping[str, Any]) -> Bounds:
    given = {p["ParameterKey"]: p["ParameterValue"] for p in stack.get("Parameters", ())}
    names = {field.name: f"{_camel_case(field.name)}Seconds" for field in fields(Bounds)}
    known = {name: float(given[key]) for name, key in names.items() if key in given}
    return Bounds(**known)


def _settings(stack: Mapping[str, Any]) -> Settings:
    given = {p["ParameterKey"]: p["ParameterValue"] for p in stack.get("Parameters", ())}
    names = {field.name: _camel_case(field.name) for field in fields(Settings)}
    return Settings.from_environment(
        {f"JOBGATE_{name.upper()}": given[key] for name, key in names.items() if key in given}
    )


def _camel_case(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
