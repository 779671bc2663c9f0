"""What is wrong between GitLab and a stack, and what mends it. Pure: facts in, findings out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.cli.finding import SKEW_MAX_SECONDS, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


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
    if facts.clock_skew is not None and abs(facts.clock_skew) > SKEW_MAX_SECONDS:
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
    if facts.issued_at is not None and facts.issued_at > facts.now + SKEW_MAX_SECONDS:
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
