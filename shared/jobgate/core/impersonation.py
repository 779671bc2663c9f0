"""As whom a job reaches the cluster.

Source: GitLab, "Impersonate the CI/CD job that accesses the cluster"; Kubernetes, "User
impersonation" (authentication reference) for the header lines.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never
from urllib.parse import quote

from jobgate.core.agent import AsAgent, AsCIJob, AsIdentity
from jobgate.core.environment import environment_slug

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.core.authorization import Grant
    from jobgate.core.issuer import Issuer
    from jobgate.core.job import JobIdentity
    from jobgate.core.namespace import NamespaceChain

_EXTRA = "agent.gitlab.com/"
_ISSUER_EXTRA = "jobgate/issuer"
# RFC 9110, 5.6.2 token characters without the percent sign and capitals: what client-go leaves as
# it is in an extra's key (k8s.io/client-go/transport, headerKeyEscape).
_UNESCAPED = "!#$&'*+-.^_`|~"
_RESERVED = ("system:", "gitlab:", "gitlab@")
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A Kubernetes user to impersonate."""

    username: str
    uid: str | None = None
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


def identity_of(
    job: JobIdentity, grant: Grant, *, issuer: Issuer, chain: NamespaceChain | None
) -> Identity | None:
    """The identity for a granted job; None means as the agent itself.

    `chain` must be trusted (see `authorization.trusted_chain`) where the grant is `ci_job`.
    """
    match grant.access_as:
        case AsAgent():
            return None
        case AsIdentity(username, uid, groups, extra):
            return Identity(username=username, uid=uid, groups=groups, extra=extra)
        case AsCIJob():
            if chain is None:
                raise ValueError("a job's identity needs its namespace chain")
            return _of_ci_job(job, grant, issuer=issuer, chain=chain)
        case unreachable:
            assert_never(unreachable)


def _of_ci_job(
    job: JobIdentity, grant: Grant, *, issuer: Issuer, chain: NamespaceChain
) -> Identity:
    prefix = issuer.identity_prefix
    groups = [f"{prefix}:ci_job"]
    for group in chain.groups:
        groups.append(f"{prefix}:group:{group.namespace_id}")
        if job.tier is not None:
            groups.append(f"{prefix}:group_env_tier:{group.namespace_id}:{job.tier}")
    groups.append(f"{prefix}:project:{job.project_id}")
    extra = {
        "id": str(grant.agent_id),
        "config_project_id": str(grant.config_project_id),
        "project_id": str(job.project_id),
        "ci_pipeline_id": str(job.pipeline_id),
        "ci_job_id": str(job.job_id),
        "username": job.user_login,
    }
    if job.environment is not None:
        slug = job.environment_slug or environment_slug(job.environment)
        groups.append(f"{prefix}:project_env:{job.project_id}:{slug}")
        extra["environment_slug"] = slug
    if job.tier is not None:
        groups.append(f"{prefix}:project_env_tier:{job.project_id}:{job.tier}")
        extra["environment_tier"] = job.tier
    lines = [(f"{_EXTRA}{key}", (value,)) for key, value in extra.items()]
    if not issuer.is_default:
        lines.append((_ISSUER_EXTRA, (issuer.alias,)))
    return Identity(
        username=f"{prefix}:ci_job:{job.job_id}", groups=tuple(groups), extra=tuple(lines)
    )


def fault_of_static_identity(
    identity: AsIdentity | Identity, *, allowed: frozenset[str] = frozenset()
) -> str | None:
    """What is wrong with an identity that a configuration file or a client chose, or None.

    `system:` names are Kubernetes' own (RBAC, "Default roles"), `gitlab:` and `gitlab@…:` ours;
    the deployment may have `allowed` some of them.
    """
    names = (identity.username, *identity.groups)
    for name in names:
        if name.casefold().startswith(_RESERVED) and name not in allowed:
            return f"{name!r} is reserved"
    texts = names if identity.uid is None else (*names, identity.uid)
    extras = (text for key, values in identity.extra for text in (key, *values))
    return next((f"{text!r} {why}" for text, why in _unfit((*texts, *extras))), None)


@functools.lru_cache(maxsize=64)
def impersonation_headers(identity: Identity) -> tuple[tuple[str, str], ...]:
    """The `Impersonate-*` header lines, one value a line, in a fixed order.

    Raises ValueError if a value can't travel in a header unchanged (checked again here, whatever
    was checked before: a value that the server would trim is another identity).
    """
    lines = [("Impersonate-User", identity.username)]
    if identity.uid is not None:
        lines.append(("Impersonate-Uid", identity.uid))
    lines += [("Impersonate-Group", group) for group in identity.groups]
    keys = [key for key, _ in identity.extra]
    for key, values in identity.extra:
        name = f"Impersonate-Extra-{quote(key.lower(), safe=_UNESCAPED).lower()}"
        lines += [(name, value) for value in values]
    for text, why in _unfit((*(value for _, value in lines), *keys)):
        raise ValueError(f"an identity's value {why}: {text!r}")
    return tuple(lines)


def _unfit(texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in texts:
        if not text:
            yield text, "is empty"
        elif text != text.strip():
            yield text, "has white space around it"
        elif _UNFIT.search(text):
            yield text, "has control characters"
