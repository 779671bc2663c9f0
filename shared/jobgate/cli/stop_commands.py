"""`jobgate revoke` and `jobgate restore`, as they are typed."""

from typing import Annotated

import typer

from jobgate.cli import stops, times
from jobgate.cli.connect import AsJSON, IssuerAlias, StackName, connect
from jobgate.core.liveness import StopKind

Kind = Annotated[StopKind, typer.Argument(help="What the value names.")]
Value = Annotated[
    str | None,
    typer.Argument(help="Its id; a project's path, an agent's context, an issuer's alias."),
]


def revoke(
    context: typer.Context,
    kind: Kind,
    stack: StackName,
    *,
    value: Value = None,
    why: Annotated[str, typer.Option("--why", help="For the record.")],
    until: Annotated[
        str | None,
        typer.Option("--until", help="A duration like 2h, or 2030-01-31T12:00Z; else for ever."),
    ] = None,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Stop access at once, open streams included. A finished command is in force."""
    connected = connect(context, stack, as_json=as_json)
    ends = None if until is None else times.ahead(until, "--until", now=connected.outside.clock())
    what = stops.target(connected, kind, value, issuer)
    stops.revoke(connected, what, until=ends, why=why)


def restore(
    context: typer.Context,
    stack: StackName,
    *,
    kind: Annotated[StopKind | None, typer.Argument(help="Without one, list the stops.")] = None,
    value: Value = None,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Lift a stop, or list those that are in force. A job that has ended stays so."""
    connected = connect(context, stack, as_json=as_json)
    if kind is None:
        stops.show(connected)
        return
    stops.restore(connected, stops.target(connected, kind, value, issuer))
