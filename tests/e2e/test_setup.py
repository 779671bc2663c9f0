"""`jobgate setup`, whole: from a built template to a job that uses a cluster."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from local.installation import AUDIENCE
from local.pipeline import TEMPLATE, component, job
from local.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.long]

ROOT = Path(__file__).parents[2]
GROUP, PROJECT, AGENT = "acme", "acme/agents", "acme/agents:production"
SECONDS = 300
NUMBERS = itertools.count(1)
ENTRY = "ci_access: {projects: [{id: acme/agents, access_as: {ci_job: {}}}]}\n"


@dataclass(frozen=True)
class Place:
    """A deployment of its own with a GitLab of its own, of the Free tier, and an operator."""

    stack: Stack
    token: Path
    set_up_token: str

    @property
    def command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "jobgate"), "setup"]

    @property
    def given(self) -> list[str]:
        """What only options can say."""
        ca = str(self.stack.authority.certificate)
        return [
            *("--stack", self.stack.aws.stack_name, "--base-url", self.stack.gateway.url),
            *("--ca", ca, "--gitlab-ca", ca, "--namespace", "by-setup"),
            *("--kubeconfig", str(self.stack.cluster.admin_kubeconfig)),
        ]

    @property
    def deployment(self) -> list[str]:
        """What `sam build` made, deployed over what is there."""
        pairs = [f"{name}={value}" for name, value in self.stack.aws.parameters.items()]
        template = str(self.stack.aws.build_folder / "template.yaml")
        return ["--deploy", template, *(p for each in pairs for p in ("--parameter", each))]

    @property
    def cluster(self) -> str:
        return self.stack.admin.must("config", "current-context").strip()

    def environment(self, **secrets: str) -> dict[str, str]:
        programs = Path(sys.executable).parent
        return {
            **self.stack.aws.environment,
            "PATH": f"{programs}:{ROOT / '.venv-sam/bin'}:{os.defpath}",
            "HOME": str(self.stack.folder / "operator"),
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_POLL_DELAY": "0.2",
            "TERM": "xterm",
            "COLUMNS": "200",
            "GITLAB_TOKEN": self.set_up_token,
            **secrets,
        }

    def use(self, snippet: str, folder: Path) -> None:
        """Run the job of a snippet, which asks the cluster who it is."""
        written = yaml.safe_load(snippet)
        inputs = written["include"][0]["inputs"]
        made = self.stack.gitlab.control.create_job(PROJECT, audience=AUDIENCE)
        (folder / "bin").mkdir(parents=True)
        kubectl = self.stack.clients.kubectl
        (folder / "bin" / kubectl.name).symlink_to(kubectl)
        runner = Runner(
            folder,
            environment={
                "PATH": f"{folder / 'bin'}:{os.defpath}",
                "HOME": str(folder),
                "CURL_CA_BUNDLE": str(self.stack.authority.certificate),
                "JOBGATE_ID_TOKEN": made.id_token,
            },
        )
        text = yaml.safe_dump({"deploy": written["deploy"]})
        code, said = runner.run(job(component(TEMPLATE, inputs), text))
        assert code == 0, said
        assert f"gitlab:ci_job:{made.id}" in said


@pytest.fixture
def place(stack: Stack, tmp_path: Path) -> Iterator[Place]:
    # An alias stands for its GitLab for ever, so that each test has a deployment of its own.
    name = f"jobgate-by-setup-{next(NUMBERS)}"
    with stack.beside(tmp_path / "beside", name, {}, own_gitlab=True) as second:
        gitlab = second.gitlab.control
        gitlab.set_instance(tier="free")
        gitlab.create_group(GROUP)
        gitlab.create_project(PROJECT)
        gitlab.commit(PROJECT, {".gitlab/agents/production/config.yaml": ENTRY})
        token = tmp_path / "run-time"
        token.write_text(gitlab.create_token(["read_api"], group=GROUP, role="reporter"))
        owner = gitlab.create_token(["api"], group=GROUP, role="owner")
        yield Place(second, token, owner)


def test_one_command_deploys_and_does_every_step_again_harmlessly(
    place: Place, tmp_path: Path
) -> None:
    options = [
        *("--gitlab", place.stack.gitlab.url, "--audience", AUDIENCE),
        *("--token-file", str(place.token), "--connect", GROUP),
        *("--agent", AGENT, "--from-context", place.cluster),
    ]
    command = [*place.command, *place.given, *options, "--json"]
    # Interrupted in the middle, then from the start, then once more.
    for broken in (["--from-context", "no-such-cluster"], place.deployment, []):
        done = subprocess.run(
            [*command, *broken],
            env=place.environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert place.set_up_token not in done.stdout + done.stderr
        assert place.token.read_text() not in done.stdout + done.stderr
        if "no-such-cluster" in broken:
            assert (done.returncode, done.stdout) == (2, "")
            assert "no-such-cluster" in done.stderr
            continue
        assert done.returncode == 0, done.stderr + done.stdout
        answer = json.loads(done.stdout)
        assert answer["base_url"] == place.stack.gateway.url
        assert answer["steps"]["gitlab"]["hooks"][0]["missing"] is None
        assert answer["steps"]["agent"]["findings"] == []

    assert len(place.stack.gitlab.control.hooks()) == 1
    place.use(answer["snippet"], tmp_path / "job")


def test_at_a_terminal_it_asks_for_what_was_not_given(place: Place, tmp_path: Path) -> None:
    answers = {
        "GitLab's URL": place.stack.gitlab.url,
        "Audience of jobs' tokens": AUDIENCE,
        "File with the run-time token": str(place.token),
        "First agent": AGENT,
        "Kubeconfig context": place.cluster,
        "Group or project to connect": GROUP,
    }

    said, code = at_a_terminal([*place.command, *place.given], place.environment(), answers)

    assert code == 0, said
    assert place.set_up_token not in said
    assert "… a test event of project" in said
    snippet = said.partition("A job's part of .gitlab-ci.yml:")[2]
    place.use(re.sub(r"(?m)^  ", "", snippet.replace("\r", "")), tmp_path / "job")


def test_at_a_terminal_nothing_is_done_for_an_empty_answer(place: Place) -> None:
    answers = {"GitLab's URL": "", "First agent": "", "Group or project to connect": ""}

    said, code = at_a_terminal([*place.command, *place.given], place.environment(), answers)

    assert code == 0, said
    assert "issuer add" in said
    assert place.stack.gitlab.control.hooks() == []


def at_a_terminal(
    command: list[str], environment: dict[str, str], answers: dict[str, str]
) -> tuple[str, int]:
    """Type each answer when its question is there; what was shown, and the exit code."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    said, looked, left = "", 0, dict(answers)
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            said += piece.decode(errors="replace")
            for question in [each for each in left if each in said[looked:]]:
                looked = len(said)
                os.write(ours, f"{left.pop(question)}\n".encode())
        code = child.wait(30)
    finally:
        child.kill()
        os.close(ours)
    assert left == {}, said
    return said, code
