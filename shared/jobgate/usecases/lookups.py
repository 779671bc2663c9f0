"""What a request finds out about its job: from the table while fresh, else from GitLab, lazily."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from jobgate.core.environment import slug_can_be_computed
from jobgate.core.errors import Unavailable
from jobgate.core.namespace import NamespaceChain, ProjectPlace, Surroundings
from jobgate.ports.lookups import JobLookup, Lookups
from jobgate.usecases.memory import Memory
from jobgate.usecases.namespaces import NamespaceTree

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.bounds import Bounds
    from jobgate.core.job import JobIdentity
    from jobgate.core.liveness import JobLife
    from jobgate.core.settings import Settings
    from jobgate.ports import Clock, Deployment
    from jobgate.ports.gitlab import GitLabOfJobs
    from jobgate.ports.lookups import PlaceStore
    from jobgate.usecases.job_watch import JobWatch

# After a failure: else each request would wait for LAZY_BUDGET, and ask a slow GitLab yet again.
_COOL_DOWN_SECONDS = 10.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LazyLookups(Lookups):
    """Asks GitLab only when what is stored isn't fresh, and only for jobs of a known root.

    A stranger on the same GitLab can mint valid tokens for our audience; the root path in the token
    is signed, and good enough to decide whether to spend a call, though not to grant anything.
    Where the whole instance may be authorized, it has no strangers.

    Where configuration projects are is kept in memory too while it's fresh, so that a warm function
    needs no read for it: which projects a decision is about is known from the snapshots only.
    """

    deployment: Callable[[], Deployment]
    gitlab_of: Callable[[str], GitLabOfJobs]
    store: PlaceStore
    watch: JobWatch
    settings: Settings
    bounds: Bounds
    clock: Clock
    failures: Memory[float] = field(default_factory=Memory)
    gone: Memory[bool] = field(default_factory=Memory)
    places: Memory[ProjectPlace] = field(default_factory=Memory)
    confirmed: Memory[bool] = field(default_factory=Memory)
    slugs: Memory[str] = field(default_factory=Memory)

    def of(self, job: JobIdentity) -> JobLookup:
        """See `Lookups.of`."""
        return _LazyLookup(self, job)


class _LazyLookup(JobLookup):
    """One request's; all that it asks of GitLab shares one LAZY_BUDGET."""

    def __init__(self, shared: LazyLookups, job: JobIdentity) -> None:
        self._shared = shared
        self._job = job
        self._known: tuple[GitLabOfJobs, NamespaceTree] | None = None
        self._told: str | None = None

    def life(self, stored: JobLife) -> JobLife:
        """See `JobLookup.life`."""
        job, watch = self._job, self._shared.watch
        if watch.is_due(stored) and self._is_of_known_root():
            return watch.asked(job, stored, self._status)
        return watch.answered(job, stored)

    def project_runs_job(self) -> bool:
        """See `JobLookup.project_runs_job`."""
        job, confirmed = self._job, self._shared.confirmed
        key = (job.issuer, job.project_id, job.job_id)
        if confirmed.get(key):
            return True

        def ask() -> bool:
            if self._status() is None:
                raise Unavailable("a job that its project doesn't run, or that isn't for our token")
            return True

        if self._asked(("job", *key), ask) is None:
            return False
        # A job never changes its project.
        confirmed.keep(key, value=True)
        return True

    def surroundings(
        self, place: ProjectPlace | None, chain: NamespaceChain | None
    ) -> Surroundings:
        """See `JobLookup.surroundings`."""
        job = self._job
        stored = Surroundings(place=place, chain=chain)
        if self._is_fresh(stored):
            return stored
        if place is not None and place.namespace_id != job.namespace_id:
            # Old, and the signed token says otherwise: no scope can be judged by it.
            stored = Surroundings(place=None, chain=chain)
        found = self._asked(("place", job.issuer, job.project_id), self._fetched)
        if found is None and self._is_gone(job.project_id):
            return Surroundings(place=None, chain=None)
        return found or stored

    def config_places(self, agents: Iterable[AgentSnapshot]) -> Mapping[int, ProjectPlace]:
        """See `JobLookup.config_places`."""
        if self._shared.settings.instance_wide:
            return {}
        issuer, remembered = self._job.issuer, self._shared.places
        # No decision asks where the job's own project is as a configuration project.
        roots: dict[int, set[int | None]] = defaultdict(set)
        for agent in agents:
            project = agent.config_project
            if project.project_id != self._job.project_id:
                # One in doubt may have been moved out of our token's sight.
                is_sure = agent.doubt_since is None
                roots[project.project_id].add(project.root_id if is_sure else None)
        found = {i: place for i in roots if (place := remembered.get((issuer, i)))}
        # A project that was moved is known to its snapshot within seconds, by an event; what a warm
        # function remembers of it is then not what counts.
        fresh = {
            i: place
            for i, place in found.items()
            if self._is_young(place.fetched_at) and roots[i] == {place.root_id}
        }
        missing = sorted(roots.keys() - fresh.keys())
        if not missing:
            return fresh
        stored = self._shared.store.places(issuer, missing)
        for project_id in missing:
            place = self._config_place(project_id, stored.get(project_id))
            if place is not None:
                fresh[project_id] = place
                remembered.keep((issuer, project_id), place)
        return fresh

    def environment_slug(self) -> str | None:
        """See `JobLookup.environment_slug`."""
        job, slugs = self._job, self._shared.slugs
        name = job.environment
        if not self._shared.settings.legacy_slugs or name is None or slug_can_be_computed(name):
            return None
        key = (job.issuer, job.project_id, name)
        known = slugs.get(key)
        if known is not None:
            return known
        slug = self._asked(
            ("slug", *key), lambda: self._gitlab.environment_slug(job.project_id, name)
        )
        if slug is not None:
            slugs.keep(key, slug)
        return slug

    def _status(self) -> str | None:
        """The job's status, asked for once a request."""
        if self._told is None:
            self._told = self._gitlab.job_status(self._job.project_id, self._job.job_id)
        return self._told

    def _config_place(self, project_id: int, stored: ProjectPlace | None) -> ProjectPlace | None:
        if stored is not None and self._is_young(stored.fetched_at):
            return stored
        key = ("place", self._job.issuer, project_id)
        fetched = self._asked(key, lambda: self._place(project_id)[0])
        return fetched or (None if self._is_gone(project_id) else stored)

    def _fetched(self) -> Surroundings:
        place, chain = self._place(self._job.project_id)
        self._shared.store.save_chain(self._job.issuer, chain)
        return Surroundings(place=place, chain=chain)

    def _is_gone(self, project_id: int) -> bool:
        """Whether GitLab, when it last answered, showed us no such project.

        It isn't away then: the project was transferred out of our token's sight, or removed, and
        where it was doesn't count any more.
        """
        return self._shared.gone.get((self._job.issuer, project_id)) or False

    def _place(self, project_id: int) -> tuple[ProjectPlace, NamespaceChain]:
        project = self._gitlab.project(project_id)
        self._shared.gone.keep((self._job.issuer, project_id), project is None)
        if project is None:
            raise Unavailable("a project that GitLab doesn't show us")
        place, chain = self._tree.place(project)
        self._shared.store.save_place(self._job.issuer, project_id, place)
        return place, chain

    def _asked(self, what: Hashable, ask: Callable[[], T | None]) -> T | None:
        """What GitLab says, None where it can't or mustn't be asked."""
        shared = self._shared
        failed_at = shared.failures.get(what)
        if failed_at is not None and 0 <= shared.clock() - failed_at < _COOL_DOWN_SECONDS:
            return None
        try:
            return ask() if self._is_of_known_root() else None
        except Unavailable:
            shared.failures.keep(what, shared.clock())
            return None

    def _is_of_known_root(self) -> bool:
        root = (self._job.issuer, self._job.root_path)
        return self._shared.settings.instance_wide or root in self._shared.deployment().roots

    @property
    def _gitlab(self) -> GitLabOfJobs:
        return self._once()[0]

    @property
    def _tree(self) -> NamespaceTree:
        return self._once()[1]

    def _once(self) -> tuple[GitLabOfJobs, NamespaceTree]:
        """GitLab from the first question on, since its time begins to run then."""
        if self._known is None:
            gitlab = self._shared.gitlab_of(self._job.issuer)
            self._known = gitlab, NamespaceTree(gitlab, now=self._shared.clock())
        return self._known

    def _is_fresh(self, stored: Surroundings) -> bool:
        if stored.place is None or not self._is_young(stored.place.fetched_at):
            return False
        if stored.place.namespace_id != self._job.namespace_id:
            # The project has moved since the job began: no chain of its old namespace counts.
            return True
        return stored.chain is not None and self._is_young(stored.chain.fetched_at)

    def _is_young(self, fetched_at: float) -> bool:
        # What is from the future was fetched under a clock that ran ahead: nobody knows when.
        age = self._shared.clock() - fetched_at
        return -self._shared.bounds.leeway <= age <= self._shared.bounds.chain_fresh
