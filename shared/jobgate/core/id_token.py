"""GitLab's ID token: what its claims mean (GitLab, "ID token payload"), claim by claim.

Ids are decimal strings, `runner_id` a number, booleans are strings; a claim that neither the
decision nor the identity uses is ignored. `sub` is never read: a project may change its form.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jobgate.core.errors import InvalidToken
from jobgate.core.job import JobIdentity, VerifiedJob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.bounds import Bounds

_ID = re.compile(r"[1-9][0-9]{0,18}")
_ID_MAX = 2**63 - 1  # GitLab's ids are of PostgreSQL's bigint
_TIME_MAX = 2**53  # beyond, a float of seconds isn't exact
_TEXT_MAX = 1024
_TOKEN_ID_MAX = 255
# Pipelines that may run in another project than the one that `project_id` names (merge requests
# from forks, and the child pipelines of these).
_FORK_SOURCES = frozenset({"merge_request_event", "parent_pipeline"})


def verified_job(
    claims: Mapping[str, Any], *, issuer: str, bounds: Bounds, now: float, not_before: int | None
) -> VerifiedJob:
    """Read claims whose signature, issuer and audience were verified.

    `issuer` is the alias, `not_before` the deployment's. Raises InvalidToken for a claim that is
    needed and isn't what GitLab writes, for a token that isn't good at `now`, and for one older
    than job states are kept.
    """
    issued_at, expires_at = _checked_times(claims, bounds=bounds, now=now)
    if not_before is not None and issued_at < not_before:
        raise InvalidToken("the ID token is older than the table, which was restored", expired=True)
    running = "job_project_id" in claims
    source = _text(claims, "pipeline_source")
    project = "job_project" if running else "project"
    # A name without a character isn't the absence of one: GitLab's filter tells them apart.
    environment = "" if claims.get("environment") == "" else _optional_text(claims, "environment")
    job = JobIdentity(
        issuer=issuer,
        job_id=_id(claims, "job_id"),
        project_id=_id(claims, f"{project}_id"),
        project_path=_text(claims, f"{project}_path"),
        namespace_id=_id(claims, "job_namespace_id" if running else "namespace_id"),
        pipeline_id=_id(claims, "pipeline_id"),
        pipeline_source=source,
        user_id=_id(claims, "user_id") if claims.get("user_id") else None,
        user_login=_text(claims, "user_login"),
        runner_id=_id(claims, "runner_id") if claims.get("runner_id") is not None else None,
        ref=_text(claims, "ref"),
        ref_protected=_boolean(claims, "ref_protected"),
        environment=environment,
        tier=None if environment is None else _optional_text(claims, "deployment_tier"),
    )
    return VerifiedJob(
        job=job,
        jti=_token_id(claims),
        issued_at=issued_at,
        expires_at=expires_at,
        project_is_certain=running or source not in _FORK_SOURCES,
        is_of_fork=running and _id(claims, "project_id") != job.project_id,
    )


def _checked_times(claims: Mapping[str, Any], *, bounds: Bounds, now: float) -> tuple[int, int]:
    """When it was issued and when it expires (RFC 7519, 4.1.4 to 4.1.6), if it's good at `now`."""
    expires_at, not_before, issued_at = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires_at + bounds.leeway <= now:
        raise InvalidToken("the ID token has expired", expired=True)
    if max(not_before, issued_at) - bounds.leeway > now:
        raise InvalidToken("the ID token isn't good yet")
    if issued_at + bounds.job_kept < now:
        raise InvalidToken("the ID token is older than job states are kept")
    return issued_at, expires_at


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _TIME_MAX:
        raise InvalidToken(f"the claim {name} isn't a time")
    return value


def _id(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if isinstance(value, str) and _ID.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _ID_MAX:
        return value
    raise InvalidToken(f"the claim {name} isn't an id")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value or len(value) > _TEXT_MAX:
        raise InvalidToken(f"the claim {name} isn't a text")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        # JSON can escape half a character, and nothing after this could encode it.
        raise InvalidToken(f"the claim {name} isn't a text")
    return value


def _token_id(claims: Mapping[str, Any]) -> str:
    """A UUID at GitLab; part of a key in the table, which holds no more than this."""
    value = _text(claims, "jti")
    if len(value) > _TOKEN_ID_MAX or not (value.isascii() and value.isprintable()):
        raise InvalidToken("the claim jti isn't a token's id")
    return value


def _optional_text(claims: Mapping[str, Any], name: str) -> str | None:
    return None if claims.get(name) is None else _text(claims, name)


def _boolean(claims: Mapping[str, Any], name: str) -> bool:
    value = claims.get(name)
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise InvalidToken(f"the claim {name} is neither true nor false")
