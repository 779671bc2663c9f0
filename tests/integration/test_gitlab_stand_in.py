"""The GitLab stand-in as its users meet it: real HTTPS, real git, real signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import http.server
import json
import re
import secrets
import shutil
import ssl
import subprocess
import threading
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from local.gitlab.control import Control, ControlError
from local.gitlab.server import GitLab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.certificates import CertificateAuthority

_AUDIENCE = "https://broker.example.test"
_SIGNING_TOKEN = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority
) -> Iterator[GitLab]:
    started = GitLab.start(tmp_path_factory.mktemp("gitlab"), authority=authority)
    yield started
    started.stop()


@pytest.fixture
def gitlab(server: GitLab) -> Iterator[Control]:
    yield server.control
    server.control.clear_faults()
    server.control.set_rate_limits(enabled=False)


@pytest.fixture
def top(gitlab: Control, request: pytest.FixtureRequest) -> str:
    """A root group of the test's own, so that tests don't meet."""
    path = "t-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:10]
    gitlab.create_group(path)
    return path


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class API:
    """A bare HTTP client, so that nothing is followed or repaired."""

    url: str
    ca: Path
    token: str | None

    def __call__(
        self, method: str, path: str, body: Any = None, *, prefix: str = "/api/v4", **headers: str
    ) -> Answer:
        connection = http.client.HTTPSConnection(
            urllib.parse.urlsplit(self.url).netloc,
            context=ssl.create_default_context(cafile=self.ca),
            timeout=30,
        )
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent["PRIVATE-TOKEN"] = self.token
        encoded = None
        if body is not None:
            encoded, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, prefix + path, body=encoded, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def api(server: GitLab) -> API:
    return API(server.url, server.control.ca, server.control.create_token(["api"], name="set-up"))


@dataclass(slots=True)
class Receiver:
    """A hook's other end; answers `status`."""

    url: str
    status: int = 200
    calls: list[tuple[http.client.HTTPMessage, bytes]] = field(default_factory=list)

    def named(self, event: str) -> list[Any]:
        return [json.loads(b) for h, b in self.calls if h["X-Gitlab-Event"] == event]


@pytest.fixture
def receiver(authority: CertificateAuthority, tmp_path: Path) -> Iterator[Receiver]:
    files = authority.issue("receiver", tmp_path)
    received = Receiver("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.calls.append((self.headers, body))
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's own name
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.certificate, files.key)
    listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    received.url = f"https://127.0.0.1:{listening.server_port}/hook"
    yield received
    listening.shutdown()
    thread.join()
    listening.server_close()


def encoded(path: str) -> str:
    return urllib.parse.quote(path, safe="")


def run_git(gitlab: Control, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=gitlab.git_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def a_clone(gitlab: Control, path: str, folder: Path) -> Path:
    clone = folder / "clone"
    run_git(gitlab, folder, "init", "--quiet", "--initial-branch=main", str(clone))
    run_git(gitlab, clone, "remote", "add", "origin", gitlab.push_url(path))
    return clone


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


# --- git ---


def test_a_push_over_https_fires_a_push_hook_that_lists_what_changed(
    gitlab: Control, top: str, receiver: Receiver, tmp_path: Path
) -> None:
    project = gitlab.create_project(f"{top}/agents")
    gitlab.create_hook(receiver.url, group=top)
    clone = a_clone(gitlab, f"{top}/agents", tmp_path)
    write(clone, {".gitlab/agents/a/config.yaml": "ci_access: {}\n", "old.txt": "x" * 100})
    run_git(gitlab, clone, "add", ".")
    run_git(gitlab, clone, "commit", "--quiet", "-m", "First\n\nbody")
    run_git(gitlab, clone, "push", "--quiet", "origin", "main")
    first = run_git(gitlab, clone, "rev-parse", "HEAD").strip()
    write(clone, {".gitlab/agents/a/config.yaml": "ci_access: {projects: []}\n"})
    run_git(gitlab, clone, "mv", "old.txt", "new.txt")
    run_git(gitlab, clone, "commit", "--quiet", "-am", "Second")
    run_git(gitlab, clone, "push", "--quiet", "origin", "main")
    gitlab.settle()

    one, two = receiver.named("Push Hook")

    assert (one["before"], one["after"], one["ref"]) == ("0" * 40, first, "refs/heads/main")
    assert one["commits"][0]["added"] == [".gitlab/agents/a/config.yaml", "old.txt"]
    assert one["commits"][0]["title"] == "First"
    assert one["project"]["path_with_namespace"] == f"{top}/agents"
    assert (one["project_id"], one["total_commits_count"]) == (project["id"], 1)
    assert two["before"] == first
    assert two["commits"][0]["modified"] == [".gitlab/agents/a/config.yaml"]
    # A rename is told as an addition only, as GitLab does.
    assert two["commits"][0]["added"] == ["new.txt"]
    assert two["commits"][0]["removed"] == []


def test_a_push_of_more_than_three_branches_fires_no_hook(
    gitlab: Control, top: str, receiver: Receiver, tmp_path: Path
) -> None:
    gitlab.create_project(f"{top}/agents")
    gitlab.commit(f"{top}/agents", {"a": "1"})
    gitlab.create_hook(receiver.url, project=f"{top}/agents", tag_push_events=True)
    clone = a_clone(gitlab, f"{top}/agents", tmp_path)
    run_git(gitlab, clone, "fetch", "--quiet", "origin")
    many = [f"origin/main:refs/heads/b{number}" for number in range(4)]
    run_git(gitlab, clone, "push", "--quiet", "origin", *many)
    run_git(gitlab, clone, "push", "--quiet", "origin", "origin/main:refs/tags/v1")
    gitlab.settle()

    assert [h["X-Gitlab-Event"] for h, _ in receiver.calls] == ["Tag Push Hook"]


def test_the_newest_twenty_commits_are_listed_oldest_first(
    gitlab: Control, top: str, receiver: Receiver, tmp_path: Path
) -> None:
    gitlab.create_project(f"{top}/agents")
    gitlab.create_hook(receiver.url, project=f"{top}/agents")
    clone = a_clone(gitlab, f"{top}/agents", tmp_path)
    for number in range(22):
        run_git(gitlab, clone, "commit", "--quiet", "--allow-empty", "-m", f"c{number}")
    run_git(gitlab, clone, "push", "--quiet", "origin", "main")
    gitlab.settle()

    (push,) = receiver.named("Push Hook")

    assert push["total_commits_count"] == 22
    assert [c["title"] for c in push["commits"]] == [f"c{number}" for number in range(2, 22)]


def test_a_push_without_a_valid_token_is_refused(gitlab: Control, top: str, tmp_path: Path) -> None:
    gitlab.create_project(f"{top}/agents")
    clone = a_clone(gitlab, f"{top}/agents", tmp_path)
    run_git(gitlab, clone, "commit", "--quiet", "--allow-empty", "-m", "x")
    address = gitlab.url.replace("https://", "https://x:wrong@") + f"/{top}/agents.git"

    with pytest.raises(subprocess.CalledProcessError):
        run_git(gitlab, clone, "push", "--quiet", address, "main")


def test_a_clone_of_a_pushed_repository_has_the_same_files(
    gitlab: Control, top: str, tmp_path: Path
) -> None:
    gitlab.create_project(f"{top}/agents")
    gitlab.commit(f"{top}/agents", {'odd "name".txt': "content\n"})
    run_git(gitlab, tmp_path, "clone", "--quiet", gitlab.push_url(f"{top}/agents"), "copy")

    assert (tmp_path / "copy" / 'odd "name".txt').read_text() == "content\n"
    shutil.rmtree(tmp_path / "copy")


def test_a_push_larger_than_one_request_arrives_whole(
    gitlab: Control, api: API, top: str, tmp_path: Path
) -> None:
    gitlab.create_project(f"{top}/app")
    clone = a_clone(gitlab, f"{top}/app", tmp_path)
    content = secrets.token_bytes(3_000_000)  # beyond http.postBuffer, so it comes in chunks
    (clone / "big").write_bytes(content)
    run_git(gitlab, clone, "add", ".")
    run_git(gitlab, clone, "commit", "--quiet", "-m", "big")
    run_git(gitlab, clone, "push", "--quiet", "origin", "main")

    path = f"/projects/{encoded(f'{top}/app')}/repository/files/big/raw?ref=main"
    assert api("GET", path).body == content


def test_a_forced_push_and_a_deleted_branch_are_told_as_they_are(
    gitlab: Control, top: str, receiver: Receiver
) -> None:
    gitlab.create_project(f"{top}/app")
    first = gitlab.commit(f"{top}/app", {"a": "1"})
    second = gitlab.commit(f"{top}/app", {"a": "2"})
    gitlab.create_hook(receiver.url, project=f"{top}/app")
    gitlab.update_ref(f"{top}/app", "refs/heads/main", first)
    gitlab.update_ref(f"{top}/app", "refs/heads/side", first)
    gitlab.update_ref(f"{top}/app", "refs/heads/side", None)
    gitlab.settle()

    told = [(p["ref"], p["before"], p["after"], p["commits"]) for p in receiver.named("Push Hook")]

    assert told == [
        ("refs/heads/main", second, first, []),
        ("refs/heads/side", "0" * 40, first, []),
        ("refs/heads/side", first, "0" * 40, []),
    ]


# --- REST: places ---


def test_digits_alone_are_an_id_never_a_path(gitlab: Control, api: API, top: str) -> None:
    gitlab.create_group("2024")
    other = gitlab.create_group(f"{top}/years", id=77_001)
    trapped = gitlab.create_group("77001")

    assert api("GET", "/groups/2024").status == 404
    assert api("GET", "/groups/77001").json["id"] == other["id"]
    assert api("GET", f"/groups/{trapped['id']}").json["full_path"] == "77001"


def test_a_project_has_gitlabs_shape(gitlab: Control, api: API, top: str) -> None:
    gitlab.create_group(f"{top}/sub")
    made = gitlab.create_project(f"{top}/sub/app", default_branch="trunk")

    shown = api("GET", f"/projects/{encoded(f'{top}/SUB/App')}").json

    assert shown["id"] == made["id"]
    assert shown["default_branch"] == "trunk"
    assert shown["path_with_namespace"] == f"{top}/sub/app"
    assert shown["namespace"]["kind"] == "group"
    assert shown["namespace"]["full_path"] == f"{top}/sub"
    assert shown["empty_repo"] is True
    assert shown["archived"] is False
    assert shown["marked_for_deletion_on"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown["created_at"])


def test_a_project_in_a_user_namespace_says_so(gitlab: Control, api: API, top: str) -> None:
    user = gitlab.create_user(f"u{top}")
    project = gitlab.create_project(f"u{top}/app")

    namespace = api("GET", f"/projects/{project['id']}").json["namespace"]

    assert namespace["kind"] == "user"
    assert namespace["id"] == user["namespace_id"]
    assert namespace["parent_id"] is None
    assert api("GET", f"/groups/{user['namespace_id']}").status == 404
    assert api("GET", f"/projects/{project['id']}/groups").json == []


def test_a_renamed_project_redirects_reads_and_refuses_writes(
    gitlab: Control, api: API, top: str
) -> None:
    project = gitlab.create_project(f"{top}/app")
    gitlab.rename_project(f"{top}/app", "app2")
    old = f"/projects/{encoded(f'{top}/app')}"

    read = api("GET", f"{old}/repository/files/a%2Fb.yaml/raw?ref=main")
    write_ = api("POST", f"{old}/hooks", {"url": "https://x.test"})

    assert read.status == 301
    wanted = (
        f"{gitlab.url}/api/v4/projects/{project['id']}/repository/files/a%2Fb.yaml/raw?ref=main"
    )
    assert read.headers["Location"] == wanted
    assert (write_.status, write_.json) == (
        405,
        {"message": "Non GET methods are not allowed for moved projects"},
    )


def test_a_renamed_group_leaves_nothing_at_its_old_path(
    gitlab: Control, api: API, top: str
) -> None:
    gitlab.create_group(f"{top}/sub")
    project = gitlab.create_project(f"{top}/sub/app")
    gitlab.rename_group(f"{top}/sub", "sub2")

    assert api("GET", f"/groups/{encoded(f'{top}/sub')}").status == 404
    moved = api("GET", f"/projects/{encoded(f'{top}/sub/app')}")
    assert moved.headers["Location"] == f"{gitlab.url}/api/v4/projects/{project['id']}"


def test_ancestors_of_a_project_come_newest_id_first_and_without_shared_ones(
    gitlab: Control, api: API, top: str
) -> None:
    gitlab.create_group(f"{top}/sub")
    gitlab.create_group(f"{top}/shared")
    gitlab.create_project(f"{top}/sub/app")
    gitlab.edit_project(f"{top}/sub/app", shared_with=[[f"{top}/shared", "developer"]])
    path = f"/projects/{encoded(f'{top}/sub/app')}/groups"

    assert [g["full_path"] for g in api("GET", path).json] == [f"{top}/sub", top]
    assert len(api("GET", f"{path}?with_shared=true").json) == 3


def test_pages_by_number_lead_from_the_first_to_the_last(
    gitlab: Control, api: API, top: str
) -> None:
    for number in range(5):
        gitlab.create_group(f"{top}/g{number}")

    answer = api("GET", f"/groups/{top}/descendant_groups?per_page=2&page=2")

    assert [group["path"] for group in answer.json] == ["g2", "g3"]
    assert answer.headers["X-Total"] == "5"
    assert answer.headers["X-Total-Pages"] == "3"
    assert answer.headers["X-Next-Page"] == "3"
    assert 'page=3&per_page=2>; rel="next"' in answer.headers["Link"]
    last = api("GET", f"/groups/{top}/descendant_groups?per_page=2&page=3")
    assert last.headers["X-Next-Page"] == ""
    assert 'rel="next"' not in last.headers["Link"]


def test_pages_by_key_end_without_a_link(gitlab: Control, api: API, top: str) -> None:
    made = [gitlab.create_project(f"{top}/p{number}")["id"] for number in range(3)]
    found: list[int] = []
    path: str | None = "/projects?pagination=keyset&order_by=id&sort=asc&per_page=2&simple=true"
    while path is not None:
        answer = api("GET", path)
        found += [project["id"] for project in answer.json]
        link = re.fullmatch('<(.+)>; rel="next"', answer.headers.get("Link", ""))
        path = None if link is None else link[1].removeprefix(f"{gitlab.url}/api/v4")

    assert found == sorted(found)
    assert set(made) <= set(found)


def test_a_groups_projects_include_those_of_subgroups_on_request(
    gitlab: Control, api: API, top: str
) -> None:
    gitlab.create_group(f"{top}/sub")
    gitlab.create_project(f"{top}/one")
    gitlab.create_project(f"{top}/sub/two")
    path = f"/groups/{top}/projects?simple=true&order_by=id&sort=asc"

    assert [p["path"] for p in api("GET", path).json] == ["one"]
    below = api("GET", f"{path}&include_subgroups=true").json
    assert [p["path"] for p in below] == ["one", "two"]


# --- REST: who may ---


def test_an_unknown_token_is_401_and_no_token_sees_nothing(
    gitlab: Control, api: API, top: str
) -> None:
    gitlab.create_project(f"{top}/app")
    path = f"/projects/{encoded(f'{top}/app')}"

    wrong = API(api.url, api.ca, "glpat-wrong")("GET", path)
    none = API(api.url, api.ca, None)("GET", path)

    assert (wrong.status, wrong.json) == (401, {"message": "401 Unauthorized"})
    assert (none.status, none.json) == (404, {"message": "404 Project Not Found"})
    assert API(api.url, api.ca, None)("GET", "/version").status == 401


def test_a_reading_token_sees_its_tree_alone_and_writes_nothing(
    gitlab: Control, api: API, top: str
) -> None:
    gitlab.create_project(f"{top}/app")
    gitlab.create_group(f"{top}-other")
    gitlab.create_project(f"{top}-other/app")
    reader = API(api.url, api.ca, gitlab.create_token(["read_api"], group=top))
    own = f"/projects/{encoded(f'{top}/app')}"

    assert reader("GET", own).status == 200
    assert reader("GET", f"/projects/{encoded(f'{top}-other/app')}").status == 404
    assert reader("GET", f"{own}/hooks").status == 403
    assert reader("GET", f"{own}/cluster_agents").status == 403
    refused = reader("POST", f"{own}/hooks", {"url": "https://x.test"})
    assert refused.json["error"] == "insufficient_scope"
    assert reader("GET", "/personal_access_tokens/self").json["scopes"] == ["read_api"]


def test_bearer_and_private_token_are_the_same(gitlab: Control, api: API) -> None:
    token = gitlab.create_token(["read_api"])
    bare = API(api.url, api.ca, None)

    assert bare("GET", "/user", Authorization=f"Bearer {token}").json["username"] == "root"


def test_an_expired_token_says_that_it_is(gitlab: Control, api: API) -> None:
    token = gitlab.create_token(["read_api"], expires_at="2020-01-01")

    answer = API(api.url, api.ca, token)("GET", "/version")

    assert (answer.status, answer.json["error"]) == (401, "invalid_token")


def test_read_repository_reads_files_but_lists_no_tree(gitlab: Control, api: API, top: str) -> None:
    gitlab.create_project(f"{top}/app")
    gitlab.commit(f"{top}/app", {"a.txt": "1"})
    reader = API(api.url, api.ca, gitlab.create_token(["read_repository"]))
    path = f"/projects/{encoded(f'{top}/app')}/repository"

    assert reader("GET", f"{path}/files/a.txt/raw").body == b"1"
    assert reader("GET", f"{path}/tree").status == 403


# --- REST: repositories ---


def test_a_missing_folder_is_404_and_an_empty_repository_has_no_tree(
    gitlab: Control, api: API, top: str
) -> None:
    gitlab.create_project(f"{top}/app")
    path = f"/projects/{encoded(f'{top}/app')}/repository"
    empty = api("GET", f"{path}/tree")
    gitlab.commit(f"{top}/app", {"a.txt": "1"})

    missing = api("GET", f"{path}/tree?path=.gitlab/agents")

    assert (empty.status, empty.json) == (404, {"message": "404 Tree Not Found"})
    assert missing.json == {"message": "404 invalid revision or path Not Found"}
    assert api("GET", f"{path}/branches/nope").json == {"message": "404 Branch Not Found"}
    assert api("GET", f"{path}/files/nope?ref=main").json == {"message": "404 File Not Found"}
    assert api("GET", f"{path}/files/a.txt?ref=no").json == {"message": "404 Commit Not Found"}
    assert api("GET", f"{path}/files/a.txt").json == {"error": "ref is missing, ref is empty"}
    assert api("GET", f"{path}/files/..%2Fa.txt/raw").status == 400


def test_a_tree_is_walked_by_key_at_one_commit(gitlab: Control, api: API, top: str) -> None:
    gitlab.create_project(f"{top}/app")
    names = [f".gitlab/agents/a{number}/config.yaml" for number in range(3)]
    sha = gitlab.commit(f"{top}/app", dict.fromkeys(names, "x: 1\n"))
    path: str | None = (
        f"/projects/{encoded(f'{top}/app')}/repository/tree?path=.gitlab/agents&ref={sha}"
        "&recursive=true&pagination=keyset&per_page=2"
    )
    found: list[str] = []
    while path is not None:
        answer = api("GET", path)
        found += [entry["path"] for entry in answer.json if entry["type"] == "blob"]
        link = re.fullmatch('<(.+)>; rel="next"', answer.headers.get("Link", ""))
        path = None if link is None else link[1].removeprefix(f"{gitlab.url}/api/v4")

    assert found == names


def test_a_file_is_the_same_by_every_route(gitlab: Control, api: API, top: str) -> None:
    gitlab.create_project(f"{top}/app")
    content = b"\x00\xff binary"
    sha = gitlab.commit(f"{top}/app", {".gitlab/a.bin": content})
    root = f"/projects/{encoded(f'{top}/app')}/repository"
    path = f"{root}/files/{encoded('.gitlab/a.bin')}"

    shown = api("GET", f"{path}?ref=HEAD").json
    head = api("HEAD", f"{path}?ref=main")

    assert base64.b64decode(shown["content"]) == content
    assert (shown["commit_id"], shown["last_commit_id"]) == (sha, sha)
    assert shown["content_sha256"] == hashlib.sha256(content).hexdigest()
    assert head.headers["X-Gitlab-Blob-Id"] == shown["blob_id"]
    assert head.headers["X-Gitlab-Size"] == str(len(content))
    assert head.body == b""
    assert api("GET", f"{path}/raw").body == content
    assert api("GET", f"{root}/blobs/{shown['blob_id']}/raw").body == content
    assert api("GET", f"{root}/branches/main").json["commit"]["id"] == sha


def test_compare_names_what_changed(gitlab: Control, api: API, top: str) -> None:
    gitlab.create_project(f"{top}/app")
    first = gitlab.commit(f"{top}/app", {"a": "1", "b": "1"})
    second = gitlab.commit(f"{top}/app", {"a": None, "c": "2" * 99})

    shown = api(
        "GET",
        f"/projects/{encoded(f'{top}/app')}/repository/compare?from={first}&to={second}&straight=1",
    ).json

    changed = {(d["new_path"], d["new_file"], d["deleted_file"]) for d in shown["diffs"]}
    assert changed == {("a", False, True), ("c", True, False)}
    assert [commit["id"] for commit in shown["commits"]] == [second]


def test_a_commit_status_is_kept(gitlab: Control, api: API, top: str) -> None:
    gitlab.create_project(f"{top}/app")
    sha = gitlab.commit(f"{top}/app", {"a": "1"})
    root = f"/projects/{encoded(f'{top}/app')}"

    made = api("POST", f"{root}/statuses/{sha}", {"state": "failed", "name": "jobgate"})
    bad = api("POST", f"{root}/statuses/{sha}", {"state": "great"})

    assert (made.status, made.json["status"]) == (201, "failed")
    assert bad.json == {"error": "state does not have a valid value"}
    listed = api("GET", f"{root}/repository/commits/{sha}/statuses").json
    assert [status["name"] for status in listed] == ["jobgate"]


def test_an_unknown_route_is_grapes_404(api: API) -> None:
    assert api("GET", "/nothing/here").json == {"error": "404 Not Found"}


# --- jobs and ID tokens ---


def test_an_id_token_verifies_against_the_published_keys(
    gitlab: Control, api: API, top: str
) -> None:
    project = gitlab.create_project(f"{top}/app")
    gitlab.create_user(f"dana-{top}")
    job = gitlab.create_job(
        f"{top}/app",
        audience=_AUDIENCE,
        environment="production",
        user=f"dana-{top}",
        timeout=600,
    )
    discovery = api("GET", "/.well-known/openid-configuration", prefix="").json
    keys = api("GET", discovery["jwks_uri"].removeprefix(gitlab.url), prefix="").json

    kid = jwt.get_unverified_header(job.id_token)["kid"]
    key = jwt.PyJWKSet.from_dict(keys)[kid]
    claims = jwt.decode(  # noqa: TID251  an independent check of what was signed
        job.id_token, key, algorithms=["RS256"], audience=_AUDIENCE, issuer=discovery["issuer"]
    )

    assert len(keys["keys"]) == 2
    assert claims["project_id"] == str(project["id"])
    assert claims["job_id"] == str(job.id)
    assert claims["ref_protected"] == "true"
    assert claims["environment"] == "production"
    assert claims["runner_id"] == 33
    assert claims["user_login"] == f"dana-{top}"
    assert claims["user_access_level"] is None
    assert claims["exp"] - claims["iat"] == 600


def test_each_audience_gets_a_token_of_its_own(gitlab: Control, top: str) -> None:
    gitlab.create_project(f"{top}/app")

    job = gitlab.create_job(f"{top}/app", audience=["https://a.test", "https://b.test"])

    read = {
        audience: json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        for audience, token in job.id_tokens.items()
    }
    assert {audience: claims["aud"] for audience, claims in read.items()} == {
        "https://a.test": "https://a.test",
        "https://b.test": "https://b.test",
    }
    assert len({claims["jti"] for claims in read.values()}) == 2


def test_rotation_without_the_old_key_orphans_its_tokens(
    gitlab: Control, api: API, top: str
) -> None:
    gitlab.create_project(f"{top}/app")
    job = gitlab.create_job(f"{top}/app", audience=_AUDIENCE)
    kid = jwt.get_unverified_header(job.id_token)["kid"]

    def published() -> set[str]:
        keys = api("GET", "/oauth/discovery/keys", prefix="").json["keys"]
        return {key["kid"] for key in keys}

    kept = gitlab.rotate_keys(keep_old=True)
    assert {kid, kept} <= published()
    last = gitlab.rotate_keys(keep_old=False)
    assert kid not in published()
    assert last in published()


def test_a_hostile_token_is_what_the_test_asked_for(gitlab: Control, top: str) -> None:
    gitlab.create_project(f"{top}/app")
    job = gitlab.create_job(f"{top}/app")

    token = gitlab.mint_id_token(
        job,
        ["a", "b"],
        claims={"project_id": 5},
        without=["job_project_id"],
        header={"jku": "https://evil.test", "kid": None},
    )

    head, claims, _ = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    read = json.loads(claims)
    assert (read["aud"], read["project_id"]) == (["a", "b"], 5)
    assert "job_project_id" not in read
    assert json.loads(head) == {
        "typ": "JWT",
        "alg": "RS256",
        "kid": None,
        "jku": "https://evil.test",
    }


def test_a_jobs_status_is_told_by_hook_and_by_api(
    gitlab: Control, api: API, top: str, receiver: Receiver
) -> None:
    project = gitlab.create_project(f"{top}/app")
    gitlab.create_hook(receiver.url, group=top, job_events=True, push_events=False)
    job = gitlab.create_job(f"{top}/app", audience=_AUDIENCE, environment="review/1")
    gitlab.finish_job(job, "failed")
    gitlab.settle()

    told = receiver.named("Job Hook")
    shown = api("GET", f"/projects/{project['id']}/jobs/{job.id}").json

    assert [call["build_status"] for call in told] == ["created", "pending", "running", "failed"]
    last = told[-1]
    assert (last["object_kind"], last["build_id"], last["commit"]["id"]) == (
        "build",
        job.id,
        job.pipeline_id,
    )
    assert last["environment"] == {
        "name": "review/1",
        "action": "start",
        "deployment_tier": "development",
    }
    assert last["build_finished_at"].endswith(" UTC")
    assert (shown["status"], shown["failure_reason"]) == ("failed", "script_failure")
    assert shown["pipeline"]["id"] == job.pipeline_id
    assert api("GET", f"/projects/{project['id']}/jobs/1").json == {"message": "404 Not found"}


def test_a_skipped_job_runs_later_under_its_old_id_with_new_tokens(
    gitlab: Control, top: str
) -> None:
    gitlab.create_project(f"{top}/app")
    job = gitlab.create_job(f"{top}/app", audience=_AUDIENCE, status="skipped")
    assert job.id_tokens == {}

    again = gitlab.set_job_status(job, "running")

    assert again.id == job.id
    assert again.id_token


def test_environments_are_found_by_exact_name(gitlab: Control, api: API, top: str) -> None:
    gitlab.create_project(f"{top}/app")
    gitlab.create_environment(f"{top}/app", "review/1", slug="review-1-abc123")
    gitlab.create_environment(f"{top}/app", "review/12")

    found = api("GET", f"/projects/{encoded(f'{top}/app')}/environments?name=review%2F1").json

    assert [(e["slug"], e["tier"]) for e in found] == [("review-1-abc123", "development")]


# --- hooks ---


def test_a_delivery_has_gitlabs_headers_and_a_signature_that_holds(
    gitlab: Control, top: str, receiver: Receiver
) -> None:
    gitlab.create_project(f"{top}/app")
    hook = gitlab.create_hook(
        receiver.url, project=f"{top}/app", token="s3cret", signing_token=_SIGNING_TOKEN
    )
    gitlab.commit(f"{top}/app", {"a": "1"})
    gitlab.settle()

    ((headers, body),) = receiver.calls
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(base64.b64decode(_SIGNING_TOKEN[6:]), message, "sha256").digest()

    assert headers["X-Gitlab-Event"] == "Push Hook"
    assert headers["X-Gitlab-Token"] == "s3cret"
    assert headers["X-Gitlab-Instance"] == gitlab.url
    assert headers["Idempotency-Key"] == headers["webhook-id"]
    assert headers["X-Gitlab-Event-UUID"]
    assert headers["User-Agent"].startswith("GitLab/")
    assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
    (logged,) = gitlab.deliveries(hook=hook["id"])
    assert (logged["state"], logged["status"]) == ("delivered", 200)
    assert "s3cret" not in json.dumps(logged)
    assert logged["request_headers"]["webhook-signature"] == "[REDACTED]"


def test_a_resend_keeps_its_key_and_a_failure_isnt_retried(
    gitlab: Control, top: str, receiver: Receiver
) -> None:
    gitlab.create_project(f"{top}/app")
    hook = gitlab.create_hook(receiver.url, project=f"{top}/app")
    receiver.status = 500
    gitlab.commit(f"{top}/app", {"a": "1"})
    gitlab.settle()
    (failed,) = gitlab.deliveries(hook=hook["id"])
    receiver.status = 200
    gitlab.resend(failed["id"])
    gitlab.settle()

    assert (failed["state"], failed["status"]) == ("failed", 500)
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.calls}) == 1
    assert len(receiver.calls) == 2


def test_a_lost_delivery_never_arrives(gitlab: Control, top: str, receiver: Receiver) -> None:
    gitlab.create_project(f"{top}/app")
    hook = gitlab.create_hook(receiver.url, project=f"{top}/app")
    gitlab.lose_deliveries(1)
    gitlab.commit(f"{top}/app", {"a": "1"})
    gitlab.commit(f"{top}/app", {"a": "2"})
    gitlab.settle()

    assert [d["state"] for d in gitlab.deliveries(hook=hook["id"])] == ["lost", "delivered"]
    assert len(receiver.calls) == 1


def test_a_failing_hook_is_disabled_where_the_instance_does_so(
    gitlab: Control, api: API, top: str, receiver: Receiver
) -> None:
    gitlab.create_project(f"{top}/app")
    hook = gitlab.create_hook(receiver.url, project=f"{top}/app")
    receiver.status = 503
    gitlab.set_instance(disables_failing_hooks=True)
    try:
        for number in range(5):
            gitlab.commit(f"{top}/app", {"a": str(number)})
            gitlab.settle()
    finally:
        gitlab.set_instance(disables_failing_hooks=False)

    path = f"/projects/{encoded(f'{top}/app')}/hooks/{hook['id']}"
    assert api("GET", path).json["alert_status"] == "temporarily_disabled"
    assert [d["state"] for d in gitlab.deliveries(hook=hook["id"])][-1] == "suppressed"


def test_group_hooks_hear_of_creation_but_not_of_renames(
    gitlab: Control, top: str, receiver: Receiver
) -> None:
    gitlab.create_hook(receiver.url, group=top, project_events=True, subgroup_events=True)
    gitlab.create_group(f"{top}/sub")
    gitlab.create_project(f"{top}/sub/app")
    gitlab.rename_project(f"{top}/sub/app", "app2")
    gitlab.rename_group(f"{top}/sub", "sub2")
    gitlab.transfer_project(f"{top}/sub2/app2", top)
    gitlab.delete_project(f"{top}/app2")
    gitlab.settle()

    heard = {json.loads(body)["event_name"] for _, body in receiver.calls}
    assert heard == {"subgroup_create", "project_create", "project_destroy"}


def test_system_hooks_hear_of_a_life_and_never_of_a_groups_transfer(
    gitlab: Control, top: str, receiver: Receiver
) -> None:
    hook = gitlab.create_hook(receiver.url, token="t", push_events=True)
    gitlab.create_group(f"{top}/sub")
    gitlab.create_project(f"{top}/app")
    gitlab.commit(f"{top}/app", {"a": "1"})
    gitlab.edit_project(f"{top}/app", default_branch="next")
    gitlab.rename_project(f"{top}/app", "app2")
    gitlab.transfer_project(f"{top}/app2", f"{top}/sub")
    gitlab.rename_group(f"{top}/sub", "sub2")
    gitlab.transfer_group(f"{top}/sub2", None)
    gitlab.rename_group("sub2", f"sub-{top}")
    gitlab.settle()
    gitlab.delete_hook(hook["id"])

    heard = {json.loads(body)["event_name"]: json.loads(body) for _, body in receiver.calls}

    assert {headers["X-Gitlab-Event"] for headers, _ in receiver.calls} == {"System Hook"}
    assert set(heard) == {
        "group_create",
        "project_create",
        "push",
        "project_update",
        "project_rename",
        "project_transfer",
        "group_rename",
    }
    assert heard["push"]["commits"] == []
    assert heard["project_rename"]["old_path_with_namespace"] == f"{top}/app"
    assert heard["project_transfer"]["path_with_namespace"] == f"{top}/sub/app2"


def test_hooks_are_made_through_the_api_and_never_show_their_secrets(
    gitlab: Control, api: API, top: str, receiver: Receiver
) -> None:
    gitlab.create_project(f"{top}/app")
    gitlab.commit(f"{top}/app", {"a": "1"})
    path = f"/projects/{encoded(f'{top}/app')}/hooks"

    made = api(
        "POST",
        path,
        {
            "url": receiver.url,
            "token": "s3cret",
            "signing_token": _SIGNING_TOKEN,
            "job_events": True,
        },
    )
    tested = api("POST", f"{path}/{made.json['id']}/test/push_events")
    edited = api("PUT", f"{path}/{made.json['id']}", {"url": receiver.url, "push_events": False})
    gone = api("DELETE", f"{path}/{made.json['id']}")

    assert made.status == 201
    assert made.json["push_events"] is True
    assert made.json["job_events"] is True
    assert b"s3cret" not in made.body + edited.body
    assert b"whsec" not in made.body + edited.body
    assert (tested.status, tested.json) == (201, {"message": "201 Created"})
    assert receiver.calls[0][0]["X-Gitlab-Token"] == "s3cret"
    assert edited.json["push_events"] is False
    assert gone.status == 204
    assert api("GET", path).json == []


# --- faults and limits ---


def test_a_fault_meets_just_the_calls_that_it_names(gitlab: Control, api: API, top: str) -> None:
    gitlab.fail_next(f"GET /api/v4/groups/{top}$", status=502, times=2, skip=1)

    statuses = [api("GET", f"/groups/{top}").status for _ in range(4)]

    assert statuses == [200, 502, 502, 200]
    assert gitlab.clear_faults() == 0


def test_half_a_body_ends_in_the_middle(gitlab: Control, api: API, top: str) -> None:
    gitlab.disturb_next(f"/groups/{top}", half=True)

    with pytest.raises(http.client.IncompleteRead) as cut:
        api("GET", f"/groups/{top}")

    assert cut.value.partial
    assert api("GET", f"/groups/{top}").status == 200


def test_a_dropped_call_gets_no_answer(gitlab: Control, api: API, top: str) -> None:
    gitlab.disturb_next(f"/groups/{top}", drop=True)

    with pytest.raises((http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError)):
        api("GET", f"/groups/{top}")


def test_a_made_up_answer_is_sent_as_given(gitlab: Control, api: API, top: str) -> None:
    gitlab.fail_next(
        f"/groups/{top}", status=302, body="not json", headers={"Location": "https://evil.test/"}
    )

    answer = api("GET", f"/groups/{top}")

    assert (answer.status, answer.body) == (302, b"not json")
    assert answer.headers["Location"] == "https://evil.test/"


def test_rate_limits_refuse_in_plain_text_once_switched_on(
    gitlab: Control, api: API, top: str
) -> None:
    gitlab.set_rate_limits(enabled=True, factor=0.005)

    answers = [api("GET", f"/groups/{top}") for _ in range(5)]

    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert refused[0].body == b"Retry later\n"
    assert answers[0].headers["RateLimit-Limit"] == "10"


def test_the_request_log_tells_who_asked_for_what(gitlab: Control, api: API, top: str) -> None:
    api("GET", f"/groups/{top}?with_projects=false")

    (entry,) = gitlab.requests(f"^GET /api/v4/groups/{top}")

    assert (entry["status"], entry["token"]) == (200, "set-up")
    assert entry["path"].endswith("?with_projects=false")


# --- the control surface ---


def test_the_control_surface_wants_its_token(gitlab: Control) -> None:
    stranger = Control(gitlab.url, token="wrong", ca=gitlab.ca)

    with pytest.raises(ControlError, match="401"):
        stranger.create_group("x")
    stranger.close()


def test_the_control_surface_says_what_was_wrong(gitlab: Control, top: str) -> None:
    with pytest.raises(ControlError, match="409"):
        gitlab.create_group(top)
    with pytest.raises(ControlError, match="404 no project"):
        gitlab.create_job(f"{top}/none")


def test_no_token_is_written_to_the_log(
    gitlab: Control, server: GitLab, api: API, top: str
) -> None:
    gitlab.create_project(f"{top}/app")
    job = gitlab.create_job(f"{top}/app", audience=_AUDIENCE)
    api("GET", f"/groups/{top}")

    written = server.children[0].log.read_text()

    assert api.token is not None
    assert api.token not in written
    assert job.id_token not in written
