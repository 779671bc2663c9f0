"""The pipelines of docs/examples: GitLab's JSON schema takes them, docs/pipeline.md has each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from local.pipeline import TEMPLATE, component

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "pipeline.md"
EXAMPLES = ROOT / "docs" / "examples"
TESTS = ROOT / "tests" / "e2e"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
_ROW = re.compile(r"^\| \[([a-z-]+)\]\(examples/([a-z-]+)/\.gitlab-ci\.yml\) \|", re.MULTILINE)


def checked(*files: Path) -> int:
    """The exit code of check-jsonschema, which carries GitLab's schema."""
    schema = ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")
    done = subprocess.run(
        [Path(sys.executable).parent / "check-jsonschema", *schema, *files],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


@pytest.mark.parametrize("merge", [False, True])
def test_component_is_a_pipeline_by_gitlabs_schema(tmp_path: Path, *, merge: bool) -> None:
    given = {"url": "https://jobgate.test", "audience": "https://jobgate.test", "merge": merge}
    whole = tmp_path / "component.yml"
    whole.write_text(yaml.safe_dump(component(TEMPLATE, given)))
    assert checked(whole) == 0


def test_examples_are_pipelines_by_gitlabs_schema() -> None:
    files = [*EXAMPLES.rglob("*.yml")]
    pipelines = [path for path in files if path.name.endswith(".gitlab-ci.yml")]
    assert len(pipelines) > len(FOLDERS)
    assert checked(*pipelines, EXAMPLES / "kubernetes-access.yml") == 0


@pytest.mark.parametrize("wrong", ["{script: [true], retry: 9}", "{script: [x], whn: manual}"])
def test_schema_tells_a_wrong_pipeline(tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "wrong.yml"
    file.write_text(f"deploy: {wrong}\n")
    assert checked(file) == 1


def test_each_example_has_a_row_in_the_docs_and_a_test() -> None:
    rows = _ROW.findall(DOCS.read_text())
    assert all(name == folder for name, folder in rows)
    assert sorted(name for name, _ in rows) == FOLDERS
    tests = "".join(path.read_text() for path in TESTS.glob("test_examples*.py"))
    assert [name for name in FOLDERS if f'"{name}"' not in tests] == []
