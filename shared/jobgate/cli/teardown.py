"""`jobgate teardown`: takes a deployment away, and says what of it stays.

From the outside in, so that a run that breaks off leaves nothing that nobody knows of, and the same
command again completes it: GitLab's webhooks, the accounts in clusters, the clusters' stored
credentials, with `--with-state` the table and the keys, last the stack. Whatever is gone already is
no error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items
from jobgate.cli import agent_ids, stored_secrets
from jobgate.cli.cluster_access import role_name
from jobgate.cli.cluster_rules import Holder, Impersonated, manifests
from jobgate.cli.errors import Refused
from jobgate.cli.teardown_hooks import keep_in_mind, remove_webhooks, webhooks
from jobgate.core.agent import EKSCredential
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobgate.cli.connect import Connected
    from jobgate.cli.operators_cluster import OperatorsCluster
    from jobgate.cli.teardown_hooks import Webhook
    from jobgate.core.agent import ClusterConnection

_KEY_DAYS = 30
_STACK_SECONDS = 3600  # functions in subnets give their interfaces back slowly
_POLL_SECONDS = 5.0
_PAGES_MAX = 100


@dataclass(frozen=True, slots=True)
class Left:
    """What stays, and how it's removed."""

    what: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What an operator wants; `clusters` are those that the operator reaches."""

    clusters: Sequence[OperatorsCluster]
    namespace: str
    keep_hooks: bool
    with_state: bool


def teardown(connected: Connected, removal: Removal, *, yes: bool) -> None:
    """Remove it. Without `yes` say what would go and what would stay, and raise Refused."""
    hooks, agents = webhooks(connected), list(_agents(connected))
    staying = hooks if removal.keep_hooks else []
    if not yes:
        left = [*_left(connected, removal, staying, agents)]
        _plan(connected, removal, hooks, agents, left)
        raise Refused("Nothing was removed: run it again with --yes.")
    if hooks and not removal.keep_hooks:
        staying = remove_webhooks(connected, hooks)
    left = [*_left(connected, removal, staying, agents)]
    objects = [name for agent in agents for name in _remove_accounts(removal, agent)]
    secrets = _remove_secrets(connected)
    if removal.with_state:
        keep_in_mind(connected, staying)
        _remove_state(connected)
    _remove_stack(connected)
    output = connected.output
    output.say(f"Removed the stack {connected.stack.name!r}, with its logs.")
    _say_left(connected, left)
    output.result(
        {
            "stack": connected.stack.name,
            "hooks": [f"{h.scope.kind} {h.scope.id}" for h in hooks if h not in staying],
            "cluster_objects": objects,
            "secrets": secrets,
            "left": [asdict(each) for each in left],
        }
    )


# --- What there is ---


def _agents(connected: Connected) -> Iterator[ClusterConnection]:
    if not connected.table.is_there():
        return
    for alias in connected.registry.issuers():
        known = agent_ids.read(connected.table.get(items.agent_ids_key(alias)))
        for agent_id in sorted(known.names.values()):
            found = agent_items.cluster_of(connected.table.get(items.cluster_key(alias, agent_id)))
            if found is not None:
                yield found


# --- Steps ---


def _remove_accounts(removal: Removal, agent: ClusterConnection) -> list[str]:
    """Remove from its cluster what `agent register --from-context` made for an agent."""
    cluster = next((c for c in removal.clusters if c.server == agent.server), None)
    if cluster is None or isinstance(agent.relay_credential, EKSCredential):
        return []
    name = f"{role_name(removal.namespace)}:{agent.issuer}:{agent.agent_id}"
    holder = Holder(name=name, namespace=removal.namespace)
    made = manifests(holder, Impersonated(extras={}), "legacy")
    # The namespace may hold what is somebody else's.
    return cluster.delete(each for each in reversed(made) if each["kind"] != "Namespace")


def _remove_secrets(connected: Connected) -> list[str]:
    """Every credential of a cluster, also one whose agent the table has lost."""
    prefix = connected.stack.cluster_secret_prefix
    request: dict[str, Any] = {"Filters": [{"Key": "name", "Values": [prefix]}]}
    names: list[str] = []
    for _ in range(_PAGES_MAX):
        page = connected.aws("secretsmanager", "ListSecrets", request)
        names += [each["Name"] for each in page["SecretList"] if each["Name"].startswith(prefix)]
        if not page.get("NextToken"):
            break
        request["NextToken"] = page["NextToken"]
    for name in names:
        stored_secrets.delete(connected.aws, name)
    return sorted(names)


def _remove_state(connected: Connected) -> None:
    if connected.table.is_there():
        table = {"TableName": connected.stack.table}
        connected.aws("dynamodb", "UpdateTable", table | {"DeletionProtectionEnabled": False})
        connected.aws("dynamodb", "DeleteTable", table)
    for key in (connected.stack.signing_key_a, connected.stack.signing_key_b):
        found = connected.aws("kms", "DescribeKey", {"KeyId": key})["KeyMetadata"]
        if found["KeyState"] != "PendingDeletion":
            request = {"KeyId": found["KeyId"], "PendingWindowInDays": _KEY_DAYS}
            connected.aws("kms", "ScheduleKeyDeletion", request)


def _remove_stack(connected: Connected) -> None:
    """Delete the stack and wait for it; raises Unavailable where CloudFormation can't."""
    name = {"StackName": connected.stack.name}
    # A stack that is gone is found by its id alone.
    (found,) = connected.aws("cloudformation", "DescribeStacks", name)["Stacks"]
    by_id = {"StackName": found["StackId"]}
    connected.aws("cloudformation", "DeleteStack", name)
    connected.output.progress("CloudFormation deletes the stack")
    deadline = connected.outside.clock() + _STACK_SECONDS
    while True:
        stack = connected.aws("cloudformation", "DescribeStacks", by_id)["Stacks"][0]
        if stack["StackStatus"] == "DELETE_COMPLETE":
            return
        if stack["StackStatus"] == "DELETE_FAILED":
            why = stack.get("StackStatusReason", "see its events")
            raise Unavailable(f"CloudFormation couldn't delete the stack: {why}")
        if connected.outside.clock() > deadline:
            raise Unavailable("The stack is still being deleted: run this again later.")
        connected.outside.sleep(_POLL_SECONDS)


# --- What is said ---


def _left(
    connected: Connected,
    removal: Removal,
    hooks: Sequence[Webhook],
    agents: Sequence[ClusterConnection],
) -> Iterator[Left]:
    stack = connected.stack
    if removal.with_state:
        yield Left(f"the signing keys, until they are deleted in {_KEY_DAYS} days", "nothing to do")
    else:
        yield Left(f"the table {stack.table}, protected from deletion", "teardown --with-state")
        for key in (stack.signing_key_a, stack.signing_key_b):
            yield Left(f"the signing key {key}", "teardown --with-state")
    yield Left("the stack's own secrets, in recovery for 30 days", "nothing to do")
    yield Left("the role that API Gateway logs with, if the stack made it", "IAM, if unused")
    yield Left("the bucket of `sam deploy --resolve-s3`", "the stack aws-sam-cli-managed-default")
    for hook in hooks:
        how = "delete it in GitLab" + ("" if removal.keep_hooks else ": the token doesn't see it")
        yield Left(str(hook), how)
    yield Left("GitLab's tokens that were stored", "revoke them in GitLab")
    reached = {cluster.server for cluster in removal.clusters}
    for agent in agents:
        if isinstance(agent.relay_credential, EKSCredential):
            yield Left(f"the access entry of agent {agent.agent_id} in EKS", "delete it in EKS")
        elif agent.server not in reached:
            yield Left(
                f"the accounts of agent {agent.agent_id} at {agent.server}",
                "name its --context, or delete what is labelled app.kubernetes.io/part-of=jobgate",
            )
        else:
            yield Left(
                f"the namespace {removal.namespace} at {agent.server}", "delete it, if unused"
            )


def _plan(
    connected: Connected,
    removal: Removal,
    hooks: Sequence[Webhook],
    agents: Sequence[ClusterConnection],
    left: Sequence[Left],
) -> None:
    output, stack = connected.output, connected.stack
    reached = {cluster.server for cluster in removal.clusters}
    gone = [
        *(str(hook) for hook in hooks if not removal.keep_hooks),
        *(f"the accounts of agent {a.agent_id}" for a in agents if a.server in reached),
        f"the clusters' credentials below {stack.cluster_secret_prefix}",
        *([f"the table {stack.table} and the signing keys"] if removal.with_state else []),
        f"the stack {stack.name!r}, with its logs; the operators' are in {stack.operator_log}",
    ]
    for each in gone:
        output.say(f"Removes {each}.")
    _say_left(connected, left)
    output.result({"removes": gone, "left": [asdict(each) for each in left]})


def _say_left(connected: Connected, left: Sequence[Left]) -> None:
    connected.output.table(("stays", "how it goes"), [(each.what, each.how) for each in left])
