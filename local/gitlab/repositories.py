"""The projects' repositories: bare git repositories on disk, one a project, named by its id."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from local.gitlab.commits import (
    LOG_FORMAT,
    Commit,
    FileChange,
    TreeEntry,
    fast_import,
    parse_log,
    parse_tree,
)
from local.gitlab.git import GitError, git

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local.gitlab.records import Project

_RENAMES = "-M30%"  # what Gitaly takes for a rename in a commit's list of changes
_REMEMBERED = 4_096
#: A revision that means the same for ever.
_FIXED = re.compile(r"\^?[0-9a-f]{40}")


class Repositories:
    """All repositories of one instance; each is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._made: set[int] = set()
        self._making = asyncio.Lock()
        self._remembered: OrderedDict[tuple[int, tuple[str, ...]], bytes] = OrderedDict()

    def lock(self, project_id: int) -> asyncio.Lock:
        """Held while refs change, so that each push sees its own changes alone."""
        return self._locks[project_id]

    async def ensure(self, project: Project) -> Path:
        """The repository's folder, made if need be, with the project's default branch as HEAD."""
        path = self.folder / f"{project.id}.git"
        if project.id in self._made:
            return path
        async with self._making:
            if project.id not in self._made:
                await git(path, "init", "--quiet", "--bare", "--template=")
                settings = {"gc.auto": "0", "receive.autogc": "false", "http.receivepack": "true"}
                for name, value in settings.items():
                    await git(path, "config", name, value)
                self._made.add(project.id)
                await self.point_head(project)
        return path

    async def point_head(self, project: Project) -> None:
        """Make the project's default branch the repository's HEAD."""
        if project.id in self._made:
            path = self.folder / f"{project.id}.git"
            await git(path, "symbolic-ref", "HEAD", f"refs/heads/{project.default_branch}")

    def remove(self, project_id: int) -> None:
        """Delete a repository."""
        self._made.discard(project_id)
        shutil.rmtree(self.folder / f"{project_id}.git", ignore_errors=True)

    async def refs(self, project: Project) -> dict[str, str]:
        """All branches and tags by full name, with the object that each points to."""
        path = await self.ensure(project)
        form = "--format=%(refname) %(objectname)"
        printed = await git(path, "for-each-ref", form, "refs/heads", "refs/tags")
        pairs = (line.rsplit(" ", 1) for line in printed.decode().splitlines())
        return {name: sha for name, sha in pairs}  # noqa: C416  dict() of lists is no dict of str

    async def resolve(self, project: Project, ref: str) -> str | None:
        """The commit that a branch, tag, commit id or HEAD means; None if there is none."""
        if not ref or ref.startswith("-"):
            return None
        try:
            printed = await self._read(
                project,
                ("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"),
                fixed=_FIXED.fullmatch(ref) is not None,
            )
        except GitError:
            return None
        return printed.decode().strip()

    async def log(
        self, project: Project, *revisions: str, limit: int, path: str | None = None
    ) -> list[Commit]:
        """Commits, newest first."""
        arguments = (
            "log",
            "-z",
            f"--max-count={limit}",
            "--diff-merges=first-parent",
            "--name-status",
            _RENAMES,
            f"--format={LOG_FORMAT}",
            *revisions,
            "--",
            *(() if path is None else (f":(literal){path}",)),
        )
        fixed = all(_FIXED.fullmatch(revision) for revision in revisions)
        printed = await self._read(project, arguments, fixed=fixed)
        return parse_log(printed)

    async def count(self, project: Project, *revisions: str) -> int:
        """How many commits there are."""
        repository = await self.ensure(project)
        return int(await git(repository, "rev-list", "--count", *revisions, "--"))

    async def tree(
        self, project: Project, sha: str, *, path: str = "", recursive: bool = False
    ) -> list[TreeEntry] | None:
        """The entries of a folder at a commit; None if there is no such folder."""
        entries = await self._entries(project, sha)
        folder = path.strip("/")
        if folder and not any((e.path, e.type) == (folder, "tree") for e in entries):
            return None
        prefix = f"{folder}/" if folder else ""
        below = [entry for entry in entries if entry.path.startswith(prefix)]
        return below if recursive else [e for e in below if "/" not in e.path[len(prefix) :]]

    async def file(self, project: Project, sha: str, path: str) -> TreeEntry | None:
        """The entry of one file at a commit."""
        name = path.strip("/")
        for entry in await self._entries(project, sha):
            if (entry.path, entry.type) == (name, "blob"):
                return entry
        return None

    async def blob(self, project: Project, sha: str) -> bytes | None:
        """A blob's content by its id."""
        if not re.fullmatch("[0-9a-f]{4,40}", sha):
            return None
        try:
            return await self._read(project, ("cat-file", "blob", sha), fixed=len(sha) == 40)
        except GitError:
            return None

    async def diff(self, project: Project, start: str, end: str) -> list[tuple[str, str, str]]:
        """Changes between two commits: status letter, old path, new path."""
        repository = await self.ensure(project)
        printed = await git(repository, "diff", "-z", "--name-status", _RENAMES, start, end)
        parts = iter(printed.decode(errors="replace").split("\0")[:-1])
        changes: list[tuple[str, str, str]] = []
        for status in parts:
            old = next(parts)
            changes.append((status[0], old, next(parts) if status[0] in "RC" else old))
        return changes

    async def merge_base(self, project: Project, one: str, other: str) -> str | None:
        """The best common ancestor of two commits."""
        repository = await self.ensure(project)
        try:
            return (await git(repository, "merge-base", one, other)).decode().strip()
        except GitError:
            return None

    async def write(
        self,
        project: Project,
        files: Mapping[str, FileChange],
        *,
        branch: str,
        message: str,
        author: str,
        at: int,
    ) -> str:
        """Commit changes to a branch; a new branch begins at the default branch's head."""
        repository = await self.ensure(project)
        parent = await self.resolve(project, f"refs/heads/{branch}")
        parent = parent or await self.resolve(project, "HEAD")
        stream = fast_import(
            branch=branch, parent=parent, message=message, author=author, at=at, files=files
        )
        await git(repository, "fast-import", "--quiet", stdin=stream)
        return (await git(repository, "rev-parse", f"refs/heads/{branch}")).decode().strip()

    async def update_ref(self, project: Project, ref: str, sha: str | None) -> None:
        """Make a full ref name point to a commit, or delete it."""
        repository = await self.ensure(project)
        arguments = ("-d", ref) if sha is None else (ref, sha)
        await git(repository, "update-ref", *arguments)

    async def _entries(self, project: Project, sha: str) -> list[TreeEntry]:
        """Every file and folder at a commit, given by its whole id."""
        arguments = ("ls-tree", "-z", "-r", "-t", "--full-tree", sha)
        return parse_tree(await self._read(project, arguments, fixed=True))

    async def _read(self, project: Project, arguments: tuple[str, ...], *, fixed: bool) -> bytes:
        """What git prints; remembered if the arguments mean the same for ever."""
        repository = await self.ensure(project)
        key = (project.id, arguments)
        if fixed and key in self._remembered:
            self._remembered.move_to_end(key)
            return self._remembered[key]
        printed = await git(repository, *arguments)
        if fixed:
            self._remembered[key] = printed
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return printed
