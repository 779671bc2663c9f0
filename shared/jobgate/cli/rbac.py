"""`jobgate rbac`: the least rights for the relay's account, as objects to apply."""

from typing import Annotated, Any

import typer
import yaml

from jobgate.cli import agents, cluster_rules, inputs
from jobgate.cli.agent_register import Kubeconfig, Namespace
from jobgate.cli.cluster_access import role_name, whom_of
from jobgate.cli.cluster_rules import Form, Holder, Impersonated
from jobgate.cli.connect import AsJSON, IssuerAlias, connect
from jobgate.cli.operators_cluster import OperatorsCluster
from jobgate.cli.output import Output
from jobgate.core.errors import InvalidRequest


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
