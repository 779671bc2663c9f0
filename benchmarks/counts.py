"""What each flow uses: DynamoDB's units, calls to AWS and to GitLab, bytes of records; counted.

One project in a group in a top-level group, three agents that concern it (by its own entry, and by
one of each group), each with a usual configuration. The real use cases and adapters run on a table
in memory, so a figure here changes with the code and with nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.adapters import agent_items, items, operator_items
from jobgate.core.public_settings import PublicSettings

from tests.support import builders as b
from tests.support.counted_functions import (
    CountedStack,
    ExchangeFunction,
    RelayFunction,
    WebhookFunction,
    a_reconcile,
    a_refresh,
)
from tests.support.fakes import FakeClock
from tests.support.refresh_setting import Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.refresh_fakes import FakeGitLab

REVIEW = 503
AGENTS = {b.PROD: "prod", b.STAGING: "staging", REVIEW: "review"}
_FILE = "ci_access: {{{kind}: [{{id: {path}, access_as: {{ci_job: {{}}}}}}]}}"
FILES = {
    f".gitlab/agents/{name}/config.yaml": _FILE.format(kind=kind, path=path).encode()
    for name, kind, path in (
        ("prod", "projects", "top/sub1/app"),
        ("staging", "groups", "top"),
        ("review", "groups", "top/sub1"),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one run of a flow used."""

    reads: float
    writes: float
    table_calls: int
    signatures: int
    secrets: int
    messages: int
    gitlab: int
    log_bytes: int


class Deployment:
    """A deployment in use; GitLab has the agents' files, and nothing is refreshed yet."""

    def __init__(self) -> None:
        self.gitlab: FakeGitLab = Setting().gitlab
        self.clock = FakeClock()
        self.stack = CountedStack(self.clock, self.gitlab)
        aws = self.stack.aws
        aws.secrets = {"arn:relay": {"token": "canary"}, "job-hooks": {}}
        project = agent_items.config_project_item(b.a_config_project_item(AGENTS))
        aws.store(
            [
                operator_items.settings_item(PublicSettings(base_url=b.BASE_URL, table_id="live")),
                operator_items.issuer_item(b.an_issuer()),
                operator_items.public_key_item(b.a_public_key()),
                operator_items.stops_item("main", ()),
                project | {"root_path": {"S": "top"}},
                *(_connection(agent_id, name) for agent_id, name in AGENTS.items()),
            ]
        )
        self.gitlab.push(b.CONFIG_PROJECT, FILES)
        self.gitlab.jobs = {(b.APP, 9000 + n): "running" for n in range(20)}

    def count(self, flow: Callable[[], object]) -> Counts:
        """Run a flow, and count."""
        used = self.stack.aws.start()
        asked, logged = len(self.gitlab.calls), self.stack.log_bytes
        flow()
        table = sum(count for (service, _), count in used.calls.items() if service == "dynamodb")
        return Counts(
            reads=used.reads,
            writes=used.writes,
            table_calls=table,
            signatures=used.named("Sign"),
            secrets=used.named("GetSecretValue"),
            messages=used.named("SendMessage"),
            gitlab=len(self.gitlab.calls) - asked,
            log_bytes=self.stack.log_bytes - logged,
        )


def _connection(agent_id: int, name: str) -> items.Item:
    return agent_items.cluster_item(b.a_cluster(agent_id, name=name))


def counted() -> dict[str, Counts]:
    """Each flow's name, and what it used."""
    made = Deployment()
    return {
        **_refreshes(made),
        **_exchanges(made),
        **_requests(made),
        **_webhooks(made),
    }


def _refreshes(made: Deployment) -> dict[str, Counts]:
    refresh = a_refresh(made.stack)

    def run() -> None:
        refresh.run("main", b.CONFIG_PROJECT)

    counts = {"first refresh of three agents": made.count(run)}
    changed = b"ci_access: {projects: [{id: top/sub1/app}, {id: top/sub1/other}]}"
    made.gitlab.push(b.CONFIG_PROJECT, {**FILES, ".gitlab/agents/prod/config.yaml": changed})
    counts["refresh after a push to one of them"] = made.count(run)
    counts["refresh with nothing new"] = made.count(run)
    reconcile = a_reconcile(made.stack)
    reconcile()
    made.clock.advance(made.stack.bounds.issuers_max_age + 1)
    counts["round of the schedule, one project"] = made.count(reconcile)
    return counts


def _exchanges(made: Deployment) -> dict[str, Counts]:
    function = ExchangeFunction(made.stack)
    numbers = iter(range(1, 20))

    def exchange() -> None:
        job = b.a_job(job_id=9000 + next(numbers))
        assert function.redeem(job) == (b.PROD, REVIEW, b.STAGING)

    def new_function() -> None:
        nonlocal function
        function = ExchangeFunction(made.stack)
        exchange()

    counts = {"exchange, cold, project never seen, job asked about": made.count(new_function)}
    counts["exchange, warm, job asked about"] = made.count(exchange)
    WebhookFunction(made.stack).job(b.a_job(job_id=9003), "running")
    counts["exchange, warm, job told by a hook"] = made.count(exchange)
    WebhookFunction(made.stack).job(b.a_job(job_id=9004), "running")
    counts["exchange, cold, job told by a hook"] = made.count(new_function)
    made.clock.advance(made.stack.bounds.chain_fresh + 1)
    for number in (5, 6):
        WebhookFunction(made.stack).job(b.a_job(job_id=9000 + number), "running")
    counts["exchange, warm, project's place looked up again"] = made.count(exchange)
    return counts


def _requests(made: Deployment) -> dict[str, Counts]:
    job = b.a_job(job_id=9015)
    hook = WebhookFunction(made.stack)
    hook.job(job, "running")
    function = RelayFunction(made.stack)

    def request() -> None:
        assert function.request(job, b.STAGING) == 200

    counts = {"request, cold": made.count(request)}
    counts["request, warm, within RelayCacheSeconds of the last"] = made.count(request)
    made.clock.advance(made.stack.bounds.relay_cache)
    counts["request, warm, of a job not seen there before"] = made.count(request)
    return counts


def _webhooks(made: Deployment) -> dict[str, Counts]:
    hook = WebhookFunction(made.stack)
    hook.job(b.a_job(job_id=9018), "running")
    told = lambda: hook.job(b.a_job(job_id=9018), "success")  # noqa: E731  as short as the rows
    return {
        "webhook of a job": made.count(told),
        "webhook of a push": made.count(lambda: hook.push(b.CONFIG_PROJECT)),
    }
