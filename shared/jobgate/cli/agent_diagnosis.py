"""What is wrong with an agent and its cluster, and what mends it. Pure: facts in, findings out.

A link that doesn't answer hides those behind it, so nothing is said of those then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.cli.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobgate.cli.relay_check import RelayAnswer
    from jobgate.core.connection_check import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """An agent: `context` names it, `missing` are subjects that the index lacks.

    `relay` is what the relay said of its cluster, None where there is nothing to ask about.
    """

    context: str
    agent_id: int
    complete: bool
    connected: bool
    has_own: bool
    refreshed: bool
    valid: bool
    has_file: bool
    problems: int
    missing: Sequence[str]
    uses_agent_mode: bool
    relay: RelayAnswer | None


def of_agent(facts: AgentFacts) -> Iterator[Finding]:
    """Faults of one agent's registration, configuration and cluster."""
    where = f"agent {facts.context}"
    again = "the same `jobgate agent register` again"
    if not facts.complete or not facts.connected:
        text = "Its registration isn't complete, so it serves no job."
        yield Finding(code="unfinished", where=where, text=text, fix=again)
        return
    if not facts.refreshed:
        text = "Its configuration was never read."
        fix = "wait for the schedule (5 min); then: jobgate status"
        yield Finding(code="not_refreshed", where=where, text=text, fix=fix)
    elif not facts.has_file:
        name = facts.context.rpartition(":")[2]
        text = "It is registered, and has no config.yaml."
        fix = f"push .gitlab/agents/{name}/config.yaml to the default branch"
        yield Finding(code="no_config", where=where, text=text, fix=fix)
    elif not facts.valid:
        text = "No version of its config.yaml was ever valid, so it grants nothing."
        yield Finding(code="never_valid", where=where, text=text, fix=_show(facts))
    if facts.problems:
        text = f"Its config.yaml has {facts.problems} problems."
        yield Finding(code="config_problems", where=where, text=text, fix=_show(facts))
    if facts.missing:
        text = f"The index lacks {', '.join(facts.missing)}: those jobs are not_listed."
        fix = "wait for the schedule (5 min), which repairs it; then look at the refresh's log"
        yield Finding(code="index", where=where, text=text, fix=fix)
    if facts.uses_agent_mode and not facts.has_own:
        text = "An entry is `access_as: agent`, and the agent has no credential of its own."
        fix = f"{again}, with --agent-mode; or `access_as: ci_job` in its config.yaml"
        yield Finding(code="no_agent_mode", where=where, text=text, fix=fix)
    if facts.relay is not None:
        yield from of_cluster(where, facts.relay)


def _show(facts: AgentFacts) -> str:
    return f"jobgate agent show {facts.agent_id}"


# --- The cluster, by the relay ---


def of_cluster(where: str, relay: RelayAnswer) -> Iterator[Finding]:
    """Faults between the relay and the cluster."""
    again = "jobgate agent register … --from-context again"
    if relay.error is not None:
        text = f"The relay couldn't be asked about its cluster: {relay.error}."
        fix = "look at the stack's findings, and at the relay's log"
        yield Finding(code="relay", where=where, text=text, fix=fix)
        return
    for name, whose in (("relay_account", "relay's"), ("agent_account", "agent's own")):
        outcome = relay.of(name)
        if outcome is not None and outcome.answer is None:
            yield _of_account(where, outcome, whose, again)
            if name == "relay_account":
                return
    yield from _of_rights(where, relay, again)


def _of_account(where: str, outcome: Outcome, whose: str, again: str) -> Finding:
    cause = outcome.cause or f"status {outcome.status}"
    if "CertVerification" in cause or "SSL" in cause:
        text = f"The cluster's certificate isn't of the registered CA or name: {cause}."
        fix = f"{again} (--ca, --tls-server-name)"
        return Finding(code="cluster_ca", where=where, text=text, fix=fix)
    if "credential can't be read" in cause or "credential isn't" in cause or "secret" in cause:
        text = f"The {whose} credential can't be used: {cause}."
        return Finding(code="credential_unreadable", where=where, text=text, fix=again)
    if cause == "upstream_unreachable" or outcome.status == 401:
        text = f"The cluster refuses the {whose} credential: it ended, or its account is gone."
        return Finding(code="credential_refused", where=where, text=text, fix=again)
    text = f"The relay doesn't reach the cluster: {cause}."
    fix = "is the server up, and reachable from the functions' network (SubnetIds)?"
    return Finding(code="cluster_unreachable", where=where, text=text, fix=fix)


_SHOULD_BE_NO = {
    "relay_may_do_everything": (
        "relay_too_strong",
        "The relay's account may do everything; it should do nothing but impersonate.",
        "take its other bindings away: kubectl auth can-i --list --as=…",
    ),
    "agent_may_impersonate": (
        "agent_impersonates",
        "The agent's own account may impersonate: a job can become anybody.",
        "take that right from jobgate-agent",
    ),
    "agent_may_impersonate_users": (
        "agent_impersonates",
        "The agent's own account may impersonate: a job can become anybody.",
        "take that right from jobgate-agent",
    ),
    "agent_may_create_pods_beside_it": (
        "agent_beside_accounts",
        "The agent's own account may make pods in its own namespace: one could run as the relay's.",
        "bind nothing to it there: workloads belong into other namespaces than the two accounts",
    ),
    "agent_may_create_tokens": (
        "agent_creates_tokens",
        "The agent's own account may create tokens: a job's could outlive every revocation.",
        "take `create` on serviceaccounts/token from jobgate-agent",
    ),
}


def _of_rights(where: str, relay: RelayAnswer, again: str) -> Iterator[Finding]:
    apply = "jobgate rbac --agent ID --context NAME | kubectl apply --server-side -f -"
    said: set[str] = set()
    for outcome in relay.outcomes:
        if outcome.name.startswith("as_") and outcome.answer is None:
            whom = "a job" if outcome.name == "as_job" else "an identity of its config.yaml"
            text = f"The relay's account may not act as {whom}: {outcome.cause}"
            fix = f"{again}; or: {apply}"
            yield Finding(code="may_not_impersonate", where=where, text=text, fix=fix)
        name, _, place = outcome.name.partition(":")
        if name in _SHOULD_BE_NO and outcome.answer is True:
            code, text, fix = _SHOULD_BE_NO[name]
            if place:
                text = f"{text} So in the namespace {place}."
                fix += "; the ClusterRoles edit and admin hold it: bind a Role without it"
            if code not in said:
                yield Finding(code=code, where=where, text=text, fix=fix)
            said.add(code)
    if (renew := relay.of("relay_may_renew")) is not None and renew.answer is False:
        text = "The relay's account may not renew its token, which will end."
        yield Finding(code="may_not_renew", where=where, text=text, fix=f"{again}; or: {apply}")
    masters, everything = relay.of("relay_may_be_masters"), relay.of("relay_may_do_everything")
    if masters is not None and masters.answer is True and not (everything and everything.answer):
        text = "As far as the cluster is concerned the relay may act as system:masters."
        fix = f"from Kubernetes 1.36: {apply}; before, the relay's own guard stands alone there"
        yield Finding(code="legacy_grant", where=where, text=text, fix=fix, severity="note")
