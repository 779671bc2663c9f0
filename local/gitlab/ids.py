"""Numeric ids, given in sequence or fixed by the caller, never twice."""

from __future__ import annotations

from local.gitlab.records import TakenError

#: Where each sequence begins. They differ so that an id of the wrong kind is never right by chance.
_FIRST = {
    "namespace": 201,
    "project": 1001,
    "user": 11,
    "environment": 301,
    "pipeline": 70_001,
    "job": 90_001,
    "agent": 501,
    "token": 401,
    "hook": 801,
    "status": 601,
    "delivery": 1,
}


class Ids:
    """The sequences of one instance."""

    def __init__(self) -> None:
        self._next = dict(_FIRST)
        self._given: dict[str, set[int]] = {kind: set() for kind in _FIRST}

    def take(self, kind: str, wanted: int | None = None) -> int:
        """The next id of a kind, or the wanted one; raises TakenError if that was given before."""
        given = self._given[kind]
        if wanted is None:
            wanted = self._next[kind]
            while wanted in given:
                wanted += 1
            self._next[kind] = wanted + 1
        elif wanted in given:
            raise TakenError(f"the {kind} id {wanted} was given before")
        given.add(wanted)
        return wanted
