"""A webhook of GitLab's as this deployment knows it, beside its secrets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jobgate.core.namespace import NamespaceChain, ProjectPlace

HookKind = Literal["project", "group", "instance"]


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


@dataclass(frozen=True, slots=True)
class HookMade:
    """A webhook as GitLab was given it: the id of its secrets, and when (epoch)."""

    entry_id: str
    at: float


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
