"""A stack of moto's that is connected to GitLab's stand-in, and hears what that delivers."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from jobgate.adapters import agent_items
from jobgate.adapters.hook_secrets import hooks_in
from jobgate.adapters.hook_sightings import DynamoDBHookSightings
from jobgate.adapters.job_states import DynamoDBJobStates
from jobgate.adapters.place_store import DynamoDBPlaces
from jobgate.adapters.refresh_queue import SQSRefreshQueue
from jobgate.adapters.secrets import SecretReader
from jobgate.adapters.webhook_http import WebhookHTTP
from jobgate.core.bounds import Bounds
from jobgate.usecases.hook_events import HookEvents
from jobgate.usecases.receive_webhook import ReceiveWebhook
from moto import mock_aws

from local.gitlab.server import GitLab
from tests.support import builders as b
from tests.support.operators_stack import NOW, Answer, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.certificates import CertificateAuthority
    from local.gitlab.control import Control
    from tests.support.webhook_receiver import Delivered, Receiver

AGENTS, OTHER, GROUP = 50, 51, 7


@contextmanager
def a_gitlab(folder: Path, authority: CertificateAuthority) -> Iterator[GitLab]:
    """The stand-in, with a configuration project and another one in one group."""
    started = GitLab.start(folder, authority=authority)
    started.control.create_group("top", id=GROUP)
    for path, number in (("top/agents", AGENTS), ("top/other", OTHER)):
        started.control.create_project(path, id=number)
        started.control.commit(path, {"README.md": "first\n"})
    yield started
    started.stop()


@contextmanager
def as_it_was(gitlab: GitLab) -> Iterator[Control]:
    """The stand-in for one test, without what that leaves behind."""
    control = gitlab.control
    yield control
    control.clear_faults()
    control.set_instance(version="19.0.2-ee", tier="premium", disables_failing_hooks=False)
    for hook in control.hooks():
        control.delete_hook(hook["id"])


@contextmanager
def a_stack(gitlab: GitLab, receiver: Receiver, folder: Path) -> Iterator[OperatorsStack]:
    """A stack with an issuer, a set-up token, and a deployment that hears what is delivered."""
    control = gitlab.control
    with mock_aws():
        made = OperatorsStack.deploy()
        made.json("setup", "--base-url", receiver.url)
        token = folder / "token"
        token.write_text(control.create_token(["read_api", "self_rotate"], group="top"))
        given = ("--audience", "jobs", "--ca", control.ca, "--token-file", token)
        assert made.run("issuer", "add", "main", "--url", gitlab.url, *given).code == 0
        made.environment["GITLAB_TOKEN"] = control.create_token(["api"], group="top", role="owner")
        receiver.answer = a_function(made)
        yield made


def a_function(stack: OperatorsStack) -> Callable[[Delivered], int]:
    """A webhook function that has just started: a warm one keeps what it read for a while."""
    table, lines = stack.outputs["TableName"], list[str]()

    def clock() -> float:
        waited = stack.now - NOW
        return time.time() + waited  # noqa: TID251  GitLab's stand-in signs the real time

    secrets = SecretReader(stack.real, clock=clock)
    events = HookEvents(
        places=DynamoDBPlaces(stack.real, table),
        jobs=DynamoDBJobStates(stack.real, table, bounds=Bounds(), clock=clock),
        queue=SQSRefreshQueue(stack.real, stack.outputs["RefreshQueueUrl"]),
        chain_fresh=Bounds().chain_fresh,
        clock=clock,
    )
    use_case = ReceiveWebhook(
        hooks_of=hooks_in(secrets, stack.outputs["GitLabHooksArn"]),
        sightings=DynamoDBHookSightings(stack.real, table, log=lines.append),
        events=events,
        clock=clock,
    )
    function = WebhookHTTP(use_case, log=lines.append)
    return lambda delivered: _hear(function, delivered)


def _hear(function: WebhookHTTP, delivered: Delivered) -> int:
    """The webhook's function, deployed to moto, takes a delivery."""
    path, _, query = delivered.path.partition("?")
    event = {
        "httpMethod": "POST",
        "path": path,
        "multiValueHeaders": {name: [value] for name, value in delivered.headers.items()},
        "multiValueQueryStringParameters": parse_qs(query) or None,
        "pathParameters": {"alias": path.rpartition("/")[2]},
        "body": delivered.body.decode(),
        "isBase64Encoded": False,
    }
    return int(function(event, None)["statusCode"])


def connect(stack: OperatorsStack, *arguments: object) -> Answer:
    """Run `jobgate gitlab connect`."""
    return stack.run("gitlab", "connect", *arguments, "--json")


def made_by(answer: Answer) -> list[tuple[str, int, bool, str | None]]:
    """Kind, id, whether it's new, and what lacks, of each webhook."""
    return [
        (hook["scope"]["kind"], hook["scope"]["id"], hook["created"], hook["missing"])
        for hook in answer.json["hooks"]
    ]


def list_agent(
    stack: OperatorsStack, project: int = AGENTS, path: str = "top/agents", **entries: Any
) -> None:
    """A registered agent of a configuration project, with a snapshot."""
    listed = b.a_config_project_item({b.PROD: "prod"}, project_id=project)
    stack.table.put(agent_items.config_project_item(listed))
    home = b.a_config_project(project, path=path)
    snapshot = b.an_agent(config_project=home, **entries)
    stack.table.put(agent_items.snapshot_item(snapshot))


def of_each_project(stack: OperatorsStack, gitlab: Control) -> Answer:
    """A webhook of each project, on a tier that has none of groups."""
    gitlab.set_instance(tier="free")
    list_agent(stack, projects={OTHER: b.an_entry("top/other")})
    return connect(stack, "top", "--job-hooks", "projects")
