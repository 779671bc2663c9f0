"""`jobgate audit`, as it is typed."""

import contextlib
import json
from typing import Annotated, Literal

import typer

from jobgate.cli import audit
from jobgate.cli.audit import Wanted
from jobgate.cli.connect import AsJSON, Connected, StackName, connect
from jobgate.cli.errors import UNKNOWN
from jobgate.core.errors import InvalidRequest


def audit_command(
    context: typer.Context,
    decision: Annotated[
        str | None, typer.Argument(metavar="[DECISION]", help="What kubectl printed.")
    ] = None,
    *,
    stack: StackName,
    job: Annotated[int | None, typer.Option("--job", help="A job's id.")] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="ID|PATH", help="Of the job.")
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="ID|PROJECT:NAME")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Whose job it is: the login.")] = None,
    outcome: Annotated[Literal["allowed", "refused"] | None, typer.Option("--outcome")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Such as job_finished.")] = None,
    kind: Annotated[
        Literal["exchange", "request", "revocation", "refresh"] | None, typer.Option("--type")
    ] = None,
    hours: Annotated[int, typer.Option("--hours", min=1, help="How far back.")] = 24,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what comes, until Ctrl-C.")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Show the records of one decision, or search and follow them.

    With --follow --json each is a JSON line. Exit code 3 where none is found.
    """
    wanted = Wanted(
        type=kind,
        outcome=outcome,
        reason=reason,
        job_id=job,
        project_id=_number(project),
        project_path=project if _number(project) is None else None,
        agent_id=_number(agent),
        agent=agent if _number(agent) is None else None,
        user_login=user,
    )
    if decision is not None and (follow or wanted.fields()):
        raise InvalidRequest("A decision's id stands alone: it names all of its lines.")
    connected = connect(context, stack, as_json=as_json)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(connected, wanted, as_json=as_json)
        return
    if decision is not None:
        found, more = audit.of_decision(connected, decision, hours=hours), False
        audit.show(connected, found)
    else:
        found, more = audit.search(connected, wanted, hours=hours, limit=limit)
        audit.show_rows(connected, found)
    if not found:
        connected.output.say(f"No record of the last {hours} hours is like that; see --hours.")
        raise typer.Exit(UNKNOWN)
    if more:
        connected.output.say(f"These are the newest {limit}; see --limit.")


def _follow(connected: Connected, wanted: Wanted, *, as_json: bool) -> None:
    for record in audit.follow(connected, wanted):
        if as_json:
            typer.echo(json.dumps(record))
        else:
            connected.output.say(audit.line_of(record))


def _number(text: str | None) -> int | None:
    """An id, None for a path or a name; no path is a number alone."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None
