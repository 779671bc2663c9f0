"""Reconcile: one message for each configuration project, so that a lost webhook heals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from jobgate.ports.refresh import ConfigProjects, RefreshQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """The reconciliation and what it needs."""

    projects: ConfigProjects
    queue: RefreshQueue

    def run(self) -> int:
        """Queue every configuration project; returns how many there are.

        Raises Unavailable where one couldn't be queued, once all others are.
        """
        count, failed = 0, None
        for issuer, project_id in self.projects.all():
            try:
                self.queue.send(issuer, project_id, deduplication_id=None)
            except Unavailable as exc:
                failed = exc
            else:
                count += 1
        if failed is not None:
            raise failed
        return count
