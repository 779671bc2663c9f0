"""GitLab's REST API as it answers, well and badly, from a real HTTPS server."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import gitlab_api, gitlab_memory
from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.gitlab_memory import Blobs, Listing, Listings
from jobgate.adapters.https import HTTPSClient
from jobgate.core.agent_folder import FileKind, TreeEntry
from jobgate.core.errors import NotForUs, Throttled, TimedOut, Unavailable
from jobgate.ports.gitlab import GitLabGroup, GitLabProject

from local.certificates import CertificateAuthority
from tests.support.https_server import HTTPSServer, https_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

API = "/api/v4"
TOKEN = "glpat-canary"
TREE = f"{API}/projects/50/repository/tree"
RAW = f"{API}/projects/50/repository/files/.gitlab%2Fagents%2Fprod%2Fconfig.yaml/raw"
BRANCH = f"{API}/projects/50/repository/branches/main"
FILE = ".gitlab/agents/prod/config.yaml"
PROJECT = {
    "id": 100,
    "path_with_namespace": "top/sub1/app",
    "default_branch": "main",
    "namespace": {"id": 2, "kind": "group", "full_path": "top/sub1", "parent_id": 1},
}
GROUP = {"id": 2, "full_path": "top/sub1", "parent_id": 1}
THE_PROJECT = GitLabProject(
    project_id=100,
    path="top/sub1/app",
    default_branch="main",
    namespace_id=2,
    namespace_path="top/sub1",
    namespace_kind="group",
)


def an_entry(kind: str, path: str, *, mode: str = "100644", blob: str = "1" * 40) -> dict[str, str]:
    return {
        "id": blob,
        "name": path.rpartition("/")[2],
        "type": kind,
        "path": path,
        "mode": mode,
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


@pytest.fixture
def client(server: HTTPSServer) -> Iterator[HTTPSClient]:
    client = HTTPSClient(f"{server.url}{API}", server.ca)
    yield client
    client.close()


@pytest.fixture
def gitlab(client: HTTPSClient) -> GitLabAPI:
    return GitLabAPI(client, TOKEN, seconds=10)


def test_a_project_is_read_by_id_and_by_path(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    server.answer(f"{API}/projects/100", PROJECT)
    server.answer(f"{API}/projects/top%2Fsub1%2Fapp", PROJECT)

    assert gitlab.project(100) == THE_PROJECT
    assert gitlab.project("top/sub1/app") == THE_PROJECT


def test_a_path_is_the_same_whatever_its_case(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    server.answer(f"{API}/projects/TOP%2Fsub1%2FApp", PROJECT)

    assert gitlab.project("TOP/sub1/App") == THE_PROJECT


def test_the_token_goes_out_in_its_header_alone(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    server.answer(f"{API}/projects/100", PROJECT)

    gitlab.project(100)

    (asked,) = server.asked
    assert asked.headers["private-token"] == TOKEN
    assert TOKEN not in asked.target
    assert "authorization" not in asked.headers


def test_an_empty_repository_has_no_default_branch(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    server.answer(f"{API}/projects/100", {**PROJECT, "default_branch": None})

    project = gitlab.project(100)

    assert project is not None
    assert project.default_branch is None


def test_a_project_whose_code_is_not_for_us_is_found_all_the_same(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    # GitLab leaves the key out for whoever may see a project but not its code.
    shown = {name: value for name, value in PROJECT.items() if name != "default_branch"}
    server.answer(f"{API}/projects/100", shown)

    assert gitlab.project(100) == dataclasses.replace(THE_PROJECT, default_branch=None)


def test_a_group_is_read_with_its_parent(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    server.answer(f"{API}/groups/2", GROUP)
    server.answer(f"{API}/groups/top", {"id": 1, "full_path": "top", "parent_id": None})

    assert gitlab.group(2) == GitLabGroup(group_id=2, path="top/sub1", parent_id=1)
    assert gitlab.group("top") == GitLabGroup(group_id=1, path="top", parent_id=None)


def test_what_is_not_there_is_none(gitlab: GitLabAPI) -> None:
    assert gitlab.project("top/gone") is None
    assert gitlab.group(7) is None
    assert gitlab.head(50, "main") is None
    assert gitlab.raw_file(50, FILE, "abc") is None


def test_a_path_that_was_renamed_away_is_not_found(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    moved = {"Location": f"{server.url}{API}/projects/100"}
    server.answer(f"{API}/projects/top%2Fold", b"", status=301, headers=moved)
    moved = {"Location": f"{server.url}{API}/groups/7"}
    server.answer(f"{API}/groups/old", b"", status=302, headers=moved)

    assert gitlab.project("top/old") is None
    assert gitlab.group("old") is None
    assert server.count(f"{API}/projects/100") == 0


@pytest.mark.parametrize("read", ["head", "files", "raw"])
def test_a_redirect_of_anything_else_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, read: str
) -> None:
    for path in (BRANCH, TREE, RAW):
        server.answer(path, b"", status=302, headers={"Location": server.url})

    with pytest.raises(Unavailable):
        READS[read](gitlab)


def test_a_path_of_digits_is_never_the_id_of_another(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    # GitLab reads /groups/2024 and /projects/100 as ids, whatever was meant.
    server.answer(f"{API}/groups/2024", {"id": 2024, "full_path": "victim", "parent_id": None})
    server.answer(f"{API}/projects/100", PROJECT)

    assert gitlab.group("2024") is None
    assert gitlab.project("100") is None


NUMERIC = f"{API}/groups?search=2024&top_level_only=true&per_page=100"


def test_a_group_whose_path_is_a_number_is_found_by_listing(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    similar = [
        {"id": 2024, "full_path": "another", "parent_id": None},
        {"id": 5, "full_path": "2024-archive", "parent_id": None},
        {"id": 6, "full_path": "old/2024", "parent_id": 3},
    ]
    wanted = {"id": 7, "full_path": "2024", "parent_id": None}
    server.answer(NUMERIC, [*similar, wanted])

    assert gitlab.group("2024") == GitLabGroup(group_id=7, path="2024", parent_id=None)


def test_a_group_whose_path_is_a_number_is_never_the_group_of_that_id(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    by_id = {"id": 2024, "full_path": "another", "parent_id": None}
    server.answer(f"{API}/groups/2024", by_id)
    server.answer(NUMERIC, [by_id])

    assert gitlab.group("2024") is None
    assert gitlab.group(2024) == GitLabGroup(group_id=2024, path="another", parent_id=None)
    assert [asked.target for asked in server.asked] == [
        NUMERIC,
        f"{API}/groups/2024?with_projects=false",
    ]


def test_a_job_is_its_projects_only_if_gitlab_shows_it_there(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    server.answer(f"{API}/projects/100/jobs/9001", {"id": 9001, "status": "running"})
    server.answer(f"{API}/projects/100/jobs/9003", {"id": 9001, "status": "running"})

    assert gitlab.job_status(100, 9001) == "running"
    assert gitlab.job_status(100, 9002) is None
    assert gitlab.job_status(100, 9003) is None


@pytest.mark.parametrize("status", [301, 401, 403, 429, 500])
def test_a_job_that_gitlab_does_not_answer_for_is_unknown(
    server: HTTPSServer, gitlab: GitLabAPI, status: int
) -> None:
    job = {"id": 9001, "status": "success"}
    server.answer(f"{API}/projects/100/jobs/9001", job, status=status)

    with pytest.raises(Unavailable):
        gitlab.job_status(100, 9001)


@pytest.mark.parametrize(
    "job",
    [
        {"id": 9001},
        {"id": 9001, "status": None},
        {"id": 9001, "status": ""},
        {"id": 9001, "status": ["running"]},
        {"id": "9001", "status": "running"},
        {"status": "running"},
        [],
    ],
)
def test_a_job_in_another_form_than_gitlabs_is_unknown(
    server: HTTPSServer, gitlab: GitLabAPI, job: object
) -> None:
    server.answer(f"{API}/projects/100/jobs/9001", job)

    with pytest.raises(Unavailable):
        gitlab.job_status(100, 9001)


ENVIRONMENTS = f"{API}/projects/100/environments?name=review%2F1&per_page=100"


def test_an_environments_slug_is_that_of_its_very_name(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    found = [{"name": "Review/1", "slug": "other"}, {"name": "review/1", "slug": "review-1-a1b2c3"}]
    server.answer(ENVIRONMENTS, found)

    assert gitlab.environment_slug(100, "review/1") == "review-1-a1b2c3"


def test_an_environment_that_is_not_there_has_no_slug(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    server.answer(ENVIRONMENTS, [])

    assert gitlab.environment_slug(100, "review/1") is None
    assert gitlab.environment_slug(101, "review/1") is None


@pytest.mark.parametrize(
    "environment",
    [
        {"name": "review/1"},
        {"name": "review/1", "slug": None},
        {"name": "review/1", "slug": "a\nb"},
        {"name": "review/1", "slug": "system:masters"},
        {"name": "review/1", "slug": "a" * 25},
        "review/1",
    ],
)
def test_a_slug_that_cannot_be_one_is_unknown(
    server: HTTPSServer, gitlab: GitLabAPI, environment: Any
) -> None:
    server.answer(ENVIRONMENTS, [environment])

    with pytest.raises(Unavailable):
        gitlab.environment_slug(100, "review/1")


def test_another_project_than_was_asked_for_is_not_found(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    server.answer(f"{API}/projects/top%2Fold", PROJECT)
    server.answer(f"{API}/projects/99", PROJECT)

    assert gitlab.project("top/old") is None
    assert gitlab.project(99) is None


@pytest.mark.parametrize(
    "path",
    ["", "/", "top/", "/top", "top//app", ".", "..", "top/..", "../top", "top/./app", "top app",
     "top/app?x=1", "top/app#x", "top%2Fapp", "top/äpp", "top/a\x00b", "top/a\nb", "-top/app",
     "top/app\n", " top/app"],
)  # fmt: skip
def test_what_no_path_can_be_is_not_found_without_asking(
    server: HTTPSServer, gitlab: GitLabAPI, path: str
) -> None:
    assert gitlab.project(path) is None
    assert gitlab.group(path) is None
    assert server.asked == []


def test_unusual_names_that_gitlab_allows_are_asked_for(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    for path in ("_top/.app", "top.x/a-b_c", "9/...a"):
        gitlab.project(path)

    assert len(server.asked) == 3


def test_the_head_of_a_branch_with_any_name_is_read(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    branch = f"{API}/projects/50/repository/branches/release%2F1%20%23"
    server.answer(branch, {"name": "release/1 #", "commit": {"id": "2" * 40}})

    assert gitlab.head(50, "release/1 #") == "2" * 40


def test_every_page_of_the_tree_is_read(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    for page in range(1, 4):
        link = f'<{server.url}{TREE}?page_token=p{page + 1}&ref=abc>; rel="next"'
        first = f'<{server.url}{TREE}?page_token=p1>; rel="first"'
        entries = [
            an_entry("blob", f".gitlab/agents/a{page}/config.yaml"),
            an_entry("tree", f".gitlab/agents/a{page}", mode="040000"),
        ]
        target = TREE if page == 1 else f"{TREE}?page_token=p{page}&ref=abc"
        headers = {"Link": f"{first}, {link}"} if page < 3 else {"Link": first}
        server.answer(target, entries, headers=headers, keep=True)

    assert gitlab.agent_files(50, "abc") == {
        path: TreeEntry(kind, "1" * 40)
        for page in (1, 2, 3)
        for path, kind in (
            (f".gitlab/agents/a{page}", FileKind.FOLDER),
            (f".gitlab/agents/a{page}/config.yaml", FileKind.FILE),
        )
    }
    assert "ref=abc" in server.asked[0].target
    assert "recursive=true" in server.asked[0].target


def test_pages_without_an_end_are_given_up(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    link = {"Link": f'<{server.url}{TREE}?page_token=again>; rel="next"'}
    server.answer(TREE, [], headers=link, keep=True)

    with pytest.raises(Unavailable, match="pages"):
        gitlab.agent_files(50, "abc")


@pytest.mark.parametrize(
    "link",
    [
        '<https://x.test/rewritten?page=2>; rel="next"',
        "</no/api?page=2>; rel=next; x=y",
        'rel="next"',
    ],
)
def test_a_next_page_that_cannot_be_found_is_no_end_of_the_list(
    server: HTTPSServer, gitlab: GitLabAPI, link: str
) -> None:
    # Files on it would count as deleted.
    server.answer(TREE, [], headers={"Link": link}, keep=True)

    with pytest.raises(Unavailable):
        gitlab.agent_files(50, "abc")


def test_a_next_page_elsewhere_is_asked_for_here(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    entry = an_entry("blob", FILE)
    elsewhere = f"https://evil.example.test{API}/projects/50/repository/tree?page_token=2"
    server.answer(TREE, [], headers={"Link": f'<{elsewhere}>; rel="next"'})
    server.answer(f"{TREE}?page_token=2", [entry])

    assert gitlab.agent_files(50, "abc") == {FILE: TreeEntry(FileKind.FILE, "1" * 40)}


@pytest.mark.parametrize(
    ("kind", "mode", "expected"),
    [
        ("blob", "100644", FileKind.FILE),
        ("blob", "100755", FileKind.FILE),
        ("blob", "100664", FileKind.FILE),
        ("blob", "120000", FileKind.LINK),
        ("tree", "040000", FileKind.FOLDER),
        ("commit", "160000", FileKind.SUBMODULE),
    ],
)
def test_a_paths_kind_is_that_of_git(
    server: HTTPSServer, gitlab: GitLabAPI, kind: str, mode: str, expected: FileKind
) -> None:
    server.answer(TREE, [an_entry(kind, FILE, mode=mode)])

    assert gitlab.agent_files(50, "abc") == {FILE: TreeEntry(expected, "1" * 40)}


def test_a_files_content_is_read_byte_for_byte(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    content = bytes(range(256))
    server.answer(RAW, content)

    assert gitlab.raw_file(50, FILE, "abc") == content
    assert server.asked[0].target == f"{RAW}?ref=abc"


def test_a_file_is_cut_one_byte_above_the_largest_configuration(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    server.answer(RAW, b"x" * 300_000)

    data = gitlab.raw_file(50, FILE, "abc")

    assert data is not None
    assert len(data) == 131_073


READS: dict[str, Callable[[GitLabAPI], Any]] = {
    "project": lambda gitlab: gitlab.project(100),
    "group": lambda gitlab: gitlab.group(2),
    "head": lambda gitlab: gitlab.head(50, "main"),
    "files": lambda gitlab: gitlab.agent_files(50, "abc"),
    "raw": lambda gitlab: gitlab.raw_file(50, FILE, "abc"),
}
PLACES = {
    "project": f"{API}/projects/100",
    "group": f"{API}/groups/2",
    "head": BRANCH,
    "files": TREE,
    "raw": RAW,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("status", [201, 204, 400, 401, 403, 410, 418, 429, 500, 502, 503])
def test_any_other_status_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, read: str, status: int
) -> None:
    server.answer(PLACES[read], b"", status=status)

    with pytest.raises(Unavailable, match=str(status)):
        READS[read](gitlab)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_told_from_a_gitlab_that_is_away(
    server: HTTPSServer, gitlab: GitLabAPI, read: str, status: int
) -> None:
    server.answer(PLACES[read], b"", status=status)

    with pytest.raises(NotForUs):
        READS[read](gitlab)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "86400"}, 900),
        ({"Retry-After": "Wed, 25 Nov 2026 14:00:00 GMT"}, 60),
        ({"Retry-After": "-1"}, 60),
        ({"Retry-After": "\u00b2"}, 60),
        ({}, 60),
    ],
)
def test_a_gitlab_that_asks_for_fewer_calls_says_from_when_on(
    server: HTTPSServer, gitlab: GitLabAPI, headers: dict[str, str], seconds: float
) -> None:
    server.answer(PLACES["head"], b"Retry later", status=429, headers=headers)

    with pytest.raises(Throttled) as throttled:
        gitlab.head(50, "main")

    assert throttled.value.retry_after == seconds


COMMIT = f"{API}/projects/50/repository/commits/abc"


@pytest.mark.parametrize("given", ["200 []", "404"])
def test_a_folder_that_is_not_at_the_commit_has_no_files(
    server: HTTPSServer, gitlab: GitLabAPI, given: str
) -> None:
    server.answer(COMMIT, {"id": "abc"})
    if given == "200 []":
        server.answer(TREE, [])

    assert dict(gitlab.agent_files(50, "abc")) == {}


def test_a_folder_of_a_commit_that_is_gone_too_is_no_deleted_folder(gitlab: GitLabAPI) -> None:
    with pytest.raises(NotForUs):
        gitlab.agent_files(50, "abc")


def test_a_tree_that_ends_in_its_middle_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    link = {"Link": f'<{server.url}{TREE}?page_token=2>; rel="next"'}
    server.answer(TREE, [an_entry("blob", FILE)], headers=link)
    server.answer(f"{TREE}?page_token=2", {"message": "404 Tree Not Found"}, status=404)

    with pytest.raises(Unavailable):
        gitlab.agent_files(50, "abc")


def test_a_file_whose_blob_is_known_is_not_fetched_again(
    server: HTTPSServer, client: HTTPSClient
) -> None:
    contents = (b"ci_access: {}", b"ci_access: {projects: []}")
    first, second = (an_entry("blob", FILE, blob=blob_of(content)) for content in contents)
    server.answer(TREE, [first])
    server.answer(RAW, contents[0])
    blobs = Blobs()

    def read() -> bytes | None:
        gitlab = GitLabAPI(client, TOKEN, seconds=10, blobs=blobs)
        gitlab.agent_files(50, "abc")
        return gitlab.raw_file(50, FILE, "abc")

    assert (read(), read()) == (contents[0], contents[0])
    assert server.count(RAW) == 1

    server.answer(TREE, [second])
    server.answer(RAW, contents[1])
    assert read() == contents[1]


def test_a_blob_of_another_project_is_not_taken(server: HTTPSServer, client: HTTPSClient) -> None:
    # Two projects may hold one content, but who may read the one needn't be able to read the other.
    blobs = Blobs()
    blobs.keep(51, "1" * 40, b"another project's")
    server.answer(TREE, [an_entry("blob", FILE)])
    gitlab = GitLabAPI(client, TOKEN, seconds=10, blobs=blobs)
    gitlab.agent_files(50, "abc")

    assert gitlab.raw_file(50, FILE, "abc") is None


def test_blobs_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitlab_memory, "_BLOBS_MAX_BYTES", 10)
    blobs = Blobs()
    for name in ("a", "b", "c"):
        blobs.keep(50, name, b"12345")
    blobs.keep(50, "c", b"12345")

    assert [blobs.get(50, name) is None for name in ("a", "b", "c")] == [True, False, False]


# --- Answers that aren't GitLab's own ---


def blob_of(content: bytes, *, by: str = "sha1") -> str:
    """Git's id of a content, by git's own words: a head, a zero byte, the content."""
    digest = hashlib.new(by, usedforsecurity=False)
    digest.update(f"blob {len(content)}".encode() + b"\0" + content)
    return digest.hexdigest()


def test_gits_ids_of_contents_are_as_git_makes_them() -> None:
    # `printf 'ci_access: {}\n' | git hash-object --stdin`
    assert blob_of(b"ci_access: {}\n") == "56533f3fa563efa18ae27f1ffee63b0e91ac90f4"


@pytest.mark.parametrize("by", ["sha1", "sha256"])
@pytest.mark.parametrize(
    "instead",
    [b"<html>Sign in</html>", b"", b"ci_access: {projects: [{id: top/app}]}", b"Retry later"],
    ids=["a page", "nothing", "its first part", "words"],
)
def test_a_content_that_is_not_the_one_in_git_is_no_answer_and_is_not_kept(
    server: HTTPSServer, client: HTTPSClient, instead: bytes, by: str
) -> None:
    true = b"ci_access: {projects: [{id: top/app}]}\n# an end\n"
    server.answer(TREE, [an_entry("blob", FILE, blob=blob_of(true, by=by))])
    server.answer(RAW, instead)
    blobs = Blobs()

    def read() -> bytes | None:
        gitlab = GitLabAPI(client, TOKEN, seconds=10, blobs=blobs)
        gitlab.agent_files(50, "abc")
        return gitlab.raw_file(50, FILE, "abc")

    with pytest.raises(Unavailable, match="in git"):
        read()
    server.answer(RAW, true)

    assert read() == true


PATHS: dict[str, Callable[[GitLabAPI], Any]] = {
    "project by path": lambda gitlab: gitlab.project("top/app"),
    "group by path": lambda gitlab: gitlab.group("top"),
    "projects below": lambda gitlab: gitlab.projects_below(1),
    **READS,
}
ANY = {
    **PLACES,
    "project by path": f"{API}/projects/top%2Fapp",
    "group by path": f"{API}/groups/top",
    "projects below": f"{API}/groups/1/projects",
}


@pytest.mark.parametrize("read", PATHS)
@pytest.mark.parametrize(
    "page", [b"default backend - 404", b"<html>Not Found</html>", b"", b"[]", b'"Not Found"']
)
def test_a_404_that_is_not_the_apis_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, read: str, page: bytes
) -> None:
    # A proxy that has lost its way to GitLab, or that refuses %2F in a path, as Apache's does.
    server.answer(ANY[read], page, status=404)

    with pytest.raises(Unavailable) as raised:
        PATHS[read](gitlab)

    assert not isinstance(raised.value, NotForUs)


@pytest.mark.parametrize("read", PATHS)
@pytest.mark.parametrize(
    "location", ["https://sso.test/?back=/api/v4/", "/users/sign_in", "/api/v4/", ""]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, read: str, location: str, status: int
) -> None:
    server.answer(ANY[read], b"", status=status, headers={"Location": location})

    with pytest.raises(Unavailable, match=str(status)):
        PATHS[read](gitlab)


@pytest.mark.parametrize("read", ["project", "group"])
def test_what_is_asked_for_by_its_id_is_never_renamed_away(
    server: HTTPSServer, gitlab: GitLabAPI, read: str
) -> None:
    moved = {"Location": f"{server.url}{API}/projects/7"}
    server.answer(PLACES[read], b"", status=301, headers=moved)

    with pytest.raises(Unavailable, match="301"):
        READS[read](gitlab)


@pytest.mark.parametrize("commit", [b"<html>", b"[]", b"{}", b'{"id": "another"}'])
def test_a_folder_is_deleted_only_where_the_commit_itself_is_shown(
    server: HTTPSServer, gitlab: GitLabAPI, commit: bytes
) -> None:
    server.answer(TREE, [])
    server.answer(COMMIT, commit)

    with pytest.raises(Unavailable):
        gitlab.agent_files(50, "abc")


# --- Listings ---

PROJECTS_BELOW = f"{API}/groups/1/projects"
GROUPS_BELOW = f"{API}/groups/1/descendant_groups"


def pages(server: HTTPSServer, path: str, *rows: list[Any], totals: list[int | None]) -> None:
    """Answer a list by number, each page with its own count of all rows."""
    for number, (page, total) in enumerate(zip(rows, totals, strict=True), 1):
        headers = {} if total is None else {"X-Total": str(total)}
        if number < len(rows):
            headers["Link"] = f'<{server.url}{path}?page={number + 1}>; rel="next"'
        target = path if number == 1 else f"{path}?page={number}"
        server.answer(target, page, headers=headers)


def test_a_groups_projects_and_groups_are_listed_page_by_page(
    server: HTTPSServer, gitlab: GitLabAPI
) -> None:
    other = {**PROJECT, "id": 101, "path_with_namespace": "top/Sub1/Other"}
    pages(server, PROJECTS_BELOW, [PROJECT], [other], totals=[2, 2])
    pages(server, GROUPS_BELOW, [GROUP], totals=[1])

    assert gitlab.projects_below(1) == {
        "top/sub1/app": THE_PROJECT,
        "top/sub1/other": dataclasses.replace(THE_PROJECT, project_id=101, path="top/Sub1/Other"),
    }
    assert gitlab.groups_below(1) == {
        "top/sub1": GitLabGroup(group_id=2, path="top/sub1", parent_id=1)
    }
    asked = server.asked[0].target
    for wanted in ("include_subgroups=true", "with_shared=false", "order_by=id", "per_page=100"):
        assert wanted in asked
    assert "archived" not in asked


@pytest.mark.parametrize("totals", [[2, 1], [2, 3], [2, None], [None, 2]])
def test_a_list_that_changes_while_it_is_read_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, totals: list[int | None]
) -> None:
    pages(server, PROJECTS_BELOW, [PROJECT], [], totals=totals)

    with pytest.raises(Unavailable, match="changed while"):
        gitlab.projects_below(1)


@pytest.mark.parametrize("headers", [{}, {"X-Total": "150"}, {"X-Next-Page": "2"}])
def test_a_list_whose_links_were_lost_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, headers: dict[str, str]
) -> None:
    full = [{**PROJECT, "id": n, "path_with_namespace": f"top/p{n}"} for n in range(100)]
    server.answer(PROJECTS_BELOW, full, headers=headers)

    with pytest.raises(Unavailable, match="where it ends"):
        gitlab.projects_below(1)


def test_a_list_whose_last_page_is_full_has_its_end(server: HTTPSServer, gitlab: GitLabAPI) -> None:
    full = [{**PROJECT, "id": n, "path_with_namespace": f"top/p{n}"} for n in range(100)]
    server.answer(PROJECTS_BELOW, full, headers={"X-Next-Page": ""})

    assert len(gitlab.projects_below(1)) == 100


def a_row(number: int) -> dict[str, Any]:
    return {**PROJECT, "id": number, "path_with_namespace": f"top/p{number}"}


def asked_pages(server: HTTPSServer) -> list[str]:
    """The pages of the list that were asked for, the first one as nothing."""
    targets = [a.target for a in server.asked if a.target.startswith(PROJECTS_BELOW)]
    found = [re.search(r"[?&]page=(\d+)", target) for target in targets]
    return ["" if page is None else page[1] for page in found]


class Tries:
    """Runs one after another, of one warm function: each has a time of its own."""

    def __init__(self, server: HTTPSServer, client: HTTPSClient) -> None:
        self.server, self.client, self.listings = server, client, Listings()
        pages(server, PROJECTS_BELOW, *([a_row(n)] for n in range(4)), totals=[4] * 4)
        self.push("abc")

    def push(self, commit: str) -> None:
        self.server.answer(BRANCH, {"name": "main", "commit": {"id": commit}})

    def run(self) -> set[str]:
        """One run: the head, then the list; what it asked for of the list is `asked_pages`."""
        self.server.asked.clear()
        gitlab = GitLabAPI(self.client, TOKEN, seconds=10, listings=self.listings)
        gitlab.head(50, "main")
        return set(gitlab.projects_below(1))

    def run_and_fail_at(self, page: int, status: int = 502) -> None:
        """A run that gets no answer at a page, which there is again afterwards."""
        target = f"{PROJECTS_BELOW}?page={page}"
        self.server.answer(target, b"", status=status)
        with pytest.raises(Unavailable):
            self.run()
        pages(self.server, PROJECTS_BELOW, *([a_row(n)] for n in range(4)), totals=[4] * 4)


ALL_ROWS = {f"top/p{n}" for n in range(4)}


@pytest.fixture
def tries(server: HTTPSServer, client: HTTPSClient) -> Tries:
    return Tries(server, client)


def test_a_list_that_takes_longer_than_a_run_is_gone_on_with_in_the_next_one(tries: Tries) -> None:
    tries.run_and_fail_at(2)
    assert asked_pages(tries.server) == ["", "2"]
    tries.run_and_fail_at(4, status=429)
    assert asked_pages(tries.server) == ["2", "3", "4"]

    assert tries.run() == ALL_ROWS
    assert asked_pages(tries.server) == ["4"]


def test_a_run_whose_time_is_up_leaves_the_rest_of_a_list_to_the_next_one(
    tries: Tries, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run begins, asks for the head, for a page, for another one: there the time is up.
    moments = iter([0.0, 0.0, 0.0])
    with monkeypatch.context() as patched:
        clock = SimpleNamespace(monotonic=lambda: next(moments, 60.0))
        patched.setattr(gitlab_api, "time", clock)
        with pytest.raises(TimedOut):
            tries.run()

    assert tries.run() == ALL_ROWS
    assert asked_pages(tries.server) == ["2", "3", "4"]


def test_a_list_that_was_read_whole_is_read_anew(tries: Tries) -> None:
    tries.run()

    assert tries.run() == ALL_ROWS
    assert asked_pages(tries.server) == ["", "2", "3", "4"]


def test_what_a_later_commit_names_is_not_looked_for_in_older_rows(tries: Tries) -> None:
    tries.run_and_fail_at(3)
    tries.push("def")

    assert tries.run() == ALL_ROWS
    assert asked_pages(tries.server) == ["", "2", "3", "4"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_list_that_is_no_more_for_us_is_begun_anew(tries: Tries, status: int) -> None:
    tries.run_and_fail_at(3, status=status)

    assert tries.run() == ALL_ROWS
    assert asked_pages(tries.server) == ["", "2", "3", "4"]


def test_a_list_that_changed_between_two_runs_is_begun_anew(tries: Tries) -> None:
    tries.run_and_fail_at(3)
    pages(tries.server, PROJECTS_BELOW, *([a_row(n)] for n in range(1, 4)), totals=[3] * 3)

    with pytest.raises(Unavailable, match="changed while"):
        tries.run()

    assert tries.run() == ALL_ROWS - {"top/p0"}


def test_old_rows_are_not_gone_on_with(tries: Tries, monkeypatch: pytest.MonkeyPatch) -> None:
    tries.run_and_fail_at(3)
    monkeypatch.setattr(gitlab_memory, "_LISTING_MAX_SECONDS", -1.0)

    assert tries.run() == ALL_ROWS
    assert asked_pages(tries.server) == ["", "2", "3", "4"]


def test_only_the_latest_unfinished_lists_are_remembered() -> None:
    listings = Listings()
    for number in range(20):
        listings.keep("abc", f"/{number}", Listing(following="/next"))

    remembered = [listings.begun("abc", f"/{n}").following == "/next" for n in range(20)]
    assert remembered == [False] * 16 + [True] * 4


def test_a_group_that_cannot_be_listed_is_not_an_empty_one(gitlab: GitLabAPI) -> None:
    with pytest.raises(NotForUs):
        gitlab.projects_below(1)
    with pytest.raises(NotForUs):
        gitlab.groups_below(1)


@pytest.mark.parametrize("body", [{"message": "x"}, [7], [{}], [{**PROJECT, "id": "100"}]])
def test_a_listing_of_another_form_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, body: Any
) -> None:
    server.answer(PROJECTS_BELOW, body)

    with pytest.raises(Unavailable):
        gitlab.projects_below(1)


@pytest.mark.parametrize("read", READS)
def test_a_body_that_is_cut_short_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, read: str
) -> None:
    server.answer(PLACES[read], b"ci_access: {}\n", headers={"Content-Length": "500"})

    with pytest.raises(Unavailable):
        READS[read](gitlab)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n\r\nci_access: {projects: [{id: a}]}\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nci_ac\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nci",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"",
        b"\x00\x01",
    ],
    ids=["until close", "no last chunk", "cut chunk", "cut head", "many", "long", "none", "noise"],
)
def test_a_file_whose_end_is_not_sure_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, raw: bytes
) -> None:
    server.answer_raw(RAW, raw)

    with pytest.raises(Unavailable):
        gitlab.raw_file(50, FILE, "abc")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        b'{"id": ',
        json.dumps({**PROJECT, "id": "100"}).encode(),
        json.dumps({**PROJECT, "id": True}).encode(),
        json.dumps({**PROJECT, "path_with_namespace": None}).encode(),
        json.dumps({**PROJECT, "path_with_namespace": ""}).encode(),
        json.dumps({**PROJECT, "namespace": None}).encode(),
        json.dumps({**PROJECT, "namespace": []}).encode(),
        json.dumps({**PROJECT, "namespace": {"id": 2, "kind": "group"}}).encode(),
        json.dumps({**PROJECT, "default_branch": 7}).encode(),
    ],
    ids=range(16),
)
def test_a_project_of_another_form_is_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, body: bytes
) -> None:
    server.answer(f"{API}/projects/100", body)

    with pytest.raises(Unavailable):
        gitlab.project(100)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        ("group", {**GROUP, "parent_id": "1"}),
        ("group", {**GROUP, "parent_id": False}),
        ("group", {"id": 2, "full_path": "top"}),
        ("group", {**GROUP, "full_path": ["top"]}),
        ("head", {"name": "main", "commit": None}),
        ("head", {"name": "main", "commit": {"id": ""}}),
        ("head", {"name": "main", "commit": {"id": 7}}),
        ("head", {"name": "other", "commit": {"id": "abc"}}),
        ("head", {"commit": {"id": "abc"}}),
        ("head", []),
        ("files", {"message": "x"}),
        ("files", [7]),
        ("files", [None]),
        ("files", [{"type": "blob", "mode": "100644"}]),
        ("files", [{"type": "blob", "mode": "100644", "path": 7}]),
        ("files", [{"type": "blob", "path": "x"}]),
        ("files", [{"type": "blob", "path": "x", "mode": 33188}]),
        ("files", [{"type": "socket", "path": "x", "mode": "100644"}]),
        ("files", [{"path": "x", "id": "x"}]),
    ],
)
def test_other_answers_of_another_form_are_no_answer(
    server: HTTPSServer, gitlab: GitLabAPI, read: str, value: Any
) -> None:
    server.answer(PLACES[read], value)

    with pytest.raises(Unavailable):
        READS[read](gitlab)


def test_an_answer_that_never_comes_leaves_time_for_other_questions(
    server: HTTPSServer, gitlab: GitLabAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gitlab_api, "_QUESTION_SECONDS", 0.3)
    server.hang(RAW)
    server.answer(COMMIT, {"id": "abc"})
    server.answer(TREE, [])

    with pytest.raises(Unavailable):
        gitlab.raw_file(50, FILE, "abc")

    assert dict(gitlab.agent_files(50, "abc")) == {}


@pytest.mark.parametrize("slow", ["hang", "drip head", "drip body", "drip chunks"])
def test_all_calls_together_end_at_the_deadline(
    server: HTTPSServer, client: HTTPSClient, slow: str
) -> None:
    # The server goes on for minutes; the test's own time limit would tell if it were waited for.
    head = b"HTTP/1.1 200 OK\r\n"
    if slow == "hang":
        server.hang(RAW)
    else:
        slowly = {
            "drip head": head + b"X-Slow: yes\r\n" * 90 + b"\r\n" + b"X" * 10_000,
            "drip body": head + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
            "drip chunks": head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10_000,
        }
        server.drip(RAW, slowly[slow])
    gitlab = GitLabAPI(client, TOKEN, seconds=0.5)

    with pytest.raises(Unavailable):
        gitlab.raw_file(50, FILE, "abc")
    with pytest.raises(Unavailable, match="in time"):
        gitlab.project(100)

    assert server.count(f"{API}/projects/100") == 0


def test_a_kept_connection_is_used_again_and_opened_anew_when_it_was_closed(
    server: HTTPSServer, gitlab: GitLabAPI, client: HTTPSClient
) -> None:
    server.answer(f"{API}/projects/100", PROJECT, keep=True)
    gitlab.project(100)
    kept = client._kept
    gitlab.project(100)
    assert kept is not None
    assert client._kept is kept

    assert kept.sock is not None
    kept.sock.close()

    assert gitlab.project(100) == THE_PROJECT


@pytest.mark.parametrize("ca", [None, "other"])
def test_a_server_that_is_not_trusted_is_never_asked(
    server: HTTPSServer, tmp_path: Any, ca: str | None
) -> None:
    other = CertificateAuthority.create(tmp_path).certificate.read_text()
    client = HTTPSClient(f"{server.url}{API}", other if ca else None)

    with pytest.raises(Unavailable):
        GitLabAPI(client, TOKEN, seconds=5).project(100)

    assert server.asked == []


def test_a_host_that_is_not_there_is_no_answer() -> None:
    client = HTTPSClient("https://127.0.0.1:1/api/v4", None)

    with pytest.raises(Unavailable):
        GitLabAPI(client, TOKEN, seconds=5).project(100)


@pytest.mark.parametrize("url", ["http://gitlab.example.test", "https://", "gitlab.example.test"])
def test_only_https_is_spoken(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        HTTPSClient(url, None)


@pytest.mark.parametrize("token", ["", "glpat-canary\n", "glpat canary", "glpat-\u00e9", "a\x00"])
def test_a_token_that_cannot_travel_is_refused_and_never_quoted(
    client: HTTPSClient, token: str
) -> None:
    with pytest.raises(Unavailable) as refused:
        GitLabAPI(client, token, seconds=5)

    assert "canary" not in str(refused.value)


def test_a_header_that_cannot_be_sent_is_refused_and_never_quoted(client: HTTPSClient) -> None:
    with pytest.raises(Unavailable) as refused:
        client.get("/x", headers={"X": "canary\r\nY: z"}, seconds=5, max_bytes=10)

    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
