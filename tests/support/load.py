"""Constant load on one deployment, by what jobs and GitLab do; every refusal is kept."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.stack import Stack

_FORM = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
}
_PAUSE_SECONDS = 0.05


@dataclass
class Load:
    """Exchanges with `id_token`, requests with `access_token` to `path`; GitLab's `webhook`.

    `done` counts by kind what was answered well, `failed` keeps the rest.
    """

    stack: Stack
    id_token: str
    access_token: str
    path: str
    webhook: Callable[[], None] | None = None
    done: dict[str, int] = field(default_factory=dict)
    failed: list[tuple[str, object]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        kinds: dict[str, Callable[[], object]] = {"exchange": self._exchange, "relay": self._relay}
        if self.webhook is not None:
            kinds["webhook"] = self.webhook
        for name, once in kinds.items():
            self._threads.append(threading.Thread(target=self._repeat, args=(name, once)))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, name: str, once: Callable[[], object]) -> None:
        while not self._ended.wait(_PAUSE_SECONDS):
            try:
                once()
                self.done[name] = self.done.get(name, 0) + 1
            except urllib.error.HTTPError as error:
                with error:
                    self.failed.append((name, (error.code, error.read())))
            except (OSError, RuntimeError) as error:
                self.failed.append((name, error))

    def _exchange(self) -> None:
        form = urlencode(_FORM | {"subject_token": self.id_token}).encode()
        self._ask(urllib.request.Request(f"{self.stack.gateway.url}/token", form))

    def _relay(self) -> None:
        headers = {"Authorization": f"Bearer {self.access_token}"}
        url = f"{self.stack.gateway.url}{self.path}"
        self._ask(urllib.request.Request(url, headers=headers))

    def _ask(self, request: urllib.request.Request) -> None:
        trust = ssl.create_default_context(cafile=str(self.stack.authority.certificate))
        with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
            answer.read()
