"""`jobgate gitlab status`: tokens and webhooks of each GitLab instance, and how long they last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters import hook_items
from jobgate.adapters.hook_secrets import scopes_in
from jobgate.cli import gitlab_tokens
from jobgate.cli.gitlab_setup import check_stored_tokens
from jobgate.cli.hook_entries import read_entries
from jobgate.cli.job_hooks import old_secrets
from jobgate.cli.output import age
from jobgate.core.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected
    from jobgate.cli.gitlab_tokens import TokenState
    from jobgate.core.hook import HookScope
    from jobgate.core.issuer import Issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class HookHealth:
    """A webhook as this deployment knows it; `seen_at` is None where nothing came since connect."""

    kind: str
    id: int
    seen_at: float | None


def show_gitlab_status(connected: Connected, alias: str | None) -> tuple[bool, bool]:
    """Print it; whether there are findings, and whether an instance couldn't be asked."""
    issuers = connected.registry.issuers()
    chosen = list(issuers.values()) if alias is None else [connected.registry.issuer(alias)]
    if not chosen:
        raise InvalidRequest("There is no issuer yet: run `jobgate issuer add` first.")
    rows = [_of(connected, issuer) for issuer in chosen]
    connected.output.result(rows)
    away = any(row["error"] is not None for row in rows)
    return any(row["findings"] for row in rows), away


def hook_health(connected: Connected, alias: str) -> list[HookHealth]:
    """The webhooks of an issuer, as `gitlab connect` stored them."""
    scopes = sorted(set(scopes_in(read_entries(connected, alias))))
    return [_health(connected, alias, scope) for scope in scopes]


def hook_finding(hook: HookHealth) -> str | None:
    """What is wrong with a webhook, None where nothing is."""
    if hook.seen_at is None:
        return f"The webhook of {hook.kind} {hook.id} has delivered nothing: connect it again."
    return None


def _health(connected: Connected, alias: str, scope: HookScope) -> HookHealth:
    seen = hook_items.hook_seen_of(
        connected.table.get(hook_items.hook_seen_key(alias, scope.kind, scope.id))
    )
    return HookHealth(kind=scope.kind, id=scope.id, seen_at=None if seen is None else seen.at)


def _of(connected: Connected, issuer: Issuer) -> dict[str, Any]:
    output, now = connected.output, connected.outside.clock()
    output.say(f"{issuer.alias}: {issuer.url}")
    tokens: list[TokenState] = []
    error: str | None = None
    try:
        tokens = check_stored_tokens(connected, issuer)
    except Unavailable as exc:
        error = str(exc)
        output.say(error)
    findings = [s for t in tokens if t.missing or t.ends_soon for s in gitlab_tokens.sentences(t)]
    for token in tokens:
        for sentence in gitlab_tokens.sentences(token):
            output.say(sentence)
    hooks = hook_health(connected, issuer.alias)
    if not hooks:
        findings.append("There is no webhook: run `jobgate gitlab connect GROUP_OR_PROJECT`.")
        output.say(findings[-1])
    for hook in hooks:
        finding = hook_finding(hook)
        if finding is not None:
            findings.append(finding)
        seen = None if hook.seen_at is None else f"last delivery {age(now - hook.seen_at)} ago"
        output.say(finding or f"The webhook of {hook.kind} {hook.id}: {seen}.")
    for finding in old_secrets(connected, issuer.alias):
        findings.append(finding)
        output.say(finding)
    return {
        "issuer": issuer.alias,
        "url": issuer.url,
        "tokens": {token.kind.name: gitlab_tokens.fields(token) for token in tokens},
        "hooks": [{"kind": h.kind, "id": h.id, "seen_at": h.seen_at} for h in hooks],
        "findings": findings,
        "error": error,
    }
