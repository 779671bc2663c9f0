"""Serves the repositories over git's smart HTTP, by git's own `http-backend`.

A push is answered only after its events are queued, so that whoever has pushed can wait for them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING

from aiohttp import web

from local.gitlab.context import PARTS, APIError, live_token
from local.gitlab.git import git_environment
from local.gitlab.push_events import push_events, ref_changes

if TYPE_CHECKING:
    from local.gitlab.context import GitLabParts
    from local.gitlab.records import Project, User

routes = web.RouteTableDef()

_READ_SCOPES = {"api", "read_api", "read_repository", "write_repository"}
_WRITE_SCOPES = {"api", "write_repository"}
_PUSH = "git-receive-pack"
_CHUNK = 65_536
_CREDENTIALS_WANTED = {"WWW-Authenticate": 'Basic realm="GitLab"'}


def _pusher(request: web.Request, *, writes: bool) -> User:
    """The user whose token is the password; raises HTTPUnauthorized."""
    instance = request.app[PARTS].instance
    credentials = request.headers.get("Authorization", "").removeprefix("Basic ")
    try:
        secret = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        token = live_token(instance, secret)
    except (ValueError, binascii.Error, APIError):
        raise web.HTTPUnauthorized(
            text="HTTP Basic: Access denied\n", headers=_CREDENTIALS_WANTED
        ) from None
    if not set(token.scopes) & (_WRITE_SCOPES if writes else _READ_SCOPES):
        raise web.HTTPForbidden(text="Your token has no scope for this operation.\n")
    return instance.user(token.user_id)


def _allowed_project(request: web.Request, user: User, *, writes: bool) -> Project:
    instance = request.app[PARTS].instance
    path = request.match_info["path"]
    project = instance.places.project_at(path) or instance.places.project_formerly_at(path)
    if project is None or not instance.sees_project(user, project):
        text = "The project you were looking for could not be found.\n"
        raise web.HTTPNotFound(text=text)
    if not instance.may(user, project, "developer" if writes else "reporter"):
        raise web.HTTPForbidden(text="You are not allowed to do this in this project.\n")
    if writes and project.archived:
        raise web.HTTPForbidden(text="You can't push code to a read-only project.\n")
    return project


@routes.get("/{path:.+}.git/{service:info/refs}")
@routes.post("/{path:.+}.git/{service:git-upload-pack|git-receive-pack}")
async def serve_git(request: web.Request) -> web.StreamResponse:
    """One request of a clone, fetch or push."""
    parts = request.app[PARTS]
    service = request.match_info["service"]
    writes = _PUSH in {service, request.query.get("service")}
    user = _pusher(request, writes=writes)
    project = _allowed_project(request, user, writes=writes)
    await parts.repositories.ensure(project)
    if service != _PUSH:
        return await _backend(request, parts, project, user)
    async with parts.repositories.lock(project.id):
        before = await parts.repositories.refs(project)
        response = await _backend(request, parts, project, user)
        after = await parts.repositories.refs(project)
        changes = ref_changes(before, after)
        for event in await push_events(
            parts.instance, parts.repositories, project=project, user=user, changes=changes
        ):
            parts.deliveries.announce(event)
    return response


async def _backend(
    request: web.Request, parts: GitLabParts, project: Project, user: User
) -> web.Response:
    """Run git's CGI program on a request and turn what it prints into a response."""
    environment = {
        **git_environment(),
        "GIT_PROJECT_ROOT": str(parts.repositories.folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{project.id}.git/{request.match_info['service']}",
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.rel_url.raw_query_string,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "REMOTE_USER": user.username,
        "REMOTE_ADDR": request.remote or "",
    }
    process = await asyncio.create_subprocess_exec(
        "git",
        "http-backend",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        _, printed = await asyncio.gather(_feed(request, process), _drain(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return _cgi_response(printed)


async def _feed(request: web.Request, process: asyncio.subprocess.Process) -> None:
    # aiohttp has undone a gzip encoding, so no length of the original may be passed on.
    writer = process.stdin
    if writer is None:
        return
    try:
        async for chunk in request.content.iter_chunked(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        # git stopped reading: what it printed says why.
        pass
    finally:
        writer.close()


async def _drain(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        return b""
    printed = await process.stdout.read()
    await process.wait()
    return printed


def _cgi_response(printed: bytes) -> web.Response:
    head, _, body = printed.partition(b"\r\n\r\n")
    headers: list[tuple[str, str]] = []
    status = 200
    for line in head.decode(errors="replace").split("\r\n"):
        name, _, value = line.partition(": ")
        if name == "Status":
            status = int(value.split()[0])
        elif name:
            headers.append((name, value))
    if not printed:
        return web.Response(status=500, text="git failed\n")
    return web.Response(status=status, headers=dict(headers), body=body)
