"""What kubectl and helm meet at the relay's edges: refusals, sizes, silence, bodies."""

from __future__ import annotations

import gzip
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from local.installation import WEB
from local.job import JobShell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

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
    assert shell.run("kubectl logs mute | od -c").output == "0000000\n"


def test_a_followed_log_of_a_pod_that_ends_without_a_word_is_empty(
    stack: Stack, shell: JobShell, installation: Installation
) -> None:
    where = f"--namespace={installation.namespace}"
    log = stack.folder / "kubernetes" / "pods" / installation.namespace / "mum" / "mum.log"
    log.parent.mkdir(parents=True)
    log.touch()
    stack.admin.must("run", "mum", "--image=mum", where)
    stack.admin.must("wait", "--for=condition=ready", "pod/mum", "--timeout=30s", where)
    following = shell.begin("kubectl logs -f mum")
    asked = stack.folder / "kubernetes" / "fakelet.log"
    until = time.monotonic() + 30
    while "/mum/mum" not in asked.read_text():
        assert time.monotonic() < until
        time.sleep(0.1)
    stack.admin.must("delete", "pod", "mum", "--grace-period=0", "--force", where)
    output, _ = following.communicate(timeout=30)
    assert (output, following.returncode) == ("", 0)


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


# --- Bodies, byte for byte ---

_PROTOBUF = "application/vnd.kubernetes.protobuf"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Message
    body: bytes


def _send(
    stack: Stack, shell: JobShell, method: str, path: str, body: bytes | None = None, **headers: str
) -> Reply:
    """One request with the job's own token, below its namespace; nothing is decoded."""
    config = json.loads(shell.run("kubectl config view --raw -o json").output)
    context = config["contexts"][0]["context"]
    server = config["clusters"][0]["cluster"]["server"]
    url = f"{server}/api/v1/namespaces/{context['namespace']}{path}"
    request = urllib.request.Request(url, data=body, method=method)
    request.add_header("Authorization", f"Bearer {config['users'][0]['user']['token']}")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    trust = ssl.create_default_context(cafile=str(stack.authority.certificate))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
            return Reply(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, error.read())


def test_protobuf_is_carried_both_ways(stack: Stack, shell: JobShell) -> None:
    shell.run("kubectl create configmap binary --from-literal=a=one")
    path = "/configmaps/binary"

    read = _send(stack, shell, "GET", path, Accept=_PROTOBUF)
    assert (read.status, read.headers["Content-Type"]) == (200, _PROTOBUF)
    assert read.body.startswith(b"k8s\0")
    changed = read.body.replace(b"\x03one", b"\x03two")
    written = _send(stack, shell, "PUT", path, changed, Accept=_PROTOBUF, Content_Type=_PROTOBUF)

    assert (written.status, written.headers["Content-Type"]) == (200, _PROTOBUF)
    assert shell.run("kubectl get configmap binary -o jsonpath={.data.a}").output == "two"


def test_gzip_comes_back_as_the_api_server_packed_it(stack: Stack, shell: JobShell) -> None:
    shell.run("head -c 900000 /dev/zero | tr '\\0' x > large")
    shell.run("kubectl create configmap large --from-file=large")
    path = "/configmaps/large"

    packed = _send(stack, shell, "GET", path, Accept_Encoding="gzip")
    plain = _send(stack, shell, "GET", path, Accept_Encoding="identity")

    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.body) < 100_000
    assert gzip.decompress(packed.body) == plain.body
    assert len(plain.body) > 900_000


@pytest.mark.parametrize("media_type", ["application/cbor", "text/x-unknown"])
def test_a_form_that_the_api_server_refuses_is_refused_by_itself(
    stack: Stack, shell: JobShell, media_type: str
) -> None:
    """CBOR is off by default in Kubernetes 1.36; what matters is who says so."""
    reply = _send(stack, shell, "POST", "/configmaps", b"\xd9\xd9\xf7\xa0", Content_Type=media_type)
    assert reply.status == 415
    assert "Jobgate-Decision" not in reply.headers
    assert reply.headers["Audit-Id"]
    assert json.loads(reply.body)["reason"] == "UnsupportedMediaType"


def test_warnings_come_back_line_by_line(stack: Stack, shell: JobShell) -> None:
    body = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "warned"},
            "no": 1,
            "neither": 2,
        }
    ).encode()
    reply = _send(
        stack,
        shell,
        "POST",
        "/configmaps?fieldValidation=Warn&dryRun=All",
        body,
        Content_Type="application/json",
    )
    assert reply.status == 201
    lines = [value for name, value in reply.headers.items() if name.lower() == "warning"]
    assert sorted(lines) == [
        '299 - "unknown field \\"neither\\""',
        '299 - "unknown field \\"no\\""',
    ]


def test_no_refusal_looks_like_the_api_servers_own(stack: Stack, shell: JobShell) -> None:
    ours = _send(stack, shell, "POST", "/pods/x/exec?command=id", b"")
    theirs = _send(stack, shell, "GET", "/pods/none")
    assert (ours.status, json.loads(ours.body)["reason"]) == (501, "NotImplemented")
    assert ours.headers["Jobgate-Decision"] in json.loads(ours.body)["message"]
    assert ours.headers["Audit-Id"] is None
    assert (theirs.status, json.loads(theirs.body)["reason"]) == (404, "NotFound")
    assert theirs.headers["Jobgate-Decision"] is None
    assert theirs.headers["Audit-Id"]
