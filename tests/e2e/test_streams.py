"""Open streams on real parts: kubectl's watches and followed logs, and how each of them ends."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import pytest

from local.gateway.launch import Gateway
from local.gateway.limits import Limits
from local.gateway.settings import Settings
from local.installation import AGENTS, PRODUCTION_FILE, WEB, production_config
from local.job import FETCH, JobShell
from local.repository import push

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.installation import Installation
    from local.stack import Stack

pytestmark = pytest.mark.stack

_PATIENCE_SECONDS = 40.0


@dataclass
class Running:
    """A command of a job's script while it runs, and what it has printed so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _grown: threading.Condition = field(default_factory=threading.Condition)
    _reader: threading.Thread | None = None

    @classmethod
    def start(cls, shell: JobShell, command: str) -> Self:
        running = cls(shell.begin(command))
        running._reader = threading.Thread(target=running._read)
        running._reader.start()
        return running

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line)
                self._grown.notify_all()

    def until(self, text: str) -> None:
        """Wait until it has printed `text`."""
        with self._grown:
            found = self._grown.wait_for(lambda: text in self.output, timeout=_PATIENCE_SECONDS)
        assert found, self.output

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def end(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        try:
            return self.process.wait(_PATIENCE_SECONDS)
        finally:
            self.process.kill()
            assert self._reader is not None
            self._reader.join()
            assert self.process.stdout is not None
            self.process.stdout.close()


@pytest.fixture(scope="module")
def pod(stack: Stack, installation: Installation) -> str:
    """A pod that writes a line a second."""
    where = f"--namespace={installation.namespace}"
    stack.admin.must("run", "talker", "--image=talker", where)
    stack.admin.must("wait", "--for=condition=ready", "pod/talker", "--timeout=30s", where)
    return "talker"


@pytest.fixture(scope="module")
def silent(stack: Stack, installation: Installation) -> str:
    """A pod that writes nothing: the API server sends no head of its log before the first byte."""
    where = f"--namespace={installation.namespace}"
    log = stack.folder / "kubernetes" / "pods" / installation.namespace / "silent" / "silent.log"
    log.parent.mkdir(parents=True)
    log.touch()
    stack.admin.must("run", "silent", "--image=silent", where)
    stack.admin.must("wait", "--for=condition=ready", "pod/silent", "--timeout=30s", where)
    return "silent"


@pytest.fixture
def shell(stack: Stack, installation: Installation) -> Iterator[JobShell]:
    shell = JobShell.start(stack, WEB)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    shell.run(f"kubectl config set-context --current --namespace={installation.namespace}")
    yield shell
    stack.gitlab.control.finish_job(shell.job)


def _end_of_job(installation: Installation, shell: JobShell) -> None:
    installation.stack.gitlab.control.finish_job(shell.job)


def _removed_entry(installation: Installation, _shell: JobShell) -> None:
    push(installation.stack, AGENTS, {PRODUCTION_FILE: "ci_access: {}\n"}, "Allow nobody")


def _operators_stop(installation: Installation, shell: JobShell) -> None:
    installation.jobgate("revoke", "job", str(shell.job.id), "--why", "drill")


@pytest.fixture
def restored(stack: Stack, shell: JobShell) -> Iterator[None]:
    """Gives back what the tests take away."""
    yield
    # Something new in any case, since git commits no nothing.
    config = f"# after job {shell.job.id}\n{production_config()}"
    push(stack, AGENTS, {PRODUCTION_FILE: config}, "Allow the shop again")
    again = JobShell.start(stack, WEB)
    again.until(f"rm -f $KUBECONFIG; {FETCH}", lambda result: result.code == 0)


@pytest.mark.parametrize(
    ("take_away", "reason", "sentence"),
    [
        (_end_of_job, "job_finished", "This job has ended, and its access with it."),
        (_removed_entry, "not_listed", "No agent's configuration lets this job use this cluster."),
        (_operators_stop, "stopped", "Access was stopped by an operator."),
    ],
)
@pytest.mark.usefixtures("restored")
def test_open_streams_end_with_the_right_to_them(
    stack: Stack,
    installation: Installation,
    shell: JobShell,
    pod: str,
    silent: str,
    take_away: Callable[[Installation, JobShell], None],
    reason: str,
    sentence: str,
) -> None:
    log = stack.gateway.logs
    silence = _awaited_log(stack, shell, silent)
    logs = Running.start(shell, f"kubectl logs -f {pod}")
    watch = Running.start(shell, "kubectl get pods --watch --show-labels")
    objects = Running.start(shell, "kubectl get pods --watch --output=json")
    logs.until("running for 1 s")
    watch.until(pod)
    objects.until(pod)
    # What they list comes before their watches are open, a change after it doesn't.
    turn, where = f"job-{shell.job.id}", f"--namespace={installation.namespace}"
    stack.admin.must("label", "pod", pod, f"turn={turn}", "--overwrite", where)
    watch.until(turn)
    objects.until(turn)

    take_away(installation, shell)
    codes = logs.end(), silence.end(), watch.end(), objects.end()

    # kubectl's watches end with 0 whatever ends them; a log that breaks off is an error.
    assert codes[:2] == (1, 1), logs.output + silence.output
    assert "unexpected EOF" in logs.output
    # Nothing of it had come, so there's room for a refusal.
    assert f"Jobgate: {sentence}" in silence.output
    assert f"reason {reason}, decision " in silence.output
    assert f"reason {reason}, decision " in watch.output, watch.output
    assert f"reason {reason}, decision " in objects.output, objects.output
    revoked = _revoked(log, shell.job.id, 4)
    assert {(r["reason"], r["outcome"]) for r in revoked} == {(reason, "allowed")}
    assert sorted((r["verb"], r.get("subresource"), r["status"]) for r in revoked) == [
        ("get", "log", 200),
        ("get", "log", 403),
        ("watch", None, 200),
        ("watch", None, 200),
    ]


def _awaited_log(stack: Stack, shell: JobShell, pod: str) -> Running:
    """A silent pod's log, once the kubelet was asked for it."""
    asked = stack.folder / "kubernetes" / "fakelet.log"
    before = asked.read_text().count(f"/{pod}/{pod}")
    # Refused, kubectl asks again for so long, 20 s unless told otherwise.
    running = Running.start(shell, f"kubectl logs -f {pod} --pod-running-timeout=1s")
    until = time.monotonic() + _PATIENCE_SECONDS
    while asked.read_text().count(f"/{pod}/{pod}") == before:
        assert time.monotonic() < until
        time.sleep(0.1)
    return running


def _revoked(logs: Any, job_id: int, count: int) -> list[dict[str, Any]]:
    """A job's revoked streams; a record is written after the client has seen its stream's end."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        found = [
            record
            for record in _records(logs)
            if record.get("job_id") == job_id and record["ended"] == "revoked"
        ]
        if len(found) >= count or time.monotonic() > until:
            return found
        time.sleep(0.1)


def _records(logs: Any) -> Iterator[dict[str, Any]]:
    for file in logs.glob("*Relay*"):
        for line in file.read_text().splitlines():
            if line.startswith('{"v":1,"type":"request"'):
                yield json.loads(line)


def test_kubectl_takes_no_notice_of_the_white_space_in_a_silent_watch(shell: JobShell) -> None:
    """The deployment of the tests sends some every two seconds."""
    name = f"late-{shell.job.id}"
    watch = Running.start(shell, "kubectl get configmaps --watch --output=name")
    watch.until("configmap/")

    shell.run("sleep 5")
    shell.run(f"kubectl create configmap {name}")
    watch.until(f"configmap/{name}")
    watch.process.terminate()
    watch.end()

    lines = watch.output.removesuffix("\n").split("\n")
    assert lines[-1] == f"configmap/{name}"
    # What other tests left is listed too, but no line is empty.
    assert all(line.startswith("configmap/") for line in lines)


@pytest.fixture
def impatient(stack: Stack, tmp_path: Path) -> Iterator[Gateway]:
    """A second gateway before the same functions that cuts what is silent for five seconds."""
    given = json.loads((stack.folder / "gateway" / "gateway.json").read_text())
    settings = replace(Settings.from_json(given), limits=Limits(idle_seconds=5), port=0)
    gateway = Gateway.start(tmp_path, settings, authority=stack.authority)
    yield gateway
    gateway.stop()


def test_a_silent_watch_outlives_the_gateways_patience_and_a_silent_log_breaks_off(
    stack: Stack, installation: Installation, shell: JobShell, impatient: Gateway
) -> None:
    where = f"--namespace={installation.namespace}"
    log = stack.folder / "kubernetes" / "pods" / installation.namespace / "quiet" / "quiet.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01T00:00:00Z the only line\n")
    stack.admin.must("run", "quiet", "--image=quiet", where)
    stack.admin.must("wait", "--for=condition=ready", "pod/quiet", "--timeout=30s", where)
    name = f"patient-{shell.job.id}"
    shell.run(f"sed -i 's|{stack.gateway.url}|{impatient.url}|' $KUBECONFIG")
    watch = Running.start(shell, "kubectl get configmaps --watch --output=name")
    logs = Running.start(shell, "kubectl logs -f quiet")
    watch.until("configmap/")
    logs.until("the only line")

    code = logs.end()
    shell.run("sleep 3")
    shell.run(f"kubectl create configmap {name}")
    watch.until(f"configmap/{name}")
    watch.process.terminate()
    watch.end()

    assert code == 1
    assert "unexpected EOF" in logs.output
