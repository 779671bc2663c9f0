"""`jobgate gitlab connect`: GitLab tells of pushes and of jobs' ends by the best way it offers.

A group webhook where the tier has it (Premium): one hook for every push and job below the group.
Else a webhook on each configuration project below it, and jobs' ends by asking GitLab (the probe)
or, where wanted, by a webhook on each authorised project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jobgate.cli import gitlab_tokens
from jobgate.cli.errors import Refused
from jobgate.cli.gitlab_tokens import RUN_TIME, STATUS
from jobgate.cli.hooks import INSTANCE, Hooks, Made, Place
from jobgate.cli.job_hooks import (
    check_job_hooks_token,
    drop_old_secrets,
    keep_job_hooks,
    make_job_hooks,
    stored_job_hooks_token,
)
from jobgate.cli.set_up_api import VARIABLE, SetUpAPI, set_up_token
from jobgate.cli.snapshots import config_projects
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.hook import HookScope

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected
    from jobgate.cli.gitlab_tokens import TokenState
    from jobgate.core.issuer import Issuer

BY_HOOK = "A job's end is told by the webhook: seen within seconds."
BY_HOOK_NOW = (
    "Projects that are authorised later get their webhook when this is run again, and are asked "
    "about until then; with --job-hooks-token-file the schedule makes it."
)
BY_PROBE = (
    "A job's end is found by asking GitLab while the job is in use: seen within ProbeFloorSeconds "
    "(60 s). With --job-hooks projects GitLab tells it, within seconds."
)
SYSTEM_HOOK = (
    "System hooks carry no job events: connect groups or projects as well for jobs' ends, or leave "
    "them to the probe."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHooksWish:
    """`--job-hooks projects`; `token` is for the schedule, to keep them up (None: as it is)."""

    token: str | None


def connect_gitlab(
    connected: Connected, issuer: Issuer, path: str | None, *, job_hooks: JobHooksWish | None
) -> bool:
    """Check the tokens, make or repair the webhooks and test them; true where nothing lacks.

    `path` of None stands for the whole instance.
    """
    api = SetUpAPI(issuer, set_up_token(connected.outside.environment))
    hooks = Hooks(connected, issuer, api, major=major_version(api("GET", "/version")))
    place = _place(api, path)
    new_token = None if job_hooks is None else job_hooks.token
    tokens = check_stored_tokens(connected, issuer, job_hooks=new_token is None)
    places, job_end = _places(connected, issuer, hooks, place, api)
    made = hooks.make(places)
    if job_end == BY_PROBE and job_hooks is not None:
        made += make_job_hooks(connected, issuer, hooks)
        if new_token is not None:
            tokens.append(keep_job_hooks(connected, issuer, new_token))
        is_kept = stored_job_hooks_token(connected, issuer) is not None
        job_end = BY_HOOK if is_kept else f"{BY_HOOK} {BY_HOOK_NOW}"
    drop_old_secrets(connected, issuer.alias)
    _tell(connected, tokens, made, job_end)
    is_whole = not any(hook.missing or hook.failed for hook in made)
    return is_whole and not any(token.missing for token in tokens)


def check_stored_tokens(
    connected: Connected, issuer: Issuer, *, job_hooks: bool = True
) -> list[TokenState]:
    """The run-time token, and those for commit statuses and `job_hooks` where there are any."""
    now = connected.outside.clock()
    known = [project.project_id for project in config_projects(connected, issuer.alias)]
    found = []
    for kind, secret in (
        (RUN_TIME, connected.stack.gitlab_tokens),
        (STATUS, connected.stack.gitlab_status_token),
    ):
        token = gitlab_tokens.stored_token(connected, secret, issuer.alias)
        if token is not None:
            found.append(gitlab_tokens.check(issuer, token, kind, projects=known, now=now))
        elif kind is RUN_TIME:
            lack = "None is stored: run `jobgate issuer add` again."
            found.append(
                gitlab_tokens.TokenState(
                    kind=kind, expires_at=None, days_left=None, missing=(lack,)
                )
            )
    kept = stored_job_hooks_token(connected, issuer) if job_hooks else None
    return found if kept is None else [*found, check_job_hooks_token(connected, issuer, kept)]


def major_version(answer: Any) -> int:
    """The first number of GitLab's version, such as 19 of `19.0.2-ee`."""
    text = answer.get("version") if isinstance(answer, dict) else None
    major = str(text).partition(".")[0]
    if not major.isdecimal():
        raise Unavailable("GitLab doesn't say which version it is.")
    return int(major)


def _place(api: SetUpAPI, path: str | None) -> Place:
    """The instance, or the group or the project at this exact current path."""
    if path is None:
        return Place(scope=HookScope("instance", INSTANCE), path="of the whole instance")
    found = api("GET", f"/groups/{quote(path, safe='')}?with_projects=false")
    if found is not None and found.get("full_path") == path:
        return Place(scope=HookScope("group", int(found["id"])), path=path)
    found = api("GET", f"/projects/{quote(path, safe='')}")
    if found is not None and found.get("path_with_namespace") == path:
        return Place(scope=HookScope("project", int(found["id"])), path=path)
    raise InvalidRequest(f"The token in {VARIABLE} sees no group or project at exactly {path!r}.")


def _places(
    connected: Connected, issuer: Issuer, hooks: Hooks, place: Place, api: SetUpAPI
) -> tuple[list[Place], str]:
    """Where webhooks go, and how a job's end is then learned."""
    if place.scope.kind == "instance":
        return [place], SYSTEM_HOOK
    if place.scope.kind == "project":
        return [place], BY_HOOK
    if hooks.is_offered(place.scope):
        return [place], BY_HOOK
    below = f"{place.path.lower()}/"
    found = [p for p in _homes(connected, issuer, api) if p.path.lower().startswith(below)]
    if not found:
        raise Refused(
            "This GitLab offers no group webhooks (they need Premium), and no agent is registered "
            f"in a project below {place.path}: register one, then run this again."
        )
    connected.output.say("This GitLab offers no group webhooks, which need Premium.")
    return found, BY_PROBE


def _homes(connected: Connected, issuer: Issuer, api: SetUpAPI) -> list[Place]:
    """The configuration projects that the token sees, by their present paths.

    Of an agent that was registered a moment ago nothing may have been read yet.
    """
    places = []
    for project in config_projects(connected, issuer.alias):
        found = api("GET", f"/projects/{project.project_id}")
        if found is not None:
            scope = HookScope("project", project.project_id)
            places.append(Place(scope=scope, path=str(found["path_with_namespace"])))
    return sorted(places, key=lambda place: place.path)


def _tell(connected: Connected, tokens: list[TokenState], made: list[Made], job_end: str) -> None:
    output = connected.output
    for token in tokens:
        for sentence in gitlab_tokens.sentences(token):
            output.say(sentence)
    for hook in made:
        output.say(_sentence(hook))
    if not all(hook.signed for hook in made if hook.failed is None):
        output.say("Webhooks that GitLab doesn't sign (19.0 signs) prove themselves by a token.")
    output.say(job_end)
    output.result(
        {
            "tokens": {token.kind.name: gitlab_tokens.fields(token) for token in tokens},
            "hooks": [_fields(hook) for hook in made],
            "job_end": job_end,
        }
    )


def _sentence(hook: Made) -> str:
    place = hook.name if hook.scope.kind == "instance" else f"of {hook.scope.kind} {hook.name}"
    if hook.failed is not None and hook.scope.kind == "group":
        return f"Which projects are below group {hook.name} isn't known: {hook.failed}"
    if hook.failed is not None:
        return f"The webhook {place} couldn't be written: {hook.failed}"
    verb = "Created" if hook.created else "Repaired, with new secrets,"
    tested = "A test event arrived." if hook.missing is None else hook.missing
    return f"{verb} the webhook {place}. {tested}"


def _fields(hook: Made) -> dict[str, Any]:
    return {
        "scope": {"kind": hook.scope.kind, "id": hook.scope.id},
        "path": None if hook.scope.kind == "instance" else hook.name,
        "url": hook.url,
        "created": hook.created,
        "signed": hook.signed,
        "missing": hook.missing,
        "failed": hook.failed,
    }
