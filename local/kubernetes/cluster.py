"""Starts and stops one cluster: etcd, kube-apiserver, kube-controller-manager, fakelet."""

from __future__ import annotations

import json
import os
import signal
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from local.kubernetes import flags
from local.kubernetes.credentials import make_credentials
from local.process import Child, ChildFailedError, free_port, spawn, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local.certificates import CertificateAuthority
    from local.kubernetes.binaries import Binaries

_PORT_TAKEN = "address already in use"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster. Its folder is private to its owner, as it holds its keys."""

    url: str
    ca: Path  # PEM that clients must trust
    admin_kubeconfig: Path
    audit_log: Path  # one JSON event a line, see local.kubernetes.audit
    logs: Path  # NAMESPACE/POD/CONTAINER.log placed here is what `kubectl logs` shows
    children: tuple[Child, ...]

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        binaries: Binaries,
        authority: CertificateAuthority,
        pick_port: Callable[[], int] = free_port,
    ) -> Self:
        """Start everything in the empty or new `folder`; returns when pods can be created.

        Raises ChildFailedError with the last words of the program that failed; then nothing is
        left running.
        """
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        try:
            return cls._start_once(folder, binaries, authority, pick_port())
        except ChildFailedError as error:
            # The port was free a moment before the API server bound it.
            if _PORT_TAKEN not in str(error):
                raise
        return cls._start_once(folder, binaries, authority, pick_port())

    @classmethod
    def _start_once(
        cls, folder: Path, binaries: Binaries, authority: CertificateAuthority, port: int
    ) -> Self:
        setting = _prepare(folder, authority, port)
        url = f"https://127.0.0.1:{port}"
        ask = _asker(url, authority.certificate, setting.credentials.admin_token)
        children: list[Child] = []

        def launch(name: str, argv: list[str | Path]) -> None:
            log = folder / f"{name}.log"
            env = {"PATH": os.defpath, "HOME": str(folder)}
            # Killed, should we be: asked to end, the API server waits for an etcd that is gone too.
            child = spawn(name, argv, log=log, env=env, cwd=folder, orphan_signal=signal.SIGKILL)
            children.append(child)

        try:
            launch("etcd", flags.etcd_argv(binaries))
            launch("kube-apiserver", flags.kube_apiserver_argv(binaries, setting))
            wait_until(
                lambda: ask("/readyz") == b"ok", children=children, what="The Kubernetes API"
            )
            launch("kube-controller-manager", flags.kube_controller_manager_argv(binaries, setting))
            launch("fakelet", flags.fakelet_argv(binaries, setting))
            wait_until(
                lambda: _takes_pods(ask), children=children, what="The cluster's node", seconds=90
            )
        except BaseException:
            _stop(children)
            raise
        return cls(
            url=url,
            ca=authority.certificate,
            admin_kubeconfig=setting.credentials.kubeconfigs["admin"],
            audit_log=setting.audit_log,
            logs=setting.logs,
            children=tuple(children),
        )

    def stop(self) -> None:
        """End all processes; what they wrote stays in the folder. May be called twice."""
        _stop(self.children)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _stop(children: list[Child] | tuple[Child, ...]) -> None:
    # Last started, first ended: without etcd the API server would linger.
    for child in reversed(children):
        child.stop()


def _prepare(folder: Path, authority: CertificateAuthority, port: int) -> flags.Setting:
    keys = folder / "keys"
    for path in (keys, folder / "pods"):
        path.mkdir(exist_ok=True)
    # etcd refuses a data folder that others may read, and warns of one that it has to make.
    (folder / "etcd").mkdir(mode=0o700, exist_ok=True)
    ca = authority.certificate
    setting = flags.Setting(
        folder=folder,
        port=port,
        ca=ca,
        serving=authority.issue("kube-apiserver", keys),
        fakelet_serving=authority.issue("fakelet", keys),
        credentials=make_credentials(keys, url=f"https://127.0.0.1:{port}", ca=ca),
        audit_policy=folder / "audit-policy.json",
        audit_log=folder / "audit.log",
        logs=folder / "pods",
    )
    setting.audit_policy.write_text(flags.AUDIT_POLICY)
    return setting


def _asker(url: str, ca: Path, token: str) -> Callable[[str], bytes | None]:
    """A function that gives the body of a successful GET, and None for anything else."""
    context = ssl.create_default_context(cafile=str(ca))

    def ask(path: str) -> bytes | None:
        request = urllib.request.Request(  # noqa: S310  https, by `url`
            url + path, headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(request, context=context, timeout=5) as answer:  # noqa: S310  the same
                body: bytes = answer.read()
        except (urllib.error.URLError, OSError):
            return None
        return body

    return ask


def _takes_pods(ask: Callable[[str], bytes | None]) -> bool:
    # A pod needs its namespace's ServiceAccount, which the controllers make, and a node.
    if ask("/api/v1/namespaces/default/serviceaccounts/default") is None:
        return False
    node = ask("/api/v1/nodes/local")
    return node is not None and bool(json.loads(node)["status"].get("conditions"))
