"""Creates, in any cluster, the two accounts that an agent's connection needs.

`jobgate-relay` may impersonate and renew the two accounts' tokens; `jobgate-agent` has the agent's
own rights. See `manifests/access.yaml` for the rules and their reasons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.kubernetes.clients import Client

RELAY_ACCOUNT = "jobgate-relay"
AGENT_ACCOUNT = "jobgate-agent"
_MANIFEST = Path(__file__).parent / "manifests" / "access.yaml"
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # a DNS label, RFC 1123


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
    extra_keys: Sequence[str] = (),
    duration: str = "1h",
) -> AgentAccess:
    """Create both accounts in `namespace`, which is made too, and a token for each.

    `extra_keys` are those that static identities set beyond a job's own; `duration` is kubectl's
    form and at least `10m`. Raises ClientFailedError.
    """
    text = "\n---\n".join(
        yaml.safe_dump(document, sort_keys=False) for document in manifests(namespace, extra_keys)
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


def manifests(namespace: str, extra_keys: Sequence[str] = ()) -> list[dict[str, object]]:
    """What `create_access` applies. Raises ValueError for what is no namespace's name."""
    if _NAMESPACE.fullmatch(namespace) is None:
        raise ValueError(f"{namespace!r} is no name of a namespace.")
    text = _MANIFEST.read_text().replace("NAMESPACE", namespace)
    documents = list(yaml.safe_load_all(text))
    (role,) = (document for document in documents if document["kind"] == "ClusterRole")
    role["rules"][-1]["resources"] += [f"userextras/{key}" for key in extra_keys]
    return documents
