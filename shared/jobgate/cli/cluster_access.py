"""What an agent needs in its cluster, made there with the operator's rights; again is a repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.cli import cluster_rules
from jobgate.cli.cluster_rules import AGENT_ACCOUNT, RELAY_ACCOUNT, Holder
from jobgate.cli.inputs import CredentialFile
from jobgate.cli.snapshots import read_snapshots

if TYPE_CHECKING:
    from jobgate.cli.cluster_rules import Form, Impersonated
    from jobgate.cli.connect import Connected
    from jobgate.cli.operators_cluster import OperatorsCluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The two accounts' new tokens, and what the cluster leaves open (in sentences)."""

    form: Form
    left_open: list[str]
    relay: CredentialFile
    own: CredentialFile


def role_name(namespace: str | None) -> str:
    """The ClusterRole's: with the namespace, so that two sets of accounts share no rights."""
    return "jobgate-relay" if namespace is None else f"jobgate-relay:{namespace}"


def whom_of(
    connected: Connected, alias: str, agent_id: int, project_id: int, *, with_jobs: bool = False
) -> Impersonated:
    """Whom an agent's relay has to act as, by its stored configuration."""
    is_default = connected.registry.issuer(alias).is_default
    snapshot = read_snapshots(connected, alias, [agent_id]).get(agent_id)
    return cluster_rules.of_agent(
        agent_id,
        project_id,
        snapshot,
        alias=None if is_default else alias,
        with_jobs=with_jobs,
    )


def make_access(
    cluster: OperatorsCluster,
    whom: Impersonated,
    *,
    namespace: str,
    agent: str,
    token_seconds: int,
) -> Access:
    """The accounts with the least rights, and a token for each; `agent` names the ClusterRole."""
    form = cluster.impersonation()
    holder = Holder(name=f"{role_name(namespace)}:{agent}", namespace=namespace)
    cluster.apply(cluster_rules.manifests(holder, whom, form))

    def token(account: str) -> CredentialFile:
        found = cluster.create_token(namespace, account, seconds=token_seconds)
        return CredentialFile("token", {"token": found})

    return Access(
        form=form,
        left_open=cluster_rules.open_dimensions(whom, form),
        relay=token(RELAY_ACCOUNT),
        own=token(AGENT_ACCOUNT),
    )
