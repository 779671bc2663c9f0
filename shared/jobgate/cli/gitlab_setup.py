"""`jobgate gitlab connect`: GitLab tells of pushes and of jobs' ends by a webhook.

Order of the writes: first the new secrets are stored beside the old ones, then GitLab is given
them, then the old ones of the same place are dropped. So no delivery is ever refused in between,
and a run that breaks off is simply run again.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from jobgate.cli import inputs, stored_secrets
from jobgate.cli.errors import Refused
from jobgate.cli.gitlab_calls import SECONDS
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.webhook import HookSecrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.cli.connect import Connected
    from jobgate.core.issuer import Issuer

_ANSWER_MAX_BYTES = 2_000_000
_PAGES_MAX = 10
_PER_PAGE = 100  # GitLab allows 100 hooks a project, 50 a group
_SIGNING_SINCE = 19
_VARIABLE = "GITLAB_TOKEN"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a webhook belongs to."""

    kind: Literal["group", "project"]
    id: int


class SetUpAPI:
    """GitLab's REST API with the operator's set-up token; redirects are never followed."""

    def __init__(self, issuer: Issuer, token: str) -> None:
        self._url = urlsplit(issuer.base_url)
        self._shown = issuer.base_url
        self._token = token
        self._tls = ssl.create_default_context(cadata=issuer.ca)

    def __call__(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON, or None where GitLab says that there is no such thing."""
        status, content = self._exchange(method, target, body)
        if status == 404 or (300 <= status < 400 and method == "GET"):
            return None
        if status in (401, 403):
            raise Refused(f"GitLab refused {method} {target} with the token in {_VARIABLE}.")
        if not 200 <= status < 300:
            raise Unavailable(f"GitLab at {self._shown} answered {status} to {method} {target}.")
        try:
            return json.loads(content)
        except ValueError:
            raise Unavailable(f"What answers at {self._shown} isn't GitLab.") from None

    def _exchange(
        self, method: str, target: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._url.hostname or "", self._url.port or 443, context=self._tls, timeout=SECONDS
        )
        headers = {"PRIVATE-TOKEN": self._token, "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, f"{self._url.path}/api/v4{target}", content, headers)
            response = connection.getresponse()
            return response.status, response.read(_ANSWER_MAX_BYTES)
        except (OSError, http.client.HTTPException) as exc:
            raise Unavailable(f"GitLab at {self._shown} can't be reached: {exc}.") from exc
        finally:
            connection.close()


def connect_gitlab(connected: Connected, issuer: Issuer, path: str) -> None:
    """Create the webhook of a group or project, or give the one that is there new secrets."""
    url = f"{connected.registry.known_base_url()}/webhooks/gitlab/{issuer.alias}"
    api = SetUpAPI(issuer, _set_up_token(connected))
    scope = _scope(api, path)
    made = new_secrets(major_version(api("GET", "/version")))
    entry = hook_entry(scope, made)
    secret = connected.stack.gitlab_hooks
    stored = stored_secrets.read_map(connected.aws, secret).get(issuer.alias) or []
    stored_secrets.change_entry(connected.aws, secret, issuer.alias, [*stored, entry])
    is_new = _write_hook(api, scope, hook_body(url, made))
    others = [known for known in stored if known.get("scope") != entry["scope"]]
    stored_secrets.change_entry(connected.aws, secret, issuer.alias, [*others, entry])
    output = connected.output
    verb = "Created" if is_new else "Renewed the secrets of"
    output.say(f"{verb} the webhook of the {scope.kind} {path}: {url}")
    if made.signing_token is None:
        output.say("This GitLab doesn't sign webhooks (19.0 does); the secret token proves it.")
    output.result(
        {"scope": entry["scope"], "url": url, "created": is_new}
        | {"signed": made.signing_token is not None}
    )


def new_secrets(major: int) -> HookSecrets:
    """Fresh secrets of a webhook, as this version of GitLab can use them."""
    signing = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return HookSecrets(
        secret_token=secrets.token_urlsafe(32),
        signing_token=signing if major >= _SIGNING_SINCE else None,
    )


def hook_entry(scope: Scope, made: HookSecrets) -> dict[str, Any]:
    """The form in the secret GitLabHooks, which the webhook's function reads."""
    return {
        "secret_token": made.secret_token,
        "signing_token": made.signing_token,
        "scope": {"kind": scope.kind, "id": scope.id},
    }


def hook_body(url: str, made: HookSecrets) -> dict[str, Any]:
    """What GitLab is asked for (GitLab, Project webhooks API)."""
    body: dict[str, Any] = {
        "name": "Jobgate",
        "url": url,
        "token": made.secret_token,
        "push_events": True,
        "tag_push_events": True,
        "job_events": True,
        "enable_ssl_verification": True,
    }
    return body if made.signing_token is None else body | {"signing_token": made.signing_token}


def major_version(answer: Any) -> int:
    """The first number of GitLab's version, such as 19 of `19.0.2-ee`."""
    text = answer.get("version") if isinstance(answer, dict) else None
    major = str(text).partition(".")[0]
    if not major.isdecimal():
        raise Unavailable("GitLab doesn't say which version it is.")
    return int(major)


def _set_up_token(connected: Connected) -> str:
    token = connected.outside.environment.get(_VARIABLE, "")
    if not token:
        raise InvalidRequest(
            f"Put a set-up token (scope api; Owner of the group, or Maintainer of the project) "
            f"into the environment variable {_VARIABLE}."
        )
    return inputs.bearer_token(token, _VARIABLE)


def _scope(api: SetUpAPI, path: str) -> Scope:
    """The group or the project at this exact current path."""
    found = api("GET", f"/groups/{quote(path, safe='')}?with_projects=false")
    if found is not None and found.get("full_path") == path:
        return Scope("group", int(found["id"]))
    found = api("GET", f"/projects/{quote(path, safe='')}")
    if found is not None and found.get("path_with_namespace") == path:
        return Scope("project", int(found["id"]))
    raise InvalidRequest(f"The token in {_VARIABLE} sees no group or project at exactly {path!r}.")


def _write_hook(api: SetUpAPI, scope: Scope, body: Mapping[str, Any]) -> bool:
    """True where the hook was created, false where an older one of the same URL was changed."""
    hooks = f"/{scope.kind}s/{scope.id}/hooks"
    known = _hook_id(api, hooks, str(body["url"]))
    target = hooks if known is None else f"{hooks}/{known}"
    if api("POST" if known is None else "PUT", target, body) is None:
        raise Refused(
            f"This GitLab offers no webhook for the {scope.kind}: group webhooks need Premium. "
            "Connect each configuration project and each deploying project by its own path."
        )
    return known is None


def _hook_id(api: SetUpAPI, hooks: str, url: str) -> int | None:
    for page in range(1, _PAGES_MAX + 1):
        found = api("GET", f"{hooks}?per_page={_PER_PAGE}&page={page}") or []
        for hook in found:
            if hook.get("url") == url:
                return int(hook["id"])
        if len(found) < _PER_PAGE:
            return None
    return None
