"""Does what a webhook's event asks for, within the reach of the hook that told of it.

Reach is judged by what is stored of GitLab's own answers. A hook of a group whose project isn't
known here may hint at a push, since content is read through the API anyway; it says nothing of a
job, since a job that has a token has had its project looked up at the exchange.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from jobgate.core.errors import Unavailable
from jobgate.core.hook import Reach, reach_of_group, reach_of_project
from jobgate.core.job import JobKey
from jobgate.core.webhook_event import GroupMoved, Ignored, JobSeen, ProjectMoved, Pushed

if TYPE_CHECKING:
    from jobgate.core.hook import HookScope
    from jobgate.core.webhook_event import HookEvent
    from jobgate.ports import Clock
    from jobgate.ports.lookups import JobStates, PlaceMarks
    from jobgate.ports.refresh import RefreshQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEvents:
    """What events change, and what tells whether they may."""

    places: PlaceMarks
    jobs: JobStates
    queue: RefreshQueue
    chain_fresh: float
    clock: Clock

    def handle(
        self,
        issuer: str,
        event: HookEvent,
        scope: HookScope | None,
        *,
        deduplication_id: str | None,
    ) -> str:
        """Do it, and say what came of it, for the log. Raises Unavailable where it is lost."""
        match event:
            case Pushed(project_id):
                return self._pushed(issuer, project_id, scope, deduplication_id)
            case ProjectMoved(project_id):
                return self._project_moved(issuer, project_id, scope, deduplication_id)
            case GroupMoved(group_id):
                return self._group_moved(issuer, group_id, scope)
            case JobSeen():
                try:
                    return self.job_seen(issuer, event, scope)
                except Unavailable:
                    self.queue.send_job(issuer, event, scope, deduplication_id=deduplication_id)
                    return f"job {event.job_id} is {event.state.status}: queued"
            case Ignored(why):
                return f"ignored: {why}"
            case unreachable:
                assert_never(unreachable)

    def job_seen(self, issuer: str, event: JobSeen, scope: HookScope | None) -> str:
        """Write a job's state; raises Unavailable where it must be tried again."""
        reach = self._reach(issuer, event.project_id, scope)
        if reach is not Reach.INSIDE:
            return _refused(f"job {event.job_id} of project {event.project_id}", reach)
        written = self.jobs.put(JobKey(issuer, event.project_id, event.job_id), event.state)
        return f"job {event.job_id} is {event.state.status}" + (
            "" if written else ": had ended before"
        )

    def _pushed(
        self, issuer: str, project_id: int, scope: HookScope | None, key: str | None
    ) -> str:
        try:
            if not self.places.is_config_project(issuer, project_id):
                return f"ignored: project {project_id} configures no agent"
            reach = self._reach(issuer, project_id, scope)
        except Unavailable:
            # Nothing is lost by a refresh too many.
            reach = Reach.UNKNOWN
        if reach is Reach.OUTSIDE:
            return _refused(f"project {project_id}", reach)
        self.queue.send(issuer, project_id, deduplication_id=key)
        return f"project {project_id} is to be refreshed"

    def _project_moved(
        self, issuer: str, project_id: int, scope: HookScope | None, key: str | None
    ) -> str:
        reach = self._reach(issuer, project_id, scope)
        if reach is not Reach.INSIDE:
            return _refused(f"project {project_id}", reach)
        self.places.mark_place(issuer, project_id, at=self.clock())
        queued = self._pushed(issuer, project_id, scope, key)
        return f"project {project_id} isn't where it was; {queued}"

    def _group_moved(self, issuer: str, group_id: int, scope: HookScope | None) -> str:
        is_of_group = scope is not None and scope.kind == "group"
        chain = self.places.chain(issuer, group_id) if is_of_group else None
        reach = reach_of_group(scope, chain)
        if reach is not Reach.INSIDE:
            return _refused(f"group {group_id}", reach)
        self.places.mark_chain(issuer, group_id, at=self.clock())
        return f"group {group_id} isn't where it was"

    def _reach(self, issuer: str, project_id: int, scope: HookScope | None) -> Reach:
        place, chain = None, None
        if scope is not None and scope.kind == "group":
            place = self.places.place(issuer, project_id)
            if place is not None and scope.id not in (place.root_id, place.namespace_id):
                chain = self.places.chain(issuer, place.namespace_id)
        fresh_since = self.clock() - self.chain_fresh
        return reach_of_project(scope, project_id, place, chain, fresh_since=fresh_since)


def _refused(what: str, reach: Reach) -> str:
    if reach is Reach.OUTSIDE:
        return f"refused: {what} isn't of this webhook's project or group"
    return f"ignored: {what} isn't known to be of this webhook's group"
