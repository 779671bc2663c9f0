"""`jobgate lint` as a user runs it: findings, forms, exit codes, and hostile checkouts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jobgate.cli.app import app
from jobgate.core.agent_configuration import FILE_MAX_BYTES
from jobgate.core.risk import RULES
from typer.testing import CliRunner

CLEAN = "ci_access: {projects: [{id: top/app}]}"


def run(*arguments: object, project: str | None = None) -> Any:
    found = CliRunner().invoke(
        app, ["lint", *map(str, arguments)], env={"CI_PROJECT_PATH": project}
    )
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def write(checkout: Path, content: str | bytes, *, agent: str = "prod") -> Path:
    file = checkout / ".gitlab/agents" / agent / "config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def codes(checkout: Path, *options: str, project: str | None = None) -> list[tuple[str, str]]:
    found = run(checkout, "--json", *options, project=project)
    problems = json.loads(found.stdout)["problems"]
    assert found.exit_code == (1 if problems else 0)
    return [(problem["code"], problem["severity"]) for problem in problems]


# --- Findings ---


def test_a_clean_checkout_has_no_findings(tmp_path: Path) -> None:
    write(tmp_path, CLEAN)

    found = run(tmp_path)

    assert (found.exit_code, found.stdout) == (0, "No findings.\n")


def test_a_finding_is_one_line_that_editors_understand(tmp_path: Path) -> None:
    file = write(tmp_path, "ci_access:\n  project:\n    - id: top/app\n")

    found = run(tmp_path)

    line, count = found.stdout.splitlines()
    assert found.exit_code == 1
    assert line.startswith(f"{file}:2:3: error: unknown_key: ")
    assert count == "1 finding."


def test_the_present_folder_is_the_checkout_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "ci_access: 1")
    monkeypatch.chdir(tmp_path)

    assert run().stdout.startswith(".gitlab/agents/prod/config.yaml:1:")


def test_all_agents_of_all_checkouts_are_read(tmp_path: Path) -> None:
    for checkout, agent in (("one", "a"), ("one", "b"), ("two", "a")):
        write(tmp_path / checkout, "ci_access: 1", agent=agent)

    found = run(tmp_path / "one", tmp_path / "two", "--json")

    files = [problem["file"] for problem in json.loads(found.stdout)["problems"]]
    assert [file.removeprefix(f"{tmp_path}/") for file in files] == [
        "one/.gitlab/agents/a/config.yaml",
        "one/.gitlab/agents/b/config.yaml",
        "two/.gitlab/agents/a/config.yaml",
    ]


def test_what_only_compiling_shows_is_found_too(tmp_path: Path) -> None:
    write(
        tmp_path,
        "ci_access:\n"
        "  projects: [{id: top/app}, {id: Top/App}]\n"
        "  groups: [{id: top, access_as: {impersonate: {username: 'system:admin'}}}]\n"
        "  instance: {}\n",
    )

    assert sorted(codes(tmp_path)) == [
        ("duplicate", "warning"),
        ("instance_not_enabled", "warning"),
        ("reserved_identity", "warning"),
    ]


def test_entries_beyond_the_limit_are_found(tmp_path: Path) -> None:
    write(tmp_path, "ci_access: {projects: [{id: a/b}, {id: a/c}]}")

    assert codes(tmp_path, "--entry-limit=1") == [("beyond_limit", "warning")]
    assert codes(tmp_path) == []


def test_another_top_level_group_is_found_where_the_project_is_known(tmp_path: Path) -> None:
    write(tmp_path, "ci_access: {projects: [{id: TOP/app}, {id: ext/app}], groups: [{id: ext}]}")

    assert codes(tmp_path) == []
    assert codes(tmp_path, "--project=top/agents") == [("out_of_scope", "warning")] * 2
    assert codes(tmp_path, project="top/agents") == [("out_of_scope", "warning")] * 2


def test_a_deployment_for_the_whole_instance_has_no_scope(tmp_path: Path) -> None:
    write(tmp_path, "ci_access: {projects: [{id: ext/app}], instance: {}}")

    assert codes(tmp_path, "--instance-wide", "--project=top/agents") == []


def test_a_reserved_name_that_the_deployment_allows_is_no_finding(tmp_path: Path) -> None:
    identity = "{username: 'system:monitoring', groups: ['gitlab:x']}"
    write(tmp_path, f"ci_access: {{groups: [{{id: top, access_as: {{impersonate: {identity}}}}}]}}")
    one, both = ["--allowed-identity=system:monitoring"], ["--allowed-identity=gitlab:x"]

    assert codes(tmp_path, *one) == [("reserved_identity", "warning")]
    assert codes(tmp_path, *one, *both) == []


@pytest.mark.parametrize("name", ["config.yml", "jobgate.yaml"])
def test_a_file_that_nobody_reads_is_found(name: str, tmp_path: Path) -> None:
    write(tmp_path, CLEAN).with_name(name).write_text("{}")

    (finding,) = codes(tmp_path)

    assert finding in {("other_name", "warning"), ("jobgate_yaml", "warning")}


def test_a_folder_that_is_no_agents_name_is_found(tmp_path: Path) -> None:
    write(tmp_path, CLEAN, agent="Prod_1")

    assert codes(tmp_path) == [("other_name", "warning")]


# --- Risks ---


def test_risks_are_told_only_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "ci_access: {groups: [{id: top}]}")

    assert codes(tmp_path) == []
    assert codes(tmp_path, "--risk") == [
        ("config-project-implicit-authorization", "note"),
        ("group-tree-no-impersonation", "warning"),
    ]


def test_the_projects_own_entry_is_known_from_the_pipeline(tmp_path: Path) -> None:
    filters = "environments: [a], protected_branches_only: true"
    write(tmp_path, f"ci_access: {{projects: [{{id: top/agents, {filters}}}]}}")

    assert codes(tmp_path, "--risk", project="Top/Agents") == []


def test_a_file_that_can_not_be_used_has_errors_alone(tmp_path: Path) -> None:
    write(tmp_path, "ci_access: {groups: [{id: top}], more: 1}")

    assert codes(tmp_path, "--risk") == [("unknown_key", "error")]


# --- SARIF ---


def test_sarif_has_the_structure_of_2_1_0(tmp_path: Path) -> None:
    file = write(tmp_path, "ci_access:\n  groups:\n    - id: top\n", agent="a b")

    found = run(tmp_path, "--sarif", "--risk")

    log = json.loads(found.stdout)
    assert found.exit_code == 1
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (made,) = log["runs"]
    rules = made["tool"]["driver"]["rules"]
    assert made["tool"]["driver"]["name"] == "jobgate"
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert all(rule["shortDescription"]["text"] for rule in rules)
    assert [result["level"] for result in made["results"]] == ["warning", "note", "warning"]
    for result in made["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        region = location["physicalLocation"]["region"]
        assert region["startLine"] >= 1
        assert region["startColumn"] >= 1
    last = made["results"][-1]["locations"][0]["physicalLocation"]
    assert last["artifactLocation"]["uri"] == str(file).replace(" ", "%20")
    assert last["region"] == {"startLine": 3, "startColumn": 11}


def test_sarif_names_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    write(tmp_path, "ci_access: 1", agent=os.fsdecode(b"\xff"))

    (made,) = json.loads(run(tmp_path, "--sarif").stdout)["runs"]

    locations = [result["locations"][0]["physicalLocation"] for result in made["results"]]
    uri = f"{tmp_path}/.gitlab/agents/%FF/config.yaml"
    assert [location["artifactLocation"]["uri"] for location in locations] == [uri, uri]


def test_sarif_of_a_clean_checkout_has_no_results(tmp_path: Path) -> None:
    write(tmp_path, CLEAN)

    found = run(tmp_path, "--sarif")

    assert (found.exit_code, json.loads(found.stdout)["runs"][0]["results"]) == (0, [])


def test_risk_rules_have_their_title_in_sarif(tmp_path: Path) -> None:
    write(tmp_path, "ci_access: {instance: {}}")

    rules = json.loads(run(tmp_path, "--sarif", "--risk").stdout)["runs"][0]["tool"]["driver"][
        "rules"
    ]

    titles = {rule.code: f"{rule.title}." for rule in RULES}
    texts = {rule["id"]: rule["shortDescription"]["text"] for rule in rules}
    assert texts["instance-wide-grant"] == titles["instance-wide-grant"]


# --- Bad input, and hostile checkouts ---


@pytest.mark.parametrize("option", ["--json", "--sarif", "--risk"])
def test_a_checkout_without_agents_is_bad_input(option: str, tmp_path: Path) -> None:
    found = run(tmp_path, option)

    assert (found.exit_code, found.stdout) == (2, "")
    assert "has no folder .gitlab/agents" in found.stderr


def test_an_empty_folder_of_agents_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / ".gitlab/agents/prod").mkdir(parents=True)

    found = run(tmp_path)

    assert (found.exit_code, found.stdout) == (2, "")
    assert "holds no agent's configuration" in found.stderr


def test_agents_folders_without_any_configuration_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / ".gitlab/agents/prod").mkdir(parents=True)
    (tmp_path / ".gitlab/agents/prod/README.md").write_text("")

    assert "holds no agent's configuration" in run(tmp_path).stderr


def test_two_forms_at_once_are_bad_input(tmp_path: Path) -> None:
    write(tmp_path, CLEAN)

    assert run(tmp_path, "--json", "--sarif").exit_code == 2


@pytest.mark.parametrize("looked_at_by", ["is_dir", "is_symlink", "iterdir"])
def test_a_folder_that_may_not_be_read_is_bad_input(
    looked_at_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    write(tmp_path, CLEAN)
    monkeypatch.setattr(Path, looked_at_by, refuse)

    found = run(tmp_path)

    assert (found.exit_code, found.stdout) == (2, "")
    assert "Permission denied" in found.stderr


@pytest.mark.parametrize("link", [".gitlab", ".gitlab/agents"])
def test_a_folder_that_is_a_link_is_not_followed(link: str, tmp_path: Path) -> None:
    write(tmp_path / "real", "ci_access: {s3cret: 1}")
    place = tmp_path / "checkout" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "real" / link)

    found = run(tmp_path / "checkout")

    assert (found.exit_code, "s3cret" in found.output) == (2, False)


def test_a_link_called_config_yaml_is_found_and_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("ci_access: {s3cret: 1}")
    file = write(tmp_path, "")
    file.unlink()
    file.symlink_to(secret)

    found = run(tmp_path)

    assert (found.exit_code, "s3cret" in found.output) == (1, False)
    assert "error: not_a_file" in found.stdout


def test_an_agents_folder_that_is_a_link_is_found_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "other", "ci_access: {s3cret: 1}")
    write(tmp_path, CLEAN)
    (tmp_path / ".gitlab/agents/linked").symlink_to(tmp_path / "other/.gitlab/agents/prod")

    assert codes(tmp_path) == [("not_a_file", "error")]


def test_a_file_beside_the_agents_folders_is_nobodys_concern(tmp_path: Path) -> None:
    write(tmp_path, CLEAN)
    (tmp_path / ".gitlab/agents/README.md").write_text("")

    assert codes(tmp_path) == []


def test_a_folder_called_config_yaml_is_found(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    file.unlink()
    file.mkdir()
    (file / "inner").write_text("")

    assert codes(tmp_path) == [("not_a_file", "error")]


def test_a_pipe_called_config_yaml_is_never_waited_for(tmp_path: Path) -> None:
    write(tmp_path, CLEAN)
    folder = tmp_path / ".gitlab/agents/other"
    folder.mkdir()
    os.mkfifo(folder / "config.yaml")

    assert codes(tmp_path) == []


def test_an_empty_file_is_a_good_one(tmp_path: Path) -> None:
    write(tmp_path, "")

    assert codes(tmp_path) == []


@pytest.mark.parametrize(
    "content", [b"\x00\xff\xfe", b"#" * (FILE_MAX_BYTES + 1), b"[" * FILE_MAX_BYTES]
)
def test_a_hostile_file_is_an_error(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, content)

    ((_, severity),) = codes(tmp_path)

    assert severity == "error"


def test_more_files_than_anybody_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobgate.cli.checkouts._PATHS_MAX", 2)
    for agent in "abc":
        write(tmp_path, CLEAN, agent=agent)

    found = run(tmp_path)

    assert (found.exit_code, "more than 2 files" in found.stderr) == (2, True)


def test_what_a_file_says_can_not_move_the_cursor(tmp_path: Path) -> None:
    write(tmp_path, 'ci_access: {"\\e[2J": 1}')

    assert "\x1b" not in run(tmp_path).output
