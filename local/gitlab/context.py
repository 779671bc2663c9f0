"""What every route needs: the instance behind the request, and who is calling."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.gitlab.times import moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.gitlab.deliveries import Deliveries
    from local.gitlab.faults import Faults, RequestLog
    from local.gitlab.instance import Instance
    from local.gitlab.rate_limits import RateLimits
    from local.gitlab.records import Group, Project, Token, User
    from local.gitlab.repositories import Repositories
    from local.gitlab.signing_keys import KeySet


@dataclass(frozen=True, slots=True)
class GitLabParts:
    """The parts of one running instance."""

    instance: Instance
    repositories: Repositories
    deliveries: Deliveries
    keys: KeySet
    faults: Faults
    requests: RequestLog
    rate_limits: RateLimits


PARTS = web.AppKey("parts", GitLabParts)


class APIError(Exception):
    """An answer other than success: its status, its JSON body and extra headers."""

    def __init__(
        self, status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def refused(status: int, message: str) -> APIError:
    """GitLab's own refusals, as `{"message": "404 Project Not Found"}`."""
    return APIError(status, {"message": message})


def not_found(what: str) -> APIError:
    """404 for a named kind of thing."""
    return refused(404, f"404 {what} Not Found")


#: What Rails' RecordNotFound turns into: with a small `f`, and no name.
RECORD_NOT_FOUND = (404, "404 Not found")


def record_not_found() -> APIError:
    """404 for a numbered thing inside a project."""
    return refused(*RECORD_NOT_FOUND)


def answer(
    body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer."""
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=dict(headers or {}),
    )


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: nobody without a token."""

    token: Token | None
    user: User | None


_ANY_SCOPE = ("api", "read_api")
_FILES = "/repository/files/"


def sent_token(request: web.Request) -> str | None:
    """The access token of a request, from where GitLab looks for one."""
    bearer = request.headers.get("Authorization", "")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    return request.headers.get("PRIVATE-TOKEN") or request.query.get("private_token")


def live_token(instance: Instance, secret: str) -> Token:
    """The token behind a secret; raises APIError when it is unknown, revoked or expired."""
    token = instance.tokens.get(secret)
    if token is None:
        raise refused(401, "401 Unauthorized")
    if token.revoked:
        raise _invalid_token("Token was revoked. You have to re-authorize from the user.")
    if token.expires_at is not None:
        today = moment(instance.clock()).date().isoformat()
        if token.expires_at <= today:
            raise _invalid_token(
                "Token is expired. You can either do re-authorization or token refresh."
            )
    return token


def caller(request: web.Request, *, any_scope: bool = False) -> Caller:
    """Who asks, with a scope that fits the request; raises APIError."""
    instance = request.app[PARTS].instance
    secret = sent_token(request)
    if secret is None:
        return Caller(None, None)
    token = live_token(instance, secret)
    reads = request.method in {"GET", "HEAD"}
    fitting = list(_ANY_SCOPE if reads else _ANY_SCOPE[:1])
    if reads and _FILES in request.path:
        fitting.append("read_repository")
    if not any_scope and not set(fitting) & set(token.scopes):
        raise APIError(
            403,
            {
                "error": "insufficient_scope",
                "error_description": "The request requires higher privileges than provided by "
                "the access token.",
                "scope": " ".join(fitting),
            },
        )
    return Caller(token, instance.user(token.user_id))


def known_caller(request: web.Request, *, any_scope: bool = False) -> User:
    """The user who asks; 401 for nobody."""
    user = caller(request, any_scope=any_scope).user
    if user is None:
        raise refused(401, "401 Unauthorized")
    return user


def admin_caller(request: web.Request) -> User:
    """An administrator; 403 for others."""
    user = known_caller(request)
    if not user.admin:
        raise refused(403, "403 Forbidden")
    return user


def project_of(request: web.Request, *, role: str = "guest") -> Project:
    """The project that `:id` names, if the caller holds the role in it; raises APIError.

    Digits alone are an id, a text with a slash is a path. A moved project's old path answers with a
    redirect to the address by id, for reads.
    """
    instance = request.app[PARTS].instance
    user = caller(request).user
    reference = request.match_info["id"]
    moved = False
    if reference.isascii() and reference.isdigit():
        project = instance.places.projects.get(int(reference))
    elif "/" in reference:
        project = instance.places.project_at(reference)
        if project is None:
            project = instance.places.project_formerly_at(reference)
            moved = project is not None
    else:
        project = None
    if project is None or not instance.sees_project(user, project):
        raise not_found("Project")
    if moved:
        raise _moved(request, project)
    if role != "guest" and not instance.may(user, project, role):
        raise refused(403, "403 Forbidden")
    return project


def group_of(request: web.Request, *, role: str = "guest") -> Group:
    """The group that `:id` names; digits alone are an id, and old paths don't redirect."""
    instance = request.app[PARTS].instance
    user = caller(request).user
    reference = request.match_info["id"]
    if reference.isascii() and reference.isdigit():
        group = instance.places.groups.get(int(reference))
    else:
        group = instance.places.group_at(reference)
    if group is None or not instance.sees_group(user, group):
        raise not_found("Group")
    if role == "owner" and not (
        user and (user.admin or instance.group_level(user, group.id) >= 50)
    ):
        raise refused(403, "403 Forbidden")
    return group


async def parameters(request: web.Request) -> dict[str, Any]:
    """The query and the body together; a body may be JSON or a form."""
    found: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        raw = await request.read()
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            raise APIError(400, {"error": "The request body is not valid JSON"}) from None
        if isinstance(body, dict):
            found |= body
    elif request.can_read_body:
        found |= dict(await request.post())
    return found


def truth(value: Any, *, otherwise: bool) -> bool:
    """A boolean parameter."""
    if value is None:
        return otherwise
    return value is True or str(value).lower() in {"true", "1", "yes", "on"}


def _invalid_token(description: str) -> APIError:
    return APIError(401, {"error": "invalid_token", "error_description": description})


def _moved(request: web.Request, project: Project) -> APIError:
    if request.method != "GET":
        return refused(405, "Non GET methods are not allowed for moved projects")
    url = request.app[PARTS].instance.url
    # The rest of the path keeps the encoding in which it came.
    path = request.rel_url.raw_path
    tail = path.split("/projects/", 1)[1].partition("/")[2]
    location = f"{url}/api/v4/projects/{project.id}" + (f"/{tail}" if tail else "")
    if request.rel_url.raw_query_string:
        location += f"?{request.rel_url.raw_query_string}"
    return APIError(
        301,
        {"message": f"This resource has been moved permanently to {location}"},
        {"Location": location},
    )
