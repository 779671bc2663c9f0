"""Signing keys are rotated there and back under load, on the deployed functions, roles and KMS.

A deployment of its own, whose access tokens live for seconds, so that keys retire within the test.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jwt
import pytest

from local.installation import WEB, Installation, context
from local.job import JobShell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.long]

PARAMETERS = {
    "TokenMaxSeconds": "10",
    "LeewaySeconds": "1",
    "IssuersMaxAgeSeconds": "1",
    "ProjectRate": "100000",
}
WAIT = "3"
"""The shortest that this deployment takes: IssuersMaxAgeSeconds and twice LeewaySeconds."""
THREADS = 3
_PATIENCE_SECONDS = 90


@pytest.fixture(scope="module")
def rotating(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("rotating") / "stack"
    with stack.beside(folder, "jobgate-rotating", PARAMETERS, own_gitlab=True) as second:
        made = Installation.create(second, namespace="rotating", tell=lambda _c, _o: None)
        made.grant()
        made.configure()
        yield made


@dataclass
class Load:
    """Jobs that fetch a token and use it, and every other one that still lives, again and again."""

    installation: Installation
    id_token: str
    agent: str
    exchanged: list[dict[str, Any]] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    refused: list[tuple[str, int, str]] = field(default_factory=list)
    published: dict[str, float] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.done.is_set():
            self._fetch()
            living = [t for t in self.exchanged[-40:] if time.monotonic() + 1 < t["ends_at"]]
            # The oldest was signed longest ago, the newest by what signs now.
            for token in (*living[:1], *living[-1:]):
                self._use(token["token"])

    def watch_keys(self) -> None:
        while not self.done.wait(0.1):
            status, answer = self._call("/.well-known/jwks.json")
            if status != 200:
                self.refused.append(("keys", status, answer))
                continue
            for key in json.loads(answer)["keys"]:
                self.published.setdefault(key["kid"], time.monotonic())

    def _fetch(self) -> None:
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": self.id_token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        }
        status, answer = self._call("/token", form=form)
        if status != 200:
            self.refused.append(("exchange", status, answer))
            return
        now, given = time.monotonic(), json.loads(answer)
        token = given["access_token"]
        kid = jwt.get_unverified_header(token)["kid"]
        self.exchanged.append(
            {"token": token, "kid": kid, "at": now, "ends_at": now + given["expires_in"]}
        )

    def _use(self, token: str) -> None:
        path = f"{self.agent}/api/v1/namespaces/{self.installation.namespace}/pods?limit=1"
        status, answer = self._call(path, token=token)
        self.used.append(status)
        if status != 200:
            self.refused.append(("relay", status, answer))

    def _call(
        self, path: str, *, form: dict[str, str] | None = None, token: str | None = None
    ) -> tuple[int, str]:
        stack = self.installation.stack
        url = path if path.startswith("https:") else stack.gateway.url + path
        request = urllib.request.Request(url, urlencode(form).encode() if form else None)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        trust = ssl.create_default_context(cafile=str(stack.authority.certificate))
        try:
            with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def signers(self) -> list[str]:
        """The keys in the order in which they signed, each change once."""
        kids: list[str] = []
        for token in sorted(self.exchanged, key=lambda token: token["at"]):
            if not kids or kids[-1] != token["kid"]:
                kids.append(token["kid"])
        return kids


def keys_of(installation: Installation) -> dict[str, dict[str, Any]]:
    """The published keys by slot, as `jobgate keys list` shows them."""
    listed = json.loads(installation.jobgate("keys", "list", "--json"))
    return {key["slot"]: key for key in listed}


def until(installation: Installation, **states: str) -> None:
    """Wait until the slots are in these states. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        found = {slot: key["state"] for slot, key in keys_of(installation).items()}
        if found == states:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"The keys stay {found}.")
        time.sleep(0.5)


def test_no_token_is_refused_while_keys_are_published_sign_and_retire_under_load(
    rotating: Installation,
) -> None:
    shell = JobShell.start(rotating.stack, WEB)
    agents = json.loads(rotating.jobgate("agent", "list", "--json"))
    (agent_id,) = [a["id"] for a in agents if a["context"] == context("production")]
    load = Load(rotating, shell.job.id_token, f"/agents/{agent_id}")
    threads = [threading.Thread(target=load.run) for _ in range(THREADS)]
    threads.append(threading.Thread(target=load.watch_keys))
    for thread in threads:
        thread.start()
    try:
        rotating.jobgate("keys", "rotate", "--wait", WAIT)
        first = {slot: key["kid"] for slot, key in keys_of(rotating).items()}
        until(rotating, A="retired", B="signs")
        rotating.jobgate("keys", "rotate", "--wait", WAIT)
        until(rotating, A="signs", B="retired")
    finally:
        load.done.set()
        for thread in threads:
            thread.join()

    assert load.refused == []
    assert load.signers() == [first["A"], first["B"], first["A"]]
    # Whoever verifies by the public set knew the second key before it met a token of it.
    met = min(token["at"] for token in load.exchanged if token["kid"] == first["B"])
    assert load.published[first["B"]] < met
    assert len(load.exchanged) > 100
    assert len(load.used) > 200
