"""Who a CI job is, as GitLab signed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class JobKey(NamedTuple):
    """What a job's stored life belongs to.

    GitLab's job ids are unique by themselves. The project that runs the job is part of the key so
    that a webhook, whose secret reaches some projects, says nothing of the jobs of others.
    """

    issuer: str
    project_id: int
    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIdentity:
    """A running job. Only a token verifier makes one outside of tests.

    `issuer` is the alias of the GitLab instance. `project_*` and `namespace_id` name the project
    that *runs* the job (claim `job_project_id`, GitLab 18.4 and later; GitLab, ID token payload).
    Ids decide, paths only name. `environment` and `tier` are absent together; `environment_slug` is
    what GitLab said it is, None where it wasn't asked.
    """

    issuer: str
    job_id: int
    project_id: int
    project_path: str
    namespace_id: int
    pipeline_id: int
    pipeline_source: str
    user_id: int | None
    user_login: str
    runner_id: int | None
    ref: str
    ref_protected: bool
    environment: str | None = None
    tier: str | None = None
    environment_slug: str | None = None

    @property
    def key(self) -> JobKey:
        """Where the job's life is stored."""
        return JobKey(self.issuer, self.project_id, self.job_id)

    @property
    def root_path(self) -> str:
        """The lower-cased path of the top-level namespace: a hint for look-ups, never a grant."""
        return self.project_path.split("/", 1)[0].lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedJob:
    """A verified ID token; times in epoch seconds. It is issued as a runner takes the job.

    `project_is_certain` is false where an older GitLab's token doesn't tell which project runs the
    job: then GitLab must confirm that it is this one. `is_of_fork`: another project runs the job
    for a fork's merge request.
    """

    job: JobIdentity
    jti: str
    issued_at: int
    expires_at: int
    project_is_certain: bool
    is_of_fork: bool = False
