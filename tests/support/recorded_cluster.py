"""An agent of the running stack whose cluster keeps every byte that it gets."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local.installation import AGENTS, GROUP, SHOP
from local.job import JobShell
from local.repository import push
from tests.support.relay_upstream import RawUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.gateway import Gateway
    from local.installation import Installation
    from local.stack import Stack

CREDENTIAL = "recorded-clusters-credential"
_NAME = "recorded"
# A project of its own: a second agent would leave the other tests' jobs without a current context.
_PROJECT = f"{SHOP}/recorded"
_FILE = f".gitlab/agents/{_NAME}/config.yaml"
_CONFIG = f"ci_access: {{projects: [{{id: {_PROJECT}, access_as: {{ci_job: {{}}}}}}]}}\n"
_SECONDS = 60.0
_AUDIT_ID = re.compile(rb"Audit-ID: [0-9a-f-]{36}")


@dataclass(frozen=True, slots=True)
class Raw:
    """What came back on a connection: the answers' status lines, and whether it was closed."""

    statuses: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class RecordedCluster:
    """`upstream` has the requests; `token` is a running job's, `agent_id` the agent's."""

    upstream: RawUpstream
    gateway: Gateway
    trust: ssl.SSLContext
    token: str
    agent_id: int
    shell: JobShell

    @property
    def stage(self) -> str:
        """The path below which everything is, `/live`."""
        return urlsplit(self.gateway.url).path

    def target(self, path: str) -> str:
        """The request target of a path of the cluster."""
        return f"{self.stage}/agents/{self.agent_id}{path}"

    def head(self, path: str, lines: Sequence[bytes] = (), *, method: str = "GET") -> bytes:
        """A request head with the job's token, then these lines, as they are."""
        own = (
            f"{method} {self.target(path)} HTTP/1.1".encode(),
            f"Host: {urlsplit(self.gateway.url).netloc}".encode(),
            f"Authorization: Bearer {self.token}".encode(),
        )
        return b"\r\n".join((*own, *lines, b"", b""))

    def send(self, data: bytes, *, seconds: float = 5.0) -> Raw:
        """Send bytes on a new connection; returns what came until it closed or fell silent."""
        address = urlsplit(self.gateway.url)
        with (
            socket.create_connection((str(address.hostname), address.port)) as plain,
            self.trust.wrap_socket(plain, server_hostname=address.hostname) as sock,
        ):
            with contextlib.suppress(OSError):
                sock.sendall(data)
            return _received(sock, seconds)

    def arrived(self, data: bytes) -> tuple[tuple[int, ...], list[bytes]]:
        """The answers' status codes, and what the cluster got for these bytes."""
        before = len(self.upstream.requests)
        raw = self.send(data)
        return raw.statuses, self.upstream.requests[before:]

    def expected(
        self, target: str, identity: Sequence[bytes], carried: Sequence[bytes]
    ) -> list[bytes]:
        """The lines of the GET that the relay is to send."""
        return [
            f"GET {target} HTTP/1.1".encode(),
            f"Host: {urlsplit(self.upstream.url).netloc}".encode(),
            *carried,
            f"Authorization: Bearer {CREDENTIAL}".encode(),
            b"Audit-ID: ID",
            *identity,
        ]


def lines_of(request: bytes) -> list[bytes]:
    """The lines of a recorded request without a body; the decision's id taken out."""
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b""
    return _AUDIT_ID.sub(b"Audit-ID: ID", head).split(b"\r\n")


def identity_of(recorded: RecordedCluster, installation: Installation) -> list[bytes]:
    """The lines that say who the recorded cluster's job is."""
    job = recorded.shell.job
    project = job.project_id
    groups = [
        "gitlab:ci_job",
        *(f"gitlab:group:{installation.groups[path]}" for path in (GROUP, SHOP)),
        f"gitlab:project:{project}",
    ]
    extras = {
        "id": recorded.agent_id,
        "config_project_id": installation.projects[AGENTS],
        "project_id": project,
        "ci_pipeline_id": job.pipeline_id,
        "ci_job_id": job.id,
        "username": "root",
    }
    lines = [
        f"Impersonate-User: gitlab:ci_job:{job.id}",
        *(f"Impersonate-Group: {group}" for group in groups),
        *(f"Impersonate-Extra-agent.gitlab.com%2f{key}: {v}" for key, v in extras.items()),
    ]
    return [line.encode() for line in lines]


def _received(sock: ssl.SSLSocket, seconds: float) -> Raw:
    data = b""
    sock.settimeout(seconds)
    with contextlib.suppress(OSError):
        while more := sock.recv(65_536):
            data += more
            # An answer is here: what else comes, comes soon.
            sock.settimeout(0.1)
    statuses = tuple(
        int(line[9:12]) for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")
    )
    return Raw(statuses, data)


@contextlib.contextmanager
def recorded_cluster(stack: Stack, installation: Installation) -> Iterator[RecordedCluster]:
    """Register the agent, let it count, and start a job that may use it."""
    certificate = stack.authority.issue("recorded", stack.folder / "recorded")
    credential = stack.folder / "recorded" / "credential"
    credential.write_text(CREDENTIAL)
    with RawUpstream(certificate) as upstream:
        stack.gitlab.control.create_project(_PROJECT)
        installation.jobgate(
            *("agent", "register", AGENTS, _NAME, "--server", upstream.url),
            *("--credential-file", str(credential), "--ca", str(stack.authority.certificate)),
            "--no-check",
        )
        push(stack, AGENTS, {_FILE: _CONFIG}, "Let the shop use the recorded cluster")
        agent_id = _once_active(installation)
        shell = JobShell.start(stack, _PROJECT)
        fetched = shell.fetch()
        assert fetched.code == 0, fetched.output
        config = json.loads(shell.kubeconfig.read_text())
        yield RecordedCluster(
            upstream,
            stack.gateway,
            ssl.create_default_context(cafile=stack.authority.certificate),
            config["users"][0]["user"]["token"],
            agent_id,
            shell,
        )
        stack.gitlab.control.finish_job(shell.job)


def _once_active(installation: Installation) -> int:
    until = time.monotonic() + _SECONDS
    while True:
        agents = json.loads(installation.jobgate("agent", "list", "--json"))
        for agent in agents:
            if agent["context"] == f"{AGENTS}:{_NAME}" and agent["state"] == "active":
                return int(agent["id"])
        if time.monotonic() > until:
            raise TimeoutError("the pushed configuration has no effect")
