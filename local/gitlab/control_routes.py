"""The control surface: `POST /control/VERB` with a JSON object, for the holder of the token."""

from __future__ import annotations

import hmac
import json
import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.gitlab import control_jobs, control_places, control_settings
from local.gitlab.context import PARTS, answer
from local.gitlab.git import GitError
from local.gitlab.records import InvalidError, MissingError, TakenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local.gitlab.context import GitLabParts

    Verb = Callable[[GitLabParts, dict[str, Any]], Awaitable[dict[str, Any]]]

routes = web.RouteTableDef()
CONTROL_TOKEN = web.AppKey("control_token", str)

_VERBS: dict[str, Verb] = {
    verb.__name__: verb
    for verb in (
        control_places.create_group,
        control_places.create_project,
        control_places.create_user,
        control_places.add_member,
        control_places.rename_group,
        control_places.transfer_group,
        control_places.delete_group,
        control_places.rename_project,
        control_places.transfer_project,
        control_places.edit_project,
        control_places.delete_project,
        control_places.rename_user,
        control_places.create_cluster_agent,
        control_jobs.create_environment,
        control_jobs.create_job,
        control_jobs.set_job_status,
        control_jobs.mint_id_token,
        control_jobs.rotate_keys,
        control_jobs.commit,
        control_jobs.update_ref,
        control_settings.create_token,
        control_settings.edit_token,
        control_settings.create_hook,
        control_settings.edit_hook,
        control_settings.delete_hook,
        control_settings.deliveries,
        control_settings.hooks,
        control_settings.settle,
        control_settings.resend,
        control_settings.lose_deliveries,
        control_settings.add_fault,
        control_settings.clear_faults,
        control_settings.set_rate_limits,
        control_settings.requests,
        control_settings.clear_requests,
        control_settings.set_instance,
    )
}


@routes.post("/control/{verb}")
async def control(request: web.Request) -> web.Response:
    """Run one verb; 400, 404 and 409 say in `error` what was wrong."""
    wanted = f"Bearer {request.app[CONTROL_TOKEN]}"
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), wanted.encode()):
        return answer({"error": "this needs the control token"}, status=401)
    verb = _VERBS.get(request.match_info["verb"])
    if verb is None:
        return answer({"error": "no such verb"}, status=404)
    try:
        given = json.loads(await request.read() or b"{}")
        return answer(await verb(request.app[PARTS], given))
    except MissingError as error:
        return answer({"error": str(error)}, status=404)
    except TakenError as error:
        return answer({"error": str(error)}, status=409)
    except (InvalidError, GitError, ValueError, TypeError, KeyError, re.error) as error:
        return answer({"error": f"{type(error).__name__}: {error}"}, status=400)
