"""What an AWS account must have before a stack is deployed into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.adapters.aws_api import AWSError
from jobgate.cli.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall

# What Lambda keeps unreserved, and as many again for watches (one each) and refreshes.
_CONCURRENCY_LEAST = 200
_SERVICES = (
    ("dynamodb", "ListTables", {"Limit": 1}),
    ("kms", "ListKeys", {"Limit": 1}),
    ("secretsmanager", "ListSecrets", {"MaxResults": 1}),
    ("sqs", "ListQueues", {"MaxResults": 1}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """The account as the operator sees it; `log_role` is the one that API Gateway logs with.

    `refused` are services that the operator may not even list, with AWS's code.
    """

    concurrency: int | None
    log_role: str | None
    refused: tuple[tuple[str, str], ...]


def findings(aws: AWSCall) -> list[Finding]:
    """Gather, and judge."""
    return list(of_account(_facts(aws)))


def of_account(facts: AccountFacts) -> Iterator[Finding]:
    """What would fail, or change something of others, at a deployment."""
    where = "account"
    if facts.concurrency is not None and facts.concurrency < _CONCURRENCY_LEAST:
        text = (
            f"Lambda runs {facts.concurrency} instances at once here; a watch holds one for as "
            "long as it lasts."
        )
        fix = "ask for more: Service Quotas, Lambda, concurrent executions (1,000 is usual)"
        yield Finding(code="concurrency", where=where, text=text, fix=fix)
    if facts.log_role is not None:
        text = (
            f"API Gateway logs by {facts.log_role} here; AccessLogs=create-role would replace it."
        )
        fix = "deploy with AccessLogs=account-role, or off"
        yield Finding(code="log_role", where=where, text=text, fix=fix, severity="note")
    for service, code in facts.refused:
        text = f"AWS refuses {service} to you: {code}."
        fix = "use credentials that may create the stack (docs/security.md)"
        yield Finding(code="rights", where=where, text=text, fix=fix)


def _facts(aws: AWSCall) -> AccountFacts:
    refused: list[tuple[str, str]] = []

    def ask(service: str, operation: str, request: dict[str, object]) -> dict[str, object]:
        try:
            return aws(service, operation, request)
        except AWSError as exc:
            refused.append((service, exc.code))
            return {}

    limits = ask("lambda", "GetAccountSettings", {}).get("AccountLimit")
    concurrency = limits.get("ConcurrentExecutions") if isinstance(limits, dict) else None
    role = ask("apigateway", "GetAccount", {}).get("cloudwatchRoleArn")
    for service, operation, request in _SERVICES:
        ask(service, operation, dict(request))
    return AccountFacts(
        concurrency=None if concurrency is None else int(concurrency),
        log_role=None if role is None else str(role),
        refused=tuple(refused),
    )
