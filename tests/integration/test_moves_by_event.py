"""What moves in GitLab loses at once: a system hook over HTTP, the table, a warm decision."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from jobgate.adapters import agent_items
from jobgate.adapters.decision_store import DecisionStore
from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.https import HTTPSClient
from jobgate.adapters.place_store import DynamoDBPlaces
from jobgate.adapters.webhook_http import WebhookHTTP
from jobgate.core.authorization import Allowed, authorize
from jobgate.core.bounds import Bounds
from jobgate.core.hook import HookScope
from jobgate.core.settings import Settings
from jobgate.core.webhook import HookSecrets
from jobgate.usecases.hook_events import HookEvents
from jobgate.usecases.lookups import LazyLookups
from jobgate.usecases.receive_webhook import ReceiveWebhook
from jobgate.usecases.refresh import Refresh

from local.certificates import CertificateAuthority
from local.gitlab.server import GitLab
from tests.support import builders as b
from tests.support.fakes import (
    FakeClock,
    FakeHookSightings,
    FakeJobStates,
    FakeRefreshQueue,
    a_watch,
)
from tests.support.refresh_fakes import FakeRefreshStore
from tests.support.stores import TABLE
from tests.support.webhook_receiver import Delivered, webhook_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobgate.adapters.aws_api import AWSCall

FILE = ".gitlab/agents/prod/config.yaml"
BOUNDS = Bounds()


class Deployment:
    """A warm function's decisions, a refresh and the webhook, on one table and one clock.

    The clock stands nearly still, so that nothing gets old: what is lost is lost by an event.
    """

    def __init__(self, gitlab: GitLab, call: AWSCall) -> None:
        self.control = gitlab.control
        groups = {
            path: int(self.control.create_group(path)["id"]) for path in ("top", "top/sub", "ext")
        }
        # As the signed token says, frozen at the job's start.
        self.namespace_id = groups["top/sub"]
        self.ids = {
            name: int(self.control.create_project(f"top/sub/{name}")["id"])
            for name in ("agents", "app")
        }
        content = "ci_access: {projects: [{id: top/sub/app}]}\n"
        self.control.commit("top/sub/agents", {FILE: content})
        self.token = self.control.create_token(["read_api"], group="top")
        self.client = HTTPSClient(f"{gitlab.url}/api/v4", self.control.ca.read_text())
        self.clock, self.queue, self.store = FakeClock(), FakeRefreshQueue(), FakeRefreshStore()
        self.places = DynamoDBPlaces(call, TABLE)
        self.decisions = DecisionStore(call, TABLE, clock=self.clock)
        project_id = self.ids["agents"]
        listed = b.a_config_project_item(project_id=project_id)
        self.store.config_projects["main", project_id] = listed
        call(
            "dynamodb",
            "PutItem",
            {"TableName": TABLE, "Item": agent_items.config_project_item(listed)},
        )
        self.store.clusters["main", b.PROD] = b.a_cluster(config_project_id=project_id)
        self.lookups = LazyLookups(
            b.a_deployment,
            self.gitlab_of,
            self.places,
            a_watch(self.clock),
            settings=Settings(),
            bounds=BOUNDS,
            clock=self.clock,
        )
        self.refresh()

    def gitlab_of(self, _alias: str) -> GitLabAPI:
        return GitLabAPI(self.client, self.token, seconds=30)

    def refresh(self) -> None:
        Refresh(
            gitlab_of=self.gitlab_of,
            store=self.store,
            places=self.places,
            recorder=lambda _line: None,
            settings=Settings(),
            clock=self.clock,
            pick=lambda _count: 0,
        ).run("main", self.ids["agents"])

    @property
    def webhook(self) -> WebhookHTTP:
        hook = HookSecrets(secret_token="t", signing_token=None, scope=HookScope("instance", 0))
        events = HookEvents(
            places=self.places,
            jobs=FakeJobStates(),
            queue=self.queue,
            chain_fresh=BOUNDS.chain_fresh,
            clock=self.clock,
        )
        receiver = ReceiveWebhook(
            hooks_of=lambda _alias, _project_id, *, fresh: [hook],
            sightings=FakeHookSightings(),
            events=events,
            clock=self.clock,
        )
        return WebhookHTTP(receiver, log=lambda _line: None)

    def is_allowed(self) -> bool:
        """Whether a running job of `app` may use the agent, as a warm relay decides."""
        self.clock.advance(1)
        job = b.a_job(
            project_id=self.ids["app"],
            project_path="top/sub/app",
            namespace_id=self.namespace_id,
        )
        facts, agent = self.decisions.exchange_facts(job), self.store.snapshots["main", b.PROD]
        lookup = self.lookups.of(job)
        where = dataclasses.replace(
            lookup.surroundings(facts.place, facts.chain),
            config_places=lookup.config_places([agent]),
        )
        decided = authorize(job, agent, where, settings=Settings(), bounds=BOUNDS, now=self.clock())
        return isinstance(decided, Allowed)


@pytest.fixture
def deployment(call: AWSCall, tmp_path: Path) -> Iterator[Deployment]:
    authority = CertificateAuthority.create(tmp_path)
    gitlab = GitLab.start(tmp_path, authority=authority)
    made = Deployment(gitlab, call)

    def hear(delivered: Delivered) -> int:
        event = {
            "httpMethod": "POST",
            "path": delivered.path,
            "multiValueHeaders": {name: [value] for name, value in delivered.headers.items()},
            "pathParameters": {"alias": "main"},
            "body": delivered.body.decode(),
            "isBase64Encoded": False,
        }
        return int(made.webhook(event, None)["statusCode"])

    with webhook_receiver(authority, tmp_path) as receiver:
        receiver.answer = hear
        gitlab.control.create_hook(f"{receiver.url}/webhooks/gitlab/main", token="t")
        yield made
    made.client.close()
    gitlab.stop()


def test_a_transferred_project_loses_what_it_lost_by_event(deployment: Deployment) -> None:
    assert [deployment.is_allowed() for _ in range(3)] == [True] * 3

    deployment.control.transfer_project("top/sub/app", "ext")
    deployment.control.settle()

    assert not deployment.is_allowed()


@pytest.mark.parametrize("in_sight", [True, False])
def test_a_transferred_configuration_project_loses_its_hold_by_event(
    deployment: Deployment, *, in_sight: bool
) -> None:
    if in_sight:
        deployment.token = deployment.control.create_token(["read_api"])
    assert [deployment.is_allowed() for _ in range(3)] == [True] * 3

    deployment.control.transfer_project("top/sub/agents", "ext")
    deployment.control.settle()
    ((_, queued, _),) = deployment.queue.refreshes
    assert queued == deployment.ids["agents"]
    deployment.refresh()

    assert not deployment.is_allowed()


def test_a_renamed_project_keeps_its_access(deployment: Deployment) -> None:
    assert deployment.is_allowed()

    deployment.control.rename_project("top/sub/app", "renamed")
    deployment.control.settle()

    assert deployment.is_allowed()


@pytest.mark.parametrize("project", ["app", "agents"])
def test_a_transfer_that_nobody_tells_of_is_noticed_within_chain_fresh(
    deployment: Deployment, project: str
) -> None:
    deployment.token = deployment.control.create_token(["read_api"])
    assert deployment.is_allowed()
    deployment.control.lose_deliveries(10)

    deployment.control.transfer_project(f"top/sub/{project}", "ext")

    assert deployment.is_allowed()
    deployment.clock.advance(BOUNDS.chain_fresh)
    assert not deployment.is_allowed()
