"""The aiohttp application: every route, and what stands before them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import web

from local.gitlab import (
    control_routes,
    git_http,
    rest_ci,
    rest_compare,
    rest_hooks,
    rest_instance,
    rest_places,
    rest_repository,
)
from local.gitlab.context import PARTS, APIError, answer, sent_token
from local.gitlab.control_routes import CONTROL_TOKEN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local.gitlab.context import GitLabParts
    from local.gitlab.faults import Fault

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOG = logging.getLogger("local.gitlab")
_API = "/api/v4"
#: A commit over the control surface may carry hundreds of files.
_BODY_LIMIT = 64 * 1024 * 1024


def build_application(parts: GitLabParts, *, control_token: str) -> web.Application:
    """The application of one instance."""
    application = web.Application(
        middlewares=[_refusals, _log_request, _meet_fault, _limit_rate],
        client_max_size=_BODY_LIMIT,
    )
    application[PARTS] = parts
    application[CONTROL_TOKEN] = control_token
    for module in (
        control_routes,
        rest_instance,
        rest_places,
        rest_repository,
        rest_ci,
        rest_compare,
        rest_hooks,
        git_http,
    ):
        application.add_routes(module.routes)
    application.router.add_get("/-/health", _health)
    return application


async def _health(request: web.Request) -> web.Response:
    del request
    return web.Response(text="GitLab OK\n")


def _outside(request: web.Request) -> bool:
    """Whether a request is none of GitLab's own."""
    return request.path.startswith(("/control/", "/-/health"))


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except APIError as error:
        return answer(error.body, status=error.status, headers=error.headers)
    except web.HTTPException as error:
        if not request.path.startswith(_API):
            raise
        return answer({"error": f"{error.status} {error.reason}"}, status=error.status)
    except Exception:  # noqa: BLE001  the outermost arm: GitLab answers 500 to any bug
        _LOG.exception("%s %s failed", request.method, request.path)
        return answer({"message": "500 Internal Server Error"}, status=500)


@web.middleware
async def _log_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _outside(request):
        return await handler(request)
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except APIError as error:
        status = error.status
        raise
    except web.HTTPException as error:
        status = error.status
        raise
    else:
        return response
    finally:
        parts = request.app[PARTS]
        token = parts.instance.tokens.get(sent_token(request) or "")
        parts.requests.add(
            method=request.method,
            path=request.rel_url.raw_path_qs,
            status=status,
            token=None if token is None else token.name,
            at=parts.instance.clock(),
        )


@web.middleware
async def _meet_fault(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _outside(request):
        return await handler(request)
    line = f"{request.method} {request.rel_url.raw_path_qs}"
    fault = request.app[PARTS].faults.take(line)
    if fault is None:
        return await handler(request)
    await asyncio.sleep(fault.delay)
    response: web.StreamResponse
    if fault.drop:
        return _cut(request, web.Response())
    response = await handler(request) if fault.status is None else _made_up(fault, fault.status)
    if fault.half and isinstance(response, web.Response):
        return await _half(request, response)
    return response


def _made_up(fault: Fault, status: int) -> web.Response:
    reason = web.Response(status=status).reason
    body = fault.body if fault.body is not None else f'{{"message":"{status} {reason}"}}'
    headers = {"Content-Type": "application/json", **fault.headers}
    return web.Response(status=status, body=body.encode(), headers=headers)


async def _half(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Send the head and the first half of the body, then cut the connection."""
    body = response.body if isinstance(response.body, bytes) else b""
    cut = web.StreamResponse(status=response.status, headers=response.headers)
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    return _cut(request, cut)


def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return response


@web.middleware
async def _limit_rate(request: web.Request, handler: Handler) -> web.StreamResponse:
    parts = request.app[PARTS]
    if not request.path.startswith(_API) or not parts.rate_limits.enabled:
        return await handler(request)
    token = parts.instance.tokens.get(sent_token(request) or "")
    verdict = parts.rate_limits.count(
        f"{request.method} {request.rel_url.raw_path.removeprefix(_API)}",
        who=f"address {request.remote}" if token is None else f"user {token.user_id}",
        known=token is not None,
        now=parts.instance.clock(),
    )
    if not verdict.passes:
        return web.Response(status=429, text="Retry later\n", headers=verdict.headers)
    response = await handler(request)
    if not response.prepared:
        response.headers.update(verdict.headers)
    return response
