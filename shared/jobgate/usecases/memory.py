"""What a warm function remembers between requests."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

_REMEMBERED_MAX = 1024

T = TypeVar("T")


class Memory(Generic[T]):
    """The latest few values; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """The value of a key, None where it isn't remembered."""
        return self._values.get(key)

    def keep(self, key: Hashable, value: T) -> None:
        """Remember a value, as the latest."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > _REMEMBERED_MAX:
            self._values.popitem(last=False)
