"""An agent's folder: only a regular config.yaml configures; what looks like one is shown."""

from __future__ import annotations

import pytest
from jobgate.core.agent_folder import AgentFolder, FileKind, agent_folder, folders_of_nobody

FOLDER = ".gitlab/agents/prod"
FILE = f"{FOLDER}/config.yaml"


def look(**more: FileKind) -> AgentFolder:
    tree = {FOLDER: FileKind.FOLDER, ".gitlab/agents/other/config.yml": FileKind.FILE}
    return agent_folder("prod", tree | {f"{FOLDER}/{name}": kind for name, kind in more.items()})


def beside(name: str) -> list[tuple[str, str, str]]:
    tree = {FOLDER: FileKind.FOLDER, FILE: FileKind.FILE, f"{FOLDER}/{name}": FileKind.FILE}
    found = agent_folder("prod", tree)
    assert found.has_file
    return [(p.code, p.file, p.text) for p in found.unread]


def test_a_folder_with_its_file_has_no_problem() -> None:
    assert look(**{"config.yaml": FileKind.FILE, "README.md": FileKind.FILE}) == AgentFolder(
        has_file=True
    )


def test_no_file_and_no_folder_are_absent_and_no_problem() -> None:
    assert look() == AgentFolder(has_file=False)
    assert agent_folder("prod", {}) == AgentFolder(has_file=False)


@pytest.mark.parametrize("kind", [FileKind.FOLDER, FileKind.LINK, FileKind.SUBMODULE])
def test_a_configuration_that_is_no_file_is_refused(kind: FileKind) -> None:
    found = look(**{"config.yaml": kind})

    assert not found.has_file
    assert [(p.code, p.file, p.line, p.text) for p in found.refused] == [
        ("not_a_file", FILE, 1, kind.value)
    ]


@pytest.mark.parametrize("kind", [FileKind.FILE, FileKind.LINK, FileKind.SUBMODULE])
def test_an_agents_folder_that_is_none_is_refused_and_not_taken_for_deleted(kind: FileKind) -> None:
    found = agent_folder("prod", {FOLDER: kind})

    assert [(p.code, p.file, p.text) for p in found.refused] == [("not_a_file", FOLDER, kind.value)]


@pytest.mark.parametrize("name", ["config.yml", "Config.yaml", "CONFIG.YML"])
def test_another_name_of_the_configuration_is_shown(name: str) -> None:
    assert beside(name) == [("other_name", f"{FOLDER}/{name}", name)]


@pytest.mark.parametrize("name", ["jobgate.yaml", "jobgate.yml"])
def test_jobgate_yaml_is_shown_as_long_as_nobody_reads_it(name: str) -> None:
    assert beside(name) == [("jobgate_yaml", f"{FOLDER}/{name}", name)]


@pytest.mark.parametrize("name", ["README.md", "config.yaml.bak", "old/config.yml", "values.yaml"])
def test_other_files_are_nobodys_business(name: str) -> None:
    assert beside(name) == []


def test_another_agents_files_are_not_shown() -> None:
    tree = {".gitlab/agents/prod-2/config.yml": FileKind.FILE}

    assert agent_folder("prod", tree) == AgentFolder(has_file=False)


def test_folders_of_no_registered_agent_are_named() -> None:
    tree = [FILE, ".gitlab/agents/Other/config.yaml", ".gitlab/agents/a/x", ".gitlab/agents/file"]

    assert folders_of_nobody(tree, ["prod"]) == (
        "folders of no registered agent: Other (can't be an agent's name), a"
    )
    assert folders_of_nobody(tree[:1], ["prod"]) is None


def test_many_folders_are_counted() -> None:
    tree = [f".gitlab/agents/a{number}/config.yaml" for number in range(9)]

    assert folders_of_nobody(tree, []) == (
        "folders of no registered agent: a0, a1, a2, a3, a4, 4 more"
    )
