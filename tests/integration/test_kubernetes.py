"""The local cluster behaves towards kubectl and helm as a cluster does."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.certificates import CertificateAuthority
from local.kubernetes.cluster import Cluster
from local.process import free_port, wait_until
from tests.support.kubernetes import Kubernetes, prepared, running_kubernetes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.kubernetes.clients import Client

pytestmark = pytest.mark.stack

CHART = Path(__file__).parents[2] / "local" / "demo" / "chart"


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


@pytest.fixture
def kubectl(kubernetes: Kubernetes) -> Client:
    return kubernetes.kubectl


@pytest.fixture
def namespace(kubectl: Client) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl.must("create", "namespace", name)
    yield name
    kubectl.must("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def deploy(kubectl: Client, namespace: str, *, replicas: int = 1) -> None:
    kubectl.must(
        "create", "deployment", "web", "--image=web:1", f"--replicas={replicas}", "-n", namespace
    )
    kubectl.must("rollout", "status", "deployment/web", "--timeout=30s", "-n", namespace)


def start(client: Client, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [client.program, *args], env=client.env, stdout=subprocess.PIPE, text=True
    )


def test_an_applied_deployment_rolls_out(kubectl: Client, namespace: str) -> None:
    deploy(kubectl, namespace, replicas=3)

    pods = json.loads(kubectl.must("get", "pods", "-o", "json", "-n", namespace))["items"]

    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 3
    assert len({pod["status"]["podIP"] for pod in pods}) == 3


def test_a_job_completes(kubectl: Client, namespace: str) -> None:
    kubectl.must("create", "job", "migrate", "--image=x", "-n", namespace, "--", "migrate", "up")

    kubectl.must(
        "wait", "--for=condition=complete", "job/migrate", "--timeout=30s", "-n", namespace
    )

    assert 'args="migrate up"' in kubectl.must("logs", "job/migrate", "-n", namespace)


def test_logs_name_the_pod_and_its_image(kubectl: Client, namespace: str) -> None:
    deploy(kubectl, namespace)

    first = kubectl.must("logs", "deployment/web", "-n", namespace).splitlines()[0]

    assert first.startswith(f"started pod={namespace}/web-")
    assert " image=web:1 " in first


def test_a_log_placed_by_hand_is_served_instead(
    kubernetes: Kubernetes, kubectl: Client, namespace: str
) -> None:
    log = kubernetes.cluster.logs / namespace / "mine" / "mine.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01T00:00:00Z one\n2026-01-01T00:00:01Z two\n")
    kubectl.must("run", "mine", "--image=x", "-n", namespace)
    kubectl.must("wait", "--for=condition=ready", "pod/mine", "--timeout=30s", "-n", namespace)

    assert kubectl.must("logs", "mine", "--tail=1", "-n", namespace) == "two\n"
    assert kubectl.run("logs", "mine", "--previous", "-n", namespace).code == 1


def test_followed_logs_grow_and_end_with_the_pod(kubectl: Client, namespace: str) -> None:
    deploy(kubectl, namespace)
    with start(kubectl, "logs", "-f", "deployment/web", "-n", namespace) as follower:
        assert follower.stdout is not None
        lines = [follower.stdout.readline() for _ in range(3)]

        kubectl.must("delete", "deployment", "web", "-n", namespace)
        follower.communicate(timeout=30)

    assert lines[1:] == ["running for 1 s\n", "running for 2 s\n"]
    assert follower.returncode == 0


def test_exec_passes_input_output_and_exit_code(kubectl: Client, namespace: str) -> None:
    deploy(kubectl, namespace)

    answer = kubectl.run(
        *("exec", "-i", "deployment/web", "-n", namespace, "--", "sh", "-c"),
        "cat; echo $POD_NAMESPACE; echo oh >&2; exit 3",
        stdin="from here\n",
    )

    assert (answer.code, answer.out) == (3, f"from here\n{namespace}\n")
    assert answer.err.startswith("oh\n")


def test_a_namespace_with_pods_can_be_deleted(kubectl: Client, namespace: str) -> None:
    deploy(kubectl, namespace, replicas=2)

    kubectl.must("delete", "namespace", namespace, "--timeout=60s", seconds=90)

    assert "NotFound" in kubectl.run("get", "namespace", namespace).err


def test_helm_installs_upgrades_and_uninstalls(kubernetes: Kubernetes, namespace: str) -> None:
    helm, where = kubernetes.helm, ("-n", namespace, "--wait", "--timeout=60s")

    helm.must("install", "hello", str(CHART), *where)
    helm.must("upgrade", "hello", str(CHART), "--set", "replicas=2", *where)
    deployment = kubernetes.kubectl.must(
        "get", "deployment", "hello", "-o", "jsonpath={.status.readyReplicas}", "-n", namespace
    )
    helm.must("uninstall", "hello", *where)

    assert deployment == "2"
    assert kubernetes.kubectl.must("get", "all", "-n", namespace, "-o", "name") == ""


def test_pythons_strict_verification_accepts_the_api_server(kubernetes: Kubernetes) -> None:
    context = ssl.create_default_context(cafile=str(kubernetes.cluster.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT

    with urllib.request.urlopen(
        f"{kubernetes.cluster.url}/version", context=context, timeout=10
    ) as answer:
        assert json.load(answer)["gitVersion"].startswith("v1.")


def test_the_nodes_port_is_closed_to_all_but_the_api_server(
    kubernetes: Kubernetes, kubectl: Client
) -> None:
    path = "jsonpath={.items[0].status.daemonEndpoints.kubeletEndpoint.Port}"
    port = int(kubectl.must("get", "nodes", "-o", path))
    context = ssl.create_default_context(cafile=str(kubernetes.cluster.ca))

    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        connection.recv(1)


def test_a_stopped_cluster_leaves_no_process_not_even_a_running_exec(tmp_path: Path) -> None:
    with running_kubernetes(tmp_path) as running:
        kubectl = running.kubectl
        kubectl.must("run", "shell", "--image=x")
        kubectl.must("wait", "--for=condition=ready", "pod/shell", "--timeout=30s")
        command = ("sh", "-c", "trap '' HUP TERM; echo $$; while sleep 1; do :; done")
        executing = start(kubectl, "exec", "shell", "--", *command)
        assert executing.stdout is not None
        pids = [int(executing.stdout.readline())]
        pids += [child.process.pid for child in running.cluster.children]

    executing.communicate(timeout=30)

    # An orphan that was killed stays in the table until the machine's init has looked at it.
    wait_until(
        lambda: not any(_is_there(pid) for pid in pids),
        children=(),
        what="The end of every process",
        seconds=20,
    )


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_port_that_is_taken_meanwhile_is_replaced_once(tmp_path: Path) -> None:
    found, _ = prepared()
    authority = CertificateAuthority.create(tmp_path / "ca")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free_port()])
        with Cluster.start(
            tmp_path / "cluster",
            binaries=found,
            authority=authority,
            pick_port=lambda: next(ports),
        ) as cluster:
            assert not cluster.url.endswith(f":{taken.getsockname()[1]}")
