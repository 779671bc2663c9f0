from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate import wiring
from jobgate.adapters.commit_statuses import GitLabCommitStatuses
from jobgate.core.settings import Settings

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
