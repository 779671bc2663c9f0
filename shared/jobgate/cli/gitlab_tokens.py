"""The kinds of GitLab tokens (contracts, "GitLab's tokens"): what each can, and how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jobgate.cli import stored_secrets
from jobgate.cli.set_up_api import SetUpAPI
from jobgate.core.errors import Unavailable
from jobgate.core.gitlab_token import days_left, ends_soon

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from jobgate.cli.connect import Connected
    from jobgate.core.issuer import Issuer

REPORTER, DEVELOPER, MAINTAINER, OWNER = 20, 30, 40, 50
_NAMED_MAX = 10
_ROLES = {REPORTER: "Reporter", DEVELOPER: "Developer", MAINTAINER: "Maintainer", OWNER: "Owner"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of token: what it needs, and for what. `scopes`: one of these is enough."""

    name: str
    scopes: tuple[str, ...]
    role: int


RUN_TIME = Kind(name="run-time token", scopes=("read_api", "api"), role=REPORTER)
SET_UP = Kind(name="set-up token", scopes=("api",), role=MAINTAINER)
STATUS = Kind(name="commit status token", scopes=("api",), role=DEVELOPER)
JOB_HOOKS = Kind(name="job hooks' token", scopes=("api",), role=MAINTAINER)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenState:
    """What GitLab says of a token; `missing` names everything that it lacks."""

    kind: Kind
    expires_at: str | None
    days_left: int | None
    missing: tuple[str, ...]

    @property
    def ends_soon(self) -> bool:
        """Whether it ends within the days that are warned about."""
        return ends_soon(self.days_left)


def stored_token(connected: Connected, secret: str, alias: str) -> str | None:
    """A token of an issuer's, from one of the secrets that hold them by alias."""
    token = stored_secrets.read_map(connected.aws, secret).get(alias)
    return token if isinstance(token, str) else None


def check(
    issuer: Issuer,
    token: str,
    kind: Kind,
    *,
    projects: Iterable[str | int],
    now: float,
    maintained: Collection[int] = (),
    barred: Iterable[int] = (),
) -> TokenState:
    """Whether the token is good, has its scope, and its role in each of these projects.

    `maintained` are projects that it must be a Maintainer of, of which there may be thousands: a
    list tells of a hundred at once. In those that are `barred` it may push nothing.
    """
    api = SetUpAPI(issuer, token)
    status, body = api.ask("GET", "/personal_access_tokens/self")
    if status in (401, 403):
        return _state(kind, {}, now, ("GitLab doesn't accept it: it was revoked, or has expired.",))
    if status != 200 or not isinstance(body, dict):
        raise Unavailable(f"GitLab at {issuer.base_url} answered {status} about a token.")
    missing: list[str] = []
    if body.get("active") is False or body.get("revoked") is True:
        missing.append("GitLab says that it is no longer active.")
    if not set(kind.scopes) & set(body.get("scopes") or ()):
        missing.append(f"It lacks the scope {kind.scopes[0]}.")
    else:
        missing += _reach(api, kind, projects, barred)
        missing += _unmaintained(api, maintained)
    return _state(kind, body, now, tuple(missing))


def fields(state: TokenState) -> dict[str, Any]:
    """For scripts."""
    return {
        "expires_at": state.expires_at,
        "days_left": state.days_left,
        "missing": list(state.missing),
    }


def sentences(state: TokenState) -> list[str]:
    """For people: what is wrong, or that all is well and until when."""
    if state.missing:
        return [f"The {state.kind.name}: {lack}" for lack in state.missing]
    if state.days_left is None:
        return [f"The {state.kind.name} is good and never expires."]
    if state.days_left < 0:
        return [f"The {state.kind.name} expired on {state.expires_at}."]
    hint = " Renew it: `jobgate gitlab rotate-token`." if state.ends_soon else ""
    return [
        f"The {state.kind.name} is good until {state.expires_at} ({state.days_left} days).{hint}"
    ]


def _state(kind: Kind, body: Mapping[str, Any], now: float, missing: tuple[str, ...]) -> TokenState:
    expires_at = body.get("expires_at")
    text = None if expires_at is None else str(expires_at)
    return TokenState(
        kind=kind, expires_at=text, days_left=days_left(text, now=now), missing=missing
    )


def _reach(
    api: SetUpAPI, kind: Kind, refs: Iterable[str | int], barred: Iterable[int]
) -> Iterator[str]:
    """What the token lacks in these projects: its sight, or its role there; or has too much."""
    user = api("GET", "/user")
    if not isinstance(user, dict) or "id" not in user:
        raise Unavailable("GitLab doesn't say whose token it is.")
    for ref in refs:
        project = api("GET", f"/projects/{quote(str(ref), safe='')}")
        if project is None:
            yield f"It doesn't see project {ref}."
            continue
        # What anybody may read needs no role.
        may_read = kind.role <= REPORTER and project.get("visibility") != "private"
        if user.get("is_admin") is True or may_read:
            continue
        if _level(api, project["id"], user) < kind.role:
            path = project.get("path_with_namespace", ref)
            yield f"Its user is no {_ROLES[kind.role]} in {path}."
    for project_id in barred:
        if user.get("is_admin") is True or _level(api, project_id, user) >= DEVELOPER:
            yield (
                f"Its user may push to the configuration project {project_id}, and so grant itself "
                "anything: take one who is no member there."
            )


def _unmaintained(api: SetUpAPI, wanted: Collection[int]) -> Iterator[str]:
    if not wanted:
        return
    query = f"min_access_level={MAINTAINER}&simple=true&order_by=id&sort=asc"
    lacking = sorted(set(wanted) - {row.get("id") for row in api.pages(f"/projects?{query}")})
    if lacking:
        named = ", ".join(map(str, lacking[:_NAMED_MAX]))
        more = f" and {len(lacking) - _NAMED_MAX} more" if len(lacking) > _NAMED_MAX else ""
        yield f"Its user is no Maintainer of these projects: {named}{more}."


def _level(api: SetUpAPI, project_id: int, user: Mapping[str, Any]) -> int:
    """The user's role in a project, 0 for none."""
    member = api("GET", f"/projects/{project_id}/members/all/{user['id']}") or {}
    return int(member.get("access_level", 0))
