"""Reconcile: one message for each configuration project, so that a lost webhook heals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobgate.ports import ConfigProjects, RefreshQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """The reconciliation and what it needs."""

    projects: ConfigProjects
    queue: RefreshQueue

    def run(self) -> int:
        """Queue every configuration project; returns how many there are."""
        count = 0
        for issuer, project_id in self.projects.all():
            self.queue.send(issuer, project_id, deduplication_id=None)
            count += 1
        return count
