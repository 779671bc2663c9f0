"""A webhook of GitLab's as this deployment knows it, beside its secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from jobgate.core.namespace import NamespaceChain, ProjectPlace

HookKind = Literal["project", "group", "instance"]

_REPAIRED_SECONDS = 86_400
_LOOKED_AT_SECONDS = 3_600  # an archived project, which may have been taken out of the archive
_UNDER_WAY_SECONDS = 120.0  # more than one write may take of us and of GitLab (60 s) together


@dataclass(frozen=True, slots=True, order=True)
class HookScope:
    """Whom a webhook belongs to; the instance's id is 0, as in the subject index."""

    kind: HookKind
    id: int


@dataclass(frozen=True, slots=True)
class HookSeen:
    """A delivery that was authentic: the id of the secrets that proved it, and when (epoch)."""

    entry_id: str
    at: float


@dataclass(frozen=True, slots=True, order=True)
class HookWrite:
    """A write of a webhook that has begun: when (epoch), and the id of the secrets it gives."""

    at: float
    entry_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HookMade:
    """An authorised project's webhook, as the table knows it.

    `entry_id` is of the secrets that it was last given at `at` (epoch), None where it has none yet.
    `address` is its URL without the query then, None where that wasn't kept. `unfinished` are
    writes that nobody knows the end of. `archived`: no job runs there, so it needs no webhook.
    `revision` counts the changes, so that of two at once the later one fails.
    """

    entry_id: str | None = None
    at: float = 0.0
    address: str | None = None
    unfinished: frozenset[HookWrite] = frozenset()
    archived: bool = False
    revision: int = 0

    @property
    def entries(self) -> frozenset[str]:
        """The ids of all secrets that GitLab may sign with."""
        known = set() if self.entry_id is None else {self.entry_id}
        return frozenset(known | {write.entry_id for write in self.unfinished})

    def begun(self, write: HookWrite) -> HookMade:
        """With a write that is about to be made."""
        return self._changed(unfinished=self.unfinished | {write})

    def given_up(self, write: HookWrite) -> HookMade:
        """After a write that certainly changed nothing."""
        return self._changed(unfinished=self.unfinished - {write})

    def finished(self, write: HookWrite, address: str, *, now: float) -> HookMade:
        """After a write that went well, where none has begun since.

        One that may still be under way may also be the last one that GitLab does.
        """
        others = frozenset(w for w in self.unfinished - {write} if _is_under_way(w, now))
        return self._changed(
            entry_id=write.entry_id, at=now, address=address, unfinished=others, archived=False
        )

    def found_archived(self, *, now: float) -> HookMade:
        """GitLab lets nobody change the webhooks of an archived project, and runs no job of it."""
        return HookMade(at=now, address=self.address, archived=True, revision=self.revision + 1)

    def _changed(self, **values: Any) -> HookMade:
        return replace(self, revision=self.revision + 1, **values)


class Due(IntEnum):
    """Why a webhook is to be written, the most urgent first.

    What has failed before is as urgent as the daily repair: there may be many, round after round.
    """

    NEW = 1
    CHANGED = 2
    AGAIN = 3


def due(made: HookMade | None, entry_id: str | None, address: str, *, now: float) -> Due | None:
    """Whether a webhook is to be given the secrets `entry_id`, or its daily repair."""
    if made is None:
        return Due.NEW
    if made.entry_id is None and not made.archived:
        return Due.AGAIN
    # In the future means that the clock was set back: that isn't young.
    is_old = not 0 <= now - made.at < (_LOOKED_AT_SECONDS if made.archived else _REPAIRED_SECONDS)
    if made.archived:
        return Due.AGAIN if is_old else None
    if (made.entry_id, made.address) != (entry_id, address):
        return Due.CHANGED
    if made.unfinished:
        under_way = any(_is_under_way(write, now) for write in made.unfinished)
        return None if under_way else Due.CHANGED
    return Due.AGAIN if is_old else None


def _is_under_way(write: HookWrite, now: float) -> bool:
    return abs(now - write.at) < _UNDER_WAY_SECONDS


class Reach(Enum):
    """Whether what an event is about belongs to the webhook that told of it."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    UNKNOWN = "unknown"


def reach_of_project(
    scope: HookScope | None,
    project_id: int,
    place: ProjectPlace | None,
    chain: NamespaceChain | None,
    *,
    fresh_since: float,
) -> Reach:
    """Judged by what GitLab's API said of the project, never by the payload.

    `chain` is that of the place's namespace, and may be left out where the place says enough.
    """
    if scope is None:
        return Reach.OUTSIDE
    if scope.kind == "instance":
        return Reach.INSIDE
    if scope.kind == "project":
        return Reach.INSIDE if scope.id == project_id else Reach.OUTSIDE
    return Reach.UNKNOWN if place is None else _reach_of_place(scope, place, chain, fresh_since)


def _reach_of_place(
    scope: HookScope, place: ProjectPlace, chain: NamespaceChain | None, fresh_since: float
) -> Reach:
    """Only a fresh place says that a project is outside: it may have been moved in since.

    That it was inside once is good enough for what a payload may do, which is to take away.
    """
    known = {place.root_id, place.namespace_id}
    if chain is not None and chain.members[-1].namespace_id == place.namespace_id:
        known |= {group.namespace_id for group in chain.groups}
    else:
        chain = None
    if scope.id in known:
        return Reach.INSIDE
    if chain is None or min(place.fetched_at, chain.fetched_at) < fresh_since:
        return Reach.UNKNOWN
    return Reach.OUTSIDE


def reach_of_group(scope: HookScope | None, chain: NamespaceChain | None) -> Reach:
    """The same of a group, by its stored chain."""
    if scope is None or scope.kind == "project":
        return Reach.OUTSIDE
    if scope.kind == "instance":
        return Reach.INSIDE
    if chain is None:
        return Reach.UNKNOWN
    is_inside = scope.id in {group.namespace_id for group in chain.groups}
    return Reach.INSIDE if is_inside else Reach.OUTSIDE
