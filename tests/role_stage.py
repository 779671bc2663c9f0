"""What the flows of `make roles` run on: the stack, and each function in a process of its own."""

from __future__ import annotations

import json
import ssl
import urllib.request
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3

from local.emulator import InterfaceEmulator
from local.installation import ALIAS, AUDIENCE, GROUP, SHOP, WEB
from local.invoke import EVENTS, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.gateway.environment import Runtime
    from local.gateway.functions import Function
    from local.gitlab.control_connection import Job
    from local.installation import Installation
    from local.stack import Stack

DEEP_GROUP, DEEP = f"{SHOP}/deep", f"{SHOP}/deep/api"


@dataclass(frozen=True, slots=True)
class Stage:
    """The running stack, its functions by the name of their folder, and a gate before AWS."""

    stack: Stack
    installation: Installation
    surroundings: Surroundings
    functions: dict[str, Function]
    runtime: Runtime
    ids: dict[str, int] = field(default_factory=dict)

    def invoke(self, name: str, event: dict[str, Any] | bytes, **variables: str) -> tuple[Any, str]:
        """A function's answer and its log, in a process that has read nothing before."""
        function = self.functions[name]
        environment = {**function.environment, **variables}
        log = self.stack.folder / "flows" / f"{name}-{uuid.uuid4()}.log"
        emulator = InterfaceEmulator.start(
            replace(function, environment=environment), self.runtime, log
        )
        try:
            payload = event if isinstance(event, bytes) else json.dumps(event).encode()
            return emulator.invoke(payload), log.read_text()
        finally:
            emulator.stop()

    def item(self, pk: str, sk: str) -> dict[str, Any] | None:
        """An item of the table, by whoever may read it."""
        found = self._table().get_item(
            TableName=self.stack.aws.outputs["TableName"], Key=_key(pk, sk), ConsistentRead=True
        )
        return found.get("Item")

    def forget(self, pk: str, sk: str) -> None:
        """Delete an item."""
        self._table().delete_item(TableName=self.stack.aws.outputs["TableName"], Key=_key(pk, sk))

    def _table(self) -> Any:
        return boto3.client("dynamodb", **self.stack.aws.client_options)

    def job(self, project: str = WEB) -> Job:
        """A running job."""
        return self.stack.gitlab.control.create_job(project, audience=AUDIENCE)

    def kubeconfig(self, job: Job) -> dict[str, Any]:
        """What the deployed exchange gives a job."""
        request = urllib.request.Request(
            f"{self.surroundings.gateway}/kubeconfig", urlencode({"token": job.id_token}).encode()
        )
        trust = ssl.create_default_context(cafile=self.surroundings.ca)
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            config: dict[str, Any] = json.load(answer)
        return config


@dataclass(frozen=True, slots=True)
class Flow:
    """Something that a function is there for; `run` raises AssertionError where it isn't done."""

    name: str
    function: str
    run: Callable[[Stage], None]


def prepared(stack: Stack, installation: Installation, endpoint: str) -> Stage:
    """A stage on a running stack, whose queue nobody else takes from."""
    surroundings = Surroundings.of(stack)
    functions = surroundings.functions(stack.aws.build_folder)
    lambdas = boto3.client("lambda", **stack.aws.client_options)
    for mapping in lambdas.list_event_source_mappings()["EventSourceMappings"]:
        lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    control = stack.gitlab.control
    deep = int(control.create_group(DEEP_GROUP)["id"])
    project = int(control.create_project(DEEP)["id"])
    folder = stack.folder / "operator"
    status = folder / "status-token"
    status.write_text(control.create_token(["api"], group=GROUP, role="developer"))
    installation.jobgate(
        *("issuer", "add", ALIAS, "--url", stack.gitlab.url, "--audience", AUDIENCE),
        *("--token-file", str(folder / "gitlab-token"), "--status-token-file", str(status)),
        *("--ca", str(stack.authority.certificate), "--single-use"),
    )
    runtime = replace(surroundings.runtime(stack.aws.python), endpoint=endpoint)
    ids = {DEEP_GROUP: deep, DEEP: project}
    return Stage(stack, installation, surroundings, functions, runtime, ids)


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def event_of(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event
