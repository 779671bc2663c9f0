"""Jobgate's own access token: its claims, and what they say after verification.

ES256, `typ: at+jwt` (RFC 9068). The token says who the job is; what it may do is decided anew at
each request. Under 4 KB, since API Gateway carries 10,240 bytes of headers in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.errors import InvalidToken
from jobgate.core.job import JobIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.bounds import Bounds

ALGORITHM = "ES256"
TYPE = "at+jwt"
MAX_BYTES = 4096
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A verified access token; `agent_id` is set where it's good for that agent alone."""

    job: JobIdentity
    decision_id: str
    jti: str
    expires_at: int
    agent_id: int | None = None


def audience(base_url: str) -> str:
    """The audience of access tokens: the relay below the deployment's base URL."""
    return f"{base_url}/agents"


def expiry(*, ends_at: int, observed: bool, bounds: Bounds, now: float) -> int:
    """When an access token made now ends, in epoch seconds.

    The least of `ends_at` (the ID token's own end, or an earlier one of all access), the
    deployment's maximum (0: none), and a short life for a job whose end may not be heard of.
    """
    lives = [bounds.token_max] if bounds.token_max else []
    if not observed:
        lives.append(bounds.unobserved_life)
    return min([ends_at, *(int(now + life) for life in lives)])


def claims_of(token: AccessToken, *, base_url: str, now: float) -> dict[str, Any]:
    """The claims to sign."""
    job = token.job
    claims: dict[str, Any] = {
        "iss": base_url,
        "aud": audience(base_url),
        "sub": f"gitlab:{job.issuer}:ci_job:{job.job_id}",
        "jti": token.jti,
        "iat": int(now),
        "exp": token.expires_at,
        "v": VERSION,
        "did": token.decision_id,
        "job": {
            "issuer": job.issuer,
            "id": job.job_id,
            "project_id": job.project_id,
            "namespace_id": job.namespace_id,
            "project_path": job.project_path,
            "pipeline_id": job.pipeline_id,
            "pipeline_source": job.pipeline_source,
            "user_id": job.user_id,
            "user_login": job.user_login,
            "runner_id": job.runner_id,
            "ref": job.ref,
            "ref_protected": job.ref_protected,
        },
    }
    if job.environment is not None:
        claims["job"]["environment"] = job.environment
    if job.tier is not None:
        claims["job"]["tier"] = job.tier
    if job.environment_slug is not None:
        claims["job"]["environment_slug"] = job.environment_slug
    if token.agent_id is not None:
        claims["agent"] = token.agent_id
    return claims


def token_of(claims: Mapping[str, Any]) -> AccessToken:
    """Read claims whose signature, issuer, audience and times were verified.

    Raises InvalidToken for a version or a form that isn't ours.
    """
    if claims.get("v") != VERSION:
        raise InvalidToken("an access token of an unknown version")
    try:
        job = claims["job"]
        return AccessToken(
            job=JobIdentity(
                issuer=job["issuer"],
                job_id=job["id"],
                project_id=job["project_id"],
                project_path=job["project_path"],
                namespace_id=job["namespace_id"],
                pipeline_id=job["pipeline_id"],
                pipeline_source=job["pipeline_source"],
                user_id=job["user_id"],
                user_login=job["user_login"],
                runner_id=job["runner_id"],
                ref=job["ref"],
                ref_protected=job["ref_protected"],
                environment=job.get("environment"),
                tier=job.get("tier"),
                environment_slug=job.get("environment_slug"),
            ),
            decision_id=claims["did"],
            jti=claims["jti"],
            expires_at=claims["exp"],
            agent_id=claims.get("agent"),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise InvalidToken("an access token that lacks a claim") from exc
