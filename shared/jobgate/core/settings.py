"""What a deployment decides for itself where GitLab, or the safest choice, leaves it open.

Every setting is a field of `Settings`; the environment gives it as `JOBGATE_<NAME>`, the template
has a parameter of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOOLEANS = {"true": True, "false": False}
JobEnd = Literal["hook", "probe", "both"]
_FORK_JOBS: Mapping[str, Literal["allow", "deny"]] = {"allow": "allow", "deny": "deny"}
_JOB_ENDS: Mapping[str, JobEnd] = {"hook": "hook", "probe": "probe", "both": "both"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A deployment's settings.

    `instance_wide`: entries may name any project or group of the GitLab instance, and
    `ci_access.instance` counts (GitLab's `organization_cluster_agent_authorization_enabled`).
    `entry_limit`: projects, and groups, that count of one agent's file.
    `fork_jobs`: whether a fork's merge request pipeline in the parent project has the parent's
    access, as in GitLab.
    `legacy_slugs`: ask GitLab for environments' slugs, since those of old environments can't be
    computed.
    `allowed_identities`: users and groups with a reserved name that may be impersonated.
    `commit_status`: report a refresh as a status of the pushed commit.
    `job_end`: how a job's end is learned, by GitLab's hook, by asking GitLab, or both. A hook's
    word that a job has ended always counts.
    `project_rate`: requests to the exchange of one project's jobs in a minute.
    `stranger_rate`: the same of all projects outside the known roots, in each running function.
    """

    instance_wide: bool = False
    entry_limit: int = 500
    fork_jobs: Literal["allow", "deny"] = "allow"
    legacy_slugs: bool = False
    allowed_identities: frozenset[str] = frozenset()
    commit_status: bool = False
    job_end: JobEnd = "both"
    project_rate: int = 600
    stranger_rate: int = 60

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read `JOBGATE_INSTANCE_WIDE` and the others; an absent one keeps its default.

        Raises ValueError naming the variable, never its value.
        """
        default = cls()
        names = environment.get("JOBGATE_ALLOWED_IDENTITIES", "").split(",")
        return cls(
            instance_wide=_boolean(environment, "INSTANCE_WIDE", otherwise=default.instance_wide),
            entry_limit=_number(environment, "ENTRY_LIMIT", otherwise=default.entry_limit),
            fork_jobs=_choice(environment, "FORK_JOBS", _FORK_JOBS, otherwise=default.fork_jobs),
            legacy_slugs=_boolean(environment, "LEGACY_SLUGS", otherwise=default.legacy_slugs),
            allowed_identities=frozenset(name.strip() for name in names if name.strip()),
            commit_status=_boolean(environment, "COMMIT_STATUS", otherwise=default.commit_status),
            job_end=_choice(environment, "JOB_END", _JOB_ENDS, otherwise=default.job_end),
            project_rate=_number(environment, "PROJECT_RATE", otherwise=default.project_rate),
            stranger_rate=_number(environment, "STRANGER_RATE", otherwise=default.stranger_rate),
        )


def _boolean(environment: Mapping[str, str], name: str, *, otherwise: bool) -> bool:
    given = environment.get(f"JOBGATE_{name}")
    if given is None:
        return otherwise
    if given not in _BOOLEANS:
        raise ValueError(f"JOBGATE_{name} is neither true nor false")
    return _BOOLEANS[given]


def _number(environment: Mapping[str, str], name: str, *, otherwise: int) -> int:
    given = environment.get(f"JOBGATE_{name}")
    if given is None:
        return otherwise
    if not (given.isascii() and given.isdigit() and int(given) > 0):
        raise ValueError(f"JOBGATE_{name} isn't a positive number")
    return int(given)


def _choice(
    environment: Mapping[str, str], name: str, choices: Mapping[str, T], *, otherwise: T
) -> T:
    given = environment.get(f"JOBGATE_{name}")
    if given is None:
        return otherwise
    if given not in choices:
        raise ValueError(f"JOBGATE_{name} is none of {', '.join(choices)}")
    return choices[given]
