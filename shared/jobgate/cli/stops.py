"""`jobgate revoke` and `jobgate restore`: an operator stops access at once, and lets it go on."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.cli import gitlab_calls, times
from jobgate.cli.agents import find
from jobgate.cli.errors import Refused
from jobgate.cli.records import caller, write_record
from jobgate.core import record
from jobgate.core.errors import InvalidRequest, JobgateError, Unavailable
from jobgate.core.liveness import EVERYTHING, Stop, StopKind
from jobgate.core.reasons import Reason
from jobgate.core.stops import STOPS_MAX, with_stop, without_stop

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected

_ID = re.compile(r"[1-9][0-9]{0,18}")  # GitLab's ids are of PostgreSQL's bigint
_WHY_MAX = 200


@dataclass(frozen=True, slots=True)
class Target:
    """What a stop is about, at which issuers (aliases)."""

    kind: StopKind
    value: str
    issuers: tuple[str, ...]

    def __str__(self) -> str:
        if self.kind is StopKind.ALL:
            return "everything"
        if self.kind is StopKind.ISSUER:
            return f"the issuer {self.issuers[0]!r}"
        return f"{self.kind} {self.value} of {self.issuers[0]!r}"


def target(connected: Connected, kind: StopKind, value: str | None, issuer: str | None) -> Target:
    """Read what an operator named; raises InvalidRequest where it names nothing."""
    if kind is StopKind.ALL:
        if value is not None or issuer is not None:
            raise InvalidRequest("`all` is everything, of every issuer: name nothing more.")
        return Target(kind, EVERYTHING, tuple(connected.registry.issuers()))
    if value is None:
        raise InvalidRequest(f"Name which {kind}.")
    if kind is StopKind.ISSUER:
        if issuer not in (None, value):
            raise InvalidRequest("Name the issuer once.")
        return Target(kind, EVERYTHING, (connected.registry.issuer(value).alias,))
    alias = connected.registry.issuer(issuer).alias
    return Target(kind, str(_id(connected, kind, value, alias)), (alias,))


def _id(connected: Connected, kind: StopKind, value: str, alias: str) -> int:
    if kind is StopKind.AGENT:
        return find(connected, alias, value)[0]
    if _ID.fullmatch(value):
        return int(value)
    if kind is StopKind.PROJECT and "/" in value:
        issuer = connected.registry.issuer(alias)
        return gitlab_calls.read_project(connected, issuer, value).project_id
    raise InvalidRequest(f"Name the {kind} by its numeric id in GitLab, not by {value!r}.")


def revoke(connected: Connected, what: Target, *, until: float | None, why: str) -> None:
    """Stop it, and record who did and why.

    Raises Refused where there are too many stops, Unavailable naming the issuers that aren't
    stopped; all others are.
    """
    reason = why.strip()
    if not 0 < len(reason) <= _WHY_MAX:
        raise InvalidRequest(f"--why says in 1 to {_WHY_MAX} characters why access is stopped.")
    now = connected.outside.clock()
    stop = Stop(
        kind=what.kind, value=what.value, until=until, by=caller(connected), why=reason, at=now
    )
    stopped: list[str] = []
    failed: dict[str, JobgateError] = {}
    for alias in what.issuers:
        try:
            _stop(connected, alias, stop, now)
            stopped.append(alias)
        except JobgateError as exc:
            failed[alias] = exc
    if stopped:
        _tell(connected, what, stopped, stop=stop)
    _raise_failed(what, failed, "Not stopped")


def _raise_failed(what: Target, failed: dict[str, JobgateError], told: str) -> None:
    if failed:
        first = next(iter(failed.values()))
        if len(what.issuers) == 1:
            raise first
        raise Unavailable(f"{told}: {', '.join(failed)}: {first}") from first


def _stop(connected: Connected, alias: str, stop: Stop, now: float) -> None:
    def change(stops: tuple[Stop, ...] | None) -> tuple[Stop, ...]:
        if stops is None:
            # Written now, it would hold this one stop alone, and let everything else in.
            raise Refused(
                f"The stops of {alias!r} are missing, which denies everything: "
                "`jobgate issuer add` writes them again."
            )
        changed = with_stop(stops, stop, now=now)
        if changed is None:
            raise Refused(
                f"There are {STOPS_MAX} stops: stop more at once, a project or the issuer, "
                "or lift some with `jobgate restore`."
            )
        return changed

    connected.registry.change_stops(alias, change)


def restore(connected: Connected, what: Target) -> None:
    """Lift a stop, and record who did; raises InvalidRequest where there is none.

    Raises Unavailable naming the issuers where it isn't lifted; at all others it is.
    """
    by = caller(connected)
    lifted: list[str] = []
    failed: dict[str, JobgateError] = {}
    for alias in what.issuers:
        try:
            if _lift(connected, alias, what):
                lifted.append(alias)
        except JobgateError as exc:
            failed[alias] = exc
    if not (lifted or failed):
        raise InvalidRequest(f"{str(what).capitalize()} isn't stopped: see `jobgate restore`.")
    if lifted:
        _tell_lifted(connected, what, lifted, by=by)
    _raise_failed(what, failed, "Not lifted")


def _lift(connected: Connected, alias: str, what: Target) -> bool:
    """Whether there was such a stop."""

    def change(stops: tuple[Stop, ...] | None) -> tuple[Stop, ...]:
        left = without_stop(stops or (), what.kind, what.value)
        if left == (stops or ()):
            raise _NothingToLiftError
        return left

    try:
        connected.registry.change_stops(alias, change)
    except _NothingToLiftError:
        return False
    return True


class _NothingToLiftError(Exception):
    """There is no such stop."""


def show(connected: Connected) -> None:
    """Print every active stop."""
    now = connected.outside.clock()
    rows = []
    for alias in connected.registry.issuers():
        stops = connected.registry.stops(alias)
        if stops is None:
            connected.output.say(f"The stops of {alias!r} are missing: everything is denied.")
        rows += [
            _fields(alias, stop) for stop in stops or () if stop.until is None or stop.until > now
        ]
    columns = ("issuer", "kind", "value", "since", "until", "by", "why")
    connected.output.table(columns, [[row[name] for name in columns] for row in rows])
    connected.output.result(rows)


def _tell(connected: Connected, what: Target, stopped: list[str], *, stop: Stop) -> None:
    forms = [_fields(alias, stop) for alias in stopped]
    ends = "until it is restored" if stop.until is None else f"until {forms[0]['until']}"
    connected.output.say(
        f"Stopped: {what}, {ends} (or until the end of an earlier stop of it, if that's later). "
        "Refused everywhere within RelayCacheSeconds."
    )
    connected.output.result(forms)
    for alias in stopped:
        _record(
            connected,
            what,
            alias,
            outcome="refused",
            by=stop.by,
            reason=Reason.STOPPED,
            why=stop.why,
            until=stop.until,
        )


def _tell_lifted(connected: Connected, what: Target, lifted: list[str], *, by: str) -> None:
    at = f" Lifted at: {', '.join(lifted)}." if len(what.issuers) > 1 else ""
    connected.output.say(f"Lifted: {what}.{at} Other stops, and jobs' ends, stay.")
    connected.output.result(
        {"kind": what.kind, "value": what.value, "issuers": lifted, "restored": True}
    )
    for alias in lifted:
        _record(connected, what, alias, outcome="allowed", by=by)


def _record(connected: Connected, what: Target, alias: str, **values: Any) -> None:
    named: dict[str, Any] = {} if what.value == EVERYTHING else {f"{what.kind}_id": int(what.value)}
    line = record.record(
        "revocation",
        at=connected.outside.clock(),
        decision_id=str(uuid.uuid4()),
        issuer=alias,
        stop={"kind": what.kind, "value": what.value},
        **named,
        **values,
    )
    write_record(connected, line)


def _fields(alias: str, stop: Stop) -> dict[str, str | None]:
    return {
        "issuer": alias,
        "kind": stop.kind,
        "value": stop.value,
        "since": _shown(stop.at),
        "until": _shown(stop.until),
        "by": stop.by,
        "why": stop.why,
    }


def _shown(moment: float | None) -> str | None:
    return None if moment is None else times.shown(moment)
