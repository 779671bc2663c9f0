"""The two ways to the cluster: directly, and through the relay; the same identity on both."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from local.installation import AUDIT, SHOP
from local.job import JobShell
from local.kubernetes.cluster import Cluster
from local.stack import start_gateway
from tests.kubectl_matrix.plain import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.gateway import Gateway
    from local.kubernetes.clients import Clients
    from local.stack import Stack
    from tests.kubectl_matrix.step import Step

_MANIFESTS = Path(__file__).parent / "manifests"
_SECONDS = 180
_PROJECT = f"{SHOP}/matrix"
Kubeconfig = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, on either side made plain."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Side:
    """A home folder with manifests and one kubeconfig for each who."""

    name: str
    space: str
    home: Path
    environment: Mapping[str, str]
    own: Mapping[str, str]

    def run(self, step: Step) -> Ran:
        """Run a command as a pipeline's line."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", step.command],
            env={**self.environment, "KUBECONFIG": str(self.home / step.who)},
            cwd=self.home / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        texts = (
            plain(data.decode(errors="replace"), dict(self.own), unordered=step.unordered)
            for data in (done.stdout, done.stderr)
        )
        return Ran(done.returncode, *texts)


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of one version of the clients."""

    direct: Side
    relay: Side

    def run(self, step: Step) -> tuple[Ran, Ran]:
        """Run a command on both at once."""
        with ThreadPoolExecutor(2) as both:
            direct, relay = both.map(lambda side: side.run(step), (self.direct, self.relay))
        return direct, relay


@dataclass(frozen=True, slots=True)
class Kubeconfigs:
    """By who: of each side."""

    direct: Mapping[str, Kubeconfig]
    relay: Mapping[str, Kubeconfig]

    @classmethod
    def of(cls, stack: Stack) -> Kubeconfigs:
        """Start a job that may do all and one that may look, and their like on the direct way."""
        project = stack.gitlab.control.create_project(_PROJECT)
        stack.admin.must(
            *("create", "clusterrolebinding", "matrix", "--clusterrole=cluster-admin"),
            f"--group=gitlab:project:{project['id']}",
        )
        shells = {"job": JobShell.start(stack, _PROJECT), "auditor": JobShell.start(stack, AUDIT)}
        relay, direct = {}, {}
        for who, shell in shells.items():
            fetched = shell.fetch()
            if fetched.code:
                raise RuntimeError(fetched.output)
            relay[who] = json.loads(shell.kubeconfig.read_text())
            told = shell.run("kubectl auth whoami --output=json")
            direct[who] = _impersonating(stack, json.loads(told.output)["status"]["userInfo"])
        return cls(direct, relay)

    def through(self, gateway: Gateway) -> Mapping[str, Kubeconfig]:
        """The relay's, by another gateway before the same functions."""
        configs = copy.deepcopy(dict(self.relay))
        for config in configs.values():
            for entry in config["clusters"]:
                path = entry["cluster"]["server"].partition("/agents/")[2]
                entry["cluster"]["server"] = f"{gateway.url}/agents/{path}"
        return configs


def _impersonating(stack: Stack, user: Mapping[str, Any]) -> Kubeconfig:
    """The administrator's kubeconfig, for whom the relay says that the job is."""
    config: Kubeconfig = yaml.safe_load(stack.cluster.admin_kubeconfig.read_text())
    config["users"][0]["user"] |= {
        "as": user["username"],
        "as-groups": [name for name in user["groups"] if name != "system:authenticated"],
        "as-user-extra": user.get("extra", {}),
    }
    return config


@contextlib.contextmanager
def made_sides(
    stack: Stack, kubeconfigs: Kubeconfigs, clients: Clients, version: str
) -> Iterator[Sides]:
    """Namespaces, folders and a gateway for one version of the clients.

    On Lambda an invocation goes on when its client has left, so each `kubectl wait` holds a worker
    for the rest of its watch: every version begins with a gateway without any.
    """
    gateway = start_gateway(stack.folder / f"gateway-{version}", stack.authority, stack.aws)
    try:
        yield Sides(
            _side(stack, kubeconfigs.direct, clients, f"mx{version}d"),
            _side(stack, kubeconfigs.through(gateway), clients, f"mx{version}r"),
        )
    finally:
        gateway.stop()


def _side(
    stack: Stack, kubeconfigs: Mapping[str, Kubeconfig], clients: Clients, space: str
) -> Side:
    stack.admin.must("create", "namespace", space)
    stack.admin.must(
        *("create", "rolebinding", "auditor", "--clusterrole=view", f"--namespace={space}"),
        "--user=auditor@acme.example",
    )
    home = stack.folder / "matrix" / space
    work = home / "work"
    shutil.copytree(_MANIFESTS, work)
    for path in work.rglob("*.*"):
        if path.is_file():
            path.write_text(path.read_text().replace("SPACE", space))
    (work / "large-kind.json").write_text(_large_kind(space))
    (home / "bin").mkdir()
    for program in (clients.kubectl, clients.helm):
        (home / "bin" / program.name).symlink_to(program)
    servers = set()
    for who, config in kubeconfigs.items():
        servers |= {cluster["cluster"]["server"] for cluster in config["clusters"]}
        for context in config["contexts"]:
            context["context"]["namespace"] = space
        (home / who).write_text(json.dumps(config))
        (home / who).chmod(0o600)
    if not isinstance(stack.cluster, Cluster):
        raise TypeError("the matrix needs a cluster of its own")
    environment = {
        "PATH": f"{home / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "SPACE": space,
        "LOGS": str(stack.cluster.logs),
    }
    own = {space: "SPACE", str(home): "HOME", **dict.fromkeys(servers, "SERVER")}
    return Side(space[-1], space, home, environment, own)


def _large_kind(space: str) -> str:
    """A custom resource definition of 700 KB, of the size of the largest in use."""
    properties = {
        f"field{number}": {"type": "string", "description": "What this field means. " * 20}
        for number in range(1400)
    }
    spec = {"type": "object", "properties": properties}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"larges.{space}.example"},
            "spec": {
                "group": f"{space}.example",
                "scope": "Namespaced",
                "names": {"kind": "Large", "plural": "larges", "singular": "large"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}
                        },
                    }
                ],
            },
        }
    )
