"""`jobgate issuer`: the GitLab instances whose jobs are served."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from jobgate.adapters import items
from jobgate.cli import agent_ids, gitlab_calls, inputs, stored_secrets
from jobgate.cli.connect import AsJSON, Connected, StackName, connect
from jobgate.cli.errors import Refused
from jobgate.cli.teardown_hooks import webhooks
from jobgate.cli.token_rotation import forget_end
from jobgate.core.errors import InvalidRequest
from jobgate.core.issuer import Issuer

commands = typer.Typer(help="The GitLab instances whose jobs are served.", no_args_is_help=True)

Alias = Annotated[str, typer.Argument(help="1 to 20 of a-z, 0-9, '-'; it's never changed.")]

_SCOPES = frozenset({"read_api", "self_rotate"})  # what a run-time token may have use for


@commands.command("add")
def add(
    context: typer.Context,
    alias: Alias,
    *,
    url: Annotated[str, typer.Option("--url", help="The claim `iss` of its ID tokens.")],
    audience: Annotated[str, typer.Option("--audience", help="The claim `aud` of jobs' tokens.")],
    token_file: Annotated[
        Path,
        typer.Option(
            "--token-file", help="The run-time token: read_api (and self_rotate), Reporter."
        ),
    ],
    stack: StackName,
    status_token_file: Annotated[
        Path | None,
        typer.Option(
            "--status-token-file",
            help="A token for commit statuses: scope api, Developer (parameter CommitStatus).",
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Where its API answers, if elsewhere.")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="Its private CA, as PEM.")] = None,
    default: Annotated[
        bool | None,
        typer.Option(
            "--default/--not-default",
            help="Its jobs keep GitLab's bare names in Kubernetes; else the first issuer's do.",
        ),
    ] = None,
    single_use: Annotated[
        bool | None,
        typer.Option(
            "--single-use/--many-uses",
            help="A job's ID token is redeemed once; else, and at first, as often as it likes.",
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Add a GitLab instance, or change its audience, CA, token and use.

    It is trusted only once everything else is written, so a broken run is simply run again.
    """
    given_url = inputs.https_url(url, "--url")
    given_base_url = inputs.https_url(base_url or url, "--base-url")
    token = inputs.bearer_token(inputs.read_file(token_file, "--token-file"), "--token-file")
    status_token = (
        None
        if status_token_file is None
        else inputs.bearer_token(
            inputs.read_file(status_token_file, "--status-token-file"), "--status-token-file"
        )
    )
    wanted = Issuer(
        alias=inputs.alias(alias),
        url=given_url,
        base_url=given_base_url,
        audience=inputs.audience(audience, instance_urls=(given_url, given_base_url)),
        ca=None
        if ca is None
        else inputs.certificate_authority(inputs.read_file(ca, "--ca"), "--ca"),
        is_default=bool(default),
        single_use=bool(single_use),
    )
    connected = connect(context, stack, as_json=as_json)
    known = connected.registry.issuers()
    if single_use is None and alias in known:
        wanted = replace(wanted, single_use=known[alias].single_use)
    issuer = settled(wanted, known=tuple(known.values()), default=default)
    gitlab_calls.check_discovery(issuer)
    facts = gitlab_calls.check_token(issuer, token)
    connected.registry.prepare_issuer(issuer, now=connected.outside.clock())
    stored_secrets.change_entry(connected.aws, connected.stack.gitlab_tokens, issuer.alias, token)
    if status_token is not None:
        secret = connected.stack.gitlab_status_token
        stored_secrets.change_entry(connected.aws, secret, issuer.alias, status_token)
    connected.registry.save_issuer(issuer)
    forget_end(connected, issuer)
    _tell(connected, issuer, facts)


def settled(wanted: Issuer, *, known: tuple[Issuer, ...], default: bool | None) -> Issuer:
    """The issuer with its place among the known ones decided; raises Refused.

    Which one is the default never changes by itself: it names identities in clusters' RBAC.
    """
    before = next((issuer for issuer in known if issuer.alias == wanted.alias), None)
    others = [issuer for issuer in known if issuer.alias != wanted.alias]
    if before is not None and before.url != wanted.url:
        raise Refused(f"The alias {wanted.alias!r} stands for {before.url} for ever: take another.")
    if same := next((issuer for issuer in others if issuer.url == wanted.url), None):
        raise Refused(f"{wanted.url} was added as {same.alias!r} before.")
    if before is not None:
        if default not in (None, before.is_default):
            raise Refused("Whether an issuer is the default is decided once: clusters know it so.")
        return replace(wanted, is_default=before.is_default)
    held = next((issuer for issuer in others if issuer.is_default), None)
    if default and held is not None:
        raise Refused(f"{held.alias!r} is the default issuer; there is only one.")
    return replace(wanted, is_default=not others if default is None else default)


def _tell(connected: Connected, issuer: Issuer, facts: gitlab_calls.TokenFacts) -> None:
    output = connected.output
    kind = "the default issuer" if issuer.is_default else "an issuer"
    output.say(f"{issuer.url} is {kind}, {issuer.alias!r}.")
    ends = "never expires" if facts.expires_at is None else f"expires on {facts.expires_at}"
    output.say(f"Its run-time token {ends}.")
    if extra := sorted(set(facts.scopes) - _SCOPES):
        output.say(
            f"The token can more than it needs ({', '.join(extra)}): read_api is enough, with "
            "self_rotate for `jobgate gitlab rotate-token`."
        )
    output.say("Next: `jobgate gitlab connect GROUP_OR_PROJECT`, `jobgate agent register`.")
    output.result(_fields(issuer) | {"token_expires_at": facts.expires_at})


@commands.command("list")
def list_issuers(context: typer.Context, stack: StackName, as_json: AsJSON = False) -> None:
    """List the GitLab instances."""
    connected = connect(context, stack, as_json=as_json)
    issuers = [_fields(issuer) for issuer in connected.registry.issuers().values()]
    columns = ("alias", "url", "audience", "default")
    connected.output.table(
        columns,
        [
            (i["alias"], i["url"], i["audience"], "yes" if i["is_default"] else "no")
            for i in issuers
        ],
    )
    connected.output.result(issuers)


@commands.command("remove")
def remove(context: typer.Context, alias: Alias, stack: StackName, as_json: AsJSON = False) -> None:
    """Stop trusting a GitLab instance, and forget its token and webhook secrets.

    Its ids and stops stay, so that adding it again starts where it was.
    """
    connected = connect(context, stack, as_json=as_json)
    if alias not in connected.registry.issuers():
        raise InvalidRequest(f"No issuer has the alias {alias!r}: see `jobgate issuer list`.")
    agents = agent_ids.read(connected.table.get(items.agent_ids_key(alias))).names
    if agents:
        raise Refused(f"{alias!r} has {len(agents)} agents: remove them first.")
    hooks = [str(hook) for hook in webhooks(connected) if hook.alias == alias]
    connected.registry.remove_issuer(alias)
    secrets = connected.stack
    for secret in (
        secrets.gitlab_tokens,
        secrets.gitlab_status_token,
        secrets.gitlab_hooks,
        secrets.gitlab_job_hooks_token,
    ):
        stored_secrets.change_entry(connected.aws, secret, alias, None)
    connected.output.say(f"{alias!r} is no longer trusted.")
    for hook in hooks:
        connected.output.say(f"In GitLab there is still {hook}: delete it there.")
    connected.output.result({"alias": alias, "removed": True, "hooks": hooks})


def _fields(issuer: Issuer) -> dict[str, str | bool]:
    return {
        "alias": issuer.alias,
        "url": issuer.url,
        "base_url": issuer.base_url,
        "audience": issuer.audience,
        "is_default": issuer.is_default,
        "single_use": issuer.single_use,
    }
