"""The operators' command against GitLab's stand-in over TLS, with AWS by moto."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.deployment_reader import DeploymentReader
from jobgate.adapters.refresh_queue import RefreshMessage, message_of
from jobgate.core.bounds import Bounds
from moto import mock_aws

from local.certificates import CertificateAuthority
from local.gitlab.server import GitLab
from local.pipeline import TEMPLATE, component
from local.process import free_port
from tests.support.operators_stack import NOW, Answer, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
FIRST = 1_000_000_001
AUDIENCE = "https://jobs.example.test"


@pytest.fixture(scope="module")
def gitlab(
    tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority
) -> Iterator[GitLab]:
    started = GitLab.start(tmp_path_factory.mktemp("gitlab"), authority=authority)
    started.control.create_group("top", id=7)
    started.control.create_project("top/agents", id=50)
    started.control.create_project("top/Other", id=51)
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def truthful(gitlab: GitLab) -> Iterator[None]:
    yield
    gitlab.control.clear_faults()
    gitlab.control.set_instance(version="19.0.2-ee")


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    with mock_aws():
        made = OperatorsStack.deploy()
        made.json("setup")
        yield made


@pytest.fixture
def token_file(gitlab: GitLab, tmp_path: Path) -> Path:
    return a_file(tmp_path / "run-time", gitlab.control.create_token(["read_api"], group="top"))


def a_file(path: Path, content: str) -> Path:
    path.write_text(content + "\n")
    return path


def add(stack: OperatorsStack, gitlab: GitLab, token: Path, *options: object) -> Answer:
    given = ("--audience", AUDIENCE, "--ca", gitlab.control.ca, "--token-file", token)
    return stack.run("issuer", "add", "main", "--url", gitlab.url, *given, *options)


@pytest.fixture
def ready(stack: OperatorsStack, gitlab: GitLab, token_file: Path) -> OperatorsStack:
    assert add(stack, gitlab, token_file).code == 0
    return stack


def register(
    stack: OperatorsStack, tmp_path: Path, project: str, name: str, *options: object
) -> Answer:
    credential = a_file(tmp_path / "relay", "canary-relay")
    given = ("--server", "https://k8s.example.test:6443", "--credential-file", credential)
    given += ("--no-check",)
    return stack.run("agent", "register", project, name, *given, *options)


# --- Issuers ---


def test_added_issuer_is_trusted_and_its_token_stored(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path
) -> None:
    answer = add(stack, gitlab, token_file, "--json")
    assert answer.json["is_default"] is True
    reader = DeploymentReader(stack, "table", bounds=Bounds(), clock=lambda: NOW)
    issuer = reader().issuers["main"]
    assert (issuer.url, issuer.audience) == (gitlab.url, AUDIENCE)
    assert issuer.ca == gitlab.control.ca.read_text()
    assert stack.secret("tokens") == {"main": token_file.read_text().strip()}
    assert operator_items.stops_of(stack.table.get(operator_items.stops_key("main"))) == ()


def test_the_token_for_commit_statuses_is_kept_apart_and_goes_with_the_issuer(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path, tmp_path: Path
) -> None:
    status = a_file(tmp_path / "status", "canary-status")

    answer = add(stack, gitlab, token_file, "--status-token-file", status)

    assert "canary" not in answer.out + answer.err
    assert stack.secret("status") == {"main": "canary-status"}
    assert stack.secret("tokens") == {"main": token_file.read_text().strip()}
    assert add(stack, gitlab, token_file).code == 0
    assert stack.secret("status") == {"main": "canary-status"}
    assert stack.run("issuer", "remove", "main").code == 0
    assert stack.secret("status") == {}


def test_adding_again_renews_the_token_and_keeps_stops_and_ids(
    ready: OperatorsStack, gitlab: GitLab, tmp_path: Path
) -> None:
    register(ready, tmp_path, "top/agents", "prod")
    renewed = a_file(tmp_path / "new", gitlab.control.create_token(["read_api"], group="top"))
    assert add(ready, gitlab, renewed, "--audience", "other").code == 0
    assert ready.secret("tokens") == {"main": renewed.read_text().strip()}
    assert ready.json("issuer", "list")[0]["audience"] == "other"
    assert [row["id"] for row in ready.json("agent", "list")] == [FIRST]


def test_whether_tokens_are_good_once_stays_until_it_is_said_anew(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path
) -> None:
    told = []
    for options in ((), ("--single-use",), (), ("--many-uses",), ()):
        assert add(stack, gitlab, token_file, *options).code == 0
        told.append(stack.json("issuer", "list")[0]["single_use"])

    assert told == [False, True, True, False, False]


def test_no_token_is_ever_printed(stack: OperatorsStack, gitlab: GitLab, token_file: Path) -> None:
    token = token_file.read_text().strip()
    for options in ((), ("--json",)):
        answer = add(stack, gitlab, token_file, *options)
        assert token not in answer.out + answer.err


@pytest.mark.parametrize(
    ("scopes", "said"), [(["read_repository"], "read_api"), (["read_user"], "read_api")]
)
def test_token_without_the_scope_is_refused(
    stack: OperatorsStack, gitlab: GitLab, tmp_path: Path, scopes: list[str], said: str
) -> None:
    token = a_file(tmp_path / "token", gitlab.control.create_token(scopes, group="top"))
    answer = add(stack, gitlab, token)
    assert answer.code == 2
    assert said in answer.err
    assert stack.json("issuer", "list") == []
    assert stack.secret("tokens") == {}


def test_token_that_can_more_is_remarked_on(
    stack: OperatorsStack, gitlab: GitLab, tmp_path: Path
) -> None:
    token = gitlab.control.create_token(["api", "read_api"], group="top")
    answer = add(stack, gitlab, a_file(tmp_path / "token", token))
    assert answer.code == 0
    assert "more than it needs (api)" in answer.out


def test_token_that_rotates_itself_is_what_the_docs_ask_for(
    stack: OperatorsStack, gitlab: GitLab, tmp_path: Path
) -> None:
    token = gitlab.control.create_token(["read_api", "self_rotate"], group="top")
    answer = add(stack, gitlab, a_file(tmp_path / "token", token))
    assert answer.code == 0
    assert "more than it needs" not in answer.out


def test_unknown_token_is_an_input_error(
    stack: OperatorsStack, gitlab: GitLab, tmp_path: Path
) -> None:
    answer = add(stack, gitlab, a_file(tmp_path / "token", "glpat-none"))
    assert (answer.code, answer.err) == (
        2,
        "jobgate: --token-file: GitLab doesn't accept this token.\n",
    )


def test_instance_of_another_name_is_refused(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path
) -> None:
    answer = add(stack, gitlab, token_file, "--url", "https://other.test", "--base-url", gitlab.url)
    assert answer.code == 2
    assert gitlab.url in answer.err


@pytest.mark.parametrize("option", ["--url", "--base-url"])
def test_gitlab_that_does_not_answer_is_unknown(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path, option: str
) -> None:
    away = f"https://127.0.0.1:{free_port()}"
    answer = add(stack, gitlab, token_file, option, away)
    assert answer.code == 3
    assert f"GitLab at {away} can't be reached" in answer.err


def test_gitlab_behind_an_unknown_authority_is_unknown(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path, tmp_path: Path
) -> None:
    stranger = CertificateAuthority.create(tmp_path / "stranger").certificate
    answer = add(stack, gitlab, token_file, "--ca", stranger)
    assert answer.code == 3
    assert "SSLCertVerificationError" in answer.err
    assert stack.secret("tokens") == {}


def test_gitlab_in_trouble_is_unknown(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path
) -> None:
    gitlab.control.fail_next("personal_access_tokens", status=502)
    answer = add(stack, gitlab, token_file)
    assert (answer.code, stack.secret("tokens")) == (3, {})


def test_removed_issuer_takes_its_secrets_along(ready: OperatorsStack) -> None:
    assert ready.run("issuer", "remove", "main").code == 0
    assert (ready.secret("tokens"), ready.secret("hooks")) == ({}, {})
    assert ready.run("issuer", "remove", "main").code == 2


# --- Setup with all its answers ---


def set_up(stack: OperatorsStack, gitlab: GitLab, token: Path, *options: object) -> Answer:
    given = ("--gitlab", gitlab.url, "--audience", AUDIENCE, "--gitlab-ca", gitlab.control.ca)
    return stack.run("setup", *given, "--token-file", token, *options)


def test_setup_trusts_gitlab_and_ends_with_what_a_pipeline_needs(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path
) -> None:
    answer = set_up(stack, gitlab, token_file)

    assert answer.code == 0, answer.err
    assert [row["audience"] for row in stack.json("issuer", "list")] == [AUDIENCE]
    assert token_file.read_text().strip() not in answer.out + answer.err
    text = "\n".join(line[2:] for line in answer.out.split(".gitlab-ci.yml:\n")[1].splitlines())
    pipeline = yaml.safe_load(text)
    inputs = pipeline["include"][0]["inputs"]
    assert inputs == {"url": "https://api.example.test/live", "audience": AUDIENCE}
    assert component(TEMPLATE, inputs)[pipeline["deploy"]["extends"]]


def test_setup_again_changes_nothing_and_its_json_is_one_document(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path
) -> None:
    before = stack.json("setup")
    first = set_up(stack, gitlab, token_file, "--json").json
    second = set_up(stack, gitlab, token_file, "--json").json

    assert first == second
    assert (first["kid"], first["steps"]["issuer"]["alias"]) == (before["kid"], "main")
    assert "extends: .kubernetes-access" in first["snippet"]


def test_setup_connects_gitlab_and_says_what_lacks(
    stack: OperatorsStack, gitlab: GitLab, token_file: Path
) -> None:
    owner = gitlab.control.create_token(["api"], group="top", role="owner")
    stack.environment["GITLAB_TOKEN"] = owner

    answer = set_up(stack, gitlab, token_file, "--connect", "top", "--json")

    # No test event arrives at a deployment that is made up.
    assert answer.code == 1
    assert [hook["path"] for hook in answer.json["steps"]["gitlab"]["hooks"]] == ["top"]
    assert owner not in answer.out + answer.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gitlab", "https://gitlab.test"), "--audience is missing"),
        (("--gitlab", "https://gitlab.test", "--audience", "a"), "--token-file is missing"),
        (("--agent", "top/agents:prod"), "--from-context is missing"),
        (("--agent", "prod", "--from-context", "c"), "GROUP/PROJECT:NAME"),
        (("--parameter", "A=b"), "needs --deploy"),
        (("--deploy", "/nonexistent/template.yaml"), "--deploy"),
    ],
)
def test_setup_asks_nobody_where_there_is_no_terminal(
    stack: OperatorsStack, options: tuple[str, ...], said: str
) -> None:
    answer = stack.run("setup", *options)
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert stack.json("issuer", "list") == []


# --- Agents ---


def test_registered_agent_is_queued_for_a_refresh(ready: OperatorsStack, tmp_path: Path) -> None:
    answer = register(ready, tmp_path, "top/agents", "prod")
    assert answer.code == 0
    assert f"Registered top/agents:prod as agent {FIRST}" in answer.out
    assert "canary" not in answer.out + answer.err
    (message,) = ready.messages()
    assert message_of(message) == RefreshMessage("main", 50)


@pytest.mark.parametrize("project", ["top/other", "top/none", "top", "50", "TOP/agents"])
def test_only_the_exact_current_path_names_a_project(
    ready: OperatorsStack, tmp_path: Path, project: str
) -> None:
    answer = register(ready, tmp_path, project, "prod")
    assert answer.code == 2
    assert ready.json("agent", "list") == []
    assert ready.messages() == []


def test_path_that_was_renamed_away_names_nothing(
    ready: OperatorsStack, gitlab: GitLab, tmp_path: Path
) -> None:
    gitlab.control.create_project("top/before", id=60)
    gitlab.control.rename_project(60, "after")
    assert register(ready, tmp_path, "top/before", "prod").code == 2
    assert register(ready, tmp_path, "top/after", "prod").code == 0


def test_agent_is_found_by_its_contexts_name(ready: OperatorsStack, tmp_path: Path) -> None:
    register(ready, tmp_path, "top/agents", "prod", "--id", 9)
    assert ready.json("agent", "show", "top/agents:prod")["id"] == 9
    assert ready.run("agent", "show", "top/agents:staging").code == 2
    assert ready.json("agent", "remove", "top/agents:prod")["id"] == 9
    assert ready.json("agent", "list") == []


def test_second_registration_renews_the_credential(ready: OperatorsStack, tmp_path: Path) -> None:
    register(ready, tmp_path, "top/agents", "prod")
    renewed = a_file(tmp_path / "renewed", "canary-renewed")
    answer = register(ready, tmp_path, "top/agents", "prod", "--credential-file", renewed)
    assert answer.code == 0
    secret = f"{ready.outputs['ClusterSecretPrefix']}main/{FIRST}/relay"
    assert ready.secret(secret) == {"token": "canary-renewed"}
    assert [row["id"] for row in ready.json("agent", "list")] == [FIRST]


def test_second_registration_for_another_server_is_refused(
    ready: OperatorsStack, tmp_path: Path
) -> None:
    register(ready, tmp_path, "top/agents", "prod")
    other = ("--server", "https://other.example.test")
    stolen = a_file(tmp_path / "other", "canary-other")
    answer = register(ready, tmp_path, "top/agents", "prod", *other, "--credential-file", stolen)
    assert answer.code == 4
    assert "is connected to https://k8s.example.test:6443" in answer.err
    secret = f"{ready.outputs['ClusterSecretPrefix']}main/{FIRST}/relay"
    assert ready.secret(secret) == {"token": "canary-relay"}


def test_gitlab_that_is_away_registers_nothing(
    ready: OperatorsStack, gitlab: GitLab, tmp_path: Path
) -> None:
    gitlab.control.fail_next("/projects/", status=503)
    assert register(ready, tmp_path, "top/agents", "prod").code == 3
    assert ready.json("agent", "list") == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Prod", ()),
        ("prod", ("--id", 0)),
        ("prod", ("--id", FIRST)),
        ("prod", ("--server", "http://k8s.example.test")),
        ("prod", ("--ca", "/nonexistent")),
        ("prod", ("--agent-credential-file", "/nonexistent")),
        ("prod", ("--issuer", "other")),
    ],
)
def test_bad_input_registers_nothing(
    ready: OperatorsStack, tmp_path: Path, name: str, options: tuple[object, ...]
) -> None:
    assert register(ready, tmp_path, "top/agents", name, *options).code == 2
    assert ready.json("agent", "list") == []


def test_nothing_is_registered_before_the_set_up(tmp_path: Path) -> None:
    with mock_aws():
        answer = register(OperatorsStack.deploy(), tmp_path, "top/agents", "prod")
    assert answer.code == 2
    assert "jobgate setup" in answer.err


# --- Clients' identities ---


@pytest.mark.parametrize("allowed", [True, False])
def test_clients_may_choose_an_identity_only_where_the_agent_was_registered_for_it(
    ready: OperatorsStack, tmp_path: Path, *, allowed: bool
) -> None:
    own = a_file(tmp_path / "own", "canary-own")
    options = ["--agent-credential-file", own]
    options += ["--allow-client-impersonation"] if allowed else []

    assert register(ready, tmp_path, "top/agents", "prod", *options).code == 0

    cluster = agent_items.cluster_of(ready.table.get(items.cluster_key("main", FIRST)))
    assert cluster is not None
    assert cluster.allow_client_impersonation is allowed


def test_clients_identities_need_an_agent_with_rights_of_its_own(
    ready: OperatorsStack, tmp_path: Path
) -> None:
    answer = register(ready, tmp_path, "top/agents", "prod", "--allow-client-impersonation")

    assert answer.code == 2
    assert "--agent-credential-file" in answer.err
    assert ready.table.get(items.cluster_key("main", FIRST)) is None
