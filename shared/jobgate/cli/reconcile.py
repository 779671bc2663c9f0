"""`jobgate reconcile`: a table that was made from a backup becomes the one that is live.

Until the last step every decision is a denial (`DeploymentReader`), so the order below is free, and
a run that breaks off is simply run again:

1. what operators did since then, by their records: stops are made and lifted again, agents that
   were removed are removed again;
2. an issuer whose run-time token isn't stored any more was removed, and is again;
3. every configuration project is read anew, from GitLab, and must be confirmed;
4. the settings name this table. No token that was issued before is good: which jobs ended since
   nobody knows. No agent gets an id that may have been given since.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters import items
from jobgate.adapters.refresh_queue import SQSRefreshQueue
from jobgate.cli import agent_ids, registration, stored_secrets
from jobgate.cli.inputs import FIRST_OWN_ID
from jobgate.cli.records import read_records
from jobgate.cli.snapshots import config_projects
from jobgate.core.errors import Conflict, InvalidRequest, Unavailable
from jobgate.core.liveness import Stop, StopKind
from jobgate.core.stops import StopChange, replayed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.cli.connect import Connected
    from jobgate.core.public_settings import PublicSettings

# More ids than can be registered while a backup is kept, which for point-in-time recovery is 35
# days: a registration takes longer than three seconds.
_IDS_SKIPPED = 1_000_000
_REFRESH_SECONDS = 180
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What was made good: issuers by alias, agents by issuer and id."""

    issuers_removed: tuple[str, ...]
    issuers_missing: tuple[str, ...]
    stops_changed: tuple[str, ...]
    agents_removed: tuple[tuple[str, int], ...]
    projects: int
    settings: PublicSettings


def reconcile(connected: Connected) -> None:
    """Do it, and say what was made good; nothing to do on the table that was live all the time.

    Raises Unavailable naming the configuration projects that GitLab doesn't confirm.
    """
    settings, table_id = connected.registry.settings(), connected.table.id()
    if settings is None:
        raise InvalidRequest("This stack isn't set up yet: run `jobgate setup`.")
    if settings.table_id == table_id:
        connected.output.say("The table is the one that was live: there is nothing to reconcile.")
        connected.output.result({"reconciled": False, "table_id": table_id})
        return
    records = read_records(connected)
    removed, missing = _remove_issuers(connected)
    stops_changed = [alias for alias in _aliases(connected) if _replay(connected, alias, records)]
    agents_removed = _remove_agents(connected, records)
    projects = _read_anew(connected)
    done = Reconciled(
        issuers_removed=removed,
        issuers_missing=missing,
        stops_changed=tuple(stops_changed),
        agents_removed=tuple(agents_removed),
        projects=projects,
        settings=_live(connected, settings, table_id),
    )
    connected.registry.save_settings(done.settings)
    _tell(connected, done)


def _aliases(connected: Connected) -> list[str]:
    return sorted(connected.registry.issuers())


def _remove_issuers(connected: Connected) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take out issuers that were removed since; the others are those that were added since."""
    trusted = connected.registry.issuers().keys()
    with_token = stored_secrets.read_map(connected.aws, connected.stack.gitlab_tokens).keys()
    gone = tuple(sorted(trusted - with_token))
    for alias in gone:
        connected.registry.remove_issuer(alias)
    return gone, tuple(sorted(with_token - trusted))


def _replay(connected: Connected, alias: str, records: list[dict[str, Any]]) -> bool:
    """Bring an issuer's stops to what operators made of them; whether that changed any."""
    changes = [made for line in records if (made := _stop_change(line, alias)) is not None]
    before = connected.registry.stops(alias)
    if before is None:
        return False  # which denies, until `jobgate issuer add`
    after = replayed(before, changes)
    if after is None:
        raise Unavailable(f"The stops of {alias!r} don't fit: revoke the issuer, then run again.")
    if after == before:
        return False

    def change(now: tuple[Stop, ...] | None) -> tuple[Stop, ...]:
        if now != before:
            raise Conflict("The stops have just been changed; run this again.")
        return after

    connected.registry.change_stops(alias, change)
    return True


def _stop_change(line: Mapping[str, Any], alias: str) -> StopChange | None:
    if line.get("type") != "revocation" or line.get("issuer") != alias or "stop" not in line:
        return None
    try:
        at = dt.datetime.fromisoformat(line["at"]).timestamp()
        stop = Stop(
            kind=StopKind(line["stop"]["kind"]),
            value=line["stop"]["value"],
            until=line.get("until"),
            by=line["by"],
            why=line.get("why", ""),
            at=at,
        )
        return StopChange(at, stop, is_lifted=line["outcome"] == "allowed")
    except (KeyError, TypeError, ValueError) as exc:
        # Without it nobody knows what is stopped.
        raise Unavailable("A record of the operators' log can't be read.") from exc


def _remove_agents(connected: Connected, records: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Remove the agents again that were removed since; an id isn't given a second time."""
    removed = []
    for alias in _aliases(connected):
        mine = [line for line in records if line.get("issuer") == alias]
        gone = {int(line["removed_agent_id"]) for line in mine if "removed_agent_id" in line}
        known = agent_ids.read(connected.table.get(items.agent_ids_key(alias)))
        for agent_id in sorted(gone):
            of = known.name_of(agent_id)
            if of is not None:
                registration.remove(
                    connected.aws,
                    connected.stack,
                    connected.table,
                    issuer=alias,
                    agent_id=agent_id,
                    of=of,
                )
                removed.append((alias, agent_id))
        agent_ids.bury(connected.table, alias, {i for i in gone if i < FIRST_OWN_ID})
    return removed


def _read_anew(connected: Connected) -> int:
    """Have every configuration project read, and wait until GitLab has confirmed each."""
    queue = SQSRefreshQueue(connected.aws, connected.stack.refresh_queue_url)
    projects = [p for alias in _aliases(connected) for p in config_projects(connected, alias)]
    for project in projects:
        with contextlib.suppress(Conflict):  # it was taken out meanwhile
            connected.table.update(
                items.config_project_key(project.issuer, project.project_id),
                "REMOVE #last_commit",
                names={"#last_commit": "last_commit"},
                condition="attribute_exists(pk)",
            )
        queue.send(project.issuer, project.project_id, deduplication_id=None)
    deadline = connected.outside.clock() + _REFRESH_SECONDS
    while left := _unconfirmed(connected):
        if connected.outside.clock() > deadline:
            raise Unavailable(
                f"GitLab hasn't confirmed {', '.join(left)}: mend that or remove their agents, "
                "then run this again; until then everything is denied."
            )
        connected.output.progress(f"{len(left)} configurations aren't confirmed yet")
        connected.outside.sleep(_POLL_SECONDS)
    return len(projects)


def _unconfirmed(connected: Connected) -> list[str]:
    found = [p for alias in _aliases(connected) for p in config_projects(connected, alias)]
    return [
        f"project {p.project_id} of {p.issuer!r} ({p.last_error or 'not read yet'})"
        for p in found
        if p.last_commit is None or p.last_error is not None
    ]


def _live(connected: Connected, settings: PublicSettings, table_id: str) -> PublicSettings:
    counters = [
        agent_ids.read(connected.table.get(items.agent_ids_key(alias))).last
        for alias in _aliases(connected)
    ]
    # GitLab's clock may be ahead: a job that began just before now mustn't look like a later one.
    not_before = math.ceil(connected.outside.clock() + connected.stack.bounds.leeway)
    return dataclasses.replace(
        settings,
        table_id=table_id,
        not_before=not_before,
        ids_above=max([FIRST_OWN_ID - 1, settings.ids_above or 0, *counters]) + _IDS_SKIPPED,
    )


def _tell(connected: Connected, done: Reconciled) -> None:
    output = connected.output
    for alias in done.issuers_removed:
        output.say(f"Removed the issuer {alias!r} again: no run-time token is stored for it.")
    for alias in done.issuers_missing:
        output.say(f"The issuer {alias!r} was added since: `jobgate issuer add` it again.")
    for alias in done.stops_changed:
        output.say(f"The stops of {alias!r} are those of the operators' records again.")
    for alias, agent_id in done.agents_removed:
        output.say(f"Removed agent {agent_id} of {alias!r} again.")
    output.say(f"GitLab has confirmed {done.projects} configuration projects.")
    moment = dt.datetime.fromtimestamp(done.settings.not_before or 0, dt.UTC).isoformat()
    output.say(f"Jobs that begin after {moment} are served; all others have to run again.")
    output.say("Agents that were registered since are lost: see `jobgate agent list`.")
    output.result({"reconciled": True, **dataclasses.asdict(done)})
