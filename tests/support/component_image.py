"""A job's image for the component's script: a PATH with these programs alone, in a real shell."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from local.pipeline import TEMPLATE, component, job
from local.runner import Runner

if TYPE_CHECKING:
    from pathlib import Path

    from local.certificates import CertificateAuthority
    from tests.support.https_server import HTTPSServer

TOKEN = "eyJhbGciOiJSUzI1NiJ9.canary-of-a-token.signature"
CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [],
    "users": [],
    "contexts": [],
    "current-context": "acme/agents:production",
}
TOOLS = ("sh", "sed", "cat", "mkdir", "rm", "mv", "chmod", "dirname", "stat")
DEPLOY = """
deploy:
  extends: .kubernetes-access
  script: ['cat "$KUBECONFIG"']
  after_script: ['cat "$KUBECONFIG"']
"""


class Image:
    """A job's image: a PATH with these programs alone, each of which tells its arguments."""

    def __init__(self, folder: Path, authority: CertificateAuthority) -> None:
        self.folder = folder / "image"
        self.folder.mkdir()
        self.arguments = folder / "arguments"
        self.arguments.touch()
        self.runner = Runner(folder, shell=(str(self.folder / "sh"),))
        self.runner.environment = {
            "PATH": str(self.folder),
            "HOME": str(folder),
            "JOBGATE_ID_TOKEN": TOKEN,
            "CURL_CA_BUNDLE": str(authority.certificate),
        }

    def add(self, name: str, program: str | Path | None = None, *first: str) -> Image:
        """A program of this machine's, or another by this name."""
        real = program or shutil.which(name)
        assert real is not None, name
        wrapper = self.folder / name
        called = " ".join((f"'{real}'", *first))
        wrapper.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>"{self.arguments}"\nexec {called} "$@"\n'
        )
        wrapper.chmod(0o755)
        return self

    def with_tools(self) -> Image:
        for name in TOOLS:
            self.add(name)
        return self

    def with_busybox(self, program: Path, *, wget: bool = True) -> Image:
        for name in (*TOOLS, *(("wget",) if wget else ())):
            self.add(name, program, name)
        return self


def included(server: HTTPSServer, **inputs: Any) -> dict[str, Any]:
    # By name, since busybox asks openssl about an address with its port.
    url = server.url.replace("127.0.0.1", "localhost")
    return component(TEMPLATE, {"url": url, "audience": "https://jobgate.test", **inputs})


def run(image: Image, server: HTTPSServer, text: str = DEPLOY, **inputs: Any) -> tuple[int, str]:
    return image.runner.run(job(included(server, **inputs), text))
