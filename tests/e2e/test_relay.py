"""What kubectl and helm meet at the relay's edges: refusals, sizes, silence, bodies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from local.installation import WEB
from local.job import JobShell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.installation import Installation
    from local.stack import Stack

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def shell(stack: Stack, installation: Installation) -> Iterator[JobShell]:
    shell = JobShell.start(stack, WEB)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    shell.run(f"kubectl config set-context --current --namespace={installation.namespace}")
    yield shell
    stack.gitlab.control.finish_job(shell.job)


def test_kubectl_prints_that_a_request_is_too_large_and_the_way_out(shell: JobShell) -> None:
    shell.run("head -c 7000000 /dev/zero | tr '\\0' x > big")
    result = shell.run("kubectl create configmap big --from-file=big")
    assert result.code == 1
    assert "The request is larger than the gateway carries. Split the manifest" in result.output
    assert "reason too_large, decision " in result.output


def test_a_silent_pods_log_is_empty(
    stack: Stack, shell: JobShell, installation: Installation
) -> None:
    where = f"--namespace={installation.namespace}"
    log = stack.folder / "kubernetes" / "pods" / installation.namespace / "mute" / "mute.log"
    log.parent.mkdir(parents=True)
    log.touch()
    stack.admin.must("run", "mute", "--image=mute", where)
    stack.admin.must("wait", "--for=condition=ready", "pod/mute", "--timeout=30s", where)
    result = shell.run("kubectl logs mute | od -c")
    assert result.output == "0000000\n"


@pytest.mark.parametrize("kind", ["strategic", "merge", "json"])
def test_each_kind_of_patch_is_carried(shell: JobShell, kind: str) -> None:
    patch = {
        "strategic": {"data": {"a": kind}},
        "merge": {"data": {"a": kind}},
        "json": [{"op": "add", "path": "/data", "value": {"a": kind}}],
    }[kind]
    name = f"patched-{kind}"
    shell.run(f"kubectl create configmap {name}")
    patched = shell.run(f"kubectl patch configmap {name} --type={kind} -p '{json.dumps(patch)}'")
    assert patched.code == 0, patched.output
    assert shell.run(f"kubectl get configmap {name} -o jsonpath={{.data.a}}").output == kind


def test_server_side_apply_and_its_conflict_are_carried(shell: JobShell) -> None:
    manifest = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "applied"},
            "data": {"a": "one"},
        }
    )
    (shell.home / "a.json").write_text(manifest)
    (shell.home / "b.json").write_text(manifest.replace("one", "two"))
    apply = "kubectl apply --server-side -f"
    assert shell.run(f"{apply} a.json --dry-run=server").code == 0
    assert "NotFound" in shell.run("kubectl get configmap applied").output
    assert shell.run(f"{apply} a.json").code == 0
    conflict = shell.run(f"{apply} b.json --field-manager=other")
    assert conflict.code == 1
    assert 'conflict with "kubectl"' in conflict.output
    forced = shell.run(f"{apply} b.json --field-manager=other --force-conflicts")
    assert forced.code == 0, forced.output
    assert shell.run("kubectl get configmap applied -o jsonpath={.data.a}").output == "two"


def test_options_of_a_delete_are_carried(shell: JobShell) -> None:
    shell.run("kubectl create deployment orphaned --image=x")
    shell.run("kubectl rollout status deployment/orphaned --timeout=30s")
    deleted = shell.run("kubectl delete deployment orphaned --cascade=orphan")
    assert deleted.code == 0, deleted.output
    left = shell.run("kubectl get replicasets -l app=orphaned -o name").output
    assert left.startswith("replicaset.apps/orphaned-")
    shell.run("kubectl delete replicasets,pods -l app=orphaned --grace-period=0 --force")
