"""An agent as the decision sees it: its compiled configuration (snapshot) and its cluster.

The snapshot is compiled from `.gitlab/agents/<name>/config.yaml` (GitLab, "Using GitLab CI/CD with
a Kubernetes cluster", keyword `ci_access`), with paths resolved to numeric ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.reasons import Reason

PROBLEMS_MAX = 100  # of one file: nobody mends more at a time, and they are stored


@dataclass(frozen=True, slots=True)
class AsAgent:
    """`access_as: {agent: {}}`: with the agent's own credential, without impersonation."""


@dataclass(frozen=True, slots=True)
class AsCIJob:
    """`access_as: {ci_job: {}}`: as the CI job, by user, groups and extras."""


@dataclass(frozen=True, slots=True)
class AsIdentity:
    """`access_as: {impersonate: …}`: as a fixed identity, in the order of the file."""

    username: str
    uid: str | None = None
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


AccessAs = AsAgent | AsCIJob | AsIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry under `ci_access`.

    `path` is the project's or group's full path at the time of the refresh, for people. A `refused`
    entry denies with that reason in its place of precedence, so that nothing wider takes over.
    """

    path: str
    access_as: AccessAs = field(default_factory=AsAgent)
    default_namespace: str | None = None
    environments: tuple[str, ...] = ()
    protected_branches_only: bool = False
    refused: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong with a configuration file, for who pushed it; lines and columns from 1."""

    code: str
    file: str
    line: int
    column: int
    text: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProject:
    """The project that holds the agent's configuration; `root_id` is its top-level namespace's."""

    project_id: int
    path: str
    namespace_id: int
    root_id: int


def authorised_by(entries: Mapping[int, Entry]) -> frozenset[int]:
    """The ids whose entry isn't refused."""
    return frozenset(number for number, entry in entries.items() if entry.refused is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSnapshot:
    """What an agent's configuration at one commit grants. Entries are keyed by numeric id.

    `valid` is false until a first valid configuration was seen: then nothing is granted, implicit
    access included. `commit` is the one that grants, and `valid_since` (epoch seconds; None for one
    of which that wasn't kept) when it was published; `problems` are those of the newest file.
    `doubt_since` (epoch seconds) is when GitLab last stopped confirming it, None while it does.
    `blob` is git's id of the newest file, as far as it was kept, None where there is no file.
    `former` are written paths (`project:top/app`, lower-cased) that led to this id once and don't
    now: whoever takes such a path over gets nothing by an entry that was written for another.
    """

    issuer: str
    agent_id: int
    agent_name: str
    version: int
    commit: str
    valid: bool
    config_project: ConfigProject
    projects: Mapping[int, Entry]
    groups: Mapping[int, Entry]
    instance: Entry | None = None
    problems: tuple[Problem, ...] = ()
    valid_since: float | None = None
    doubt_since: float | None = None
    blob: str | None = None
    former: Mapping[str, int] = field(default_factory=dict)

    @property
    def context(self) -> str:
        """The kubeconfig context, in GitLab's form `<configuration project>:<agent>`."""
        return f"{self.config_project.path}:{self.agent_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A reference to a stored cluster credential; `secret` is a secret's name, never the secret."""

    kind: Literal["token", "cert"]
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EKSCredential:
    """An identity of AWS's that an EKS cluster knows; nothing is stored.

    `role_arn` is assumed first, in the cluster's account as a rule; None is the function's own.
    """

    cluster: str
    region: str
    role_arn: str | None = None

    @property
    def kind(self) -> str:
        """As the stored kinds have one."""
        return "eks"


ClusterCredential = Credential | EKSCredential


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConnection:
    """Where an agent's cluster is. `server` is an https URL without a closing slash, `ca` PEM text.

    `relay_credential` may impersonate and nothing else; `agent_credential` holds the agent's own
    rights and is used for agent mode alone. With `allow_client_impersonation` a client may say
    there as whom it asks, and the agent's own rights decide whether it may. `tls_server_name` is
    the name in the API server's certificate where it isn't the one in `server`.
    """

    issuer: str
    agent_id: int
    agent_name: str
    config_project_id: int
    server: str
    ca: str | None
    relay_credential: ClusterCredential
    agent_credential: ClusterCredential | None
    allow_client_impersonation: bool = False
    tls_server_name: str | None = None
