"""REST routes about what is in a repository.

https://docs.gitlab.com/api/repositories/ and https://docs.gitlab.com/api/repository_files/
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.gitlab.ci_shapes import commit_shape, tree_entry
from local.gitlab.context import (
    PARTS,
    APIError,
    answer,
    caller,
    not_found,
    project_of,
    refused,
    truth,
)
from local.gitlab.events import project_urls
from local.gitlab.pagination import next_link, page_by_number, page_size
from local.gitlab.rest_places import listed

if TYPE_CHECKING:
    from local.gitlab.commits import TreeEntry
    from local.gitlab.records import Project

routes = web.RouteTableDef()

_LOG_LIMIT = 1_000
_NO_SUCH_PATH = "invalid revision or path"


@dataclass(frozen=True, slots=True)
class _File:
    project: Project
    ref: str
    commit: str
    entry: TreeEntry
    content: bytes


async def _branch_shape(
    request: web.Request, project: Project, *, name: str, sha: str
) -> dict[str, Any]:
    parts = request.app[PARTS]
    commits = await parts.repositories.log(project, sha, limit=1)
    protected = parts.instance.is_protected(project, name)
    web_url, _, _ = project_urls(parts.instance, project)
    return {
        "name": name,
        "commit": commit_shape(parts.instance, project, commits[0]),
        "merged": False,
        "protected": protected,
        "developers_can_push": False,
        "developers_can_merge": False,
        "can_push": parts.instance.may(caller(request).user, project, "maintainer"),
        "default": name == project.default_branch,
        "web_url": f"{web_url}/-/tree/{name}",
    }


@routes.get("/api/v4/projects/{id}/repository/branches/{branch}")
async def get_branch(request: web.Request) -> web.Response:
    """One branch with its newest commit."""
    project = project_of(request, role="reporter")
    name = request.match_info["branch"]
    refs = await request.app[PARTS].repositories.refs(project)
    sha = refs.get(f"refs/heads/{name}")
    if sha is None:
        raise not_found("Branch")
    return answer(await _branch_shape(request, project, name=name, sha=sha))


@routes.get("/api/v4/projects/{id}/repository/branches")
async def list_branches(request: web.Request) -> web.Response:
    """All branches, by name."""
    project = project_of(request, role="reporter")
    refs = await request.app[PARTS].repositories.refs(project)
    names = [ref.removeprefix("refs/heads/") for ref in refs if ref.startswith("refs/heads/")]
    wanted = request.query.get("search", "")
    names = [name for name in names if wanted in name]
    url = request.app[PARTS].instance.url + request.rel_url.raw_path
    page, headers = page_by_number(names, request.query, url)
    shown = [
        await _branch_shape(request, project, name=name, sha=refs[f"refs/heads/{name}"])
        for name in page
    ]
    return answer(shown, headers=headers)


@routes.get("/api/v4/projects/{id}/repository/commits")
async def list_commits(request: web.Request) -> web.Response:
    """Commits of a ref, newest first, at most a thousand of them."""
    parts = request.app[PARTS]
    project = project_of(request, role="reporter")
    ref = request.query.get("ref_name", "HEAD")
    sha = await parts.repositories.resolve(project, ref)
    if sha is None:
        if "ref_name" in request.query:
            raise not_found("Commit")
        return listed(request, [], dict)
    commits = await parts.repositories.log(
        project, sha, limit=_LOG_LIMIT, path=request.query.get("path")
    )
    return listed(request, commits, lambda c: commit_shape(parts.instance, project, c))


@routes.get("/api/v4/projects/{id}/repository/commits/{sha}")
async def get_commit(request: web.Request) -> web.Response:
    """One commit by id, branch or tag."""
    parts = request.app[PARTS]
    project = project_of(request, role="reporter")
    sha = await parts.repositories.resolve(project, request.match_info["sha"])
    if sha is None:
        raise not_found("Commit")
    commit = (await parts.repositories.log(project, sha, limit=1))[0]
    shown = commit_shape(parts.instance, project, commit)
    return answer(shown | {"status": None, "project_id": project.id, "last_pipeline": None})


@routes.get("/api/v4/projects/{id}/repository/tree")
async def list_tree(request: web.Request) -> web.Response:
    """A folder's entries: the folder must exist (404 since GitLab 17.7)."""
    parts = request.app[PARTS]
    project = project_of(request, role="reporter")
    sha = await parts.repositories.resolve(project, request.query.get("ref", "HEAD"))
    if sha is None:
        raise not_found("Tree")
    recursive = truth(request.query.get("recursive"), otherwise=False)
    path = request.query.get("path", "")
    entries = await parts.repositories.tree(project, sha, path=path, recursive=recursive)
    if entries is None:
        raise not_found(_NO_SUCH_PATH)
    if request.query.get("pagination") == "keyset":
        return _tree_page(request, entries)
    return listed(request, entries, tree_entry)


def _tree_page(request: web.Request, entries: list[TreeEntry]) -> web.Response:
    """A page by key; a full page has a successor, which may turn out to be empty."""
    start = 0
    if "page_token" in request.query:
        wanted = _name_in(request.query["page_token"])
        places = [index for index, entry in enumerate(entries) if entry.path == wanted]
        if not places:
            raise refused(422, "422 Unprocessable Entity")
        start = places[0] + 1
    size = page_size(request.query)
    page = entries[start : start + size]
    headers = {}
    if len(page) == size:
        token = base64.b64encode(json.dumps({"FileName": page[-1].path}).encode()).decode()
        url = request.app[PARTS].instance.url + request.rel_url.raw_path
        headers = next_link(url, {**request.query, "page_token": token})
    return answer([tree_entry(entry) for entry in page], headers=headers)


def _name_in(page_token: str) -> str:
    try:
        return str(json.loads(base64.b64decode(page_token, validate=True))["FileName"])
    except (ValueError, KeyError, TypeError):
        raise refused(422, "422 Unprocessable Entity") from None


async def _file_of(request: web.Request, *, ref: str) -> _File:
    repositories = request.app[PARTS].repositories
    path = request.match_info["file_path"]
    if ".." in path.split("/"):
        raise APIError(400, {"error": "file_path should be a valid file path"})
    project = project_of(request, role="reporter")
    commit = await repositories.resolve(project, ref)
    if commit is None:
        raise not_found("Commit")
    entry = await repositories.file(project, commit, path)
    content = None if entry is None else await repositories.blob(project, entry.id)
    if entry is None or content is None:
        raise not_found("File")
    return _File(project, ref, commit, entry, content)


async def _metadata(request: web.Request, file: _File) -> dict[str, Any]:
    last = await request.app[PARTS].repositories.log(
        file.project, file.commit, limit=1, path=file.entry.path
    )
    return {
        "file_name": file.entry.name,
        "file_path": file.entry.path,
        "size": len(file.content),
        "encoding": "base64",
        "content_sha256": hashlib.sha256(file.content).hexdigest(),
        "ref": file.ref,
        "blob_id": file.entry.id,
        "commit_id": file.commit,
        "last_commit_id": last[0].id,
        "execute_filemode": file.entry.mode == "100755",
    }


def _metadata_headers(metadata: dict[str, Any]) -> dict[str, str]:
    return {
        "X-Gitlab-" + name.replace("_", "-").title(): json.dumps(value).strip('"')
        for name, value in metadata.items()
    }


def _required_ref(request: web.Request) -> str:
    ref = request.query.get("ref", "")
    if not ref:
        raise APIError(400, {"error": "ref is missing, ref is empty"})
    return ref


# A HEAD route of its own: the metadata is in the headers, there is no body to measure.
@routes.head("/api/v4/projects/{id}/repository/files/{file_path}")
async def head_file(request: web.Request) -> web.Response:
    """A file's metadata in headers."""
    file = await _file_of(request, ref=_required_ref(request))
    return web.Response(headers=_metadata_headers(await _metadata(request, file)))


@routes.get("/api/v4/projects/{id}/repository/files/{file_path}", allow_head=False)
async def get_file(request: web.Request) -> web.Response:
    """A file's metadata and content."""
    file = await _file_of(request, ref=_required_ref(request))
    metadata = await _metadata(request, file)
    content = base64.b64encode(file.content).decode()
    return answer(metadata | {"content": content}, headers=_metadata_headers(metadata))


@routes.get("/api/v4/projects/{id}/repository/files/{file_path}/raw")
async def get_raw_file(request: web.Request) -> web.Response:
    """A file's bytes."""
    file = await _file_of(request, ref=request.query.get("ref") or "HEAD")
    headers = _metadata_headers(await _metadata(request, file))
    return web.Response(body=file.content, content_type="text/plain", headers=headers)


@routes.get("/api/v4/projects/{id}/repository/blobs/{sha}/raw")
async def get_raw_blob(request: web.Request) -> web.Response:
    """A blob's bytes by its id."""
    project = project_of(request, role="reporter")
    content = await request.app[PARTS].repositories.blob(project, request.match_info["sha"])
    if content is None:
        raise not_found("Blob")
    return web.Response(body=content, content_type="application/octet-stream")


@routes.get("/api/v4/projects/{id}/repository/blobs/{sha}")
async def get_blob(request: web.Request) -> web.Response:
    """A blob's content in base64."""
    project = project_of(request, role="reporter")
    sha = request.match_info["sha"]
    content = await request.app[PARTS].repositories.blob(project, sha)
    if content is None:
        raise not_found("Blob")
    encoded = base64.b64encode(content).decode()
    return answer({"size": len(content), "encoding": "base64", "content": encoded, "sha": sha})
