"""`jobgate decide`: whose a folder is, and what is said of a bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.given_files import Given, run
from tests.support.id_tokens import ABSENT
from tests.unit.test_cli_decide import INSTANCE


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path, INSTANCE)


# --- The folders ---


def test_a_folder_without_a_path_is_the_only_configuration_projects(given: Given) -> None:
    given.instance["agents"] = [{"id": 501, "name": "prod", "project_id": 50}]
    given.push("prod", {"ci_access": {"groups": [{"id": "top"}]}})
    arguments = [a.partition("=")[2] if a.startswith("top/") else a for a in given.arguments({})]
    claims = given.folder / "claims.json"
    claims.write_text(json.dumps(given.claims(100)))

    found = run(*arguments, "--json")

    assert [agent["allowed"] for agent in json.loads(found.stdout)["agents"]] == [True]


def test_a_folder_without_a_path_is_of_the_project_that_has_its_agents(given: Given) -> None:
    given.push("na", {"ci_access": {"groups": [{"id": "top"}]}})
    folder = given.agents_folder(60)
    arguments = given.arguments(given.claims(100), "--json")

    found = run("decide", "--agents", str(folder), *arguments[-3:])

    allowed = [agent["id"] for agent in json.loads(found.stdout)["agents"] if agent["allowed"]]
    assert allowed == [601]


def test_a_project_without_a_folder_is_decided_as_one_without_files(given: Given) -> None:
    given.push("na", {"ci_access": {"groups": [{"id": "top"}]}})
    arguments = given.arguments(given.claims(50), "--json")

    found = run("decide", "--agents", f"TOP/Other/infra={given.agents_folder(60)}", *arguments[-3:])

    agents = json.loads(found.stdout)["agents"]
    assert {a["id"]: a["via"]["kind"] for a in agents if a["allowed"]} == {
        501: "implicit",
        502: "implicit",
        601: "group",
    }


def test_a_link_is_never_followed(given: Given) -> None:
    secret = given.folder / "secret.yaml"
    secret.write_text('ci_access: {groups: [{id: top, default_namespace: "s3cret"}]}')
    config = given.agents_folder(50) / "prod/config.yaml"
    config.parent.mkdir(parents=True)
    config.symlink_to(secret)

    answer = given.run(100)

    assert not any(agent["allowed"] for agent in answer["agents"])
    assert "s3cret" not in json.dumps(answer)
    assert [problem["code"] for problem in answer["problems"]] == ["not_a_file"]


# --- Bad input ---


def refusal(*arguments: str) -> str:
    found = run(*arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    message: str = found.stderr
    return message


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["nowhere"], "'nowhere' isn't a folder"),
        (["top/sub1/agents="], "'' isn't a folder"),
        (["top/none=."], "no project top/none is in --instance"),
        (["top/sub1/agents={0}", "TOP/sub1/agents={0}"], "top/sub1/agents is given twice"),
        (["top/sub1/agents={0}/../.."], "itself"),
        (["top/sub1/agents=" + "x" * 5000], "can't be read: File name too long"),
        (["x" * 5000], "can't be read: File name too long"),
    ],
)
def test_a_bad_folder_is_said_in_a_sentence(folders: list[str], message: str, given: Given) -> None:
    given.push("prod", {})
    arguments = given.arguments(given.claims(100))[-2:]
    options = [
        part for folder in folders for part in ("--agents", folder.format(given.agents_folder(50)))
    ]

    assert message in refusal("decide", *options, *arguments)


@pytest.mark.parametrize("looked_at_by", ["is_dir", "iterdir"])
@pytest.mark.parametrize("prefix", ["", "top/sub1/agents="])
def test_a_folder_that_may_not_be_read_is_bad_input(
    looked_at_by: str, prefix: str, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    given.push("prod", {})
    arguments = given.arguments(given.claims(100))[-2:]

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, looked_at_by, refuse)

    message = refusal("decide", "--agents", f"{prefix}{given.agents_folder(50)}", *arguments)

    assert "can't be read: Permission denied" in message


def test_a_folder_that_may_be_of_two_projects_must_be_told(given: Given) -> None:
    given.add("agents", {"id": 602, "name": "prod", "project_id": 60})
    given.push("prod", {})
    arguments = given.arguments(given.claims(100))[-2:]

    message = refusal("decide", "--agents", str(given.agents_folder(50)), *arguments)

    assert "PROJECT_PATH=DIR" in message


GROUP = {"id": 1, "full_path": "top", "parent_id": None}
PROJECT = {"id": 100, "path_with_namespace": "top/app", "namespace_id": 1}
AGENT = {"id": 501, "name": "prod", "project_id": 100}
GOOD: dict[str, Any] = {
    "v": 1,
    "settings": {"instance_wide": False, "entry_limit": 500},
    "groups": [GROUP],
    "users": [],
    "projects": [PROJECT],
    "agents": [AGENT],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": 2}, "v must be 1"),
        ({"v": True}, "v must be 1"),
        ({"more": 1}, "the file has an unknown key 'more'"),
        ({"settings": {"instance_wide": "no"}}, "settings.instance_wide must be true or false"),
        ({"settings": {"entry_limit": 0}}, "settings.entry_limit must be a whole number"),
        ({"settings": {"fork_jobs": True}}, "settings.fork_jobs must be allow or deny"),
        ({"settings": {"allowed_identities": "a"}}, "settings.allowed_identities must be a list"),
        (
            {"settings": {"allowed_identities": [""]}},
            "settings.allowed_identities[0] must be a text that isn't empty",
        ),
        ({"settings": {"limit": 1}}, "settings has an unknown key 'limit'"),
        ({"groups": {}}, "groups must be a list"),
        ({"groups": [1]}, "groups[0] must be an object"),
        ({"groups": [{"id": 1, "full_path": "top"}]}, "groups[0] has no parent_id"),
        ({"groups": [{**GROUP, "id": "1"}]}, "groups[0].id must be a whole number"),
        ({"groups": [{**GROUP, "id": 2**63}]}, "groups[0].id must be a whole number"),
        ({"groups": [{**GROUP, "full_path": ""}]}, "groups[0].full_path must be a text"),
        ({"groups": [{**GROUP, "full_path": "\ud800"}]}, "groups[0].full_path must be a text"),
        ({"groups": [{**GROUP, "parent_id": 7}]}, "parent_id 7 is of no group"),
        ({"groups": [{**GROUP, "parent_id": 1}]}, "more ancestors than GitLab allows"),
        ({"groups": [GROUP, GROUP]}, "the id of a namespace '1' is there twice"),
        ({"users": [{"namespace_id": 1, "username": "a"}]}, "the id of a namespace '1'"),
        ({"users": [{"namespace_id": 2, "username": "TOP"}]}, "the path of a namespace 'top'"),
        ({"projects": [{**PROJECT, "namespace_id": 3}]}, "3 is of no group and no user"),
        ({"projects": [PROJECT, {**PROJECT, "id": 101}]}, "the path of a project 'top/app'"),
        ({"projects": [PROJECT, PROJECT]}, "the id of a project '100' is there twice"),
        ({"agents": [{**AGENT, "project_id": 7}]}, "project_id 7 is of no project"),
        ({"agents": [{**AGENT, "name": "No"}]}, "agents[0].name isn't an agent's name"),
        ({"agents": [AGENT, AGENT]}, "the id of an agent '501' is there twice"),
        ({"agents": [AGENT, {**AGENT, "id": 502}]}, "is there twice"),
        (
            {"environments": [{"project_id": 7, "name": "a", "slug": "a"}]},
            "project_id 7 is of no project",
        ),
    ],
)
def test_a_fault_of_the_instance_is_said_with_its_place(
    change: dict[str, Any], message: str, given: Given
) -> None:
    given.instance = GOOD
    arguments = given.arguments(given.claims(100))
    (given.folder / "instance.json").write_text(json.dumps(GOOD | change))

    found = refusal(*arguments)

    assert found.startswith("jobgate: --instance: ")
    assert message in found


@pytest.mark.parametrize("key", [key for key in GOOD if key != "v"])
def test_nothing_but_environments_may_be_left_out(key: str, given: Given) -> None:
    given.instance = GOOD
    arguments = given.arguments(given.claims(100))
    left = {name: value for name, value in GOOD.items() if name != key}
    (given.folder / "instance.json").write_text(json.dumps(left))

    assert f"the file has no {key}" in refusal(*arguments)


@pytest.mark.parametrize("option", ["instance", "claims"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "must hold a JSON object"),
        (b"{", "isn't good JSON"),
        (b'{"v": 1, "v": 2}', "a key is there twice"),
        (b'{"v": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "isn't good JSON"),
        (b"\xff", "isn't UTF-8 text"),
    ],
)
def test_a_file_that_is_not_json_is_refused(
    option: str, content: bytes, message: str, given: Given
) -> None:
    arguments = given.arguments(given.claims(100))
    (given.folder / f"{option}.json").write_bytes(content)

    found = refusal(*arguments)

    assert f"--{option}: " in found
    assert message in found


def test_a_file_that_is_not_there_is_said(given: Given) -> None:
    arguments = given.arguments(given.claims(100))
    (given.folder / "claims.json").unlink()

    assert "--claims: " in refusal(*arguments)


@pytest.mark.parametrize("name", ["project_id", "job_id", "pipeline_id", "ref", "user_login"])
def test_claims_that_do_not_say_which_job_it_is_are_refused(name: str, given: Given) -> None:
    name = f"job_{name}" if name == "project_id" else name
    claims = {**given.claims(100), name: {}}

    assert f"the claim {name}" in refusal(*given.arguments(claims))


@pytest.mark.parametrize("name", ["job_id", "ref"])
def test_claims_without_ref_protected_must_be_good_for_the_rest(name: str, given: Given) -> None:
    claims = given.claims(100, **{name: ABSENT, "ref_protected": ABSENT})

    assert "the claim" in refusal(*given.arguments(claims))


def test_a_token_in_place_of_its_payload_is_refused_and_not_shown(given: Given) -> None:
    arguments = given.arguments({})
    (given.folder / "claims.json").write_text("eyJhbGciOiJSUzI1NiJ9.eyJzIjoxfQ.c2ln")

    message = refusal(*arguments)

    assert "not the token itself" in message
    assert "eyJ" not in message


def test_agents_must_be_given(given: Given) -> None:
    arguments = given.arguments(given.claims(100))

    assert run("decide", *arguments[-2:]).exit_code == 2
