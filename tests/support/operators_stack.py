"""A deployed stack's resources in moto, and the operators' command run against them.

moto's CloudFormation needs packages that the project hasn't, so the stack's outputs are answered
here; every other call goes through boto3 to moto.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.cli.app import app
from jobgate.cli.connect import Outside
from jobgate.cli.registry import Registry
from jobgate.cli.stack import Stack, read_stack
from jobgate.cli.table import Table
from jobgate.core.public_settings import PublicSettings
from typer.testing import CliRunner

from tests.support.stores import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.adapters import items
    from jobgate.core.issuer import Issuer

NAME = "jg"
STACK_ID = "arn:aws:cloudformation:eu-central-1:000000000000:stack/jg/1"
TABLE = "table"
REGION = "eu-central-1"
NOW = 1_800_000_000.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)


class _Moto(BotoAWS):
    """AWS by moto, which gives tables no id."""

    def __init__(self, session: boto3.Session) -> None:
        super().__init__(session)
        self._table_ids: dict[str, str] = {}

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        answer = super().__call__(service, operation, request)
        if operation == "CreateTable":
            self._table_ids[request["TableName"]] = str(uuid.uuid4())
        if operation == "DescribeTable":
            answer["Table"]["TableId"] = self._table_ids[request["TableName"]]
        return answer


@dataclass(slots=True)
class OperatorsStack:
    """One stack. `now` is the commands' clock; `calls` counts what AWS was asked.

    `break_after` makes the call with that number and all later ones fail, as if the command had
    been killed there.
    """

    outputs: Mapping[str, str]
    real: BotoAWS
    environment: dict[str, str] = field(default_factory=dict)
    now: float = NOW
    calls: list[tuple[str, str]] = field(default_factory=list)
    break_after: int | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    records: list[Any] = field(default_factory=list)
    status: str = "CREATE_COMPLETE"
    status_of_deletion: str = "DELETE_COMPLETE"
    meanwhile: Callable[[], None] = lambda: None

    @classmethod
    def trusting(cls, issuer: Issuer) -> OperatorsStack:
        """A deployment after its set-up, with one GitLab; call it within `moto.mock_aws`."""
        made = cls.deploy()
        registry = Registry(made.table)
        registry.prepare_issuer(issuer, now=NOW)
        registry.save_issuer(issuer)
        registry.save_settings(PublicSettings(base_url="https://api.example.test/live"))
        return made

    @classmethod
    def deploy(cls) -> OperatorsStack:
        """Make the resources; call it within `moto.mock_aws`."""
        session = boto3.Session("a", "b", region_name=REGION)
        real = _Moto(session)
        create_table(real, TABLE)
        key = {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}
        fifo = {"FifoQueue": "true"}
        queue = {"QueueName": "refresh.fifo", "Attributes": fifo}
        dead = {"QueueName": "dead.fifo", "Attributes": fifo}
        secret = ("secretsmanager", "CreateSecret")
        outputs = {
            "BaseUrl": "https://api.example.test/live",
            "TableName": TABLE,
            "SigningKeyAArn": real("kms", "CreateKey", key)["KeyMetadata"]["Arn"],
            "SigningKeyBArn": real("kms", "CreateKey", key)["KeyMetadata"]["Arn"],
            "GitLabStatusTokenArn": real(*secret, {"Name": "status", "SecretString": "{}"})["ARN"],
            "GitLabJobHooksTokenArn": real(*secret, {"Name": "keep", "SecretString": "{}"})["ARN"],
            "GitLabTokensArn": real(*secret, {"Name": "tokens", "SecretString": "{}"})["ARN"],
            "GitLabHooksArn": real(*secret, {"Name": "hooks", "SecretString": "{}"})["ARN"],
            "RefreshQueueUrl": real("sqs", "CreateQueue", queue)["QueueUrl"],
            "RefreshDeadLetterQueueUrl": real("sqs", "CreateQueue", dead)["QueueUrl"],
            "ClusterSecretPrefix": f"jobgate/{NAME}/cluster/",
            "OperatorLogName": "operator",
        }
        real("logs", "CreateLogGroup", {"logGroupName": "operator"})
        return cls(outputs, real)

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """See `AWSCall`."""
        self.calls.append((service, operation))
        if self.break_after is not None and len(self.calls) > self.break_after:
            raise AWSError("Killed")
        if operation == "PutLogEvents":
            # Not by moto, which takes no time that is far from its own.
            self.records += [json.loads(event["message"]) for event in request["logEvents"]]
            return {}
        if operation == "FilterLogEvents":
            lines = enumerate(self.records)
            return {"events": [{"timestamp": n, "message": json.dumps(r)} for n, r in lines]}
        if service != "cloudformation":
            return self.real(service, operation, request)
        if operation == "DeleteStack":
            self.status = self.status_of_deletion
            return {}
        named = NAME if self.status != "DELETE_COMPLETE" else None
        if request["StackName"] not in (named, STACK_ID):
            raise AWSError("ValidationError")
        outputs = [{"OutputKey": k, "OutputValue": v} for k, v in self.outputs.items()]
        parameters = [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()]
        found = {
            "StackId": STACK_ID,
            "StackStatus": self.status,
            "Outputs": outputs,
            "Parameters": parameters,
        }
        return {"Stacks": [found]}

    def sleep(self, seconds: float) -> None:
        """No wait: time passes at once, and what else happens meanwhile."""
        self.now += seconds
        self.meanwhile()

    @property
    def stack(self) -> Stack:
        """The stack as commands see it."""
        return read_stack(self, NAME)

    @property
    def table(self) -> Table:
        """Its table, for a test's own look."""
        return Table(self.real, TABLE)

    def backup(self) -> list[items.Item]:
        """Every item of the table."""
        found: list[items.Item] = self.real("dynamodb", "Scan", {"TableName": TABLE})["Items"]
        return found

    def restore(self, backup: list[items.Item]) -> None:
        """Make the table anew from a backup, as AWS does: under its name, with another id."""
        self.real("dynamodb", "DeleteTable", {"TableName": TABLE})
        create_table(self.real, TABLE)
        for item in backup:
            self.table.put(item)

    @property
    def breakable_table(self) -> Table:
        """Its table as commands reach it: `break_after` holds for it."""
        return Table(self, TABLE)

    def run(self, *arguments: object) -> Answer:
        """Run a command for people."""
        outside = Outside(
            aws=self, environment=self.environment, clock=lambda: self.now, sleep=self.sleep
        )
        self.calls.clear()
        found = CliRunner().invoke(
            app, [str(a) for a in arguments], obj=outside, env={"JOBGATE_STACK": NAME}
        )
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Answer(found.exit_code, found.stdout, found.stderr)

    def json(self, *arguments: object) -> Any:
        """Run a command that must succeed, for a script."""
        answer = self.run(*arguments, "--json")
        assert answer.code == 0, answer.err
        return answer.json

    def secret(self, name: str) -> Any:
        """A secret's JSON, or None."""
        try:
            answer = self.real("secretsmanager", "GetSecretValue", {"SecretId": name})
        except AWSError:
            return None
        return json.loads(answer["SecretString"])

    def messages(self) -> list[str]:
        """The bodies of the messages in the queue; none is taken twice."""
        request = {"QueueUrl": self.outputs["RefreshQueueUrl"], "MaxNumberOfMessages": 10}
        found = self.real("sqs", "ReceiveMessage", request).get("Messages", [])
        return [message["Body"] for message in found]
