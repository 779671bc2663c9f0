"""GitLab's stand-in, ministack and processes that refresh: everything of a refresh but Lambda."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.batch_get import batch_get
from jobgate.adapters.refresh_queue import SQSRefreshQueue
from jobgate.ports.refresh import Subject

from tests.support import builders as b
from tests.support.call_watcher import call_watcher
from tests.support.stores import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jobgate.adapters.aws_api import AWSCall

    from local.aws.emulator import Emulator
    from local.certificates import CertificateAuthority
    from local.gitlab.server import GitLab

ROOT = Path(__file__).parents[2]
VISIBILITY_SECONDS = 2
AGENTS = {b.PROD: "prod", b.STAGING: "staging"}
_numbers = itertools.count(1)

View = frozenset[Subject]
"""Whom one agent's configuration reaches: its snapshot names them, and the index leads there."""


@dataclass
class Steps:
    """Counts a process's calls and looks on; `at` is done at one of them, before or after it.

    `calls` are the calls that were made, in order.
    """

    look: Callable[[], None]
    at: tuple[int, str] | None = None
    then: Callable[[], None] = lambda: None
    calls: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, moment: str, call: str) -> None:
        with self._lock:
            if moment == "before":
                self.calls.append(call)
            number = len(self.calls)
        self.look()
        if self.at == (number, moment):
            self.then()


@dataclass(frozen=True)
class RefreshSystem:
    """One configuration project with two agents, and a table and a queue of its own."""

    gitlab: GitLab
    emulator: Emulator
    authority: CertificateAuthority
    folder: Path
    call: AWSCall
    table: str
    queue_url: str
    secret: str
    root: str
    ids: Mapping[str, int]

    @classmethod
    def create(
        cls,
        gitlab: GitLab,
        emulator: Emulator,
        call: AWSCall,
        *,
        authority: CertificateAuthority,
        folder: Path,
    ) -> RefreshSystem:
        """Everything but a first push."""
        number = next(_numbers)
        root, table = f"root{number}", f"table-{number}"
        create_table(call, table)
        control = gitlab.control
        control.create_group(root)
        ids = {
            name: int(control.create_project(f"{root}/{name}")["id"])
            for name in ("agents", "both", "old", "new")
        }
        attributes = {"FifoQueue": "true", "VisibilityTimeout": str(VISIBILITY_SECONDS)}
        name = f"refresh-{number}.fifo"
        queue = call("sqs", "CreateQueue", {"QueueName": name, "Attributes": attributes})
        token = {"main": control.create_token(["read_api"], group=root)}
        secret = call(
            "secretsmanager",
            "CreateSecret",
            {"Name": f"tokens-{number}", "SecretString": json.dumps(token)},
        )
        system = cls(
            gitlab=gitlab,
            emulator=emulator,
            authority=authority,
            folder=folder,
            call=call,
            table=table,
            queue_url=queue["QueueUrl"],
            secret=secret["ARN"],
            root=root,
            ids=ids,
        )
        listed = b.a_config_project_item(AGENTS, project_id=ids["agents"])
        system.put(agent_items.config_project_item(listed))
        for agent_id, agent in AGENTS.items():
            cluster = b.a_cluster(agent_id, name=agent, config_project_id=ids["agents"])
            system.put(agent_items.cluster_item(cluster))
        return system

    def put(self, item: items.Item) -> None:
        """Store an item."""
        self.call("dynamodb", "PutItem", {"TableName": self.table, "Item": item})

    def push(self, named: Mapping[str, list[str]]) -> dict[int, View]:
        """Push who may use which agent, by project name; no hook tells of it. The views then."""
        files = {
            f".gitlab/agents/{agent}/config.yaml": json.dumps(
                {"ci_access": {"projects": [{"id": f"{self.root}/{name}"} for name in names]}}
            )
            for agent, names in named.items()
        }
        self.gitlab.control.commit(f"{self.root}/agents", files)
        return self.view_of(named)

    def view_of(self, named: Mapping[str, list[str]]) -> dict[int, View]:
        """What a reader sees where this configuration is in force."""
        home = Subject("project", self.ids["agents"])
        return {
            agent_id: frozenset(
                {home, *(Subject("project", self.ids[name]) for name in named[agent])}
            )
            for agent_id, agent in AGENTS.items()
        }

    def send(self) -> None:
        """Queue a refresh, as a webhook or the schedule does."""
        queue = SQSRefreshQueue(self.call, self.queue_url)
        queue.send("main", self.ids["agents"], deduplication_id=None)

    def waiting(self) -> int:
        """Messages that aren't done."""
        request = {"QueueUrl": self.queue_url, "AttributeNames": ["All"]}
        found = self.call("sqs", "GetQueueAttributes", request)["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(found[name]) for name in names)

    def views(self) -> dict[int, View]:
        """What a reader sees at this moment."""
        subjects = [Subject("project", i) for i in self.ids.values()]
        index = {s: items.subject_key("main", s.kind, s.id) for s in subjects}
        snapshots = {i: items.snapshot_key("main", i) for i in AGENTS}
        found = batch_get(self.call, self.table, [*index.values(), *snapshots.values()])
        agents = {s: items.agents_of(found(key)) for s, key in index.items()}
        views = {}
        for agent_id, key in snapshots.items():
            snapshot = agent_items.snapshot_of(found(key))
            named = set() if snapshot is None else {*snapshot.projects, self.ids["agents"]}
            led = {s for s in subjects if agent_id in agents[s]}
            views[agent_id] = frozenset(s for s in led if s.id in named)
        return views

    def versions(self) -> dict[int, int]:
        """The snapshots' versions; 0 before the first."""
        versions = {}
        for agent_id in AGENTS:
            request = {"TableName": self.table, "Key": items.snapshot_key("main", agent_id)}
            item = self.call("dynamodb", "GetItem", {**request, "ConsistentRead": True}).get("Item")
            versions[agent_id] = 0 if item is None else int(item["version"]["N"])
        return versions

    def index(self) -> dict[Subject, frozenset[int]]:
        """The agents that the index leads to."""
        subjects = [Subject("project", i) for i in self.ids.values()]
        keys = {s: items.subject_key("main", s.kind, s.id) for s in subjects}
        found = batch_get(self.call, self.table, list(keys.values()))
        return {s: items.agents_of(found(key)) for s, key in keys.items()}

    @contextlib.contextmanager
    def worker(self, steps: Steps) -> Iterator[subprocess.Popen[bytes]]:
        """A running worker whose every call goes through `steps`."""
        watched = partial(call_watcher, authority=self.authority, folder=self.folder)
        with (
            watched(self.emulator.endpoint_url, steps) as aws,
            watched(self.gitlab.url, steps) as gitlab,
        ):
            ca = self.authority.certificate.read_text()
            issuer = b.an_issuer(url=self.gitlab.url, base_url=gitlab, ca=ca)
            self.put(operator_items.issuer_item(issuer))
            environment: dict[str, str] = {
                **self.emulator.environment,
                "AWS_ENDPOINT_URL": aws,
                "AWS_MAX_ATTEMPTS": "1",
                "PATH": os.defpath,
                "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}",
                "JOBGATE_TABLE": self.table,
                "JOBGATE_GITLAB_TOKENS_SECRET": self.secret,
                "JOBGATE_GITLAB_STATUS_TOKEN_SECRET": self.secret,
                "JOBGATE_REFRESH_QUEUE_URL": self.queue_url,
            }
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.refresh_worker"],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                process.communicate()

    def run(self, look: Callable[[], None] = lambda: None) -> Steps:
        """Let a worker take one message to its end."""
        steps = Steps(look)
        with self.worker(steps) as process:
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
        return steps

    def run_and_kill(self, at: tuple[int, str], look: Callable[[], None]) -> None:
        """Let a worker take one message, and kill it at one of its calls."""
        killed = threading.Event()
        steps = Steps(look, at=at)
        with self.worker(steps) as process:

            def kill() -> None:
                process.kill()
                process.wait()
                killed.set()

            steps.then = kill
            process.wait(timeout=60)
        assert killed.is_set(), f"the worker ended before call {at}"

    def with_another_queue(self) -> RefreshSystem:
        """The same with a queue of its own, which knows nothing of the other's messages."""
        attributes = {"FifoQueue": "true", "VisibilityTimeout": str(VISIBILITY_SECONDS)}
        name = f"refresh-{next(_numbers)}.fifo"
        queue = self.call("sqs", "CreateQueue", {"QueueName": name, "Attributes": attributes})
        return dataclasses.replace(self, queue_url=queue["QueueUrl"])

    @contextlib.contextmanager
    def held(
        self, number: int, look: Callable[[], None]
    ) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
        """A worker that waits before a call of its own, and what lets it go on."""
        reached, may_go_on = threading.Event(), threading.Event()

        def hold() -> None:
            reached.set()
            may_go_on.wait(60)

        steps = Steps(look, at=(number, "before"), then=hold)
        with self.worker(steps) as process:
            try:
                assert reached.wait(60), f"the worker never came to call {number}"
                yield process, may_go_on.set
            finally:
                may_go_on.set()
