"""The documents: links lead somewhere, data parses, and the commands that they show exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
import yaml
from jobgate.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
README_SCREEN = 60  # lines up to what comes after what it is and how it works


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """As GitLab and GitHub make them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}")

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_said_to_be_json_or_yaml_is(page: Path) -> None:
    for language, text in FENCE.findall(page.read_text()):
        if language == "json":
            json.loads(text)
        if language in ("yaml", "yml"):
            list(yaml.compose_all(text))


def shown_commands(page: Path) -> Iterator[str]:
    """Lines of code that call `jobgate`, with what a trailing backslash continues."""
    text = page.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        found = re.match(r"^(?: {4}|\$ |\w+=\S+ )+(?:\w+=\S+ )*(jobgate .+)$", line)
        if found:
            yield found[1].partition("  #")[0].partition(" > ")[0].strip()


def shown() -> list[tuple[str, str]]:
    return [(name(page), command) for page in PAGES for command in shown_commands(page)]


def test_the_documents_show_commands() -> None:
    assert len(shown()) > 30


@pytest.mark.parametrize(("page", "command"), shown())
def test_a_command_that_is_shown_exists_with_its_options(page: str, command: str) -> None:
    """Brackets are for what may be left out."""
    words = shlex.split(re.sub(r"[\[\]|…]", " ", command), comments=True)[1:]
    found: click.Command = typer.main.get_command(app)
    while words and (commands := getattr(found, "commands", None)):
        assert words[0].startswith("-") or words[0] in commands, f"{page}: {command}"
        if words[0].startswith("-"):
            break
        found = commands[words.pop(0)]
    known = {option for each in found.params for option in (*each.opts, *each.secondary_opts)}
    completion = {"--install-completion", "--show-completion", "--help"}
    used = {word.partition("=")[0] for word in words if re.match(r"--\w", word)}

    assert used <= known | completion, f"{page}: {command}"


def test_the_readme_says_what_it_is_and_how_it_works_on_one_screen() -> None:
    before, found, _ = (ROOT / "README.md").read_text().partition("## What next")

    assert found
    assert len(before.splitlines()) <= README_SCREEN
