"""A real cluster with its clients, for tests that need nothing else of the stack."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.certificates import CertificateAuthority
from local.kubernetes.binaries import Binaries, binaries
from local.kubernetes.clients import Client, Clients, clients
from local.kubernetes.cluster import Cluster
from local.kubernetes.progress import TerminalProgress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """A running cluster, and kubectl and helm as its administrator."""

    cluster: Cluster
    kubectl: Client
    helm: Client


def prepared() -> tuple[Binaries, Clients]:
    """The programs, built or fetched first where they aren't cached."""
    progress = TerminalProgress(sys.stderr)
    environ = os.environ  # noqa: TID251  tests have no entry point of their own
    return binaries(environ, progress=progress), clients(environ=environ, progress=progress)


@contextlib.contextmanager
def running_kubernetes(folder: Path) -> Iterator[Kubernetes]:
    """Start a cluster in `folder`, and stop it at the end."""
    found, programs = prepared()
    authority = CertificateAuthority.create(folder / "ca")
    with Cluster.start(folder / "cluster", binaries=found, authority=authority) as cluster:
        kubectl = Client(programs.kubectl, cluster.admin_kubeconfig, folder)
        helm = Client(programs.helm, cluster.admin_kubeconfig, folder)
        yield Kubernetes(cluster, kubectl, helm)
