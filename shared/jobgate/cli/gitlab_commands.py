"""`jobgate gitlab`: the way from GitLab to this deployment."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobgate.cli import inputs
from jobgate.cli.connect import AsJSON, IssuerAlias, StackName, connect
from jobgate.cli.errors import FINDINGS, UNKNOWN
from jobgate.cli.gitlab_setup import JobHooksWish, connect_gitlab
from jobgate.cli.gitlab_status import show_gitlab_status
from jobgate.cli.token_rotation import DAYS_MAX, replace_token, rotate_token
from jobgate.core.errors import InvalidRequest

commands = typer.Typer(help="The way from GitLab to this deployment.", no_args_is_help=True)


@commands.command("connect")
def connect_command(
    context: typer.Context,
    *,
    path: Annotated[str | None, typer.Argument(metavar="[GROUP_OR_PROJECT]")] = None,
    stack: StackName,
    instance: Annotated[
        bool, typer.Option("--instance", help="A system hook; needs an administrator's token.")
    ] = False,
    job_hooks: Annotated[
        Literal["auto", "projects"],
        typer.Option("--job-hooks", help="projects: without Premium, one per authorised project."),
    ] = "auto",
    job_hooks_token_file: Annotated[
        Path | None,
        typer.Option(
            "--job-hooks-token-file",
            help="With a token of its own the schedule makes them for projects authorised later.",
        ),
    ] = None,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Make or repair the webhooks, with the set-up token in the environment's GITLAB_TOKEN.

    Running it again gives fresh secrets. Exit code 1 where something lacks, which it names.
    """
    if instance == (path is not None):
        raise InvalidRequest("Name a group or a project, or give --instance.")
    wish = _wish(job_hooks_token_file) if job_hooks == "projects" else None
    if wish is None and job_hooks_token_file is not None:
        raise InvalidRequest("--job-hooks-token-file goes with --job-hooks projects.")
    connected = connect(context, stack, as_json=as_json)
    chosen = connected.registry.issuer(issuer)
    if not connect_gitlab(connected, chosen, path, job_hooks=wish):
        raise typer.Exit(FINDINGS)


@commands.command("status")
def status_command(
    context: typer.Context, stack: StackName, issuer: IssuerAlias = None, as_json: AsJSON = False
) -> None:
    """Show the tokens and webhooks. Exit code 1 for findings, 3 where GitLab can't be asked."""
    findings, away = show_gitlab_status(connect(context, stack, as_json=as_json), issuer)
    if findings or away:
        raise typer.Exit(FINDINGS if findings else UNKNOWN)


@commands.command("rotate-token")
def rotate_token_command(
    context: typer.Context,
    *,
    stack: StackName,
    days: Annotated[int, typer.Option("--days", help="How long the new one lives.")] = DAYS_MAX,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="A token made in GitLab, to take over as it is."),
    ] = None,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Replace the run-time token by a new one; it is never printed."""
    given = None if token_file is None else inputs.read_file(token_file, "--token-file")
    connected = connect(context, stack, as_json=as_json)
    chosen = connected.registry.issuer(issuer)
    if given is None:
        rotate_token(connected, chosen, days=days)
    else:
        replace_token(connected, chosen, inputs.bearer_token(given, "--token-file"))


def _wish(token_file: Path | None) -> JobHooksWish:
    if token_file is None:
        return JobHooksWish(token=None)
    given = inputs.read_file(token_file, "--job-hooks-token-file")
    return JobHooksWish(token=inputs.bearer_token(given, "--job-hooks-token-file"))
