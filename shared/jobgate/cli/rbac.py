"""`jobgate rbac`: the least rights for the relay's account, as objects to apply."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from jobgate.cli import agents, cluster_rules, inputs
from jobgate.cli.cluster_rules import Form, Holder
from jobgate.cli.connect import AsJSON, IssuerAlias, connect
from jobgate.cli.operators_cluster import OperatorsCluster
from jobgate.cli.output import Output
from jobgate.cli.snapshots import read_snapshots
from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from jobgate.cli.cluster_rules import Impersonated
    from jobgate.cli.connect import Connected

Namespace = Annotated[
    str, typer.Option("--namespace", help="Where the two ServiceAccounts are, in the cluster.")
]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="In place of kubectl's usual files.")
]


def rbac(
    context: typer.Context,
    *,
    cluster: Annotated[
        str | None,
        typer.Option("--context", help="Ask this context's cluster which form it has."),
    ] = None,
    impersonation: Annotated[
        Form | None,
        typer.Option(help="The form: constrained is on from Kubernetes 1.36."),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent", metavar="ID|PROJECT:NAME", help="Exactly what its configuration names."
        ),
    ] = None,
    namespace: Namespace = "jobgate",
    group: Annotated[
        str | None,
        typer.Option("--group", help="A group has the rights (EKS), not a ServiceAccount."),
    ] = None,
    kubeconfig: Kubeconfig = None,
    stack: Annotated[
        str | None,
        typer.Option("--stack", envvar="JOBGATE_STACK", help="Needed with --agent."),
    ] = None,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Print the least RBAC for the relay, to be read and then applied by kubectl."""
    namespace = inputs.namespace(namespace, "--namespace")
    if (cluster is None) == (impersonation is None):
        raise InvalidRequest("Give --context, or say --impersonation constrained or legacy.")
    form: Form = impersonation or OperatorsCluster.read(cluster, kubeconfig).impersonation()
    name = role_name(namespace if group is None else None)
    whom = cluster_rules.of_any_agent(alias=issuer)
    output = Output(as_json=as_json)
    if agent is not None:
        if stack is None:
            raise InvalidRequest("--agent needs --stack, or JOBGATE_STACK.")
        connected = connect(context, stack, as_json=as_json)
        alias = connected.registry.issuer(issuer).alias
        agent_id, (project_id, _) = agents.find(connected, alias, agent)
        name += f":{alias}:{agent_id}"
        whom = whom_of(connected, alias, agent_id, project_id)
    holder = Holder(name=name, namespace=namespace if group is None else None, group=group)
    _print(output, holder, whom, form)


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


def _print(output: Output, holder: Holder, whom: Impersonated, form: Form) -> None:
    found = cluster_rules.manifests(holder, whom, form)
    left_open = cluster_rules.open_dimensions(whom, form)
    output.say(f"# Impersonation: {form}. What the cluster leaves open:")
    for sentence in left_open or ["nothing: all names are fixed."]:
        output.say(f"# - {sentence}")
    output.say(f"# {cluster_rules.WARNING}")
    for line in yaml.safe_dump_all(found, sort_keys=False, explicit_start=True).splitlines():
        output.say(line)
    items: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": found}
    output.result({"v": 1, "impersonation": form, "open": left_open, "manifests": items})
