"""A second deployment, with parameters that differ from the defaults, and what a pusher sees."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from local.installation import ALIAS, AUDIENCE, Installation
from local.job import JobShell
from local.repository import push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from local.stack import Stack

pytestmark = pytest.mark.stack

PARAMETERS = {
    "InstanceWide": "true",
    "EntryLimit": "2",
    "ForkJobs": "deny",
    "LegacySlugs": "true",
    "AllowedIdentities": "system:monitoring",
    "CommitStatus": "true",
}
PLATFORM, TENANT, ELSEWHERE = "platform", "tenant", "elsewhere"  # three top-level groups
CONFIG = f"{PLATFORM}/agents"
APP, LIBRARY, FORK = f"{TENANT}/app", f"{TENANT}/library", f"{TENANT}/fork"
STRANGER = f"{ELSEWHERE}/app"
FILES = {
    "by-group": f"{{groups: [{{id: {TENANT}, access_as: {{ci_job: {{}}}}}}]}}",
    "everyone": "{instance: {access_as: {ci_job: {}}}}",
    "monitoring": f"{{projects: [{{id: {APP}, "
    "access_as: {impersonate: {username: 'system:monitoring'}}}]}",
    "limited": f"{{projects: [{{id: {CONFIG}}}, {{id: {LIBRARY}}}, {{id: {APP}}}], "
    f"groups: [{{id: {TENANT}, access_as: {{ci_job: {{}}}}}}]}}",
}
MISTAKES = """\
ci_access:
  project: []
  projects:
    - id: 12
    - id: tenant/a
      environments: production
    - id: tenant/b
      access_as: {}
    - id: tenant/c
      access_as: {ci_user: {}}
    - id: tenant/d
      access_as: {impersonate: {groups: [g]}}
    - id: tenant/e
      protected_branches_only: maybe
    - environments: [a]
  groups:
    - id: tenant
      environments: [""]
      id: tenant/g
"""
WRONG = [
    (2, "unknown_key"),
    (4, "not_a_text"),
    (6, "not_a_list"),
    (8, "access_as_not_one"),
    (10, "unknown_key"),
    (12, "username_missing"),
    (14, "not_a_boolean"),
    (15, "id_missing"),
    (18, "empty"),
    (19, "duplicate_key"),
]
_SECONDS = 60.0


def _file(agent: str) -> str:
    return f".gitlab/agents/{agent}/config.yaml"


@dataclass(frozen=True, slots=True)
class Other:
    """The second deployment, with its agents' ids by name."""

    stack: Stack
    installation: Installation
    ids: Mapping[str, int]

    @property
    def clone(self) -> Path:
        return self.stack.folder / "clones" / CONFIG

    def push(self, files: Mapping[str, str], message: str) -> str:
        """Push to the configuration project; returns the commit."""
        push(self.stack, CONFIG, files, message)
        head = ["git", "rev-parse", "HEAD"]
        return subprocess.run(
            head, cwd=self.clone, check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    def shown(self, agent: str) -> dict[str, Any]:
        """What `jobgate agent show` says of the agent's configuration."""
        shown = json.loads(
            self.installation.jobgate("agent", "show", str(self.ids[agent]), "--json")
        )
        return dict(shown["snapshot"] or {})

    def until_shown(self, agent: str, accept: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while not accept(shown := self.shown(agent)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"A push has no effect: {shown}")
        return shown

    def status(self, commit: str) -> dict[str, Any]:
        """The newest status of a commit, as GitLab shows it."""
        path = f"/api/v4/projects/{CONFIG.replace('/', '%2F')}/repository/commits/{commit}/statuses"
        gitlab = self.stack.gitlab
        token = gitlab.control.create_token(["read_api"])
        request = urllib.request.Request(gitlab.url + path, headers={"PRIVATE-TOKEN": token})
        trust = ssl.create_default_context(cafile=self.stack.authority.certificate)
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            with urllib.request.urlopen(request, context=trust, timeout=20) as answer:
                if found := json.load(answer):
                    return dict(found[0])
        raise TimeoutError("The commit has no status.")


@pytest.fixture(scope="module")
def other(
    stack: Stack, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Other]:
    folder = tmp_path_factory.mktemp("other") / "stack"
    gitlab = stack.gitlab.control
    for group in (PLATFORM, TENANT, ELSEWHERE):
        gitlab.create_group(group)
    for project in (CONFIG, APP, LIBRARY, FORK, STRANGER):
        gitlab.create_project(project)
    second = stack.beside(folder, "jobgate-other", PARAMETERS)
    try:
        installed = Installation(second, "other", {}, {})
        made = Other(second, installed, _registered(stack, second, installed))
        made.push({_file(name): f"ci_access: {text}\n" for name, text in FILES.items()}, "Allow")
        for name in FILES:
            made.until_shown(name, lambda shown: bool(shown.get("valid")))
        yield made
    finally:
        second.stop()


def _registered(first: Stack, second: Stack, installed: Installation) -> dict[str, int]:
    """Issuer, webhook and agents, with accounts of their own in the cluster."""
    gitlab = first.gitlab
    token, status_token = (second.folder / "operator" / name for name in ("token", "status-token"))
    token.write_text(gitlab.control.create_token(["read_api"]))
    status = gitlab.control.create_token(["api"], project=CONFIG, role="developer")
    status_token.write_text(status)
    ca = str(first.authority.certificate)
    installed.jobgate("setup", "--base-url", second.gateway.url, "--ca", ca)
    issuer = ("issuer", "add", ALIAS, "--url", gitlab.url, "--audience", AUDIENCE, "--ca", ca)
    files = ("--token-file", str(token), "--status-token-file", str(status_token))
    installed.jobgate(*issuer, *files)
    set_up = gitlab.control.create_token(["api"], group=PLATFORM, role="owner")
    installed.jobgate("gitlab", "connect", PLATFORM, GITLAB_TOKEN=set_up)
    register = ("agent", "register", CONFIG)
    answers = {
        n: installed.jobgate(*register, n, *installed.cluster_options, "--json") for n in FILES
    }
    return {name: int(json.loads(answer)["id"]) for name, answer in answers.items()}


def _started(other: Other, project: str = APP, **options: Any) -> JobShell:
    shell = JobShell.start(other.stack, project, **options)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    return shell


def _agents(shell: JobShell) -> list[str]:
    names = shell.run("kubectl config get-contexts -o name").output.split()
    return sorted(name.removeprefix(f"{CONFIG}:") for name in names)


def _seen(shell: JobShell, agent: str) -> dict[str, Any]:
    """Who the cluster says that the job is."""
    result = shell.run(f"kubectl --context {CONFIG}:{agent} auth whoami -o json")
    assert result.code == 0, result.output
    return dict(json.loads(result.output)["status"]["userInfo"])


def _reason(shell: JobShell) -> str:
    """Why the exchange refuses; it must."""
    fetched = shell.fetch()
    assert fetched.code != 0
    assert not shell.kubeconfig.exists()
    return str(json.loads(fetched.output.split("curl:")[0])["reason"])


def test_entries_for_another_top_level_group_and_the_instance_count(other: Other) -> None:
    shell = _started(other)

    assert _agents(shell) == ["by-group", "everyone", "monitoring"]
    seen = {_seen(shell, name)["username"] for name in ("by-group", "everyone")}
    assert seen == {f"gitlab:ci_job:{shell.job.id}"}


def test_a_job_that_only_the_instance_covers_gets_that_alone(other: Other) -> None:
    assert _agents(_started(other, STRANGER)) == ["everyone"]


def test_a_reserved_name_that_the_deployment_allows_is_impersonated(other: Other) -> None:
    seen = _seen(_started(other), "monitoring")

    assert (seen["username"], seen["groups"]) == ("system:monitoring", ["system:authenticated"])


def test_an_entry_beyond_the_limit_denies_in_its_place_and_is_shown(other: Other) -> None:
    shell = _started(other)
    library = _started(other, LIBRARY)

    turned = f"sed -i -E 's|/agents/[0-9]+|/agents/{other.ids['limited']}|' $KUBECONFIG"
    assert shell.run(turned).code == 0
    refused = shell.run(f"kubectl --context {CONFIG}:by-group get pods --request-timeout=20s")

    # Its group's entry would let it in, as it does the fork's project.
    assert "limited" in _agents(library)
    assert "limited" in _agents(_started(other, FORK))
    assert refused.code == 1
    assert "reason not_listed" in refused.output
    problems = other.shown("limited")["problems"]
    assert [(p["code"], p["text"]) for p in problems] == [("beyond_limit", APP)]


@pytest.mark.parametrize("source", ["merge_request_event", "parent_pipeline"])
def test_a_forks_job_in_the_parent_gets_nothing_and_the_parents_own_does(
    other: Other, source: str
) -> None:
    forks = JobShell.start(other.stack, APP, source_project=FORK, source=source)

    assert _reason(forks) == "fork_refused"
    assert _agents(_started(other, source=source)) == ["by-group", "everyone", "monitoring"]


def test_the_slug_is_the_one_that_gitlab_gave_an_old_environment(other: Other) -> None:
    gitlab = other.stack.gitlab.control
    gitlab.create_environment(APP, "review/old", slug="review-old-a1b2c3")
    project = gitlab.create_job(APP).project_id
    shell = _started(other, environment="review/old")

    seen = _seen(shell, "by-group")

    assert seen["extra"]["agent.gitlab.com/environment_slug"] == ["review-old-a1b2c3"]
    assert f"gitlab:project_env:{project}:review-old-a1b2c3" in seen["groups"]


def test_ten_mistakes_change_no_access_and_are_shown_at_all_three_places(other: Other) -> None:
    shell = _started(other)
    good = other.shown("by-group")

    commit = other.push({_file("by-group"): MISTAKES}, "Make ten mistakes")
    shown = other.until_shown("by-group", lambda shown: bool(shown["problems"]))

    linted = json.loads(other.installation.jobgate("lint", str(other.clone), "--json"))["problems"]
    found = [
        {**p, "file": _file("by-group")} for p in linted if p["file"].endswith(_file("by-group"))
    ]
    assert [(p["line"], p["code"]) for p in found] == WRONG
    assert [{**p, "severity": "error"} for p in shown["problems"]] == found
    kept = ("commit", "valid", "valid_since", "groups")
    assert {name: shown[name] for name in kept} == {name: good[name] for name in kept}
    status = other.status(commit)
    assert (status["name"], status["status"]) == ("jobgate", "failed")
    assert status["description"].startswith(f"{_file('by-group')}:2: unknown_key: ")
    # The limited agent's file has one more.
    assert status["description"].endswith("(and 10 more: jobgate agent show)")
    assert status["target_url"].endswith(f"/{CONFIG}/-/blob/{commit}/{_file('by-group')}#L2")
    assert _seen(shell, "by-group")["username"] == f"gitlab:ci_job:{shell.job.id}"

    mended = f"ci_access: {FILES['by-group']}\n"
    commit = other.push({_file("by-group"): mended}, "Mend them")
    other.until_shown("by-group", lambda shown: not shown["problems"])
    assert other.status(commit)["description"].startswith(f"{_file('limited')}:1: beyond_limit: ")


@pytest.mark.parametrize("what", ["link", "folder", "binary"])
def test_what_is_no_configuration_changes_no_access_and_is_shown(other: Other, what: str) -> None:
    file = other.clone / _file("by-group")
    good = file.read_text()
    file.unlink()
    if what == "link":
        file.symlink_to("/etc/passwd")
    elif what == "folder":
        file.mkdir()
        (file / "config.yaml").write_text(good)
    else:
        file.write_bytes(bytes(range(256)))

    other.push({}, f"Make it a {what}")
    shown = other.until_shown("by-group", lambda shown: bool(shown["problems"]))

    code = {"binary": "not_utf8"}.get(what, "not_a_file")
    assert [problem["code"] for problem in shown["problems"]] == [code]
    assert (shown["valid"], shown["groups"]) == (True, 1)
    assert "by-group" in _agents(_started(other))
    if what == "folder":
        (file / "config.yaml").unlink()
        file.rmdir()
    else:
        file.unlink()
    file.write_text(good)
    other.push({}, "Mend it")
    other.until_shown("by-group", lambda shown: not shown["problems"])
