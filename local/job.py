"""Plays a CI job: a shell with what a GitLab runner would give it, and kubectl, helm and curl."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from local.installation import AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local.gitlab.control_connection import Job
    from local.stack import Stack

# The token goes by standard input, so that no process list ever shows it.
FETCH = (
    'printf %s "$JOBGATE_ID_TOKEN" | '
    'curl -sS --fail-with-body --data-urlencode token@- -o "$KUBECONFIG" "$JOBGATE_URL/kubeconfig"'
)
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended; `output` is both streams as a terminal would show them."""

    code: int
    output: str
    seconds: float


@dataclass(frozen=True, slots=True)
class JobShell:
    """A running job's shell, with an empty home folder of its own."""

    job: Job
    home: Path
    _environment: dict[str, str]

    @classmethod
    def open(cls, stack: Stack, job: Job) -> Self:
        """The shell of `job`."""
        home = stack.folder / "jobs" / str(job.id)
        (home / "bin").mkdir(parents=True)
        for program in (stack.clients.kubectl, stack.clients.helm):
            (home / "bin" / program.name).symlink_to(program)
        environment = {
            "PATH": f"{home / 'bin'}:{os.defpath}",
            "HOME": str(home),
            "KUBECONFIG": str(home / "kubeconfig"),
            "JOBGATE_URL": stack.gateway.url,
            "JOBGATE_ID_TOKEN": job.id_token,
            "CURL_CA_BUNDLE": str(stack.authority.certificate),
            "CI_JOB_ID": str(job.id),
        }
        return cls(job, home, environment)

    @classmethod
    def start(cls, stack: Stack, project: str, **options: Any) -> Self:
        """Start a job of a project in GitLab, and its shell."""
        job = stack.gitlab.control.create_job(project, audience=AUDIENCE, **options)
        return cls.open(stack, job)

    @property
    def kubeconfig(self) -> Path:
        """Where the job keeps its kubeconfig."""
        return self.home / "kubeconfig"

    def run(self, command: str, *, seconds: float = _SECONDS) -> Result:
        """Run one line of the job's script."""
        began = time.monotonic()
        done = subprocess.run(
            ["sh", "-c", command],
            env=self._environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Result(done.returncode, done.stdout, time.monotonic() - began)

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Start one line of the job's script, as `run` does, and leave it running."""
        return subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            env=self._environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fetch(self) -> Result:
        """Fetch the kubeconfig as a pipeline would; the answer's text where it was refused."""
        result = self.run(FETCH)
        if result.code and self.kubeconfig.exists():
            answer = self.kubeconfig.read_text()
            self.kubeconfig.unlink()
            return Result(result.code, answer + result.output, result.seconds)
        return result

    def until(
        self, command: str, accept: Callable[[Result], bool], *, seconds: float = 60
    ) -> tuple[Result, float]:
        """Repeat a command until its result is accepted; returns it and how long that took.

        Raises TimeoutError with the last result.
        """
        began = time.monotonic()
        while True:
            result = self.run(command)
            if accept(result):
                return result, time.monotonic() - began
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{command}: still {result.code}\n{result.output}")
            time.sleep(0.1)
