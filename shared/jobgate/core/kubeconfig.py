"""The kubeconfig that a job gets (Kubernetes, "Organizing Cluster Access Using kubeconfig Files").

Named as GitLab names them: context `<configuration project>:<agent>`, user `agent:<id>`. Written as
JSON, which is YAML.
"""

from __future__ import annotations

import base64
import datetime as dt
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobgate.core.authorization import Grant

_EXEC_API = "client.authentication.k8s.io/v1"
# kubectl asks for another credential so long before the token ends.
_RENEWED_SECONDS = 60
# The ID token goes from the environment through the shell's own printf to curl's standard input, so
# that no process list ever shows it. kubectl prints what a plugin writes to standard error alone.
_CREDENTIAL_SCRIPT = """\
if [ -n "${JOBGATE_ID_TOKEN_FILE:-}" ]; then
  JOBGATE_ID_TOKEN=$(cat "$JOBGATE_ID_TOKEN_FILE") || exit 1
fi
if [ -z "${JOBGATE_ID_TOKEN:-}" ]; then
  echo "Jobgate: set JOBGATE_ID_TOKEN or JOBGATE_ID_TOKEN_FILE to the job's ID token." >&2
  exit 1
fi
answer=$(printf %s "$JOBGATE_ID_TOKEN" | curl -q -sS --max-time 40 --fail-with-body \\
  --data-urlencode token@- "$JOBGATE_CREDENTIAL_URL") || {
  status=$?
  printf 'Jobgate: %s\\n' "$answer" >&2
  exit "$status"
}
printf '%s\\n' "$answer"
"""


def relay_url(base_url: str, agent_id: int) -> str:
    """Where an agent's cluster answers."""
    return f"{base_url}/agents/{agent_id}"


def kubeconfig(
    grants: Sequence[Grant], *, access_token: str, base_url: str, ca: str | None
) -> dict[str, Any]:
    """A context for each grant; `current-context` only where there is exactly one.

    `ca` is PEM text, given only where the deployment's own certificate isn't publicly trusted.
    """
    users = [{"token": access_token} for _ in grants]
    return _config(grants, users, base_url=base_url, ca=ca)


def exec_kubeconfig(grants: Sequence[Grant], *, base_url: str, ca: str | None) -> dict[str, Any]:
    """The same without a token: kubectl fetches one for each context, and again before it ends.

    The plugin needs a shell, curl >= 7.76 and the job's ID token in its environment; each token is
    good for its context's agent alone.
    """
    users = [{"exec": _plugin(grant, base_url)} for grant in grants]
    return _config(grants, users, base_url=base_url, ca=ca)


def exec_credential(access_token: str, *, expires_at: int) -> dict[str, Any]:
    """What kubectl expects of its plugin (Kubernetes, ExecCredential)."""
    renewed_at = dt.datetime.fromtimestamp(expires_at - _RENEWED_SECONDS, dt.UTC)
    return {
        "apiVersion": _EXEC_API,
        "kind": "ExecCredential",
        "status": {
            "expirationTimestamp": renewed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "token": access_token,
        },
    }


def _config(
    grants: Sequence[Grant], users: Sequence[dict[str, Any]], *, base_url: str, ca: str | None
) -> dict[str, Any]:
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
            {"name": f"agent:{grant.agent_id}", "user": user}
            for grant, user in zip(grants, users, strict=True)
        ],
        "contexts": [{"name": grant.context, "context": _context(grant)} for grant in grants],
    }
    if len(grants) == 1:
        config["current-context"] = grants[0].context
    return config


def _plugin(grant: Grant, base_url: str) -> dict[str, Any]:
    url = f"{base_url}/credential?agent={quote(grant.context, safe='')}"
    return {
        "apiVersion": _EXEC_API,
        "command": "sh",
        "args": ["-c", _CREDENTIAL_SCRIPT],
        "env": [{"name": "JOBGATE_CREDENTIAL_URL", "value": url}],
        "interactiveMode": "Never",
    }


def _context(grant: Grant) -> dict[str, str]:
    names = {"cluster": f"agent:{grant.agent_id}", "user": f"agent:{grant.agent_id}"}
    return names if grant.namespace is None else names | {"namespace": grant.namespace}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
