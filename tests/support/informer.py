"""A list and watch loop as client libraries have it, and a quick writer of config maps."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kubernetes import config, watch
from kubernetes.client import CoreV1Api
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Seen = tuple[str, str, str]
"""An event's type, and its object's name and resource version."""

_LONG_SECONDS = 3600


def core_api(kubeconfig: Mapping[str, Any]) -> Any:
    """The Kubernetes project's own Python client, by a kubeconfig."""
    made: Any = config.new_client_from_config_dict  # untyped
    return CoreV1Api(made(dict(kubeconfig)))


@dataclass
class Informer:
    """Lists once, then watches, and each time that a watch ends goes on from the last version.

    `seen` has every event in order, `ends` how each watch ended: clean, or the error's name.
    """

    api: Any
    namespace: str
    selector: str
    seen: list[Seen] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    listed: threading.Event = field(default_factory=threading.Event)

    def run(self, *, until: int, seconds: float) -> None:
        """Go on until so many events were seen, or the time is over."""
        answer = self.api.list_namespaced_config_map(self.namespace, label_selector=self.selector)
        version = answer.metadata.resource_version
        deadline = time.monotonic() + seconds
        made: Any = watch.Watch  # untyped
        self.listed.set()
        while len(self.seen) < until and time.monotonic() < deadline:
            watching = made()
            try:
                for event in watching.stream(
                    self.api.list_namespaced_config_map,
                    self.namespace,
                    label_selector=self.selector,
                    resource_version=version,
                    # With a time of its own the library ends with the watch; else it hides cuts.
                    timeout_seconds=_LONG_SECONDS,
                ):
                    version = event["object"].metadata.resource_version
                    self.seen.append((event["type"], event["object"].metadata.name, version))
                    if len(self.seen) >= until:
                        return
            except (HTTPError, OSError) as exc:
                self.ends.append(type(exc).__name__)
            else:
                self.ends.append("clean")


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes over plain connections, several at once, since the events are what counts."""

    server: str
    ca: Path
    token: str
    namespace: str
    threads: int = 4

    def create(self, names: list[str], labels: Mapping[str, str]) -> list[Seen]:
        """Create config maps; returns the events to come."""
        bodies = [
            json.dumps({"metadata": {"name": name, "labels": dict(labels)}}).encode()
            for name in names
        ]
        return self._all("ADDED", [("POST", "", body) for body in bodies], rate=None)

    def change(self, names: list[str], *, rate: float) -> list[Seen]:
        """Change a config map for each name, so many a second; returns the events to come."""
        changes = [
            ("PATCH", f"/{name}", json.dumps({"data": {"n": str(number)}}).encode())
            for number, name in enumerate(names)
        ]
        return self._all("MODIFIED", changes, rate=rate)

    def _all(
        self, kind: str, requests: list[tuple[str, str, bytes]], *, rate: float | None
    ) -> list[Seen]:
        began = time.monotonic()

        def share(first: int) -> list[Seen]:
            written = []
            connection = self._connect()
            for number in range(first, len(requests), self.threads):
                if rate is not None:
                    time.sleep(max(began + number / rate - time.monotonic(), 0))
                metadata = self._send(connection, *requests[number])
                written.append((kind, metadata["name"], metadata["resourceVersion"]))
            connection.close()
            return written

        with ThreadPoolExecutor(self.threads) as pool:
            return [each for part in pool.map(share, range(self.threads)) for each in part]

    def _connect(self) -> http.client.HTTPSConnection:
        trust = ssl.create_default_context(cafile=str(self.ca))
        address = urlsplit(self.server)
        return http.client.HTTPSConnection(
            str(address.hostname), address.port, context=trust, timeout=60
        )

    def _send(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: bytes
    ) -> dict[str, Any]:
        prefix = urlsplit(self.server).path
        merge = "application/merge-patch+json" if method == "PATCH" else "application/json"
        connection.request(
            method,
            f"{prefix}/api/v1/namespaces/{self.namespace}/configmaps{path}",
            body,
            {"Authorization": f"Bearer {self.token}", "Content-Type": merge},
        )
        answer = connection.getresponse()
        told = json.loads(answer.read())
        assert answer.status in (200, 201), told
        metadata: dict[str, Any] = told["metadata"]
        return metadata
