"""What a warm function remembers of GitLab's answers from one run to the next."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

_BLOBS_MAX_BYTES = 64 * 1024 * 1024
_LISTINGS_MAX = 4  # of 20 MB at most, and a function refreshes one project at a time
_LISTING_MAX_SECONDS = 900.0  # how old the first rows may become: some rounds of the schedule


class Blobs:
    """Contents of files by their blob's id, which never change; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._contents: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, project_id: int, blob: str) -> bytes | None:
        """The content of a project's blob, if it is still known."""
        return self._contents.get((project_id, blob))

    def keep(self, project_id: int, blob: str, content: bytes) -> None:
        """Remember a content."""
        if (project_id, blob) not in self._contents:
            self._contents[project_id, blob] = content
            self._bytes += len(content)
        while self._bytes > _BLOBS_MAX_BYTES:
            _, forgotten = self._contents.popitem(last=False)
            self._bytes -= len(forgotten)


T = TypeVar("T")


@dataclass(slots=True)
class Listing(Generic[T]):
    """A list by number as far as it was read, its rows in our own form.

    `following` is the next page's target, None at the end; `total` GitLab's own count of all rows.
    """

    following: str | None
    total: str | None = None
    pages: int = 0
    rows: list[T] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)


class Listings:
    """Lists that weren't read to their end in time: the next run goes on with the next page.

    By their first page and the commit that they are read for, so that what a file names is never
    looked for in rows that are older than the file.
    """

    def __init__(self) -> None:
        self._unfinished: OrderedDict[tuple[str | None, str], Listing[Any]] = OrderedDict()

    def begun(self, commit: str | None, target: str) -> Listing[Any]:
        """The list as far as it is known; it's forgotten here until it is kept again."""
        known = self._unfinished.pop((commit, target), None)
        if known is None or time.monotonic() - known.began > _LISTING_MAX_SECONDS:
            return Listing(following=target)
        return known

    def keep(self, commit: str | None, target: str, listing: Listing[Any]) -> None:
        """Remember a list that couldn't be read on."""
        self._unfinished[commit, target] = listing
        if len(self._unfinished) > _LISTINGS_MAX:
            self._unfinished.popitem(last=False)
