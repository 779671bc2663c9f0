"""The stored items of webhooks: which deliver, and which an authorised project was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters import items
from jobgate.core.errors import Unavailable
from jobgate.core.hook import HookMade, HookSeen, HookWrite

if TYPE_CHECKING:
    from jobgate.adapters.items import Item


def hook_seen_key(issuer: str, kind: str, scope_id: int) -> Item:
    """Of the last delivery of a webhook: its scope is a project, a group or the instance (id 0)."""
    return items.key(f"HOOKS#{issuer}", f"{kind}#{scope_id}")


def hook_made_key(issuer: str, project_id: int) -> Item:
    """Of the webhook that an authorised project was given for its jobs' ends."""
    return items.key(f"HOOKS_MADE#{issuer}", str(project_id))


def hook_seen_item(issuer: str, kind: str, scope_id: int, seen: HookSeen) -> Item:
    """The last noted delivery of a webhook."""
    return hook_seen_key(issuer, kind, scope_id) | {
        "v": items.number(items.VERSION),
        "entry_id": {"S": seen.entry_id},
        "seen_at": items.number(seen.at),
    }


def hook_seen_of(item: Item | None) -> HookSeen | None:
    """The reverse of `hook_seen_item`."""
    if item is None:
        return None
    items.check_version(item)
    try:
        return HookSeen(entry_id=item["entry_id"]["S"], at=float(item["seen_at"]["N"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a webhook's last delivery that can't be read") from exc


def hook_made_item(issuer: str, project_id: int, made: HookMade) -> Item:
    """The webhook of an authorised project."""
    writes = [{"S": f"{write.at!r} {write.entry_id}"} for write in sorted(made.unfinished)]
    address = {} if made.address is None else {"address": {"S": made.address}}
    return hook_made_key(issuer, project_id) | {
        "v": items.number(items.VERSION),
        "entry_id": {"S": made.entry_id or ""},
        "made_at": items.number(made.at),
        "unfinished": {"L": writes},
        "archived": {"BOOL": made.archived},
        "revision": items.number(made.revision),
        **address,
    }


def hook_made_of(item: Item) -> tuple[int, HookMade]:
    """The reverse of `hook_made_item`: the project's id, and its webhook."""
    items.check_version(item)
    try:
        writes = [write["S"].partition(" ") for write in item.get("unfinished", {"L": ()})["L"]]
        made = HookMade(
            entry_id=item["entry_id"]["S"] or None,
            at=float(item["made_at"]["N"]),
            address=item["address"]["S"] if "address" in item else None,
            unfinished=frozenset(HookWrite(float(at), entry_id) for at, _, entry_id in writes),
            archived=item.get("archived", {"BOOL": False})["BOOL"],
            revision=int(item.get("revision", {"N": 0})["N"]),
        )
        return int(item["sk"]["S"]), made
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a project's webhook that can't be read") from exc
