from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobgate import wiring
from jobgate.adapters.commit_statuses import GitLabCommitStatuses
from jobgate.core.errors import Unavailable
from jobgate.core.settings import Settings
from jobgate.usecases.job_hooks import JobHooks
from jobgate.usecases.reconcile import Reconcile
from jobgate.usecases.renewal import Renewal
from jobgate.usecases.token_watch import TokenWatch

if TYPE_CHECKING:
    from jobgate.usecases.exchange import Exchange
    from jobgate.usecases.refresh import Refresh
    from jobgate.usecases.relay import Relay

ENVIRONMENT = {
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "JOBGATE_TABLE": "table",
    "JOBGATE_GITLAB_TOKENS_SECRET": "arn:tokens",
    "JOBGATE_GITLAB_STATUS_TOKEN_SECRET": "arn:status",
    "JOBGATE_REFRESH_QUEUE_URL": "https://sqs.example.test/queue.fifo",
    "JOBGATE_INSTANCE_WIDE": "true",
    "JOBGATE_FORK_JOBS": "deny",
    "JOBGATE_PROJECT_RATE": "7",
    "JOBGATE_STRANGER_RATE": "3",
    "JOBGATE_ALLOWED_IDENTITIES": "system:basic-user",
}
GIVEN = Settings(
    instance_wide=True,
    fork_jobs="deny",
    allowed_identities=frozenset({"system:basic-user"}),
    project_rate=7,
    stranger_rate=3,
)


def test_the_exchange_decides_by_the_deployments_settings() -> None:
    exchange: Exchange = wiring.token_exchange(ENVIRONMENT)._exchange  # type: ignore[attr-defined]  # its one part

    assert exchange.decisions.settings == GIVEN
    assert exchange.decisions.throttle.settings == GIVEN
    assert exchange.decisions.lookups.settings == GIVEN  # type: ignore[attr-defined]  # the real one's


def test_the_relay_decides_by_the_deployments_settings() -> None:
    relay: Relay = wiring.relay(ENVIRONMENT)._relay

    assert (relay.admission.settings, relay.forwarding.settings) == (GIVEN, GIVEN)


@pytest.mark.parametrize("status", ["true", "false"])
def test_the_refresh_compiles_by_the_deployments_settings(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    environment = ENVIRONMENT | {"JOBGATE_COMMIT_STATUS": status}

    refresh: Refresh = wiring.config_refresh(environment)._refresh  # type: ignore[attr-defined]  # its one part

    assert refresh.settings == Settings.from_environment(environment)
    assert isinstance(refresh.statuses, GitLabCommitStatuses) is (status == "true")


@pytest.mark.parametrize("name", ["token_exchange", "relay", "config_refresh"])
def test_a_setting_that_is_not_understood_stops_the_start(name: str) -> None:
    with pytest.raises(ValueError, match="JOBGATE_INSTANCE_WIDE"):
        getattr(wiring, name)(ENVIRONMENT | {"JOBGATE_INSTANCE_WIDE": "perhaps"})


def test_a_round_queues_refreshes_first_and_leaves_time_for_what_comes_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler, done = a_round(monkeypatch)

    assert handler({}, None) == {"queued": 3}

    assert done == [("refreshes", None), *AFTER_THEM]


def test_a_queue_that_takes_nothing_holds_nothing_else_up(monkeypatch: pytest.MonkeyPatch) -> None:
    handler, done = a_round(monkeypatch)

    def away(_: Reconcile) -> int:
        raise Unavailable("the queue takes no message")

    monkeypatch.setattr(Reconcile, "run", away)

    with pytest.raises(Unavailable):
        handler({}, None)

    assert done == AFTER_THEM


AFTER_THEM = [("renewal", 1020.0), ("tokens", None), ("hooks", 1035.0)]


def a_round(monkeypatch: pytest.MonkeyPatch) -> tuple[wiring.Handler, list[Any]]:
    """The schedule's handler, and what it has done."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    names = ("JOBGATE_GITLAB_HOOKS_SECRET", "JOBGATE_GITLAB_JOB_HOOKS_TOKEN_SECRET")
    handler = wiring.reconcile(ENVIRONMENT | dict.fromkeys(names, "arn:x"))
    done: list[tuple[str, float | None]] = []

    def queue(_: Reconcile) -> int:
        done.append(("refreshes", None))
        return 3

    monkeypatch.setattr(wiring, "_clock", lambda: 1000.0)
    monkeypatch.setattr(Reconcile, "run", queue)
    monkeypatch.setattr(Renewal, "run", lambda _, until: done.append(("renewal", until)))
    monkeypatch.setattr(TokenWatch, "run", lambda _: done.append(("tokens", None)))
    monkeypatch.setattr(JobHooks, "run", lambda _, kept, until: done.append(("hooks", until)))
    return handler, done
