"""GitLab's REST API, read only (docs.gitlab.com, "REST API": projects, groups, repositories)."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jobgate.core.agent_folder import AGENTS_FOLDER, FileKind
from jobgate.core.errors import Unavailable
from jobgate.ports import GitLabGroup, GitLabOfJobs, GitLabProject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobgate.adapters.https import Answer, HTTPSClient

_JSON_MAX_BYTES = 8 * 1024 * 1024
_PAGES_MAX = 200  # of a hundred: more files than anybody has agents
_FILE_MAX_BYTES = 131_073  # one more than a configuration may have, so that it shows
# GitLab, "Rules for naming": no segment is empty, and none is "." or "..".
_FULL_PATH = re.compile(r"(?!\.{1,2}(/|$))[\w.][\w.-]*(/(?!\.{1,2}(/|$))[\w.][\w.-]*)*", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+")
_SLUG = re.compile(r"[a-z](?:[a-z0-9-]{0,22}[a-z0-9])?")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_NEXT = re.compile(r"""\brel=("?)next\1(?![\w-])""", re.IGNORECASE)


class GitLabAPI(GitLabOfJobs):
    """One instance, within `seconds` for all its calls together.

    Only 200 and 404 are answers; a redirect of a project or group (a path that was renamed away)
    is "not found", and everything else is Unavailable, so that nothing is concluded from it.
    """

    def __init__(self, client: HTTPSClient, token: str, *, seconds: float) -> None:
        if not _TOKEN.fullmatch(token):
            raise Unavailable("what is stored as GitLab's token can't be one")
        self._client = client
        self._token = token
        self._deadline = time.monotonic() + seconds

    def project(self, ref: int | str) -> GitLabProject | None:
        if not _may_exist(ref):
            return None
        body = self._object(f"/projects/{_segment(ref)}", may_redirect=True)
        if body is None:
            return None
        # Left out where our token may see the project but not its code, as of a public project.
        branch = body.get("default_branch")
        try:
            namespace = body["namespace"]
            project = GitLabProject(
                project_id=_int(body["id"]),
                path=_str(body["path_with_namespace"]),
                default_branch=_str(branch) if branch else None,
                namespace_id=_int(namespace["id"]),
                namespace_path=_str(namespace["full_path"]),
                namespace_kind=_str(namespace["kind"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise Unavailable("a project in a form that isn't GitLab's") from exc
        return project if _is(ref, project.project_id, project.path) else None

    def group(self, ref: int | str) -> GitLabGroup | None:
        if not _may_exist(ref):
            return None
        if isinstance(ref, str) and _NUMERIC.fullmatch(ref):
            return self._group_of_numeric_path(ref)
        body = self._object(f"/groups/{_segment(ref)}?with_projects=false", may_redirect=True)
        if body is None:
            return None
        group = _group(body)
        return group if _is(ref, group.group_id, group.path) else None

    def _group_of_numeric_path(self, path: str) -> GitLabGroup | None:
        """A top-level group whose path is a number: `/groups/2024` would ask for the id 2024."""
        query = {"search": path, "top_level_only": "true", "per_page": "100"}
        for body in self._pages(f"/groups?{urlencode(query)}"):
            group = _group(body)
            if group.path == path:
                return group
        return None

    def job_status(self, project_id: int, job_id: int) -> str | None:
        body = self._object(f"/projects/{project_id}/jobs/{job_id}")
        if body is None:
            return None
        try:
            return _str(body["status"]) if _int(body["id"]) == job_id else None
        except (KeyError, TypeError, ValueError) as exc:
            raise Unavailable("a job in a form that isn't GitLab's") from exc

    def environment_slug(self, project_id: int, name: str) -> str | None:
        query = urlencode({"name": name, "per_page": "100"})
        for environment in self._pages(f"/projects/{project_id}/environments?{query}"):
            try:
                if _str(environment["name"]) == name:
                    return _slug(environment["slug"])
            except (KeyError, TypeError, ValueError) as exc:
                raise Unavailable("an environment in a form that isn't GitLab's") from exc
        return None

    def head(self, project_id: int, branch: str) -> str | None:
        body = self._object(f"/projects/{project_id}/repository/branches/{_segment(branch)}")
        if body is None:
            return None
        try:
            return _str(body["commit"]["id"])
        except (KeyError, TypeError, ValueError) as exc:
            raise Unavailable("a branch in a form that isn't GitLab's") from exc

    def agent_files(self, project_id: int, commit: str) -> Mapping[str, FileKind]:
        query = {
            "path": AGENTS_FOLDER,
            "ref": commit,
            "recursive": "true",
            "per_page": "100",
            "pagination": "keyset",
        }
        files: dict[str, FileKind] = {}
        for entry in self._pages(f"/projects/{project_id}/repository/tree?{urlencode(query)}"):
            try:
                files[_str(entry["path"])] = _file_kind(entry["type"], entry["mode"])
            except (KeyError, TypeError, ValueError) as exc:
                raise Unavailable("a tree in a form that isn't GitLab's") from exc
        return files

    def raw_file(self, project_id: int, path: str, commit: str) -> bytes | None:
        target = f"/projects/{project_id}/repository/files/{_segment(path)}/raw"
        answer = self._get(f"{target}?{urlencode({'ref': commit})}", max_bytes=_FILE_MAX_BYTES)
        return None if answer is None else answer.body

    def _object(self, target: str, *, may_redirect: bool = False) -> dict[str, Any] | None:
        answer = self._get(target, max_bytes=_JSON_MAX_BYTES, may_redirect=may_redirect)
        if answer is None:
            return None
        body = answer.json()
        if not isinstance(body, dict):
            raise Unavailable("an answer of GitLab's that isn't an object")
        return body

    def _pages(self, target: str) -> Iterator[dict[str, Any]]:
        """Every entry of a list, page by page; a missing first page is an empty list."""
        for _ in range(_PAGES_MAX):
            answer = self._get(target, max_bytes=_JSON_MAX_BYTES)
            if answer is None:
                return
            body = answer.json()
            if not isinstance(body, list):
                raise Unavailable("an answer of GitLab's that isn't a list")
            yield from body
            following = _next_page(answer.headers.get("link", ""))
            if following is None:
                return
            target = following
        raise Unavailable("a list of GitLab's with more pages than can be read")

    def _get(self, target: str, *, max_bytes: int, may_redirect: bool = False) -> Answer | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Unavailable("GitLab didn't answer in time")
        answer = self._client.get(
            target, headers={"PRIVATE-TOKEN": self._token}, seconds=left, max_bytes=max_bytes
        )
        if answer.status == 200:
            return answer
        if answer.status == 404 or (may_redirect and 300 <= answer.status < 400):
            return None
        raise Unavailable(f"GitLab answered {answer.status}")


def _segment(ref: int | str) -> str:
    return quote(str(ref), safe="")


def _may_exist(ref: int | str) -> bool:
    """Whether GitLab can be asked: what no path can be would be another request, or a 400."""
    return isinstance(ref, int) or _FULL_PATH.fullmatch(ref) is not None


def _is(ref: int | str, found_id: int, found_path: str) -> bool:
    """Whether what was found is what was asked for; `/groups/2024` asks for the id 2024."""
    return found_id == ref if isinstance(ref, int) else found_path.lower() == ref.lower()


def _group(body: dict[str, Any]) -> GitLabGroup:
    try:
        parent = body["parent_id"]
        return GitLabGroup(
            group_id=_int(body["id"]),
            path=_str(body["full_path"]),
            parent_id=None if parent is None else _int(parent),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a group in a form that isn't GitLab's") from exc


def _file_kind(kind: object, mode: object) -> FileKind:
    """The kind of a tree's entry (GitLab, "Repositories API", with git's modes)."""
    match kind, mode:
        case "tree", _:
            return FileKind.FOLDER
        case "commit", _:
            return FileKind.SUBMODULE
        case "blob", "120000":
            return FileKind.LINK
        case "blob", str():
            return FileKind.FILE
    raise ValueError("neither a file nor a folder")


def _slug(value: object) -> str:
    slug = _str(value)
    if not _SLUG.fullmatch(slug):
        raise ValueError("not a slug")
    return slug


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not an integer")
    return value


def _str(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("not a text")
    return value


def _next_page(link: str) -> str | None:
    """The target of `rel="next"` (RFC 8288) below the API's own prefix.

    Raises Unavailable where there is one that can't be asked for: what it lists isn't missing.
    """
    for part in link.split(","):
        url, _, parameters = part.rpartition(">")
        if _NEXT.search(parameters):
            _, found, target = url.partition("/api/v4")
            if not found:
                raise Unavailable("a next page that isn't of GitLab's API")
            return target
    return None
