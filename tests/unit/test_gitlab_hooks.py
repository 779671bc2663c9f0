"""Webhooks in GitLab as it answers, well and badly, from a real HTTPS server."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.gitlab_hooks import GitLabHooks, GitLabProjectHooks
from jobgate.adapters.gitlab_writes import GitLabWrites
from jobgate.adapters.https import HTTPSClient
from jobgate.core.errors import NotForUs, TimedOut, Unanswered, Unavailable
from jobgate.core.hook import HookScope
from jobgate.core.webhook import HookSecrets

from local.certificates import CertificateAuthority
from tests.support import builders as b
from tests.support.https_server import HTTPSServer, https_server

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "glpat-canary"
HOOKS = "/api/v4/projects/42/hooks"
BELOW = "/api/v4/groups/7/projects"
BASE = "https://api.example.test/live"
OURS = f"{BASE}/webhooks/gitlab/main"
SECRETS = HookSecrets(secret_token="s3cret", signing_token=None, entry_id="e1")
MISSING = {"message": "404 Not Found"}
PROJECT = {
    "id": 100,
    "path_with_namespace": "top/app",
    "default_branch": "main",
    "namespace": {"id": 7, "kind": "group", "full_path": "top", "parent_id": None},
}


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


def writes(
    server: HTTPSServer, token: str = TOKEN, *, seconds: float = 10, until: float = 1e12
) -> GitLabWrites:
    issuer = replace(b.an_issuer(), base_url=server.url, ca=server.ca)
    return GitLabWrites(issuer, token, seconds=seconds, proof="the token", until=until)


@pytest.fixture
def hooks(server: HTTPSServer) -> Iterator[GitLabProjectHooks]:
    with closing(HTTPSClient(f"{server.url}/api/v4", server.ca)) as client:
        reads = GitLabAPI(client, TOKEN, seconds=10)
        yield GitLabProjectHooks(writes(server), reads, b.an_issuer(), base_url=BASE)


def a_hook(hook_id: Any, url: Any, name: str = "Jobgate") -> dict[str, Any]:
    return {"id": hook_id, "url": url, "name": name}


def changes(server: HTTPSServer) -> list[tuple[str, str]]:
    return [(asked.method, asked.target) for asked in server.asked if asked.method != "GET"]


# --- Whose a webhook is ---


def test_another_deployments_webhook_of_the_same_alias_is_left_alone(
    server: HTTPSServer, hooks: GitLabProjectHooks
) -> None:
    theirs = a_hook(1, "https://staging.example.test/live/webhooks/gitlab/main?project=42")
    server.answer(HOOKS, [theirs])

    hooks.remove(42, formerly=None)
    assert changes(server) == []

    with pytest.raises(Unavailable):  # the list's answer isn't that of a new webhook
        hooks.write(42, SECRETS, formerly=None)
    assert changes(server) == [("POST", HOOKS)]


def test_a_webhook_with_an_address_that_it_was_given_is_ours(
    server: HTTPSServer, hooks: GitLabProjectHooks
) -> None:
    former = "https://old.example.test/webhooks/gitlab/main"
    server.answer(HOOKS, [a_hook(1, f"{former}?project=42"), a_hook(2, f"{OURS}?project=42")])
    server.answer(f"{HOOKS}/1", {"id": 1})
    server.answer(f"{HOOKS}/2", status=204)

    assert hooks.write(42, SECRETS, formerly=former) == (1, False)

    assert changes(server) == [("DELETE", f"{HOOKS}/2"), ("PUT", f"{HOOKS}/1")]
    assert json.loads(server.asked[-1].body)["url"] == f"{OURS}?project=42"


# --- Answers that aren't GitLab's, or that don't come ---


@pytest.mark.parametrize(
    "rows",
    [
        [a_hook("1", OURS)],
        [a_hook(None, OURS)],
        [a_hook(1, 7)],
        [{"url": OURS}],
        ["hook"],
        [None],
        {"message": "x"},
        "x",
        7,
    ],
    ids=str,
)
def test_a_list_of_webhooks_in_another_form_is_no_answer(
    server: HTTPSServer, hooks: GitLabProjectHooks, rows: Any
) -> None:
    server.answer(HOOKS, rows)

    with pytest.raises(Unavailable):
        hooks.write(42, SECRETS, formerly=None)
    with pytest.raises(Unavailable):
        hooks.remove(42, formerly=None)
    assert changes(server) == []


@pytest.mark.parametrize("made", [{}, {"id": "9"}, [], "9", None], ids=str)
def test_a_new_webhook_in_another_form_is_no_answer(server: HTTPSServer, made: Any) -> None:
    api = writes(server)
    server.answer(f"{HOOKS}?per_page=100&page=1", [])
    server.answer(HOOKS, made)

    with pytest.raises(Unavailable):
        GitLabHooks(api, b.an_issuer(), base_url=BASE).write(HookScope("project", 42), SECRETS)


def test_a_list_that_ends_in_its_middle_is_no_answer(
    server: HTTPSServer, hooks: GitLabProjectHooks
) -> None:
    others = [a_hook(n, "https://chat.example.test/") for n in range(100)]
    server.answer(f"{HOOKS}?per_page=100&page=1", others)
    server.answer(f"{HOOKS}?per_page=100&page=2", MISSING, status=404)

    with pytest.raises(Unavailable, match="in its middle"):
        hooks.remove(42, formerly=None)


def test_a_project_that_gitlab_does_not_show_is_not_one_without_webhooks(
    server: HTTPSServer, hooks: GitLabProjectHooks
) -> None:
    server.answer(HOOKS, MISSING, status=404)

    with pytest.raises(NotForUs):
        hooks.remove(42, formerly=None)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (404, b"<html>not here</html>", {}),
        (302, b"", {"Location": "https://login.example.test/"}),
        (302, b"", {"Location": "/api/v4/elsewhere"}),
    ],
    ids=["a proxy's 404", "a sign-in", "another place"],
)
def test_what_a_proxy_says_is_not_that_a_project_is_gone(
    server: HTTPSServer,
    hooks: GitLabProjectHooks,
    status: int,
    body: bytes,
    headers: dict[str, str],
) -> None:
    server.answer(HOOKS, body, status=status, headers=headers)

    with pytest.raises(Unavailable) as raised:
        hooks.remove(42, formerly=None)
    assert not isinstance(raised.value, NotForUs)
    assert [asked.target.partition("?")[0] for asked in server.asked] == [HOOKS]


@pytest.mark.parametrize("fault", ["hang", "drip", "status", "cut"])
def test_a_change_without_a_whole_answer_may_have_been_made(
    server: HTTPSServer, fault: str
) -> None:
    api = writes(server, seconds=1)
    match fault:
        case "hang":
            server.hang(HOOKS)
        case "drip":  # each byte comes well before a time-out of the socket's own
            server.drip(HOOKS, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b" " * 5000)
        case "status":
            server.answer(HOOKS, {"message": "502"}, status=502)
        case "cut":
            server.answer_raw(HOOKS, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")

    with pytest.raises(Unanswered) as raised:
        api("POST", HOOKS.removeprefix("/api/v4"), {"token": "s3cret"})

    assert server.count(HOOKS) == 1
    assert TOKEN not in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_read_without_an_answer_has_changed_nothing(server: HTTPSServer) -> None:
    server.answer(HOOKS, {"message": "502"}, status=502)

    with pytest.raises(Unavailable) as raised:
        writes(server)("GET", "/projects/42/hooks")

    assert not isinstance(raised.value, Unanswered)


def test_nothing_is_asked_when_the_time_is_over(server: HTTPSServer) -> None:
    api = writes(server, until=time.monotonic())

    with pytest.raises(TimedOut):
        api("DELETE", "/projects/42/hooks/1")

    assert server.asked == []


# --- The token ---


@pytest.mark.parametrize("token", ["glpat-canary\n", "glpat-\ncanary", "glpat canary", "", "é"])
def test_what_no_header_can_carry_is_refused_by_a_fixed_sentence(
    server: HTTPSServer, token: str
) -> None:
    with pytest.raises(Unavailable) as raised:
        writes(server, token)

    assert str(raised.value) == "what is stored as GitLab's token can't be one"
    assert server.asked == []


@pytest.mark.parametrize("stored", [7, None, ["glpat-canary"]])
def test_a_token_that_is_no_text_is_refused_too(server: HTTPSServer, stored: Any) -> None:
    with pytest.raises(Unavailable, match="can't be one"):
        writes(server, stored)


# --- Projects below a group ---


def page(server: HTTPSServer, number: int, rows: list[Any], total: int, *, more: bool) -> None:
    target = BELOW if number == 1 else f"{BELOW}?page={number}"
    headers = {"X-Total": str(total)}
    if more:
        headers["Link"] = f'<{server.url}{BELOW}?page={number + 1}>; rel="next"'
    server.answer(target, rows, headers=headers)


def test_the_active_projects_of_a_tree_are_listed(
    server: HTTPSServer, hooks: GitLabProjectHooks
) -> None:
    page(server, 1, [PROJECT], 2, more=True)
    page(server, 2, [{**PROJECT, "id": 101, "path_with_namespace": "top/api"}], 2, more=False)

    assert hooks.active_projects_below(7) == {100, 101}
    assert "archived=false" in server.asked[0].target


def test_a_list_that_changes_between_its_pages_is_not_taken_for_whole(
    server: HTTPSServer, hooks: GitLabProjectHooks
) -> None:
    page(server, 1, [PROJECT], 2, more=True)
    page(server, 2, [], 1, more=False)

    with pytest.raises(Unavailable, match="changed while"):
        hooks.active_projects_below(7)


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_list_whose_second_page_is_missing_is_not_taken_for_whole(
    server: HTTPSServer, hooks: GitLabProjectHooks, status: int
) -> None:
    page(server, 1, [PROJECT], 2, more=True)
    server.answer(f"{BELOW}?page=2", MISSING, status=status)

    with pytest.raises(Unavailable):
        hooks.active_projects_below(7)


@pytest.mark.parametrize("row", [{**PROJECT, "id": "100"}, {"id": 100}, 7])
def test_a_list_with_a_row_of_another_form_is_not_taken_for_whole(
    server: HTTPSServer, hooks: GitLabProjectHooks, row: Any
) -> None:
    server.answer(BELOW, [row])

    with pytest.raises(Unavailable):
        hooks.active_projects_below(7)
