"""The command line of each of the cluster's programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from local.certificates import ServerCertificate
    from local.kubernetes.binaries import Binaries
    from local.kubernetes.credentials import Credentials

# Bodies tell what a request did. They stay out of the log where they carry a secret.
AUDIT_POLICY = json.dumps(
    {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Metadata",
                "resources": [
                    {"group": "", "resources": ["secrets", "serviceaccounts/token"]},
                    {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
                ],
            },
            {"level": "RequestResponse"},
        ],
    },
    indent=2,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the command lines are made from."""

    folder: Path
    port: int
    ca: Path
    serving: ServerCertificate
    fakelet_serving: ServerCertificate
    credentials: Credentials
    audit_policy: Path
    audit_log: Path
    logs: Path


def etcd_argv(binaries: Binaries) -> list[str | Path]:
    """Etcd, on sockets in the folder (relative, as a socket's path holds about 100 bytes)."""
    return [
        binaries.etcd,
        "--data-dir=etcd",
        "--unsafe-no-fsync",
        "--log-level=error",
        "--listen-client-urls=unix://etcd.sock",
        "--advertise-client-urls=http://localhost:2379",  # must be given, and nobody reads it
        "--listen-peer-urls=unix://etcd-peer.sock",
    ]


def kube_apiserver_argv(binaries: Binaries, setting: Setting) -> list[str | Path]:
    """The API server. Anonymous requests stay allowed, as in clusters that users have.

    RBAC gives them health, version and nothing else.
    """
    made = setting.credentials
    return [
        binaries.kube_apiserver,
        "--etcd-servers=unix://etcd.sock",
        "--bind-address=127.0.0.1",
        f"--secure-port={setting.port}",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",  # a loopback address is no valid endpoint
        f"--tls-cert-file={setting.serving.certificate}",
        f"--tls-private-key-file={setting.serving.key}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={made.tokens}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={made.service_account_key}",
        f"--service-account-key-file={made.service_account_key}",
        "--service-cluster-ip-range=10.0.0.0/24",
        f"--kubelet-certificate-authority={setting.ca}",
        f"--kubelet-client-certificate={made.kubelet_client_certificate}",
        f"--kubelet-client-key={made.kubelet_client_key}",
        f"--audit-policy-file={setting.audit_policy}",
        f"--audit-log-path={setting.audit_log}",
        # A request is answered only after its record is written: who reads the log misses nothing.
        "--audit-log-mode=blocking-strict",
    ]


def kube_controller_manager_argv(binaries: Binaries, setting: Setting) -> list[str | Path]:
    """The controllers, less the two that would take the pods of a node without heartbeats."""
    return [
        binaries.kube_controller_manager,
        f"--kubeconfig={setting.credentials.kubeconfigs['kube-controller-manager']}",
        "--leader-elect=false",
        "--secure-port=0",
        "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller",
        f"--service-account-private-key-file={setting.credentials.service_account_key}",
        f"--root-ca-file={setting.ca}",
    ]


def fakelet_argv(binaries: Binaries, setting: Setting) -> list[str | Path]:
    """The node."""
    return [
        binaries.fakelet,
        f"-kubeconfig={setting.credentials.kubeconfigs['fakelet']}",
        f"-logs={setting.logs}",
        f"-tls-cert={setting.fakelet_serving.certificate}",
        f"-tls-key={setting.fakelet_serving.key}",
        f"-client-ca={setting.credentials.kubelet_client_certificate}",
    ]
