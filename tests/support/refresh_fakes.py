"""In-memory stand-ins for what a refresh reads and writes: a small GitLab, and the stored items."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from jobgate.core.agent_configuration import FILE_MAX_BYTES
from jobgate.core.agent_folder import FileKind, TreeEntry
from jobgate.core.errors import Conflict, Unavailable
from jobgate.ports.gitlab import GitLabGroup, GitLabOfJobs, GitLabProject
from jobgate.ports.refresh import ConfigProjects, RefreshStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from jobgate.core.agent import AgentSnapshot, ClusterConnection
    from jobgate.ports.refresh import ConfigProjectItem, IndexChange, Subject


class FakeGitLab(GitLabOfJobs):
    """A small GitLab; `calls` is what was asked.

    `failing` names methods that raise Unavailable, `faults` those that raise something else;
    `unlisted` are ids that listings lack; `after` is done at each call of a method.
    """

    def __init__(
        self, *, groups: Iterable[GitLabGroup] = (), projects: Iterable[GitLabProject] = ()
    ) -> None:
        self.groups = {group.group_id: group for group in groups}
        self.projects = {project.project_id: project for project in projects}
        self.files: dict[int, dict[str, bytes]] = defaultdict(dict)
        self.kinds: dict[str, FileKind] = {}
        self.hidden_files: set[str] = set()
        self.jobs: dict[tuple[int, int], str] = {}
        self.slugs: dict[tuple[int, str], str] = {}
        self.failing: set[str] = set()
        self.faults: dict[str, Exception] = {}
        self.unlisted: set[int] = set()
        self.calls: list[tuple[str, object]] = []
        self.after: dict[str, Callable[[], None]] = {}

    def push(self, project_id: int, files: Mapping[str, bytes]) -> str:
        """Replace a project's files; returns the new head."""
        self.files[project_id] = dict(files)
        return self._commit(project_id)

    def project(self, ref: int | str) -> GitLabProject | None:
        self._call("project", ref)
        if isinstance(ref, int):
            return self.projects.get(ref)
        found = (p for p in self.projects.values() if p.path.lower() == ref.lower())
        return next(found, None)

    def group(self, ref: int | str) -> GitLabGroup | None:
        self._call("group", ref)
        if isinstance(ref, int):
            return self.groups.get(ref)
        return next((g for g in self.groups.values() if g.path.lower() == ref.lower()), None)

    def projects_below(self, group_id: int) -> Mapping[str, GitLabProject]:
        self._call("projects_below", group_id)
        below = f"{self.groups[group_id].path}/".lower()
        found = (p for p in self.projects.values() if p.path.lower().startswith(below))
        return {p.path.lower(): p for p in found if p.project_id not in self.unlisted}

    def groups_below(self, group_id: int) -> Mapping[str, GitLabGroup]:
        self._call("groups_below", group_id)
        below = f"{self.groups[group_id].path}/".lower()
        found = (g for g in self.groups.values() if g.path.lower().startswith(below))
        return {g.path.lower(): g for g in found if g.group_id not in self.unlisted}

    def head(self, project_id: int, branch: str) -> str | None:
        self._call("head", project_id)
        return self._commit(project_id) if project_id in self.files else None

    def agent_files(self, project_id: int, commit: str) -> Mapping[str, TreeEntry]:
        self._call("agent_files", project_id)
        return {
            path: TreeEntry(self.kinds.get(path, FileKind.FILE), _blob(content))
            for path, content in self.files[project_id].items()
            if path.startswith(".gitlab/agents/")
        }

    def raw_file(self, project_id: int, path: str, commit: str) -> bytes | None:
        self._call("raw_file", path)
        content = self.files[project_id].get(path)
        if content is None or path in self.hidden_files:
            return None
        return content[: FILE_MAX_BYTES + 1]

    def job_status(self, project_id: int, job_id: int) -> str | None:
        self._call("job_status", (project_id, job_id))
        return self.jobs.get((project_id, job_id))

    def environment_slug(self, project_id: int, name: str) -> str | None:
        self._call("environment_slug", (project_id, name))
        return self.slugs.get((project_id, name))

    def _commit(self, project_id: int) -> str:
        digest = hashlib.sha256()
        for path, content in sorted(self.files[project_id].items()):
            digest.update(path.encode() + b"\0" + content + b"\0")
        return digest.hexdigest()[:40]

    def _call(self, method: str, argument: object) -> None:
        self.calls.append((method, argument))
        if method in self.after:
            self.after[method]()
        if method in self.failing:
            raise Unavailable(f"GitLab answered 500 to {method}")
        if method in self.faults:
            raise self.faults[method]


class FakeRefreshStore(RefreshStore, ConfigProjects):
    """A refresh's items; `writes` names every write that took effect, in order."""

    def __init__(self) -> None:
        self.config_projects: dict[tuple[str, int], ConfigProjectItem] = {}
        self.clusters: dict[tuple[str, int], ClusterConnection] = {}
        self.snapshots: dict[tuple[str, int], AgentSnapshot] = {}
        self.index: dict[tuple[str, Subject], dict[int, int]] = defaultdict(dict)
        self.lists: dict[tuple[str, int], tuple[int, frozenset[Subject]]] = {}
        self.writes: list[str] = []

    def all(self) -> Iterator[tuple[str, int]]:
        yield from self.config_projects

    def config_project(self, issuer: str, project_id: int) -> ConfigProjectItem | None:
        return self.config_projects.get((issuer, project_id))

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None:
        return self.clusters.get((issuer, agent_id))

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None:
        return self.snapshots.get((issuer, agent_id))

    def begin_reading(self, issuer: str, project_id: int, *, after: int) -> int:
        known = self.config_projects.get((issuer, project_id))
        if known is None or known.reading != after:
            raise Conflict("another reading of this project has begun meanwhile")
        self.config_projects[issuer, project_id] = replace(known, reading=after + 1)
        self.writes.append(f"reading {after + 1}")
        return after + 1

    def add_to_index(self, named: IndexChange) -> None:
        for subject, snapshots in named.items():
            for snapshot in snapshots:
                key = (snapshot.issuer, snapshot.agent_id)
                version, known = self.lists.get(key, (0, frozenset()))
                self.lists[key] = max(version, snapshot.version), known | {subject}
                stamps = self.index[snapshot.issuer, subject]
                if stamps.get(snapshot.agent_id, -1) < snapshot.version:
                    stamps[snapshot.agent_id] = snapshot.version
                    self.writes.append(f"add {subject.kind} {subject.id}")

    def publish(self, snapshot: AgentSnapshot, *, replaces: int | None, reading: int = 0) -> None:
        key = (snapshot.issuer, snapshot.agent_id)
        stored = self.snapshots.get(key)
        if (None if stored is None else stored.version) != replaces:
            raise Conflict("another refresh has overtaken this one")
        self._check_newest(snapshot, reading)
        project = self.config_projects.get((snapshot.issuer, snapshot.config_project.project_id))
        if reading and (project is None or snapshot.agent_id not in project.agents):
            raise Conflict("another refresh has overtaken this one")
        self.snapshots[key] = snapshot
        self.writes.append(f"publish {snapshot.agent_id} v{snapshot.version}")

    def remove_from_index(self, gone: IndexChange, *, reading: int | None = None) -> None:
        for subject, snapshots in gone.items():
            for snapshot in snapshots:
                self._check_newest(snapshot, reading)
                stamps = self.index[snapshot.issuer, subject]
                if stamps.get(snapshot.agent_id, snapshot.version + 1) <= snapshot.version:
                    del stamps[snapshot.agent_id]
                    self.writes.append(f"remove {subject.kind} {subject.id}")

    def indexed(
        self, issuer: str, subjects: Collection[Subject]
    ) -> Mapping[Subject, Mapping[int, int]]:
        return {subject: dict(self.index[issuer, subject]) for subject in subjects}

    def listed(self, issuer: str, agent_ids: Iterable[int]) -> Mapping[int, frozenset[Subject]]:
        return {i: self.lists.get((issuer, i), (0, frozenset()))[1] for i in agent_ids}

    def unlist(
        self, snapshot: AgentSnapshot, subjects: Collection[Subject], *, reading: int | None = None
    ) -> None:
        self._check_newest(snapshot, reading)
        key = (snapshot.issuer, snapshot.agent_id)
        version, known = self.lists[key]
        if version <= snapshot.version:
            self.lists[key] = version, known - frozenset(subjects)
            self.writes.append(f"unlist {snapshot.agent_id}")

    def note_doubt(self, snapshot: AgentSnapshot, *, since: float | None) -> None:
        key = (snapshot.issuer, snapshot.agent_id)
        stored = self.snapshots.get(key)
        if stored is not None and stored.version == snapshot.version:
            self.snapshots[key] = replace(stored, doubt_since=since)
            self.writes.append(f"doubt {snapshot.agent_id} {since}")

    def _check_newest(self, snapshot: AgentSnapshot, reading: int | None) -> None:
        project = self.config_projects.get((snapshot.issuer, snapshot.config_project.project_id))
        if reading is not None and (0 if project is None else project.reading) != reading:
            raise Conflict("another refresh has overtaken this one")

    def note_refresh(
        self,
        issuer: str,
        project_id: int,
        *,
        root_path: str | None,
        commit: str | None,
        error: str | None,
        at: float,
        note: str | None = None,
        reading: int = 0,
        finished: int = 0,
        done: Collection[int] = (),
    ) -> None:
        known = self.config_projects.get((issuer, project_id))
        if known is None or known.reading != reading:
            return
        self.config_projects[issuer, project_id] = replace(
            known,
            root_path=root_path,
            last_commit=commit,
            last_error=error,
            last_note=note,
            last_at=at,
            finished=finished,
            done=frozenset(done),
        )
        self.writes.append(f"note {error or 'good'}")

    def agents_of(self, issuer: str, subject: Subject) -> frozenset[int]:
        """The agents that the index leads to from a subject."""
        return frozenset(self.index[issuer, subject])


def _blob(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:40]
