"""What is wrong with a deployment, and what mends it. Pure: facts in, findings out.

The facts follow the way of a job: the stack, GitLab, a configuration project, an agent, its
cluster. A link that doesn't answer hides those behind it, so nothing is said of those then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jobgate.cli.relay_check import RelayAnswer
    from jobgate.core.connection_check import Outcome

_SKEW_MAX_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong, or (`note`) worth knowing. `where` names the link, `fix` what mends it."""

    code: str
    where: str
    text: str
    fix: str
    severity: Literal["fault", "note"] = "fault"


# --- The stack ---


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFacts:
    """The deployment itself. Times in epoch seconds, ids of keys by KMS slot.

    `front_error` is why our own key set can't be fetched by the public URL; `served` are the ids of
    the keys in it; `slots` the state that KMS gives of each signing key's slot.
    """

    base_url: str | None
    expected_url: str
    front_error: str | None
    served: frozenset[str]
    published: Mapping[str, str]  # id of the key that signs now: its slot
    slots: Mapping[str, str]
    own_keys: Mapping[str, str]  # slot: the id of KMS's key in it
    dead_letters: int | None
    schedule: str | None
    clock_skew: float | None
    issuers: int


def of_stack(facts: StackFacts) -> Iterator[Finding]:
    """The deployment's own faults."""
    where = "stack"
    if facts.base_url is None:
        yield Finding(
            code="not_set_up", where=where, text="The stack isn't set up.", fix="jobgate setup"
        )
        return
    yield from _of_keys(facts)
    if facts.front_error is not None:
        text = f"Nothing good answers at {facts.base_url}: {facts.front_error}."
        fix = f"jobgate setup --base-url {facts.expected_url} (with --ca for a private CA), or DNS"
        yield Finding(code="front", where=where, text=text, fix=fix)
    elif facts.published and not facts.published.keys() & facts.served:
        text = f"{facts.base_url} serves other keys: it's another deployment's URL."
        fix = f"jobgate setup --base-url {facts.expected_url}"
        yield Finding(code="wrong_base_url", where=where, text=text, fix=fix)
    if facts.dead_letters:
        text = f"{facts.dead_letters} refreshes failed five times and lie in the dead-letter queue."
        fix = "mend what the refresh's log names, then: jobgate queue redrive"
        yield Finding(code="dead_letters", where=where, text=text, fix=fix)
    if facts.schedule not in (None, "ENABLED"):
        text = f"The schedule that heals lost webhooks is {facts.schedule}."
        fix = "switch it on (EventBridge Scheduler), or deploy the stack again"
        yield Finding(code="no_reconcile", where=where, text=text, fix=fix)
    if facts.clock_skew is not None and abs(facts.clock_skew) > _SKEW_MAX_SECONDS:
        text = f"This machine's clock is {facts.clock_skew:+.0f} s off the deployment's."
        fix = "set this machine's clock (NTP), and run this again"
        yield Finding(code="clock", where=where, text=text, fix=fix)
    if not facts.issuers:
        text = "No GitLab instance is trusted."
        fix = "jobgate issuer add ALIAS --url URL --audience AUD --token-file FILE"
        yield Finding(code="no_issuer", where=where, text=text, fix=fix)


def _of_keys(facts: StackFacts) -> Iterator[Finding]:
    where = "stack"
    if not facts.published:
        text = "No signing key is published, so no job gets a token."
        yield Finding(code="no_signing_key", where=where, text=text, fix="jobgate setup")
    for kid, slot in facts.published.items():
        state = facts.slots.get(slot, "gone")
        if state != "Enabled":
            text = f"The signing key {kid} is {state} in KMS, so no job gets a token."
            fix = f"aws kms enable-key --key-id {slot} (or cancel-key-deletion first)"
            yield Finding(code="signing_key", where=where, text=text, fix=fix)
        elif facts.own_keys.get(slot, kid) != kid:
            text = f"The published key {kid} isn't the one that KMS signs with."
            yield Finding(
                code="key_mismatch", where=where, text=text, fix="jobgate keys rotate --wait 120"
            )


# --- A GitLab instance ---


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFacts:
    """One stored webhook. `in_gitlab` is what the set-up token shows of it, None without one.

    `in_gitlab`: `ok`, `gone`, `other_url`, `disabled`, or `refused` (our last answer to it).
    """

    place: str
    seen: bool
    in_gitlab: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerFacts:
    """A trusted GitLab instance, as this machine and the run-time token see it."""

    alias: str
    url: str
    error: str | None
    calls_itself: str | None
    clock_skew: float | None
    token_faults: Sequence[str]
    token_notes: Sequence[str]
    hooks: Sequence[HookFacts]
    stops_missing: bool
    stops: Sequence[str]
    single_use: bool
    agents: int


def of_issuer(facts: IssuerFacts) -> Iterator[Finding]:
    """Faults on the way from one GitLab instance to us."""
    where, alias = f"GitLab {facts.alias}", facts.alias
    if facts.stops_missing:
        text = "The item of the operator's stops is missing, and that denies everything."
        fix = f"jobgate issuer add {alias} … with the values of `jobgate issuer list`"
        yield Finding(code="no_stops_item", where=where, text=text, fix=fix)
    for stop in facts.stops:
        text = f"A stop is in force: {stop}."
        yield Finding(
            code="stopped", where=where, text=text, fix=f"jobgate restore {stop.split(' by ')[0]}"
        )
    if facts.single_use:
        text = "ID tokens are good once, so a kubeconfig of the exec form fails at its second call."
        fix = "jobs take the plain kubeconfig; or: jobgate issuer add … --many-uses"
        yield Finding(code="single_use", where=where, text=text, fix=fix, severity="note")
    if facts.error is not None:
        fix = f"is {facts.url} up, and is its CA that of `jobgate issuer add --ca`?"
        yield Finding(code="gitlab", where=where, text=facts.error, fix=fix)
        return
    if facts.calls_itself != facts.url:
        text = f"The instance calls itself {facts.calls_itself!r}: its tokens are refused."
        fix = f"jobgate issuer add {alias} --url {facts.calls_itself} …"
        yield Finding(code="issuer_url", where=where, text=text, fix=fix)
    if facts.clock_skew is not None and abs(facts.clock_skew) > _SKEW_MAX_SECONDS:
        text = f"GitLab's clock is {facts.clock_skew:+.0f} s off, and tokens of the future fail."
        yield Finding(code="gitlab_clock", where=where, text=text, fix="set its clock (NTP)")
    for text in facts.token_faults:
        fix = f"jobgate gitlab rotate-token --issuer {alias} --token-file FILE"
        yield Finding(code="run_time_token", where=where, text=text, fix=fix)
    for text in facts.token_notes:
        fix = f"jobgate gitlab rotate-token --issuer {alias}"
        yield Finding(code="token_ends", where=where, text=text, fix=fix)
    yield from _of_hooks(facts, where)


_HOOKS = {
    "gone": ("hook_gone", "isn't in GitLab any more"),
    "other_url": ("hook_url", "leads to another URL than this deployment's"),
    "disabled": ("hook_disabled", "was switched off by GitLab, after failures"),
    "refused": ("hook_refused", "is refused here: its secret isn't the stored one"),
}


def _of_hooks(facts: IssuerFacts, where: str) -> Iterator[Finding]:
    if not facts.hooks:
        if facts.agents:
            text = (
                "There is no webhook: pushes wait for the schedule, and jobs' ends are asked for."
            )
            fix = "GITLAB_TOKEN=… jobgate gitlab connect GROUP_OR_PROJECT"
            yield Finding(code="no_hook", where=where, text=text, fix=fix)
        return
    for hook in facts.hooks:
        fix = (
            f"GITLAB_TOKEN=… jobgate gitlab connect {hook.place.partition(' ')[2] or '--instance'}"
        )
        if hook.in_gitlab in _HOOKS:
            code, lack = _HOOKS[hook.in_gitlab]
            text = f"The webhook of {hook.place} {lack}."
            yield Finding(code=code, where=where, text=text, fix=fix)
        elif not hook.seen:
            text = f"The webhook of {hook.place} has delivered nothing."
            yield Finding(code="hook_silent", where=where, text=text, fix=fix)


# --- A job's token ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsFacts:
    """A job's ID token's payload, and what is trusted: issuers' URLs with their audiences."""

    issuer: str | None
    audience: object
    issued_at: float | None
    trusted: Mapping[str, str]
    now: float


def of_claims(facts: ClaimsFacts) -> Iterator[Finding]:
    """Why a token with these claims is refused before any configuration is looked at."""
    where = "job's token"
    if facts.issuer is None or facts.issuer not in facts.trusted:
        text = f"The token is of {facts.issuer!r}, which isn't trusted."
        fix = "jobgate issuer add ALIAS --url URL …; URL is the token's iss, byte for byte"
        yield Finding(code="unknown_issuer", where=where, text=text, fix=fix)
        return
    wanted = facts.trusted[facts.issuer]
    if facts.audience != wanted:
        text = f"The token is for {facts.audience!r}, and {wanted!r} is wanted."
        fix = f"in .gitlab-ci.yml: id_tokens: {{JOBGATE_ID_TOKEN: {{aud: {wanted}}}}}"
        yield Finding(code="audience", where=where, text=text, fix=fix)
    if facts.issued_at is not None and facts.issued_at > facts.now + _SKEW_MAX_SECONDS:
        text = f"The token is of the future, by {facts.issued_at - facts.now:.0f} s."
        yield Finding(code="token_clock", where=where, text=text, fix="set GitLab's clock (NTP)")


# --- A configuration project ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """A configuration project: `path` as last seen, `id_at_path` who has that path now."""

    issuer: str
    project_id: int
    path: str | None
    id_at_path: int | None
    unknown: str | None
    head: str | None
    commit: str | None
    last_error: str | None


def of_project(facts: ProjectFacts) -> Iterator[Finding]:
    """Faults between a push and the table."""
    where = f"project {facts.path or facts.project_id}"
    if facts.unknown is not None:
        fix = "the run-time token's user has to be a Reporter there; was it moved or deleted?"
        yield Finding(code="project_unseen", where=where, text=facts.unknown, fix=fix)
        return
    if facts.path is not None and facts.id_at_path not in (None, facts.project_id):
        text = (
            f"The path names project {facts.id_at_path} now, and the agents are of project "
            f"{facts.project_id}: it was re-registered, and gains nothing by its name."
        )
        fix = "jobgate agent remove ID, then register in the new project if that is meant"
        yield Finding(code="project_replaced", where=where, text=text, fix=fix)
    if facts.last_error is not None:
        fix = "jobgate gitlab status; then wait for the schedule, or push"
        yield Finding(code="refresh_failed", where=where, text=facts.last_error, fix=fix)
    elif facts.head is not None and facts.head != facts.commit:
        text = f"The head {facts.head[:12]} isn't processed; {(facts.commit or 'none')[:12]} is."
        fix = "wait for the schedule; then look at the refresh's log, and at the webhooks"
        yield Finding(code="head_not_processed", where=where, text=text, fix=fix)


# --- An agent ---


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
