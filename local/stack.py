"""Everything at once: Kubernetes, GitLab, AWS with the product deployed, the gateway before it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from local.aws import AWS
from local.aws.log_delivery import LogDelivery
from local.aws.target import UnfitBuildError
from local.certificates import CertificateAuthority
from local.gateway import Gateway
from local.gateway.api import read_api
from local.gateway.environment import Runtime
from local.gateway.functions import read_functions
from local.gateway.runtime_folder import prepare_runtime
from local.gateway.settings import Settings
from local.gitlab.server import GitLab
from local.kubernetes.binaries import BinariesUnavailableError, binaries
from local.kubernetes.cache import cache_root
from local.kubernetes.clients import (
    Client,
    ClientFailedError,
    Clients,
    ClientsUnavailableError,
    clients,
)
from local.kubernetes.cluster import Cluster
from local.kubernetes.existing import ExistingCluster, UnfitClusterError
from local.process import ChildFailedError
from local.sam_template import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from local.gateway.functions import Function
    from local.kubernetes.progress import Progress
    from local.process import Child

ROOT = Path(__file__).parent.parent
_WATCH_SECONDS = 0.5

EXPECTED_ERRORS = (
    BinariesUnavailableError,
    ChildFailedError,
    ClientFailedError,
    ClientsUnavailableError,
    TimeoutError,
    UnfitBuildError,
    UnfitClusterError,
)
"""What can go wrong on somebody's machine; each text is fit for a person."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The running parts; `folder` holds every file and log of theirs."""

    folder: Path
    authority: CertificateAuthority
    clients: Clients
    cluster: Cluster | ExistingCluster
    gitlab: GitLab
    aws: AWS
    gateway: Gateway
    _exit: contextlib.ExitStack

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        progress: Progress,
        kubeconfig: Path | None = None,
        parameters: Mapping[str, str] = MappingProxyType({}),
        port: int = 0,
    ) -> Self:
        """Start everything below the new or empty `folder`.

        `kubeconfig` names a cluster to use instead of a new one, `parameters` overrides the
        template's, `port` is the gateway's (0: a free one). Raises ChildFailedError and the errors
        of the parts, with nothing left running.
        """
        environ = os.environ  # noqa: TID251  the user's cache folder, PATH and registries
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        with contextlib.ExitStack() as stops:
            authority = CertificateAuthority.create(folder / "ca")
            found = clients(environ=environ, progress=progress)
            cluster: Cluster | ExistingCluster
            if kubeconfig is None:
                programs = binaries(environ, progress=progress)
                progress.say("Starting Kubernetes: etcd, kube-apiserver, its controllers, a node.")
                cluster = Cluster.start(
                    folder / "kubernetes", binaries=programs, authority=authority
                )
            else:
                cluster = ExistingCluster.read(kubeconfig, folder / "kubernetes", clients=found)
            stops.callback(cluster.stop)
            progress.say("Starting the GitLab stand-in.")
            gitlab = GitLab.start(folder / "gitlab", authority=authority)
            stops.callback(gitlab.stop)
            aws = AWS.start(
                folder / "aws", authority=authority, parameters=parameters, say=progress.say
            )
            stops.callback(aws.stop)
            progress.say("Starting the gateway before the deployed functions.")
            gateway = stops.enter_context(_gateway(folder / "gateway", authority, aws, port=port))
            return cls(folder, authority, found, cluster, gitlab, aws, gateway, stops.pop_all())

    def beside(
        self,
        folder: Path,
        stack_name: str,
        parameters: Mapping[str, str],
        *,
        own_gitlab: bool = False,
    ) -> Stack:
        """A second deployment with other parameters, on the same cluster, AWS and GitLab.

        Its gateway and its files are its own, below the new `folder`, and with `own_gitlab` its
        GitLab too; it has to be stopped first.
        """
        (folder / "operator").mkdir(parents=True, mode=0o700)
        with contextlib.ExitStack() as stops:
            gitlab = self.gitlab
            if own_gitlab:
                gitlab = GitLab.start(folder / "gitlab", authority=self.authority)
                stops.callback(gitlab.stop)
            aws = self.aws.beside(stack_name, parameters)
            gateway = stops.enter_context(_gateway(folder / "gateway", self.authority, aws))
            return replace(
                self, folder=folder, gitlab=gitlab, aws=aws, gateway=gateway, _exit=stops.pop_all()
            )

    @property
    def children(self) -> tuple[Child, ...]:
        """The processes without which nothing works."""
        parts = (self.cluster, self.gitlab, self.aws, self.gateway)
        return tuple(child for part in parts for child in part.children)

    @property
    def admin(self) -> Client:
        """Kubectl with the cluster administrator's rights."""
        home = self.folder / "admin"
        home.mkdir(exist_ok=True)
        return Client(self.clients.kubectl, self.cluster.admin_kubeconfig, home)

    def check(self) -> None:
        """Raise ChildFailedError if a part has ended."""
        for child in self.children:
            child.check()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """While the block runs, a part that ends raises ChildFailedError in it, whatever it does.

        For the main thread only, as it works by a signal (SIGUSR1).
        """
        done = threading.Event()
        failures: list[ChildFailedError] = []
        main = threading.get_ident()

        def watch() -> None:
            while not done.wait(_WATCH_SECONDS):
                try:
                    self.check()
                except ChildFailedError as error:
                    failures.append(error)
                    # To the main thread, since only its own signal ends what it waits for.
                    signal.pthread_kill(main, signal.SIGUSR1)
                    return

        def fail(_number: int, _frame: object) -> None:
            raise failures[0]

        before = signal.signal(signal.SIGUSR1, fail)
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            signal.signal(signal.SIGUSR1, before)

    def stop(self) -> None:
        """End everything, last started first; logs stay."""
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.contextmanager
def _gateway(
    folder: Path, authority: CertificateAuthority, aws: AWS, *, port: int = 0
) -> Iterator[Gateway]:
    """A gateway before the deployed functions, whose logs go where Lambda would send them."""
    settings = gateway_settings(authority, aws, port=port)
    gateway = Gateway.start(folder, settings, authority=authority)
    logs = {each.log_group: gateway.logs / f"{each.name}.log" for each in settings.functions}
    delivery = LogDelivery(logs, aws.client_options)
    try:
        yield gateway
    finally:
        gateway.stop()
        delivery.stop()


def start_gateway(
    folder: Path,
    authority: CertificateAuthority,
    aws: AWS,
    *,
    port: int = 0,
    altered: Callable[[Function], Function] = lambda function: function,
) -> Gateway:
    """Start a gateway before the deployed functions, each as `altered` gives it.

    Further ones have workers of their own, and take the same tokens.
    """
    settings = gateway_settings(authority, aws, port=port, altered=altered)
    return Gateway.start(folder, settings, authority=authority)


def gateway_settings(
    authority: CertificateAuthority,
    aws: AWS,
    *,
    template: Path = ROOT / "template.yaml",
    port: int = 0,
    altered: Callable[[Function], Function] = lambda function: function,
) -> Settings:
    """A gateway's settings by what is deployed now, which is of the SAM template `template`."""
    translated = translate(template, aws.parameters)
    environ = os.environ  # noqa: TID251  the user's cache folder
    runtime = Runtime(
        folder=prepare_runtime(cache_root(environ) / "runtimes", aws.python),
        endpoint=aws.endpoint_url,
        ca_certificate=authority.certificate,
    )
    functions = read_functions(
        aws.client_options,
        aws.stack_name,
        build_folder=aws.build_folder,
        translated_template=translated,
    )
    return Settings(read_api(translated), tuple(map(altered, functions)), runtime, port=port)
