"""The product as deployed here: `AWS.start` builds, starts ministack and deploys."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import boto3

from local.aws.build import REPOSITORY, build
from local.aws.commands import inherited, run
from local.aws.emulator import REGION, start_emulator
from local.aws.target import prove_fit, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from local.aws.build import Build
    from local.aws.emulator import Emulator
    from local.certificates import CertificateAuthority
    from local.process import Child

_DEPLOY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class AWS:
    """A deployed stack.

    `parameters` are the template's, as given to the deployment; `outputs` its outputs by name.
    """

    stack_name: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    _folder: Path = field(repr=False)
    _emulator: Emulator = field(repr=False)
    _build: Build = field(repr=False)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        authority: CertificateAuthority,
        parameters: Mapping[str, str] = MappingProxyType({}),
        stack_name: str = "jobgate",
        say: Callable[[str], None] = print,
    ) -> AWS:
        """Build what changed, start ministack and deploy; all that it writes is under `folder`.

        `parameters` overrides the template's defaults. `say` gets one line before each step that
        takes a while. Raises ChildFailedError or UnfitBuildError, with nothing left running.
        """
        target = target_of(REPOSITORY / ".venv-ministack/bin/python")
        folder.mkdir(parents=True, exist_ok=True)
        built = build(target, folder / "sam-build.log", say=say)
        try:
            prove_fit(built.layer, target)
            say("Starting ministack, the local AWS.")
            emulator = start_emulator(target.interpreter, folder, authority=authority)
        except BaseException:
            built.release()
            raise
        aws = cls(stack_name, {}, {}, folder, emulator, built)
        try:
            say("Deploying the template with sam deploy.")
            return aws.beside(stack_name, parameters)
        except BaseException:
            aws.stop()
            raise

    def beside(self, stack_name: str, parameters: Mapping[str, str]) -> AWS:
        """Deploy another stack of the same build here; they end together."""
        target = self._build.target
        fitting = {"PythonRuntime": target.runtime, "Architecture": target.architecture}
        aws = replace(self, stack_name=stack_name, parameters={**parameters, **fitting})
        aws.deploy()
        return replace(aws, outputs=aws.read_outputs())

    def named(self, stack_name: str) -> AWS:
        """A stack of the same build that somebody else has deployed here."""
        found = replace(self, stack_name=stack_name)
        return replace(found, outputs=found.read_outputs())

    @property
    def endpoint_url(self) -> str:
        """Where every AWS service answers."""
        return self._emulator.endpoint_url

    @property
    def environment(self) -> dict[str, str]:
        """The AWS_* variables for children that talk to this AWS."""
        return dict(self._emulator.environment)

    @property
    def client_options(self) -> dict[str, Any]:
        """The same for a boto3 client in this process: `boto3.client("sqs", **options)`."""
        environment = self._emulator.environment
        return {
            "endpoint_url": self.endpoint_url,
            "region_name": REGION,
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "verify": environment["AWS_CA_BUNDLE"],
        }

    @property
    def build_folder(self) -> Path:
        """The built template and artifacts: one folder a function, and SharedLayer."""
        return self._build.folder

    @property
    def python(self) -> Path:
        """The interpreter that the artifacts were built for."""
        return self._build.target.interpreter

    @property
    def children(self) -> tuple[Child, ...]:
        """The processes that must stay alive."""
        return (self._emulator.child,)

    def log_messages(self) -> dict[str, list[str]]:
        """What the functions have written, by log group."""
        logs = boto3.client("logs", **self.client_options)
        messages: dict[str, list[str]] = {}
        for groups in logs.get_paginator("describe_log_groups").paginate():
            for group in groups["logGroups"]:
                name = group["logGroupName"]
                pages = logs.get_paginator("filter_log_events").paginate(logGroupName=name)
                messages[name] = [event["message"] for page in pages for event in page["events"]]
        return messages

    def stop(self) -> None:
        """End ministack with all its functions; the logs stay."""
        # It holds nothing worth a slow goodbye, and its threads may wait for functions.
        self._emulator.child.stop(seconds=1)
        shutil.rmtree(self._folder / "tmp", ignore_errors=True)
        self._build.release()

    def deploy(self) -> None:
        """Create the stack, or update it, by `sam deploy` of the built template."""
        run(
            "sam deploy",
            [
                REPOSITORY / ".venv-sam/bin/sam",
                "deploy",
                "--template-file",
                self.build_folder / "template.yaml",
                "--stack-name",
                self.stack_name,
                "--capabilities",
                "CAPABILITY_IAM",
                "--resolve-s3",
                "--no-confirm-changeset",
                "--no-fail-on-empty-changeset",
                "--no-progressbar",
                "--parameter-overrides",
                # In quotes, since SAM ends a bare value at the first space.
                *(f'{name}="{value}"' for name, value in self.parameters.items()),
            ],
            log=self._folder / "sam-deploy.log",
            env={
                **inherited(),
                **self.environment,
                "SAM_CLI_TELEMETRY": "0",
                "SAM_CLI_POLL_DELAY": "0.2",
                "__SAM_CLI_APP_DIR": str(self._folder / "sam"),
            },
            seconds=_DEPLOY_SECONDS,
            alongside=self.children,
        )

    def read_outputs(self) -> dict[str, str]:
        """The stack's outputs as CloudFormation tells them now."""
        cloudformation = boto3.client("cloudformation", **self.client_options)
        stack = cloudformation.describe_stacks(StackName=self.stack_name)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
