"""What Jobgate asks of GitLab, asked of the stand-in: current routes only, and never a wrong id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.commit_statuses import GitLabCommitStatuses
from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.https import HTTPSClient
from jobgate.adapters.secrets import SecretReader
from jobgate.core.agent import ConfigProject
from jobgate.core.commit_status import CommitStatus

from local.certificates import CertificateAuthority
from local.gitlab.server import GitLab
from tests.support import builders as b
from tests.support.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.gitlab.control import Control

FILE = ".gitlab/agents/prod/config.yaml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    authority = CertificateAuthority.create(tmp_path_factory.mktemp("ca"))
    started = GitLab.start(tmp_path_factory.mktemp("gitlab"), authority=authority)
    started.control.create_group("acme")
    yield started
    started.stop()


@pytest.fixture
def control(server: GitLab) -> Control:
    return server.control


@pytest.fixture
def api(server: GitLab) -> Iterator[GitLabAPI]:
    client = HTTPSClient(f"{server.url}/api/v4", server.control.ca.read_text())
    yield GitLabAPI(client, server.control.create_token(["read_api"]), seconds=30)
    client.close()


def test_a_group_whose_path_is_a_number_is_not_the_group_of_that_id(
    control: Control, api: GitLabAPI
) -> None:
    other = control.create_group("acme/years", id=88_001)
    by_path = control.create_group("88001")
    control.create_group("acme/88001")

    named, numbered = api.group("88001"), api.group(88_001)

    assert named is not None
    assert numbered is not None
    assert (named.group_id, named.path) == (by_path["id"], "88001")
    assert (numbered.group_id, numbered.path) == (other["id"], "acme/years")


def test_a_number_that_is_only_an_id_is_no_path(control: Control, api: GitLabAPI) -> None:
    group = control.create_group("acme/only-an-id")

    assert api.group(str(group["id"])) is None


def test_a_group_below_another_may_be_a_number_too(control: Control, api: GitLabAPI) -> None:
    group = control.create_group("acme/2023")

    found = api.group("acme/2023")

    assert found is not None
    assert found.group_id == group["id"]


def test_a_path_that_was_renamed_away_is_not_found(control: Control, api: GitLabAPI) -> None:
    control.create_group("acme/before")
    control.create_project("acme/before/app")
    control.rename_group("acme/before", "after")

    assert (api.group("acme/before"), api.project("acme/before/app")) == (None, None)
    assert api.group("acme/after") is not None
    assert api.project("ACME/After/APP") is not None


def test_a_number_that_was_renamed_away_is_not_found(control: Control, api: GitLabAPI) -> None:
    control.create_group("88002")
    control.rename_group("88002", "eighty-eight")

    assert api.group("88002") is None


def test_only_the_project_that_runs_a_job_has_it(control: Control, api: GitLabAPI) -> None:
    parent = control.create_project("acme/parent")
    fork = control.create_project("acme/fork")
    job = control.create_job(
        "acme/parent", source_project="acme/fork", source="merge_request_event"
    )

    assert api.job_status(parent["id"], job.id) == "running"
    assert api.job_status(fork["id"], job.id) is None


def test_the_slug_of_an_old_environment_is_gitlabs_own(control: Control, api: GitLabAPI) -> None:
    project = control.create_project("acme/slugs")
    control.create_environment("acme/slugs", "review/1", slug="review-1-x1y2z3")
    control.create_environment("acme/slugs", "review/10", slug="review-10-aaaaaa")

    assert api.environment_slug(project["id"], "review/1") == "review-1-x1y2z3"
    assert api.environment_slug(project["id"], "review/2") is None


def test_a_commit_status_is_seen_beside_the_commit(server: GitLab, control: Control) -> None:
    project = control.create_project("acme/agents")
    sha = control.commit("acme/agents", {FILE: b"ci_access: {}"})
    issuer = b.an_issuer(url=server.url, ca=control.ca.read_text())
    token = control.create_token(["api"])
    lines: list[str] = []

    def call(_service: str, _operation: str, _request: Any) -> dict[str, Any]:
        return {"SecretString": json.dumps({"main": token})}

    statuses = GitLabCommitStatuses(
        lambda: b.a_deployment(issuer),
        SecretReader(call, clock=FakeClock()),
        "arn",
        log=lines.append,
    )
    status = CommitStatus(state="failed", description="first problem", file=FILE, line=3)
    where = ConfigProject(project_id=project["id"], path="acme/agents", namespace_id=1, root_id=1)

    statuses.post("main", where, sha, status)

    client = HTTPSClient(f"{server.url}/api/v4", control.ca.read_text())
    shown = client.get(
        f"/projects/{project['id']}/repository/commits/{sha}/statuses",
        headers={"PRIVATE-TOKEN": token},
        seconds=10,
        max_bytes=65_536,
    ).json()
    client.close()
    assert lines == []
    assert [(s["name"], s["status"], s["description"]) for s in shown] == [
        ("jobgate", "failed", "first problem")
    ]
    assert shown[0]["target_url"] == f"{server.url}/acme/agents/-/blob/{sha}/{FILE}#L3"
