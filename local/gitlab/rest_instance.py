"""REST routes about the instance itself and about the caller's token, and the OIDC documents."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import replace

from aiohttp import web

from local.gitlab.context import (
    PARTS,
    APIError,
    answer,
    caller,
    known_caller,
    parameters,
    refused,
)
from local.gitlab.shapes import basic_user, token_shape
from local.gitlab.signing_keys import discovery
from local.gitlab.times import api_time, moment

routes = web.RouteTableDef()

_PUBLIC_DAY = {"Cache-Control": "public, max-age=86400, must-revalidate"}
_ROTATED_LIFE = dt.timedelta(days=7)


@routes.get("/.well-known/openid-configuration")
async def openid_configuration(request: web.Request) -> web.Response:
    """OpenID discovery."""
    return answer(discovery(request.app[PARTS].instance.url), headers=_PUBLIC_DAY)


@routes.get("/oauth/discovery/keys")
@routes.get("/-/jwks")
async def jwks(request: web.Request) -> web.Response:
    """The public keys of all tokens that the instance signs."""
    return answer(request.app[PARTS].keys.jwks(), headers=_PUBLIC_DAY)


@routes.get("/api/v4/version")
async def version(request: web.Request) -> web.Response:
    """The version, for any known caller."""
    known_caller(request)
    return answer({"version": request.app[PARTS].instance.version, "revision": "0123456789a"})


@routes.get("/api/v4/metadata")
async def metadata(request: web.Request) -> web.Response:
    """The version and the agent server's state; there is none here."""
    known_caller(request)
    instance = request.app[PARTS].instance
    kas = {"enabled": False, "externalUrl": None, "externalK8sProxyUrl": None, "version": None}
    return answer(
        {
            "version": instance.version,
            "revision": "0123456789a",
            "kas": kas,
            "enterprise": instance.version.endswith("-ee"),
        }
    )


@routes.get("/api/v4/user")
async def current_user(request: web.Request) -> web.Response:
    """The caller; administrators learn that they are."""
    instance = request.app[PARTS].instance
    who = caller(request, any_scope=True)
    if who.user is None or who.token is None:
        raise refused(401, "401 Unauthorized")
    if not {"api", "read_api", "read_user"} & set(who.token.scopes):
        raise APIError(403, {"error": "insufficient_scope", "scope": "api read_user read_api"})
    user = who.user
    shown = basic_user(instance, user) | {
        "created_at": api_time(user.created_at),
        "bot": user.bot,
        "email": user.email,
        "namespace_id": user.namespace_id,
        "external": False,
        "two_factor_enabled": False,
    }
    return answer(shown | ({"is_admin": True} if user.admin else {}))


@routes.get("/api/v4/personal_access_tokens/self")
async def current_token(request: web.Request) -> web.Response:
    """The token of the call itself, whatever its scopes are."""
    token = caller(request, any_scope=True).token
    if token is None:
        raise refused(401, "401 Unauthorized")
    return answer(token_shape(token, last_used_at=request.app[PARTS].instance.clock()))


@routes.post("/api/v4/personal_access_tokens/self/rotate")
async def rotate_token(request: web.Request) -> web.Response:
    """Replace the token of the call; the old one ends at once.

    The new one lives a week or as asked. Needs the scope `api` or `self_rotate`.
    """
    instance = request.app[PARTS].instance
    who = caller(request, any_scope=True)
    if who.token is None or who.user is None:
        raise refused(401, "401 Unauthorized")
    if not {"api", "self_rotate"} & set(who.token.scopes):
        raise APIError(403, {"error": "insufficient_scope", "scope": "api self_rotate"})
    given = await parameters(request)
    now = instance.clock()
    week = (moment(now) + _ROTATED_LIFE).date().isoformat()
    new = instance.add_token(
        who.user,
        name=who.token.name,
        scopes=who.token.scopes,
        expires_at=str(given.get("expires_at") or week),
        secret="glpat-" + secrets.token_urlsafe(20),
    )
    instance.tokens[who.token.secret] = replace(who.token, revoked=True)
    return answer(token_shape(new, last_used_at=now) | {"token": new.secret})
