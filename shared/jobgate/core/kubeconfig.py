"""The kubeconfig that a job gets (Kubernetes, "Organizing Cluster Access Using kubeconfig Files").

Named as GitLab names them: context `<configuration project>:<agent>`, user `agent:<id>`. Written as
JSON, which is YAML.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobgate.core.authorization import Grant


def relay_url(base_url: str, agent_id: int) -> str:
    """Where an agent's cluster answers."""
    return f"{base_url}/agents/{agent_id}"


def kubeconfig(
    grants: Sequence[Grant], *, access_token: str, base_url: str, ca: str | None
) -> dict[str, Any]:
    """A context for each grant; `current-context` only where there is exactly one.

    `ca` is PEM text, given only where the deployment's own certificate isn't publicly trusted.
    """
    trust = {} if ca is None else {"certificate-authority-data": _base64(ca)}
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": f"agent:{grant.agent_id}",
                "cluster": {"server": relay_url(base_url, grant.agent_id), **trust},
            }
            for grant in grants
        ],
        "users": [
            {"name": f"agent:{grant.agent_id}", "user": {"token": access_token}} for grant in grants
        ],
        "contexts": [{"name": grant.context, "context": _context(grant)} for grant in grants],
    }
    if len(grants) == 1:
        config["current-context"] = grants[0].context
    return config


def _context(grant: Grant) -> dict[str, str]:
    names = {"cluster": f"agent:{grant.agent_id}", "user": f"agent:{grant.agent_id}"}
    return names if grant.namespace is None else names | {"namespace": grant.namespace}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
