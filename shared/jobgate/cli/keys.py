"""`jobgate keys`: the signing keys, and their rotation between the stack's two slots."""

from typing import Annotated

import typer

from jobgate.cli.connect import AsJSON, Connected, StackName, connect
from jobgate.cli.errors import Refused
from jobgate.cli.output import age
from jobgate.cli.signing_keys import read_public_key
from jobgate.cli.times import shown
from jobgate.core.errors import InvalidRequest
from jobgate.core.keys import PublicKey, rotation, shortest_wait, signing_key, usual_wait

commands = typer.Typer(help="The keys that sign access tokens.", no_args_is_help=True)


@commands.command("list")
def list_keys(context: typer.Context, stack: StackName, as_json: AsJSON = False) -> None:
    """List the published keys: which one signs, and until when each verifies."""
    connected = connect(context, stack, as_json=as_json)
    _show(connected, connected.registry.public_keys())


@commands.command("rotate")
def rotate(
    context: typer.Context,
    stack: StackName,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            help="Seconds between publishing and signing, where nobody but the stack's functions "
            "verifies its tokens.",
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Publish the other slot's key, which signs a few minutes later; the present one retires.

    All in one write: no token is refused meanwhile, and nothing more is to be done.
    """
    connected = connect(context, stack, as_json=as_json)
    bounds, now = connected.stack.bounds, connected.outside.clock()
    waits = usual_wait(bounds) if wait is None else wait
    if not waits >= shortest_wait(bounds):
        raise InvalidRequest(f"--wait is at least {shortest_wait(bounds):g} s in this stack.")
    keys = connected.registry.public_keys()
    if pending := [key for key in keys if key.not_before > now]:
        raise Refused(f"A rotation is under way: {pending[0].kid} signs soon.")
    slots = (connected.stack.signing_key_a, connected.stack.signing_key_b)
    current = signing_key(keys, now=now)
    other = next(slot for slot in slots if slot != current.slot)
    successor = read_public_key(connected.aws, other, not_before=now + waits)
    replaced = rotation(keys, successor, bounds=bounds, now=now)
    connected.registry.replace_keys(replaced)
    connected.output.say(f"Published {successor.kid}; it signs in {age(waits)}.")
    _show(connected, connected.registry.public_keys())


def _show(connected: Connected, keys: tuple[PublicKey, ...]) -> None:
    rows = [_fields(connected, key, keys) for key in keys]
    columns = ("kid", "slot", "state", "signs_from", "retires")
    connected.output.table(columns, [[row[name] for name in columns] for row in rows])
    connected.output.result(rows)


def _fields(
    connected: Connected, key: PublicKey, keys: tuple[PublicKey, ...]
) -> dict[str, str | None]:
    names = {connected.stack.signing_key_a: "A", connected.stack.signing_key_b: "B"}
    return {
        "kid": key.kid,
        "slot": names.get(key.slot, "replaced"),
        "state": _state(key, keys, now=connected.outside.clock()),
        "signs_from": shown(key.not_before),
        "retires": None if key.retire_after is None else shown(key.retire_after),
    }


def _state(key: PublicKey, keys: tuple[PublicKey, ...], *, now: float) -> str:
    if key.retire_after is not None and key.retire_after <= now:
        return "retired"
    if key.not_before > now:
        return "published"
    return "signs" if signing_key(keys, now=now).kid == key.kid else "verifies"
