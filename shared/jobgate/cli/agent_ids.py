"""The agent ids of one issuer: which were given, to whom, and that none is given twice.

One item, `AGENT_IDS#<issuer>` / `LAST`: `last` (the newest of our own), `names` (map of
`<project id>/<agent name>` to id, of the agents that there are) and `taken` (every id of GitLab's
that was ever taken over). Whatever was given and is in no name is a tombstone. One item, so that
one UpdateItem decides about the id and about the name's uniqueness together; at 90 bytes a name it
holds about 4,000 agents.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters import items
from jobgate.cli.errors import Refused
from jobgate.cli.inputs import FIRST_OWN_ID
from jobgate.core.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jobgate.adapters.items import Item
    from jobgate.cli.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIds:
    """The ids of an issuer; `names` by (project id, agent name)."""

    issuer_url: str
    last: int
    names: Mapping[tuple[int, str], int]
    taken: frozenset[int]

    def name_of(self, agent_id: int) -> tuple[int, str] | None:
        """The project id and name of an agent that there is."""
        return next((name for name, known in self.names.items() if known == agent_id), None)

    def is_tombstone(self, agent_id: int) -> bool:
        """Whether the id was given once and its agent was removed."""
        given = agent_id in self.taken or FIRST_OWN_ID <= agent_id <= self.last
        return given and self.name_of(agent_id) is None


def first_item(alias: str, issuer_url: str) -> Item:
    """The item before the first agent."""
    return items.agent_ids_key(alias) | {
        "v": {"N": str(items.VERSION)},
        "issuer_url": {"S": issuer_url},
        "last": {"N": str(FIRST_OWN_ID - 1)},
        "names": {"M": {}},
    }


def read(item: Item | None) -> AgentIds:
    """The item's content; raises Unavailable where it's missing or of another form."""
    if item is None or item.get("v") != {"N": str(items.VERSION)}:
        raise Unavailable("The counter of agent ids is missing: run `jobgate issuer add` again.")
    try:
        return AgentIds(
            issuer_url=item["issuer_url"]["S"],
            last=int(item["last"]["N"]),
            names={_name_of(text): int(value["N"]) for text, value in item["names"]["M"].items()},
            taken=frozenset(int(number) for number in item.get("taken", {}).get("NS", ())),
        )
    except (KeyError, ValueError) as exc:
        raise Unavailable("The counter of agent ids can't be read.") from exc


def reserve(
    table: Table,
    alias: str,
    *,
    project_id: int,
    name: str,
    wanted: int | None,
    above: int | None = None,
) -> int:
    """The id of a new agent, or the one that an earlier run gave to this project and name.

    `wanted` takes over an id of GitLab's. Raises Refused where that was given before. No id of our
    own up to `above` is given: a counter that was restored doesn't know what was.
    """
    known = read(table.get(items.agent_ids_key(alias)))
    if above is not None and known.last < above:
        _raise_counter(table, alias, above)
    agent_id = known.names.get((project_id, name))
    if agent_id is None:
        return _allocate(table, alias, _text_of(project_id, name), wanted)
    if wanted not in (None, agent_id):
        raise Refused(f"The agent {name!r} of this project has the id {agent_id} already.")
    return agent_id


def _raise_counter(table: Table, alias: str, above: int) -> None:
    # Where somebody else was first, the counter is above already.
    with contextlib.suppress(Conflict):
        table.update(
            items.agent_ids_key(alias),
            "SET #last = :above",
            names={"#last": "last"},
            values={":above": {"N": str(above)}},
            condition="#last < :above",
        )


def _allocate(table: Table, alias: str, name: str, wanted: int | None) -> int:
    names = {"#names": "names", "#name": name}
    if wanted is None:
        change = "SET #last = #last + :one, #names.#name = #last + :one"
        names["#last"] = "last"
        values: dict[str, Any] = {":one": {"N": "1"}}
        condition = "attribute_not_exists(#names.#name)"
    else:
        change = "SET #names.#name = :id ADD #taken :ids"
        names["#taken"] = "taken"
        values = {":id": {"N": str(wanted)}, ":ids": {"NS": [str(wanted)]}}
        condition = "attribute_not_exists(#names.#name) AND NOT contains(#taken, :id)"
    try:
        changed = table.update(
            items.agent_ids_key(alias), change, names=names, values=values, condition=condition
        )
    except Conflict as exc:
        if wanted is None:
            raise
        raise Refused(f"The id {wanted} was given before; an id is never given twice.") from exc
    return int(changed["names"]["M"][name]["N"])


def release(table: Table, alias: str, *, project_id: int, name: str) -> None:
    """Free the name of a removed agent; its id stays given."""
    table.update(
        items.agent_ids_key(alias),
        "REMOVE #names.#name",
        names={"#names": "names", "#name": _text_of(project_id, name)},
    )


def bury(table: Table, alias: str, taken: Collection[int]) -> None:
    """Note ids of GitLab's as given, so that they aren't given again."""
    if taken:
        table.update(
            items.agent_ids_key(alias),
            "ADD #taken :ids",
            names={"#taken": "taken"},
            values={":ids": {"NS": [str(agent_id) for agent_id in sorted(taken)]}},
        )


def _text_of(project_id: int, name: str) -> str:
    return f"{project_id}/{name}"


def _name_of(text: str) -> tuple[int, str]:
    project_id, _, name = text.partition("/")
    return int(project_id), name
