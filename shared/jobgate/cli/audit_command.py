"""`jobgate audit`, as it is typed."""

import contextlib
import json
from typing import Annotated, Literal

import typer

from jobgate.cli import audit, times
from jobgate.cli.audit import Span, Wanted
from jobgate.cli.connect import AsJSON, Connected, StackName, connect
from jobgate.cli.errors import UNKNOWN
from jobgate.core.errors import InvalidRequest

_USUAL_SECONDS = 24 * 3600.0


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
    since: Annotated[
        str | None,
        typer.Option("--since", help="An age like 2h, or 2030-01-31T12:00Z; else 1d, or now."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", help="The same; with --follow when it ends, or after how long."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what comes, until Ctrl-C or --until.")
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
    span = _span(since, until, now=connected.outside.clock(), follow=follow)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(connected, wanted, span, as_json=as_json)
        return
    if decision is not None:
        found, more = audit.of_decision(connected, decision, span), False
        audit.show(connected, found)
    else:
        found, more = audit.search(connected, wanted, span, limit=limit)
        audit.show_rows(connected, found)
    if not found:
        end = "" if span.until is None else f" until {times.shown(span.until)}"
        connected.output.say(
            f"No record since {times.shown(span.since)}{end} is like that; see --since."
        )
        raise typer.Exit(UNKNOWN)
    if more:
        connected.output.say(f"These are the newest {limit}; see --limit.")


def _span(since: str | None, until: str | None, *, now: float, follow: bool) -> Span:
    """What is searched lies behind, and what is followed ends ahead."""
    begin = now if follow else now - _USUAL_SECONDS
    if since is not None:
        begin = times.before(since, "--since", now=now)
    if until is None:
        return Span(begin)
    end = (times.ahead if follow else times.before)(until, "--until", now=now)
    if end <= begin:
        raise InvalidRequest("--since must be before --until.")
    return Span(begin, end)


def _follow(connected: Connected, wanted: Wanted, span: Span, *, as_json: bool) -> None:
    for record in audit.follow(connected, wanted, span):
        if as_json:
            typer.echo(json.dumps(record))
        else:
            connected.output.say(audit.line_of(record))


def _number(text: str | None) -> int | None:
    """An id, None for a path or a name; no path is a number alone."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None
