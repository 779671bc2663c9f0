"""GitLab as an operator's command asks it: is this token good, which project is this."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.https import HTTPSClient
from jobgate.cli import stored_secrets
from jobgate.core.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobgate.adapters.https import Answer
    from jobgate.cli.connect import Connected
    from jobgate.core.issuer import Issuer
    from jobgate.ports.gitlab import GitLabProject

SECONDS = 20.0
_MAX_BYTES = 1_000_000
_READ_SCOPE = "read_api"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What GitLab says of a token; `expires_at` is a date, or None for never."""

    scopes: tuple[str, ...]
    expires_at: str | None


def discovery(issuer: Issuer) -> Answer:
    """The instance's own words about itself (OpenID Connect); raises Unavailable."""
    answer = _get(issuer, "/.well-known/openid-configuration", {})
    _object(issuer, answer)
    return answer


def check_discovery(issuer: Issuer) -> None:
    """Raises InvalidRequest where the instance calls itself otherwise, Unavailable if it's away."""
    answer = _object(issuer, discovery(issuer))
    found = answer.get("issuer")
    if found != issuer.url:
        raise InvalidRequest(
            f"--url must equal the instance's own name: it calls itself {found!r}."
        )


def check_token(issuer: Issuer, token: str) -> TokenFacts:
    """Raises InvalidRequest for a token that isn't good, Unavailable where GitLab is away."""
    given = _get(issuer, "/api/v4/personal_access_tokens/self", {"PRIVATE-TOKEN": token})
    if given.status in (401, 403):
        raise InvalidRequest("--token-file: GitLab doesn't accept this token.")
    answer = _object(issuer, given)
    scopes = tuple(str(scope) for scope in answer.get("scopes") or ())
    if answer.get("active") is False or answer.get("revoked") is True:
        raise InvalidRequest("--token-file: GitLab says that this token is no longer active.")
    if _READ_SCOPE not in scopes:
        raise InvalidRequest(f"--token-file: the token needs the scope {_READ_SCOPE}.")
    expires_at = answer.get("expires_at")
    return TokenFacts(scopes=scopes, expires_at=None if expires_at is None else str(expires_at))


def read_project(connected: Connected, issuer: Issuer, path: str) -> GitLabProject:
    """The project of this exact current path, as the run-time token sees it."""
    try:
        with run_time_api(connected, issuer) as api:
            project = api.project(path)
    except Unavailable as exc:
        raise Unavailable(f"GitLab at {issuer.base_url} can't be asked: {exc}.") from exc
    if project is None or project.path != path:
        raise InvalidRequest(
            f"The run-time token sees no project at exactly {path!r}: check the path's spelling, "
            "whether it was renamed, and that the token's user is a Reporter there."
        )
    return project


@contextlib.contextmanager
def run_time_api(connected: Connected, issuer: Issuer) -> Iterator[GitLabAPI]:
    """GitLab with the run-time token; raises InvalidRequest where none is stored."""
    token = stored_secrets.read_map(connected.aws, connected.stack.gitlab_tokens).get(issuer.alias)
    if not isinstance(token, str):
        raise InvalidRequest(
            f"No run-time token of {issuer.alias!r} is stored: run `jobgate issuer add` again."
        )
    client = HTTPSClient(issuer.base_url + "/api/v4", issuer.ca)
    with contextlib.closing(client):
        yield GitLabAPI(client, token, seconds=SECONDS)


def _get(issuer: Issuer, target: str, headers: Mapping[str, str]) -> Answer:
    client = HTTPSClient(issuer.base_url, issuer.ca)
    try:
        return client.get(target, headers=headers, seconds=SECONDS, max_bytes=_MAX_BYTES)
    except Unavailable as exc:
        raise Unavailable(f"GitLab at {issuer.base_url} can't be reached: {exc}.") from exc
    finally:
        client.close()


def _object(issuer: Issuer, answer: Answer) -> dict[str, Any]:
    if answer.status != 200:
        raise Unavailable(f"GitLab at {issuer.base_url} answered {answer.status}.")
    try:
        body = answer.json()
    except Unavailable as exc:
        raise Unavailable(f"What answers at {issuer.base_url} isn't GitLab: {exc}.") from exc
    if not isinstance(body, dict):
        raise Unavailable(f"What answers at {issuer.base_url} isn't GitLab.")
    return body
