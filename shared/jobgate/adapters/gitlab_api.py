"""GitLab's REST API, read only (docs.gitlab.com, "REST API": projects, groups, repositories)."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from jobgate.adapters.gitlab_forms import (
    file_kind,
    group_of,
    integer,
    is_blob,
    is_not_found,
    next_page,
    project_of,
    rows_of,
    slug,
    text,
    token_of,
)
from jobgate.adapters.gitlab_memory import Blobs, Listings
from jobgate.core.agent_folder import AGENTS_FOLDER, TreeEntry
from jobgate.core.errors import NotForUs, Throttled, TimedOut, Unavailable
from jobgate.ports.gitlab import GitLabOfJobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jobgate.adapters.gitlab_memory import Listing
    from jobgate.adapters.https import Answer, HTTPSClient
    from jobgate.ports.gitlab import GitLabGroup, GitLabProject

_JSON_MAX_BYTES = 8 * 1024 * 1024
_PAGES_MAX = 200  # of a hundred: more files than anybody has agents
_PAGE = 100
_LIST_PAGES_MAX = 500  # GitLab itself lists no more than 50,000 rows by number
_QUESTION_SECONDS = 15.0  # one answer that never comes leaves time for the other questions
_MINUTE_SECONDS = 60.0
_RETRY_AFTER_MAX_SECONDS = 900.0  # longer than the schedule of reconcile helps nobody
_FILE_MAX_BYTES = 131_073  # one more than a configuration may have, so that it shows
# GitLab, "Rules for naming": no segment is empty, and none is "." or "..".
_FULL_PATH = re.compile(r"(?!\.{1,2}(/|$))[\w.][\w.-]*(/(?!\.{1,2}(/|$))[\w.][\w.-]*)*", re.ASCII)
_BY_ID = {"order_by": "id", "sort": "asc"}
_NUMERIC = re.compile(r"[0-9]+")

T = TypeVar("T")


class GitLabAPI(GitLabOfJobs):
    """One instance, within `seconds` for all its calls together.

    Only 200 and GitLab's own 404 are answers; its redirect from a path that was renamed away is
    "not found", and everything else is Unavailable, so that nothing is concluded from it.
    """

    def __init__(
        self,
        client: HTTPSClient,
        token: str,
        *,
        seconds: float,
        blobs: Blobs | None = None,
        listings: Listings | None = None,
    ) -> None:
        self._client = client
        self._token = token_of(token)
        self._deadline = time.monotonic() + seconds
        self._blobs = blobs or Blobs()
        self._listings = listings or Listings()
        self._blob_ids: dict[tuple[int, str, str], str] = {}
        self._commit: str | None = None

    def close(self) -> None:
        """Drop the kept connection."""
        self._client.close()

    def project(self, ref: int | str) -> GitLabProject | None:
        if not _may_exist(ref):
            return None
        body = self._object(f"/projects/{_segment(ref)}", is_path=isinstance(ref, str))
        if body is None:
            return None
        project = project_of(body)
        return project if _is(ref, project.project_id, project.path) else None

    def group(self, ref: int | str) -> GitLabGroup | None:
        if not _may_exist(ref):
            return None
        if isinstance(ref, str) and _NUMERIC.fullmatch(ref):
            return self._group_of_numeric_path(ref)
        target = f"/groups/{_segment(ref)}?with_projects=false"
        body = self._object(target, is_path=isinstance(ref, str))
        if body is None:
            return None
        group = group_of(body)
        return group if _is(ref, group.group_id, group.path) else None

    def projects_below(self, group_id: int) -> Mapping[str, GitLabProject]:
        return {p.path.lower(): p for p in self._projects_below(group_id)}

    def active_projects_below(self, group_id: int) -> frozenset[int]:
        """The ids of those in a group's tree that aren't archived: only these have jobs."""
        return frozenset(p.project_id for p in self._projects_below(group_id, archived="false"))

    def _projects_below(self, group_id: int, **more: str) -> list[GitLabProject]:
        query = {"include_subgroups": "true", "with_shared": "false", "simple": "true"}
        query |= _BY_ID | more
        return self._whole_list(f"/groups/{group_id}/projects", query, project_of)

    def groups_below(self, group_id: int) -> Mapping[str, GitLabGroup]:
        listed = self._whole_list(f"/groups/{group_id}/descendant_groups", _BY_ID, group_of)
        return {group.path.lower(): group for group in listed}

    def _group_of_numeric_path(self, path: str) -> GitLabGroup | None:
        """A top-level group whose path is a number: `/groups/2024` would ask for the id 2024."""
        query = {"search": path, "top_level_only": "true", "per_page": "100"}
        for body in self._pages(f"/groups?{urlencode(query)}"):
            group = group_of(body)
            if group.path == path:
                return group
        return None

    def job_status(self, project_id: int, job_id: int) -> str | None:
        body = self._object(f"/projects/{project_id}/jobs/{job_id}")
        if body is None:
            return None
        try:
            return text(body["status"]) if integer(body["id"]) == job_id else None
        except (KeyError, TypeError, ValueError) as exc:
            raise Unavailable("a job in a form that isn't GitLab's") from exc

    def environment_slug(self, project_id: int, name: str) -> str | None:
        query = urlencode({"name": name, "per_page": "100"})
        for environment in self._pages(f"/projects/{project_id}/environments?{query}"):
            try:
                if text(environment["name"]) == name:
                    return slug(environment["slug"])
            except (KeyError, TypeError, ValueError) as exc:
                raise Unavailable("an environment in a form that isn't GitLab's") from exc
        return None

    def head(self, project_id: int, branch: str) -> str | None:
        body = self._object(f"/projects/{project_id}/repository/branches/{_segment(branch)}")
        if body is None:
            return None
        try:
            if text(body["name"]) != branch:
                raise Unavailable("GitLab answered with another branch")
            self._commit = text(body["commit"]["id"])
        except (KeyError, TypeError, ValueError) as exc:
            raise Unavailable("a branch in a form that isn't GitLab's") from exc
        return self._commit

    def agent_files(self, project_id: int, commit: str) -> Mapping[str, TreeEntry]:
        query = {
            "path": AGENTS_FOLDER,
            "ref": commit,
            "recursive": "true",
            "per_page": "100",
            "pagination": "keyset",
        }
        files: dict[str, TreeEntry] = {}
        tree = f"/projects/{project_id}/repository/tree?{urlencode(query)}"
        for entry in self._pages(tree):
            try:
                path = text(entry["path"])
                files[path] = TreeEntry(file_kind(entry["type"], entry["mode"]), text(entry["id"]))
                self._blob_ids[project_id, path, commit] = files[path].id
            except (KeyError, TypeError, ValueError) as exc:
                raise Unavailable("a tree in a form that isn't GitLab's") from exc
        if not files and (self._object(_commit(project_id, commit)) or {}).get("id") != commit:
            # The folder's 404 is the project's, and no deleted folder.
            raise NotForUs("a commit that GitLab doesn't show us any more")
        return files

    def raw_file(self, project_id: int, path: str, commit: str) -> bytes | None:
        blob = self._blob_ids.get((project_id, path, commit))
        known = None if blob is None else self._blobs.get(project_id, blob)
        if known is not None:
            return known
        target = f"/projects/{project_id}/repository/files/{_segment(path)}/raw"
        answer = self._get(f"{target}?{urlencode({'ref': commit})}", max_bytes=_FILE_MAX_BYTES)
        if answer is None:
            return None
        # One that was cut is longer than a configuration may be, whatever the rest of it is.
        if blob is not None and not answer.cut:
            if not is_blob(answer.body, blob):
                raise Unavailable("a file's content that isn't the one in git")
            self._blobs.keep(project_id, blob, answer.body)
        return answer.body

    def _object(self, target: str, *, is_path: bool = False) -> dict[str, Any] | None:
        answer = self._get(target, max_bytes=_JSON_MAX_BYTES, is_path=is_path)
        if answer is None:
            return None
        body = answer.json()
        if not isinstance(body, dict):
            raise Unavailable("an answer of GitLab's that isn't an object")
        return body

    def _pages(self, target: str) -> Iterator[dict[str, Any]]:
        """Every entry of a list, page by page; a missing first page is an empty list."""
        for page in range(_PAGES_MAX):
            answer = self._get(target, max_bytes=_JSON_MAX_BYTES)
            if answer is None and page > 0:
                raise Unavailable("a list of GitLab's that ended in its middle")
            if answer is None:
                return
            yield from rows_of(answer.json())
            following = next_page(answer.headers.get("link", ""))
            if following is None:
                return
            target = following
        raise Unavailable("a list of GitLab's with more pages than can be read")

    def _whole_list(
        self, path: str, query: Mapping[str, str], read: Callable[[dict[str, Any]], T]
    ) -> list[T]:
        """Every entry of a list by number, which mustn't change while it is read.

        A row that goes makes all later ones move up, and one of them fall between two pages: that
        shows in the number of rows (of which GitLab tells up to 10,000), so such a list is unknown,
        and not one that lacks that row. What there was no time for, or what GitLab didn't answer,
        is left to the next run.
        """
        target = f"{path}?{urlencode({**query, 'per_page': str(_PAGE)})}"
        listing: Listing[T] = self._listings.begun(self._commit, target)
        while listing.following is not None:
            if listing.pages == _LIST_PAGES_MAX:
                raise Unavailable("a list of GitLab's with more pages than can be read")
            try:
                answer = self._get(listing.following, max_bytes=_JSON_MAX_BYTES)
            except NotForUs:
                raise
            except Unavailable:
                self._listings.keep(self._commit, target, listing)
                raise
            if answer is None:
                raise NotForUs("a group that GitLab doesn't show us")
            counted = answer.headers.get("x-total")
            if listing.pages > 0 and counted != listing.total:
                raise Unavailable("a list of GitLab's changed while it was read")
            rows, following = rows_of(answer.json()), next_page(answer.headers.get("link", ""))
            if following is None and len(rows) == _PAGE and answer.headers.get("x-next-page") != "":
                # Its links were lost on the way: what is on its other pages isn't missing.
                raise Unavailable("a list of GitLab's that doesn't say where it ends")
            listing.rows += map(read, rows)
            listing.total, listing.pages, listing.following = counted, listing.pages + 1, following
        return listing.rows

    def _get(self, target: str, *, max_bytes: int, is_path: bool = False) -> Answer | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimedOut("GitLab didn't answer in time")
        answer = self._client.get(
            target,
            headers={"PRIVATE-TOKEN": self._token},
            seconds=min(left, _QUESTION_SECONDS),
            max_bytes=max_bytes,
        )
        if answer.status == 200:
            return answer
        if is_not_found(answer, is_path=is_path):
            return None
        raise _fault(answer)


def _fault(answer: Answer) -> Unavailable:
    why = f"GitLab answered {answer.status}"
    if answer.status == 429:
        return Throttled(why, retry_after=_retry_after(answer))
    return NotForUs(why) if answer.status in (401, 403) else Unavailable(why)


def _retry_after(answer: Answer) -> float:
    """Seconds; some of GitLab's limits don't say, and those count by the minute."""
    given = answer.headers.get("retry-after", "")
    if given.isascii() and given.isdigit():
        return min(float(given), _RETRY_AFTER_MAX_SECONDS)
    return _MINUTE_SECONDS


def _commit(project_id: int, commit: str) -> str:
    return f"/projects/{project_id}/repository/commits/{_segment(commit)}?stats=false"


def _segment(ref: int | str) -> str:
    return quote(str(ref), safe="")


def _may_exist(ref: int | str) -> bool:
    """Whether GitLab can be asked: what no path can be would be another request, or a 400."""
    return isinstance(ref, int) or _FULL_PATH.fullmatch(ref) is not None


def _is(ref: int | str, found_id: int, found_path: str) -> bool:
    """Whether what was found is what was asked for; `/groups/2024` asks for the id 2024."""
    return found_id == ref if isinstance(ref, int) else found_path.lower() == ref.lower()
