"""The least rights that an agent needs in its cluster, as Kubernetes objects. Pure.

The relay's account acts as jobs and as fixed identities, and renews the two accounts' tokens. The
agent's account has what an operator binds to it; here it gets nothing, least of all impersonation
or tokens: a job that acts as it could give itself what outlives every revocation.

Two forms of impersonation. `constrained` (KEP-5284; ConstrainedImpersonation, on from Kubernetes
1.36) is checked by verbs of its own and refuses `system:masters`, nodes and ServiceAccounts
whatever the rules say. `legacy` is the verb `impersonate`. One legacy grant reopens everything, so
no set of objects holds both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jobgate.core.agent import AsCIJob, AsIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jobgate.core.agent import AgentSnapshot

Form = Literal["constrained", "legacy"]
Names = tuple[str, ...] | None
"""The names that a rule is for; None where they aren't known beforehand."""

RELAY_ACCOUNT = "jobgate-relay"
AGENT_ACCOUNT = "jobgate-agent"

_RBAC = "rbac.authorization.k8s.io"
_AUTHENTICATION = "authentication.k8s.io"
_MODE = "user-info"
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
# What clients ask beside resources (discovery, OpenAPI, version, health) they read.
_NON_RESOURCE_VERBS = ("get", "head")
# GitLab, "Environments", deployment tiers.
_TIERS = ("production", "staging", "testing", "development", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Impersonated:
    """Whom the relay's account may act as: names by dimension of an identity."""

    users: Names = ()
    groups: Names = ()
    uids: Names = ()
    extras: Mapping[str, Names]

    @property
    def dimensions(self) -> Iterator[tuple[str, Names]]:
        """Each with something in it, under its name as a Kubernetes resource."""
        for resource, names in (
            ("users", self.users),
            ("groups", self.groups),
            ("uids", self.uids),
            *((f"userextras/{key}", names) for key, names in sorted(self.extras.items())),
        ):
            if names is None or names:
                yield resource, names


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who gets the relay's rights: two accounts in `namespace`, or a group (EKS's access entry)."""

    name: str
    namespace: str | None = None
    group: str | None = None


def of_any_agent(*, alias: str | None = None) -> Impersonated:
    """Jobs of any agent; `alias` is a GitLab instance's that isn't the default one."""
    return _of_jobs(agent_id=None, config_project_id=None, alias=alias)


def of_agent(
    agent_id: int,
    config_project_id: int,
    snapshot: AgentSnapshot | None,
    *,
    alias: str | None,
    with_jobs: bool = False,
) -> Impersonated:
    """Whom one agent's configuration names; jobs where it isn't known yet, or `with_jobs`."""
    jobs = _of_jobs(agent_id=agent_id, config_project_id=config_project_id, alias=alias)
    if snapshot is None or not snapshot.valid:
        return jobs
    entries = [*snapshot.projects.values(), *snapshot.groups.values()]
    entries += [] if snapshot.instance is None else [snapshot.instance]
    ways = [entry.access_as for entry in entries if entry.refused is None]
    static = [way for way in ways if isinstance(way, AsIdentity)]
    has_jobs = with_jobs or any(isinstance(way, AsCIJob) for way in ways)
    return _with_static(jobs if has_jobs else Impersonated(extras={}), static)


def open_dimensions(impersonated: Impersonated, form: Form) -> list[str]:
    """What the cluster leaves open, in sentences: there the relay's own guard stands alone."""
    dimensions = list(impersonated.dimensions)
    found = [resource for resource, names in dimensions if names is None]
    if not found:
        return []
    sentences = [_OPEN[resource] for resource in ("users", "groups") if resource in found]
    if extras := [name.partition("/")[2] for name in found if "/" in name]:
        sentences.append(
            f"extras: any value of {', '.join(extras)} (they carry ids and names of each job)."
        )
    if form == "constrained":
        sentences.append(
            "Kubernetes itself refuses the group system:masters, nodes and ServiceAccounts. What "
            "else begins with system: or gitlab: is refused by the relay alone."
        )
    else:
        sentences.append(
            "As far as Kubernetes is concerned this account may act as system:masters and as a "
            "node. That it doesn't is held by the relay alone, which refuses what begins with "
            "system: or gitlab:. ServiceAccounts are refused by Kubernetes."
        )
    return sentences


_OPEN = {
    "users": "users: any name, as a job's user is gitlab:ci_job:<id>, and RBAC has no prefixes.",
    "groups": "groups: any name, as they carry ids of groups and projects, and environments.",
}


WARNING = (
    "Give this account no other right to impersonate: one `impersonate` reopens everything. Nor "
    "give the agent's own account any right to impersonate or to create tokens."
)


def manifests(holder: Holder, impersonated: Impersonated, form: Form) -> list[dict[str, Any]]:
    """The objects, in an order in which they can be applied."""
    namespace = holder.namespace
    found: list[dict[str, Any]] = []
    if namespace is not None:
        found += [
            _object("v1", "Namespace", namespace, holder),
            _object("v1", "ServiceAccount", RELAY_ACCOUNT, holder, namespace),
            _object("v1", "ServiceAccount", AGENT_ACCOUNT, holder, namespace),
            *_bound("Role", "jobgate-token-renewal", _renewal(), holder),
        ]
    rules = list(_rules(impersonated, form))
    return [*found, *_bound("ClusterRole", holder.name, rules, holder)]


def _rules(impersonated: Impersonated, form: Form) -> Iterator[dict[str, Any]]:
    """One rule for each set of names."""
    by_names: dict[tuple[str, Names], list[str]] = {}
    for resource, names in impersonated.dimensions:
        in_core = form == "legacy" and resource in ("users", "groups")
        by_names.setdefault(("" if in_core else _AUTHENTICATION, names), []).append(resource)
    verb = "impersonate" if form == "legacy" else f"impersonate:{_MODE}"
    for (group, names), resources in by_names.items():
        rule: dict[str, Any] = {"apiGroups": [group], "resources": resources, "verbs": [verb]}
        yield rule if names is None else rule | {"resourceNames": list(names)}
    if form == "constrained" and by_names:
        # What the identity itself may do is decided by its own rights, after this.
        yield {"apiGroups": ["*"], "resources": ["*"], "verbs": _on(_VERBS)}
        yield {"nonResourceURLs": ["*"], "verbs": _on(_NON_RESOURCE_VERBS)}


def _on(verbs: Iterable[str]) -> list[str]:
    return [f"impersonate-on:{_MODE}:{verb}" for verb in verbs]


def _renewal() -> list[dict[str, Any]]:
    return [
        {
            "apiGroups": [""],
            "resources": ["serviceaccounts/token"],
            "resourceNames": [RELAY_ACCOUNT, AGENT_ACCOUNT],
            "verbs": ["create"],
        }
    ]


def _bound(
    kind: str, name: str, rules: list[dict[str, Any]], holder: Holder
) -> list[dict[str, Any]]:
    """A role, and its binding to the holder."""
    namespace = holder.namespace if kind == "Role" else None
    if holder.namespace is None:
        subject = {"kind": "Group", "name": holder.group, "apiGroup": _RBAC}
    else:
        subject = {"kind": "ServiceAccount", "name": RELAY_ACCOUNT, "namespace": holder.namespace}
    version = f"{_RBAC}/v1"
    return [
        _object(version, kind, name, holder, namespace) | {"rules": rules},
        _object(version, f"{kind}Binding", name, holder, namespace)
        | {
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]


def _object(
    version: str, kind: str, name: str, holder: Holder, namespace: str | None = None
) -> dict[str, Any]:
    """An object's head; by its labels everything of one set of accounts is found again."""
    labels = {"app.kubernetes.io/part-of": "jobgate"}
    if holder.namespace is not None:
        labels["app.kubernetes.io/instance"] = holder.namespace
    metadata = {"name": name, "labels": labels}
    if namespace is not None:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _of_jobs(
    *, agent_id: int | None, config_project_id: int | None, alias: str | None
) -> Impersonated:
    """A job's identity (`core/impersonation.py`): what of it is known before there is a job."""
    extras: dict[str, Names] = {
        "id": None if agent_id is None else (str(agent_id),),
        "config_project_id": None if config_project_id is None else (str(config_project_id),),
        "project_id": None,
        "ci_pipeline_id": None,
        "ci_job_id": None,
        "username": None,
        "environment_slug": None,
        "environment_tier": _TIERS,
    }
    named = {f"agent.gitlab.com/{key}": names for key, names in extras.items()}
    if alias is not None:
        named["jobgate/issuer"] = (alias,)
    return Impersonated(users=None, groups=None, extras=named)


def _with_static(impersonated: Impersonated, static: list[AsIdentity]) -> Impersonated:
    extras = dict(impersonated.extras)
    for identity in static:
        for key, values in identity.extra:
            extras[key.lower()] = _joined(extras.get(key.lower(), ()), values)
    return Impersonated(
        users=_joined(impersonated.users, (identity.username for identity in static)),
        groups=_joined(impersonated.groups, (g for i in static for g in i.groups)),
        uids=_joined(impersonated.uids, (i.uid for i in static if i.uid is not None)),
        extras=extras,
    )


def _joined(names: Names, more: Iterable[str]) -> Names:
    return None if names is None else tuple(sorted({*names, *more}))
