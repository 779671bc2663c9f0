"""A cluster that the user has already, by its kubeconfig: kind, minikube or any other."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from local.kubernetes.clients import Client

if TYPE_CHECKING:
    from pathlib import Path

    from local.kubernetes.clients import Clients
    from local.process import Child


class UnfitClusterError(Exception):
    """A kubeconfig that can't be used; the text tells a person why."""


@dataclass(frozen=True, slots=True)
class ExistingCluster:
    """Somebody's cluster, as its kubeconfig's current context describes it. Nothing is started."""

    url: str
    ca: Path | None  # PEM; None where its certificate is publicly trusted
    admin_kubeconfig: Path
    audit_log: None = None
    children: tuple[Child, ...] = ()

    @classmethod
    def read(cls, kubeconfig: Path, folder: Path, *, clients: Clients) -> Self:
        """Read the current context, and copy the kubeconfig to `folder`. Raises UnfitClusterError.

        A copy, so that nothing that is done here changes the user's own file.
        """
        if not kubeconfig.is_file():
            raise UnfitClusterError(f"There is no kubeconfig {kubeconfig}.")
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / "kubeconfig"
        copy.touch(mode=0o600)
        shutil.copyfile(kubeconfig, copy)
        answer = Client(clients.kubectl, kubeconfig, folder).run(
            "config", "view", "--minify", "--flatten", "--raw", "--output=json"
        )
        clusters = json.loads(answer.out)["clusters"] if answer.code == 0 else None
        if not clusters:
            raise UnfitClusterError(f"{kubeconfig} has no current context: {answer.err.strip()}")
        cluster = clusters[0]["cluster"]
        if not cluster["server"].startswith("https://"):
            raise UnfitClusterError(f"The cluster of {kubeconfig} isn't reached by https.")
        return cls(cluster["server"].rstrip("/"), _ca(cluster, folder), copy)

    def stop(self) -> None:
        """Leave it as it is."""


def _ca(cluster: dict[str, str], folder: Path) -> Path | None:
    data = cluster.get("certificate-authority-data")
    if data is None:
        return None
    ca = folder / "ca.crt"
    ca.write_bytes(base64.b64decode(data))
    return ca
