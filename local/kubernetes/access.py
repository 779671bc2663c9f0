"""Creates, in any cluster, the two accounts that an agent's connection needs.

`jobgate-relay` may impersonate and renew the two accounts' tokens; `jobgate-agent` has the agent's
own rights. The rules are those of `jobgate rbac`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from jobgate.cli import cluster_rules
from jobgate.cli.cluster_rules import AGENT_ACCOUNT, RELAY_ACCOUNT, Holder
from jobgate.cli.rbac import role_name

if TYPE_CHECKING:
    from local.kubernetes.clients import Client


@dataclass(frozen=True, slots=True)
class AgentAccess:
    """The two accounts' bound tokens."""

    namespace: str
    relay_token: str
    agent_token: str

    def __repr__(self) -> str:
        """Without the tokens."""
        return f"AgentAccess(namespace={self.namespace!r})"


def create_access(
    kubectl: Client,
    *,
    namespace: str = "jobgate",
    duration: str = "1h",
) -> AgentAccess:
    """Create both accounts in `namespace`, which is made too, and a token for each.

    `duration` is kubectl's form and at least `10m`. Raises ClientFailedError.
    """
    text = "\n---\n".join(
        yaml.safe_dump(document, sort_keys=False) for document in manifests(namespace)
    )
    kubectl.must("apply", "--filename", "-", stdin=text)

    def token(account: str) -> str:
        printed = kubectl.must(
            "create", "token", account, f"--namespace={namespace}", f"--duration={duration}"
        )
        return printed.strip()

    return AgentAccess(namespace, token(RELAY_ACCOUNT), token(AGENT_ACCOUNT))


def grant_agent(
    kubectl: Client, *, access_namespace: str, target_namespace: str, cluster_role: str = "edit"
) -> None:
    """Give the agent's own account the rights of `cluster_role` in `target_namespace`."""
    kubectl.must(
        "create",
        "rolebinding",
        f"{AGENT_ACCOUNT}-{access_namespace}",
        f"--namespace={target_namespace}",
        f"--clusterrole={cluster_role}",
        f"--serviceaccount={access_namespace}:{AGENT_ACCOUNT}",
    )


def remove_access(kubectl: Client, *, namespace: str = "jobgate", wait: bool = True) -> None:
    """Remove all that `create_access` created, the namespace included."""
    text = "\n---\n".join(yaml.safe_dump(document) for document in manifests(namespace))
    kubectl.must(
        "delete",
        "--filename=-",
        "--ignore-not-found",
        f"--wait={str(wait).lower()}",
        stdin=text,
        seconds=120,
    )


def manifests(namespace: str) -> list[dict[str, object]]:
    """What `create_access` applies."""
    holder = Holder(name=role_name(namespace), namespace=namespace)
    return cluster_rules.manifests(holder, cluster_rules.of_any_agent(), "constrained")
