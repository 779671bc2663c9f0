"""The command line: its commands, and how an error becomes a sentence and an exit code."""

from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError
from typer.core import TyperGroup

from jobgate.cli import agents, issuers
from jobgate.cli.connect import AsJSON, IssuerAlias, StackName, connect
from jobgate.cli.errors import FINDINGS, exit_code, sentence
from jobgate.cli.gitlab_setup import connect_gitlab
from jobgate.cli.inputs import certificate_authority, read_file
from jobgate.cli.output import plain
from jobgate.cli.setup import set_up
from jobgate.cli.status import show_status
from jobgate.core.errors import JobgateError


class _Commands(TyperGroup):
    """Says errors that were raised on purpose in one sentence; a bug keeps its trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (JobgateError, BotoCoreError) as exc:
            typer.echo(f"jobgate: {plain(sentence(exc))}", err=True)
            raise typer.Exit(exit_code(exc)) from exc


# Rich's own traces would show local variables, and some of those are secrets.
app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)
gitlab = typer.Typer(help="The way from GitLab to this deployment.", no_args_is_help=True)
app.add_typer(issuers.commands, name="issuer")
app.add_typer(agents.commands, name="agent")
app.add_typer(gitlab, name="gitlab")


@app.callback()
def jobgate() -> None:
    """Lets GitLab CI jobs use Kubernetes clusters without a stored secret."""


@app.command("setup")
def setup_command(
    context: typer.Context,
    stack: StackName,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="A custom domain in front of the API.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="The private CA of the base URL, as PEM.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Make a freshly deployed stack ready; running it again changes nothing."""
    authority = None if ca is None else certificate_authority(read_file(ca, "--ca"), "--ca")
    set_up(connect(context, stack, as_json=as_json), base_url, authority)


@app.command("status")
def status_command(context: typer.Context, stack: StackName, as_json: AsJSON = False) -> None:
    """Show each configuration project and its problems. Exit code 1 if there are any."""
    if show_status(connect(context, stack, as_json=as_json)):
        raise typer.Exit(FINDINGS)


@gitlab.command("connect")
def gitlab_connect_command(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="GROUP_OR_PROJECT")],
    stack: StackName,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Create the webhook, with the set-up token in the environment variable GITLAB_TOKEN."""
    connected = connect(context, stack, as_json=as_json)
    connect_gitlab(connected, connected.registry.issuer(issuer), path)


def main() -> None:
    """The entry point."""
    app()
