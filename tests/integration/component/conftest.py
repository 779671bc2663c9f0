"""What the component's tests share: a server in Jobgate's place, and images of jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.kubernetes.cache import cache_root
from local.kubernetes.clients import clients
from local.kubernetes.progress import TerminalProgress
from tests.support.component_image import CONFIG, Image
from tests.support.https_server import HTTPSServer, https_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.certificates import CertificateAuthority


@pytest.fixture
def server(authority: CertificateAuthority, tmp_path: Path) -> Iterator[HTTPSServer]:
    certificate = authority.issue("jobgate", tmp_path)
    with https_server(certificate, authority.certificate) as running:
        running.answer("/kubeconfig", CONFIG)
        running.answer("/.well-known/jwks.json", {"keys": []})
        yield running


@pytest.fixture(scope="module")
def busybox() -> Path:
    """Debian's busybox, unpacked aside where none is installed."""
    found = shutil.which("busybox")
    if found is not None:
        return Path(found)
    folder = cache_root(os.environ) / "busybox"  # noqa: TID251  as the other caches
    program = folder / "bin" / "busybox"
    if not program.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            pytest.skip("no busybox here, and no Debian to take it from")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", "busybox"], cwd=folder, check=True, capture_output=True
        )
        (package,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return program


@pytest.fixture(scope="module")
def kubectl() -> Path:
    environ = os.environ  # noqa: TID251  the user's cache folder
    return clients(environ=environ, progress=TerminalProgress(sys.stderr)).kubectl


@pytest.fixture
def image(tmp_path: Path, authority: CertificateAuthority) -> Image:
    return Image(tmp_path, authority)


@pytest.fixture(params=["curl", "gnu-wget", "busybox-wget-with-openssl"])
def any_image(request: pytest.FixtureRequest, image: Image) -> Image:
    match request.param:
        case "curl":
            return image.with_tools().add("curl")
        case "gnu-wget":
            return image.with_tools().add("wget")
        case _:
            busybox: Path = request.getfixturevalue("busybox")
            return image.with_busybox(busybox).add("openssl")
