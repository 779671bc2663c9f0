"""docs/configuration.md is true: examples are read; codes, words and limits are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jobgate.core import node_reader, yaml_nodes
from jobgate.core.agent import PROBLEMS_MAX
from jobgate.core.agent_configuration import (
    FILE_MAX_BYTES,
    AgentConfiguration,
    InvalidConfiguration,
    read_configuration,
)
from jobgate.core.problem import ProblemCode
from jobgate.core.settings import Settings
from jobgate.core.yaml_scalars import Kind, kind_of_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
BLOCKS = re.findall(r"^```yaml( mistakes)?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
EXAMPLES = [text for mark, text in BLOCKS if not mark]
MISTAKES = [text for mark, text in BLOCKS if mark]
# GitLab's schema of ci_access, written from its documentation and not from our reader.
KEYS = {
    *("ci_access", "projects", "groups", "instance", "id", "default_namespace", "access_as"),
    *("environments", "protected_branches_only", "resource_management", "enabled", "agent"),
    *("ci_job", "impersonate", "username", "uid", "extra", "key", "val"),
}


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_a_valid_configuration(text: str) -> None:
    read = read_configuration(text.encode(), file="config.yaml")

    assert isinstance(read, AgentConfiguration)
    assert read != AgentConfiguration()


def test_every_key_has_an_example() -> None:
    used = {key for text in EXAMPLES for key in _keys(yaml.safe_load(text)["ci_access"])}

    assert used | {"ci_access"} == KEYS


@pytest.mark.parametrize("text", MISTAKES)
def test_the_example_of_mistakes_has_them_where_it_says(text: str) -> None:
    said = [
        (line, code)
        for line, content in enumerate(text.splitlines(), start=1)
        for code in content.partition(" # ")[2].split()
    ]

    read = read_configuration(text.encode(), file="config.yaml")

    assert isinstance(read, InvalidConfiguration)
    assert sorted((p.line, str(p.code)) for p in read.problems) == sorted(said)
    assert len(said) >= 10


def test_every_code_is_explained_once() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)

    assert sorted(rows) == sorted(ProblemCode)


def test_the_limits_are_the_codes() -> None:
    for limit in (
        FILE_MAX_BYTES,
        node_reader.NODES_MAX,
        node_reader.READ_MAX_BYTES,
        Settings().entry_limit,
        PROBLEMS_MAX,
        yaml_nodes.DEPTH_MAX,
    ):
        assert re.search(rf"\b{limit:,}\b", PAGE)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [("a boolean", Kind.BOOLEAN), ("a number", Kind.NUMBER), ("a text", Kind.TEXT)],
)
def test_unquoted_values_are_what_the_page_says(ending: str, kind: Kind) -> None:
    row = re.search(rf"^\| (.*) \| {ending} \|$", PAGE, re.MULTILINE)

    assert row is not None
    words = re.findall(r"`([^`]+)`", row[1])
    assert words
    assert {word: kind_of_plain(word) for word in words} == dict.fromkeys(words, kind)
