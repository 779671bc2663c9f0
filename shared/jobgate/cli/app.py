"""The command line: its commands, and how an error becomes a sentence and an exit code."""

from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError
from typer.core import TyperGroup

from jobgate import __version__
from jobgate.cli import (
    agent_rotation,
    agents,
    exit_codes,
    gitlab_commands,
    issuers,
    keys,
    queue,
    stop_commands,
)
from jobgate.cli import decide as offline
from jobgate.cli import explain as online
from jobgate.cli import lint as linting
from jobgate.cli.agent_register import Kubeconfig, Namespace
from jobgate.cli.audit_command import audit_command
from jobgate.cli.connect import AsJSON, IssuerAlias, StackName, connect
from jobgate.cli.doctor import doctor
from jobgate.cli.errors import FINDINGS, UNKNOWN, exit_code, sentence
from jobgate.cli.guided_setup import setup
from jobgate.cli.inputs import namespace as namespace_name
from jobgate.cli.inputs import read_file
from jobgate.cli.operators_cluster import OperatorsCluster
from jobgate.cli.output import Output, plain
from jobgate.cli.rbac import rbac
from jobgate.cli.reconcile import reconcile
from jobgate.cli.sarif import sarif
from jobgate.cli.status import show_status
from jobgate.cli.teardown import Removal, teardown
from jobgate.core.errors import InvalidRequest, JobgateError
from jobgate.core.settings import Settings


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
app.add_typer(issuers.commands, name="issuer")
app.add_typer(agents.commands, name="agent")
agents.commands.command("rotate")(agent_rotation.rotate)
app.add_typer(gitlab_commands.commands, name="gitlab")
app.add_typer(queue.commands, name="queue")
app.add_typer(keys.commands, name="keys")
app.command("setup")(setup)
app.command("revoke")(stop_commands.revoke)
app.command("restore")(stop_commands.restore)
app.command("rbac")(rbac)
app.command("doctor")(doctor)
app.command("audit")(audit_command)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jobgate {__version__}")
        raise typer.Exit


@app.callback()
def jobgate(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """Lets GitLab CI jobs use Kubernetes clusters without a stored secret."""


@app.command("reconcile")
def reconcile_command(context: typer.Context, stack: StackName, as_json: AsJSON = False) -> None:
    """Make a table that was restored from a backup the live one; until then it denies all."""
    reconcile(connect(context, stack, as_json=as_json))


@app.command("teardown")
def teardown_command(
    context: typer.Context,
    *,
    stack: StackName,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else say what would go.")] = False,
    with_state: Annotated[
        bool, typer.Option("--with-state", help="Also the table and the signing keys.")
    ] = False,
    keep_hooks: Annotated[
        bool, typer.Option("--keep-hooks", help="Leave GitLab's webhooks where they are.")
    ] = False,
    clusters: Annotated[
        list[str] | None,
        typer.Option("--context", help="A cluster to remove accounts from. Repeatable."),
    ] = None,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = "jobgate",
    as_json: AsJSON = False,
) -> None:
    """Remove webhooks, accounts in clusters and the stack, and say what stays."""
    removal = Removal(
        clusters=[OperatorsCluster.read(name, kubeconfig) for name in clusters or ()],
        namespace=namespace_name(namespace, "--namespace"),
        keep_hooks=keep_hooks,
        with_state=with_state,
    )
    teardown(connect(context, stack, as_json=as_json), removal, yes=yes)


@app.command("status")
def status_command(context: typer.Context, stack: StackName, as_json: AsJSON = False) -> None:
    """Show each configuration project. Exit code 1 for findings, 3 where GitLab can't be asked."""
    findings, unknown = show_status(connect(context, stack, as_json=as_json))
    if findings or unknown:
        raise typer.Exit(FINDINGS if findings else UNKNOWN)


@app.command("lint")
def lint_command(
    *,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Checkouts; else this folder.")
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            envvar="CI_PROJECT_PATH",
            help="The full path of the project that the files are of.",
        ),
    ] = None,
    risk: Annotated[
        bool, typer.Option("--risk", help="Tell also what is valid and may not be meant.")
    ] = False,
    instance_wide: Annotated[
        bool, typer.Option("--instance-wide", help="The deployment's InstanceWide is on.")
    ] = False,
    entry_limit: Annotated[
        int, typer.Option("--entry-limit", min=1, help="The deployment's EntryLimit.")
    ] = Settings().entry_limit,
    allowed_identities: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-identity",
            metavar="NAME",
            help="One of the deployment's AllowedIdentities. Repeatable.",
        ),
    ] = None,
    as_json: AsJSON = False,
    as_sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0.")] = False,
) -> None:
    """Check the agents' files of checkouts, offline. Exit code 1 if there are findings."""
    if as_json and as_sarif:
        raise InvalidRequest("Give --json or --sarif, not both.")
    findings = linting.lint(
        paths or [Path()],
        settings=Settings(
            instance_wide=instance_wide,
            entry_limit=entry_limit,
            allowed_identities=frozenset(allowed_identities or ()),
        ),
        project_path=project,
        with_risks=risk,
    )
    output = Output(as_json=as_json or as_sarif)
    linting.show(output, findings)
    output.result(sarif(findings) if as_sarif else linting.as_json(findings))
    if findings:
        raise typer.Exit(FINDINGS)


@app.command("decide")
def decide_command(
    agents_folders: Annotated[
        list[str],
        typer.Option(
            "--agents",
            metavar="[PROJECT_PATH=]DIR",
            help="A checkout's .gitlab/agents, and the configuration project it is of. Repeatable.",
        ),
    ],
    instance: Annotated[Path, typer.Option("--instance", help="The GitLab instance, as JSON.")],
    claims: Annotated[Path, typer.Option("--claims", help="An ID token's payload, as JSON.")],
    as_json: AsJSON = False,
) -> None:
    """Decide offline what a job would get of each agent. Exit code 0, allowed or not."""
    offline.show(Output(as_json=as_json), offline.decide(agents_folders, instance, claims))


@app.command("explain")
def explain_command(
    context: typer.Context,
    *,
    stack: StackName,
    claims: Annotated[Path, typer.Option("--claims", help="An ID token's payload, as JSON.")],
    agent: Annotated[
        str | None, typer.Option("--agent", help="One agent alone, by its context.")
    ] = None,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Show what a job would get of the deployment now, and why not. Exit code 0, allowed or not."""
    connected = connect(context, stack, as_json=as_json)
    text = read_file(claims, "--claims")
    online.show(connected, online.explain(connected, text, issuer=issuer, agent=agent))


exit_codes.tell(app)


def main() -> None:
    """The entry point."""
    app()
