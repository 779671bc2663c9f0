"""Where projects and groups are in GitLab's tree, asked of GitLab and never guessed from a path."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from jobgate.core.errors import Unavailable
from jobgate.core.namespace import Namespace, NamespaceChain, ProjectPlace, Surroundings
from jobgate.ports import SurroundingsSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.bounds import Bounds
    from jobgate.core.job import JobIdentity
    from jobgate.ports import Clock, Deployment, GitLab, GitLabGroup, GitLabProject, PlaceStore

_DEPTH_MAX = 21  # GitLab allows twenty levels of subgroups
# After a failure: else each request would wait for LAZY_BUDGET, and ask a slow GitLab yet again.
_COOL_DOWN_SECONDS = 10.0
_FAILURES_MAX = 256


class NamespaceTree:
    """The tree as far as one run needs it: each group is asked for once."""

    def __init__(self, gitlab: GitLab, *, now: float) -> None:
        self._gitlab = gitlab
        self._now = now
        self._groups: dict[int, GitLabGroup] = {}

    def place(self, project: GitLabProject) -> tuple[ProjectPlace, NamespaceChain]:
        """Where a project is: its namespace with all ancestors."""
        chain = self._chain_of_project(project)
        place = ProjectPlace(
            namespace_id=project.namespace_id,
            path=project.path,
            root_id=chain.root_id,
            fetched_at=self._now,
        )
        return place, chain

    def chain_of_group(self, group: GitLabGroup) -> NamespaceChain:
        """A group's ancestors, root first, and itself."""
        self._groups[group.group_id] = group
        return self._chain(group.group_id)

    def _chain_of_project(self, project: GitLabProject) -> NamespaceChain:
        if project.namespace_kind == "group":
            return self._chain(project.namespace_id)
        member = Namespace(namespace_id=project.namespace_id, path=project.namespace_path)
        return NamespaceChain(kind="user", members=(member,), fetched_at=self._now)

    def _chain(self, group_id: int) -> NamespaceChain:
        members: list[Namespace] = []
        upwards: int | None = group_id
        while upwards is not None:
            if len(members) == _DEPTH_MAX:
                raise Unavailable("a group with more ancestors than GitLab allows")
            group = self._group(upwards)
            members.append(Namespace(namespace_id=group.group_id, path=group.path))
            upwards = group.parent_id
        return NamespaceChain(kind="group", members=tuple(reversed(members)), fetched_at=self._now)

    def _group(self, group_id: int) -> GitLabGroup:
        group = self._groups.get(group_id)
        if group is None:
            group = self._gitlab.group(group_id)
            if group is None:
                raise Unavailable("an ancestor group that GitLab doesn't show us")
            self._groups[group_id] = group
        return group


class LazySurroundings(SurroundingsSource):
    """Asks GitLab only when what is stored isn't fresh, and only about projects of a known root.

    A stranger on the same GitLab can mint valid tokens for our audience; the root path in the token
    is signed, and good enough to decide whether to spend a call, though not to grant anything.
    """

    def __init__(
        self,
        deployment: Callable[[], Deployment],
        gitlab_of: Callable[[str], GitLab],
        store: PlaceStore,
        *,
        bounds: Bounds,
        clock: Clock,
    ) -> None:
        self._deployment = deployment
        self._gitlab_of = gitlab_of
        self._store = store
        self._bounds = bounds
        self._clock = clock
        self._failed_at: OrderedDict[tuple[str, int], float] = OrderedDict()

    def surroundings(
        self, job: JobIdentity, place: ProjectPlace | None, chain: NamespaceChain | None
    ) -> Surroundings:
        """See `SurroundingsSource.surroundings`."""
        stored = Surroundings(place=place, chain=chain)
        if self._is_fresh(job, stored):
            return stored
        if place is not None and place.namespace_id != job.namespace_id:
            # Old, and the signed token says otherwise: no scope can be judged by it.
            stored = Surroundings(place=None, chain=chain)
        if self._has_just_failed(job):
            return stored
        try:
            if (job.issuer, job.root_path) not in self._deployment().roots:
                return stored
            return self._fetched(job)
        except Unavailable:
            self._failed_at[job.issuer, job.project_id] = self._clock()
            if len(self._failed_at) > _FAILURES_MAX:
                self._failed_at.popitem(last=False)
            return stored

    def _has_just_failed(self, job: JobIdentity) -> bool:
        failed_at = self._failed_at.pop((job.issuer, job.project_id), None)
        if failed_at is None or not 0 <= self._clock() - failed_at < _COOL_DOWN_SECONDS:
            return False
        self._failed_at[job.issuer, job.project_id] = failed_at
        return True

    def _is_fresh(self, job: JobIdentity, stored: Surroundings) -> bool:
        if stored.place is None or not self._is_young(stored.place.fetched_at):
            return False
        if stored.place.namespace_id != job.namespace_id:
            # The project has moved since the job began: no chain of its old namespace counts.
            return True
        return stored.chain is not None and self._is_young(stored.chain.fetched_at)

    def _is_young(self, fetched_at: float) -> bool:
        # What is from the future was fetched under a clock that ran ahead: nobody knows when.
        age = self._clock() - fetched_at
        return -self._bounds.leeway <= age <= self._bounds.chain_fresh

    def _fetched(self, job: JobIdentity) -> Surroundings:
        gitlab = self._gitlab_of(job.issuer)
        project = gitlab.project(job.project_id)
        if project is None:
            raise Unavailable("a project that GitLab doesn't show us")
        place, chain = NamespaceTree(gitlab, now=self._clock()).place(project)
        self._store.save_place(job.issuer, job.project_id, place)
        self._store.save_chain(job.issuer, chain)
        return Surroundings(place=place, chain=chain)
