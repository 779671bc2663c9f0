"""`jobgate agent register`: from a kubeconfig's context, from credential files, or for EKS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jobgate.adapters.refresh_queue import SQSRefreshQueue
from jobgate.cli import (
    agent_diagnosis,
    cluster_access,
    cluster_credentials,
    gitlab_calls,
    inputs,
    registration,
    relay_check,
)
from jobgate.cli.connect import AsJSON, Connected, IssuerAlias, StackName, connect
from jobgate.cli.errors import FINDINGS
from jobgate.cli.finding import Finding
from jobgate.cli.inputs import CredentialFile
from jobgate.cli.operators_cluster import OperatorsCluster
from jobgate.core.agent import EKSCredential
from jobgate.core.errors import InvalidRequest

Namespace = Annotated[
    str, typer.Option("--namespace", help="Where the two ServiceAccounts are, in the cluster.")
]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="In place of kubectl's usual files.")
]
_Given = CredentialFile | EKSCredential
_PAUSE_SECONDS = 5.0
_REREAD_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the cluster is; `cluster` is how the operator reaches it, for --from-context alone."""

    server: str
    ca: str | None
    tls_server_name: str | None
    cluster: OperatorsCluster | None


def register(
    context: typer.Context,
    project: Annotated[str, typer.Argument(metavar="GROUP/PROJECT")],
    name: Annotated[str, typer.Argument(help="The folder's name below .gitlab/agents.")],
    *,
    stack: StackName,
    from_context: Annotated[
        str | None,
        typer.Option(
            "--from-context",
            metavar="NAME",
            help="Make the accounts and their tokens with this kubeconfig context's rights.",
        ),
    ] = None,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = "jobgate",
    agent_mode: Annotated[
        bool,
        typer.Option(
            "--agent-mode/--no-agent-mode",
            help="With --from-context: whether `access_as: agent` may be used.",
        ),
    ] = True,
    token_hours: Annotated[
        int, typer.Option("--token-hours", min=1, help="With --from-context: the tokens' life.")
    ] = 24,
    server: Annotated[
        str | None,
        typer.Option("--server", help="The Kubernetes API's https URL, as the relay reaches it."),
    ] = None,
    credential_file: Annotated[
        Path | None,
        typer.Option(
            "--credential-file",
            help="The relay's credential, which may impersonate: a token, JSON, or PEM.",
        ),
    ] = None,
    eks: Annotated[
        str | None,
        typer.Option(
            "--eks",
            metavar="REGION/CLUSTER",
            help="In place of the file: an EKS cluster, by the relay's own identity.",
        ),
    ] = None,
    eks_role: Annotated[
        str | None,
        typer.Option("--eks-role", metavar="ARN", help="The role that the relay assumes for it."),
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="The cluster's CA, as PEM.")] = None,
    tls_server_name: Annotated[
        str | None,
        typer.Option("--tls-server-name", help="The certificate's name, if it isn't the URL's."),
    ] = None,
    agent_credential_file: Annotated[
        Path | None,
        typer.Option(
            "--agent-credential-file",
            help="The agent's own rights, for `access_as: agent`; without it that is refused.",
        ),
    ] = None,
    agent_eks_role: Annotated[
        str | None,
        typer.Option(
            "--agent-eks-role", metavar="ARN", help="The same, as a role that the relay assumes."
        ),
    ] = None,
    allow_client_impersonation: Annotated[
        bool,
        typer.Option(
            "--allow-client-impersonation",
            help="In agent mode let kubectl choose: --as, --as-group, --as-uid, --as-user-extra.",
        ),
    ] = False,
    wanted_id: Annotated[
        int | None, typer.Option("--id", help="Take over the id of one of GitLab's own agents.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Try the way to the cluster once, through the relay."
        ),
    ] = True,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Register an agent. The same command again repairs it, and renews its credentials.

    Exit code 1 where it is registered, and its way to the cluster doesn't work yet.
    """
    name = inputs.agent_name(name)
    namespace = inputs.namespace(namespace, "--namespace")
    if wanted_id is not None:
        inputs.taken_over_id(wanted_id)
    given: tuple[_Given, _Given | None] | None = None
    if from_context is None:
        relay = cluster_credentials.relay_credential(credential_file, eks, eks_role)
        own = cluster_credentials.agent_credential(agent_credential_file, eks, agent_eks_role)
        given = relay, own
        has_own = own is not None
    elif (credential_file, eks, eks_role, agent_credential_file, agent_eks_role) != (None,) * 5:
        raise InvalidRequest("--from-context makes the credentials: give no others.")
    else:
        has_own = agent_mode
    if given is not None and given[0] == given[1]:
        raise InvalidRequest("The agent's own rights can't be the relay's: name another role.")
    if allow_client_impersonation and not has_own:
        raise InvalidRequest(
            "--allow-client-impersonation needs rights of the agent's own: --agent-mode, "
            "--agent-credential-file, or --agent-eks-role."
        )
    place = _place(from_context, kubeconfig, server, ca, tls_server_name)
    connected = connect(context, stack, as_json=as_json)
    connected.registry.known_base_url()
    chosen = connected.registry.issuer(issuer)
    agent = registration.NewAgent(
        issuer=chosen.alias,
        project=gitlab_calls.read_project(connected, chosen, project),
        name=name,
        server=place.server,
        ca=place.ca,
        allow_client_impersonation=allow_client_impersonation,
        tls_server_name=place.tls_server_name,
        wanted_id=wanted_id,
    )
    agent_id = registration.reserve(connected.table, agent)
    if place.cluster is not None:
        access = _made(
            connected, place.cluster, agent, agent_id, namespace=namespace, hours=token_hours
        )
        given = access.relay, access.own if agent_mode else None
    assert given is not None  # noqa: S101  one of the two ways
    registration.register(
        connected.aws, connected.stack, connected.table, agent, agent_id, credentials=given
    )
    # Each with an id of its own: the registration is new, even where the last commit isn't.
    queue = SQSRefreshQueue(connected.aws, connected.stack.refresh_queue_url)
    queue.send(agent.issuer, agent.project.project_id, deduplication_id=None)
    findings = _tried(connected, agent, agent_id) if check else None
    _tell(connected, agent, agent_id, has_own=has_own, findings=findings)
    if any(finding.severity == "fault" for finding in findings or ()):
        raise typer.Exit(FINDINGS)


def _place(
    from_context: str | None,
    kubeconfig: Path | None,
    server: str | None,
    ca: Path | None,
    tls_server_name: str | None,
) -> _Place:
    """The context's cluster, or the options; options win."""
    cluster = None
    if from_context is not None:
        cluster = OperatorsCluster.read(from_context, kubeconfig)
    elif server is None:
        raise InvalidRequest("Give --from-context, or --server with a credential.")
    authority = None if ca is None else inputs.read_file(ca, "--ca")
    name = tls_server_name
    if cluster is not None:
        authority, name = authority or cluster.ca, name or cluster.tls_server_name
        server = server or cluster.server
    return _Place(
        server=inputs.https_url(server or "", "--server"),
        ca=None if authority is None else inputs.certificate_authority(authority, "--ca"),
        tls_server_name=None if name is None else inputs.host_name(name),
        cluster=cluster,
    )


def _made(
    connected: Connected,
    cluster: OperatorsCluster,
    agent: registration.NewAgent,
    agent_id: int,
    *,
    namespace: str,
    hours: int,
) -> cluster_access.Access:
    output, alias = connected.output, agent.issuer
    project_id = agent.project.project_id
    access = cluster_access.make_access(
        cluster,
        cluster_access.whom_of(connected, alias, agent_id, project_id, with_jobs=True),
        namespace=namespace,
        agent=f"{alias}:{agent_id}",
        token_seconds=hours * 3600,
    )
    output.say(
        f"Made jobgate-relay and jobgate-agent in {namespace}, with the least RBAC "
        f"({access.form} impersonation). What the cluster leaves open to the relay's own guard:"
    )
    for sentence in access.left_open:
        output.say(f"- {sentence}")
    return access


def _tried(connected: Connected, agent: registration.NewAgent, agent_id: int) -> list[Finding]:
    """The whole way once; a warm relay learns of what is new in a while.

    Of GitLab instances and keys within IssuersMaxAgeSeconds, of a repaired credential some seconds
    after the cluster has refused the former one.
    """
    connected.output.progress("the way through the relay to the cluster")
    found: list[Finding] = []
    for asked in range(max(1, round(connected.stack.bounds.issuers_max_age / _PAUSE_SECONDS))):
        if asked:
            connected.output.progress("the relay doesn't know the deployment's state yet")
            connected.outside.sleep(_PAUSE_SECONDS)
        answer = relay_check.ask_relay(connected, agent.issuer, agent_id)
        context = f"agent {agent.project.path}:{agent.name}"
        found = list(agent_diagnosis.of_cluster(context, answer))
        is_stale = any(finding.code == "credential_refused" for finding in found)
        if answer.error != relay_check.NOT_KNOWN_YET and not (is_stale and asked < _REREAD_TRIES):
            break
    return found


def _tell(
    connected: Connected,
    agent: registration.NewAgent,
    agent_id: int,
    *,
    has_own: bool,
    findings: list[Finding] | None,
) -> None:
    """Have the registration take effect, and say what is next."""
    found, output = agent.project, connected.output
    output.say(f"Registered {found.path}:{agent.name} as agent {agent_id} of {agent.issuer!r}.")
    if not has_own:
        output.say("It has no credential of its own, so `access_as: agent` is refused.")
    for finding in findings or ():
        output.say(f"{finding.text} To mend it: {finding.fix}.")
    if findings == []:
        output.say(
            "Tried through the relay: the cluster takes a job, and both accounts have the rights "
            "that they should have."
        )
    branch = found.default_branch or "the default branch"
    output.say(f"Next: push .gitlab/agents/{agent.name}/config.yaml to {branch} of {found.path}.")
    output.result(
        {"id": agent_id, "issuer": agent.issuer, "name": agent.name, "project_id": found.project_id}
        | {"context": f"{found.path}:{agent.name}", "agent_mode": has_own}
        | {"findings": None if findings is None else [finding.code for finding in findings]}
    )
