"""What doctor makes of facts that the local stack can't be brought to, and of healthy ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.aws_api import AWSError
from jobgate.cli import agent_diagnosis, gitlab_diagnosis, preflight, stack_diagnosis
from jobgate.cli.agent_diagnosis import AgentFacts
from jobgate.cli.gitlab_diagnosis import HookFacts, IssuerFacts, ProjectFacts
from jobgate.cli.preflight import AccountFacts
from jobgate.cli.relay_check import RelayAnswer
from jobgate.cli.stack_diagnosis import StackFacts
from jobgate.core.connection_check import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.cli.finding import Finding

STACK = StackFacts(
    base_url="https://j.test/live",
    expected_url="https://j.test/live",
    front_error=None,
    served=frozenset({"k1"}),
    published={"k1": "slot-a"},
    slots={"slot-a": "Enabled"},
    own_keys={"slot-a": "k1"},
    dead_letters=0,
    schedule="ENABLED",
    clock_skew=1.0,
    issuers=1,
)
ISSUER = IssuerFacts(
    alias="main",
    url="https://gitlab.test",
    error=None,
    calls_itself="https://gitlab.test",
    clock_skew=1.0,
    token_faults=(),
    token_notes=(),
    hooks=(HookFacts(place="group 7", seen=True, in_gitlab=None),),
    stops_missing=False,
    stops=(),
    single_use=False,
    agents=1,
)
PROJECT = ProjectFacts(
    issuer="main",
    project_id=50,
    path="top/agents",
    id_at_path=50,
    unknown=None,
    head="c0ffee",
    commit="c0ffee",
    last_error=None,
)
HEALTHY = RelayAnswer(
    outcomes=(
        Outcome(name="relay_account", status=201, answer="system:serviceaccount:j:jobgate-relay"),
        Outcome(name="as_job", status=201, answer="gitlab:ci_job:0"),
        Outcome(name="relay_may_be_masters", status=201, answer=False),
        Outcome(name="relay_may_do_everything", status=201, answer=False),
        Outcome(name="relay_may_renew", status=201, answer=True),
        Outcome(name="agent_account", status=201, answer="system:serviceaccount:j:jobgate-agent"),
        Outcome(name="agent_may_impersonate", status=201, answer=False),
        Outcome(name="agent_may_create_tokens:shop", status=201, answer=False),
        Outcome(name="agent_may_create_pods_beside_it", status=201, answer=False),
    )
)
AGENT = AgentFacts(
    context="top/agents:prod",
    agent_id=1_000_000_001,
    complete=True,
    connected=True,
    has_own=True,
    refreshed=True,
    valid=True,
    has_file=True,
    problems=0,
    missing=(),
    uses_agent_mode=True,
    relay=HEALTHY,
)


def codes(found: Iterable[Finding]) -> list[str]:
    findings = list(found)
    assert all(finding.text and finding.fix and finding.where for finding in findings)
    return [finding.code for finding in findings]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    found = [*stack_diagnosis.of_stack(STACK), *gitlab_diagnosis.of_issuer(ISSUER)]
    assert [*found, *gitlab_diagnosis.of_project(PROJECT), *agent_diagnosis.of_agent(AGENT)] == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"served": frozenset({"k9"})}, ["wrong_base_url"]),
        ({"own_keys": {"slot-a": "k9"}}, ["key_mismatch"]),
        ({"slots": {"slot-a": "PendingDeletion"}}, ["signing_key"]),
        ({"slots": {}}, ["signing_key"]),
        ({"schedule": "not there (ResourceNotFoundException)"}, ["no_reconcile"]),
        ({"schedule": None}, []),
        ({"clock_skew": -31.0}, ["clock"]),
        ({"clock_skew": 30.0}, []),
        ({"clock_skew": None}, []),
        ({"dead_letters": None}, []),
        ({"base_url": None, "issuers": 0, "dead_letters": 5}, ["not_set_up"]),
    ],
)
def test_faults_of_the_stack(changes: dict[str, Any], expected: list[str]) -> None:
    assert codes(stack_diagnosis.of_stack(replace(STACK, **changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"clock_skew": 31.0}, ["gitlab_clock"]),
        ({"token_notes": ("ends within 3 days",)}, ["token_ends"]),
        ({"token_faults": ("revoked", "lacks a scope")}, ["run_time_token"] * 2),
        ({"hooks": (), "agents": 0}, []),
        ({"hooks": ()}, ["no_hook"]),
        (
            {"hooks": (HookFacts(place="group 7", seen=True, in_gitlab="disabled"),)},
            ["hook_disabled"],
        ),
        ({"hooks": (HookFacts(place="instance", seen=False, in_gitlab="ok"),)}, ["hook_silent"]),
        # What can't be known while GitLab is away isn't said.
        ({"error": "away", "calls_itself": None, "hooks": ()}, ["gitlab"]),
        ({"stops_missing": True, "error": "away"}, ["no_stops_item", "gitlab"]),
    ],
)
def test_faults_of_gitlab(changes: dict[str, Any], expected: list[str]) -> None:
    assert codes(gitlab_diagnosis.of_issuer(replace(ISSUER, **changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unknown": "sees nothing", "head": None}, ["project_unseen"]),
        ({"commit": None}, ["head_not_processed"]),
        ({"head": None}, []),
        ({"last_error": "403", "commit": "older"}, ["refresh_failed"]),
        ({"id_at_path": 51}, ["project_replaced"]),
        ({"id_at_path": None}, []),
    ],
)
def test_faults_of_a_project(changes: dict[str, Any], expected: list[str]) -> None:
    assert codes(gitlab_diagnosis.of_project(replace(PROJECT, **changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"complete": False, "problems": 3}, ["unfinished"]),
        ({"refreshed": False, "valid": False, "relay": None}, ["not_refreshed"]),
        ({"has_file": False}, ["no_config"]),
        ({"valid": False, "problems": 2}, ["never_valid", "config_problems"]),
        ({"has_own": False}, ["no_agent_mode"]),
        ({"relay": RelayAnswer(error="status 500")}, ["relay"]),
    ],
)
def test_faults_of_an_agent(changes: dict[str, Any], expected: list[str]) -> None:
    assert codes(agent_diagnosis.of_agent(replace(AGENT, **changes))) == expected


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("relay_account", {"answer": None, "cause": "upstream_timeout"}, ["cluster_unreachable"]),
        ("relay_account", {"answer": None, "cause": "the cluster: SSLError"}, ["cluster_ca"]),
        (
            "agent_account",
            {"answer": None, "cause": "upstream_unreachable"},
            ["credential_refused"],
        ),
        ("as_job", {"answer": None, "status": 403, "cause": "no"}, ["may_not_impersonate"]),
        ("relay_may_renew", {"answer": False}, ["may_not_renew"]),
        ("relay_may_be_masters", {"answer": True}, ["legacy_grant"]),
        ("agent_may_impersonate", {"answer": True}, ["agent_impersonates"]),
        ("agent_may_create_tokens:shop", {"answer": True}, ["agent_creates_tokens"]),
        ("agent_may_create_pods_beside_it", {"answer": True}, ["agent_beside_accounts"]),
    ],
)
def test_faults_between_the_relay_and_the_cluster(
    name: str, change: dict[str, Any], expected: list[str]
) -> None:
    changed = [replace(o, **change) if o.name == name else o for o in HEALTHY.outcomes]
    assert (
        codes(agent_diagnosis.of_cluster("agent x", RelayAnswer(outcomes=tuple(changed))))
        == expected
    )


# --- Before a deployment ---


class Account:
    """AWS's answers; a service that isn't there refuses."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if service not in self.answers:
            raise AWSError("AccessDeniedException")
        return self.answers[service]


def account(concurrency: int = 1000, **changes: Any) -> Account:
    limits = {"AccountLimit": {"ConcurrentExecutions": concurrency}}
    given = {"lambda": limits, "apigateway": {}, "dynamodb": {}, "kms": {}, "secretsmanager": {}}
    return Account(**given, sqs={}, **changes)


def test_an_account_that_will_do_has_no_findings() -> None:
    assert preflight.findings(account()) == []


def test_a_new_accounts_quota_is_told() -> None:
    assert codes(preflight.findings(account(10))) == ["concurrency"]


def test_a_log_role_that_would_be_replaced_is_told() -> None:
    facts = AccountFacts(concurrency=1000, log_role="arn:aws:iam::1:role/others", refused=())
    (found,) = preflight.of_account(facts)
    assert (found.code, found.severity) == ("log_role", "note")
    assert "AccessLogs=account-role" in found.fix


def test_each_right_that_is_missing_is_told() -> None:
    found = preflight.findings(Account())
    assert codes(found) == ["rights"] * 6
