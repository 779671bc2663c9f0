from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.commit_statuses import GitLabCommitStatuses
from jobgate.adapters.secrets import SecretReader
from jobgate.core.agent import Problem
from jobgate.core.commit_status import CommitStatus, commit_status

from local.certificates import CertificateAuthority
from tests.support import builders as b
from tests.support.fakes import FakeClock
from tests.support.https_server import HTTPSServer, https_server

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = ".gitlab/agents/prod/config.yaml"
TARGET = f"/api/v4/projects/50/statuses/{b.COMMIT}"
TOKEN = "glpat-status-canary"
GOOD = CommitStatus(state="success", description="Good.")
BAD = CommitStatus(state="failed", description="Bad.", file=FILE, line=7)


def a_problem(text: str = "top/gone", *, line: int = 7) -> Problem:
    return Problem(code="not_found", file=FILE, line=line, column=1, text=text, fix="Mend it.")


def test_a_commit_without_problems_has_succeeded() -> None:
    assert commit_status([]).state == "success"


def test_a_commit_with_problems_has_failed_and_names_the_first() -> None:
    status = commit_status([a_problem(), a_problem("top/lost", line=9), a_problem("x", line=10)])

    assert status == CommitStatus(
        state="failed",
        description=f"{FILE}:7: not_found: top/gone (and 2 more: jobgate agent show)",
        file=FILE,
        line=7,
    )


@pytest.mark.parametrize("count", [1, 100])
def test_a_description_is_never_longer_than_gitlab_takes(count: int) -> None:
    description = commit_status([a_problem("ü" * 300)] * count).description

    assert len(description) == 255
    assert "…" in description


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HTTPSServer]:
    folder = tmp_path_factory.mktemp("gitlab")
    authority = CertificateAuthority.create(folder)
    with https_server(authority.issue("gitlab", folder), authority.certificate) as server:
        yield server


@pytest.fixture
def server(listening: HTTPSServer) -> HTTPSServer:
    listening.asked.clear()
    listening._answers.clear()
    return listening


class Setting:
    """Commit statuses at a server, with the secret's tokens."""

    def __init__(self, server: HTTPSServer, tokens: dict[str, Any]) -> None:
        self.lines: list[str] = []
        issuer = b.an_issuer(url=server.url, ca=server.ca)

        def call(_service: str, _operation: str, _request: Any) -> dict[str, Any]:
            return {"SecretString": json.dumps(tokens)}

        self.statuses = GitLabCommitStatuses(
            lambda: b.a_deployment(issuer),
            SecretReader(call, clock=FakeClock()),
            "arn:status",
            log=self.lines.append,
        )

    def post(self, status: CommitStatus, *, issuer: str = "main") -> None:
        self.statuses.post(issuer, b.a_config_project(), b.COMMIT, status)


def test_a_status_is_posted_with_its_own_token_and_the_place_of_the_first_problem(
    server: HTTPSServer,
) -> None:
    server.answer(TARGET, {}, status=201)
    setting = Setting(server, {"main": TOKEN})

    setting.post(BAD)

    (asked,) = server.asked
    assert (asked.method, asked.headers["private-token"]) == ("POST", TOKEN)
    assert json.loads(asked.body) == {
        "state": "failed",
        "name": "jobgate",
        "description": "Bad.",
        "target_url": f"{server.url}/top/sub1/agents/-/blob/{b.COMMIT}/{FILE}#L7",
    }
    assert setting.lines == []


def test_a_good_status_leads_nowhere(server: HTTPSServer) -> None:
    server.answer(TARGET, {}, status=201)

    Setting(server, {"main": TOKEN}).post(GOOD)

    assert json.loads(server.asked[0].body)["target_url"] is None


@pytest.mark.parametrize("tokens", [{}, {"other": TOKEN}, {"main": None}])
def test_an_issuer_without_a_token_for_it_gets_no_status(
    server: HTTPSServer, tokens: dict[str, Any]
) -> None:
    Setting(server, tokens).post(BAD)

    assert server.asked == []


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_a_status_that_gitlab_refuses_is_logged_and_fails_nothing(
    server: HTTPSServer, status: int
) -> None:
    server.answer(TARGET, {}, status=status)
    setting = Setting(server, {"main": TOKEN})

    setting.post(BAD)

    assert setting.lines == [f"no commit status for project 50 of main: GitLab answered {status}"]
    assert len(server.asked) == 1


@pytest.mark.parametrize("token", ["line\nbreak", "ü"])
def test_a_token_that_no_header_can_hold_is_not_shown(server: HTTPSServer, token: str) -> None:
    setting = Setting(server, {"main": f"canary{token}"})

    setting.post(BAD)

    assert len(setting.lines) == 1
    assert "canary" not in setting.lines[0]
