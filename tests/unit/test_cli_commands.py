"""The operators' commands as a whole: forms, exit codes, their page in the documents."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobgate.cli
import pytest
from jobgate.adapters.aws_api import AWSError
from jobgate.cli.app import app
from jobgate.cli.connect import Outside
from jobgate.cli.errors import FINDINGS, REFUSED, UNKNOWN, USAGE
from jobgate.cli.exit_codes import codes
from jobgate.core.errors import Unavailable
from typer.main import get_command
from typer.testing import CliRunner

from local.commands_page import PAGE, commands, page

if TYPE_CHECKING:
    from collections.abc import Mapping

# What each needs at least. A token or credential is a file, and so are claims.
CALLS = {
    "agent list": "",
    "agent register": "top/agents prod --server https://k8s.example.test --credential-file token",
    "agent remove": "1000000001",
    "agent rotate": "1000000001 --credential-file token",
    "agent show": "1000000001",
    "audit": "",
    "decide": "--agents . --instance missing.json --claims missing.json",
    "doctor": "",
    "explain": "--claims claims.json",
    "gitlab connect": "top",
    "gitlab rotate-token": "",
    "gitlab status": "",
    "issuer add": "main --url https://gitlab.example.test --audience https://a --token-file token",
    "issuer list": "",
    "issuer remove": "main",
    "keys list": "",
    "keys rotate": "",
    "lint": "",
    "queue redrive": "",
    "rbac": "--impersonation legacy --agent 1000000001",
    "reconcile": "",
    "restore": "",
    "revoke": "all --why test",
    "setup": "--no-ask",
    "status": "",
    "teardown": "--yes",
}
COMMANDS: dict[str, Any] = dict(commands(get_command(app)))
CONTRACT = (
    *("setup", "issuer add", "issuer list", "issuer remove", "teardown", "agent register"),
    *("agent list", "agent show", "agent rotate", "agent remove", "gitlab connect"),
    *("gitlab status", "gitlab rotate-token", "lint", "decide", "explain", "status", "revoke"),
    *("restore", "keys rotate", "queue redrive", "audit", "rbac", "doctor"),
)


def run(folder: Path, name: str, fault: Exception) -> tuple[int, str]:
    """A command's exit code and what it says, where every call of AWS ends with a fault."""
    (folder / "token").write_text("glpat-canary")
    (folder / "claims.json").write_text(json.dumps({}))

    def aws(service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        raise fault

    outside = Outside(aws=aws, environment={}, clock=lambda: 1.8e9, sleep=lambda _seconds: None)
    words = [
        str(folder / word) if word in ("token", "claims.json") else word
        for word in f"{name} {CALLS[name]}".split()
    ]
    found = CliRunner().invoke(app, words, obj=outside, env={"JOBGATE_STACK": "jg"})
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.output


def test_every_command_of_the_contract_is_there() -> None:
    assert set(CONTRACT) <= set(COMMANDS)


def test_every_command_has_its_exit_codes_tested() -> None:
    assert set(CALLS) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_answers_scripts_too(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}

    assert COMMANDS[name].help
    assert "--json" in options


@pytest.mark.parametrize("name", COMMANDS)
def test_a_word_too_many_is_wrong_use(name: str) -> None:
    found = CliRunner().invoke(app, [*name.split(), "--no-such-option"])

    assert found.exit_code == USAGE
    assert USAGE in codes(name)


@pytest.mark.parametrize("name", [name for name in COMMANDS if UNKNOWN in codes(name)])
def test_aws_that_is_away_is_code_3(name: str, tmp_path: Path) -> None:
    code, said = run(tmp_path, name, Unavailable("AWS is away"))

    assert (code, said) == (UNKNOWN, "jobgate: AWS is away.\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if REFUSED in codes(name)])
def test_a_right_that_is_missing_is_code_4(name: str, tmp_path: Path) -> None:
    code, said = run(tmp_path, name, AWSError("AccessDeniedException"))

    assert (code, said) == (REFUSED, "jobgate: AWS refused the call: AccessDeniedException.\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if UNKNOWN not in codes(name)])
def test_what_is_said_to_be_offline_asks_nobody(name: str, tmp_path: Path) -> None:
    code, _ = run(tmp_path, name, Unavailable("AWS is away"))

    assert code in codes(name)
    assert "context" not in inspect.signature(COMMANDS[name].callback).parameters


def test_only_those_with_findings_end_with_code_1() -> None:
    """Each has its own test for when it does; here no other does, in no module."""
    ending = re.compile(r"raise typer\.Exit\(FINDINGS\b")
    with_findings = [name for name in COMMANDS if FINDINGS in codes(name)]
    callbacks = {name: inspect.getsource(COMMANDS[name].callback) for name in COMMANDS}
    modules = Path(jobgate.cli.__file__).parent.glob("*.py")

    assert [name for name in COMMANDS if ending.search(callbacks[name])] == with_findings
    assert sum(len(ending.findall(m.read_text())) for m in modules) == len(with_findings)


def sections() -> dict[str, str]:
    """The page's part about each command."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_page_is_what_make_commands_writes() -> None:
    assert PAGE.read_text() == page()


def test_the_page_has_each_command_and_no_other() -> None:
    assert list(sections()) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_says_what_help_says(name: str) -> None:
    wide = {"COLUMNS": "400", "TERMINAL_WIDTH": "400"}
    done = CliRunner().invoke(app, [*name.split(), "--help"], env=wide)
    section = sections()[name]
    form = re.compile(r"(?<![\w-])--[a-z][a-z-]+")

    assert done.exit_code == 0
    assert set(form.findall(done.stdout)) - {"--help"} == set(form.findall(section)), done.stdout
    said = re.findall(r"Exit codes: (.+)\.\s*$", done.stdout, re.MULTILINE)
    shown = re.findall(r"Exit codes: (.+)\.\s*$", section, re.MULTILINE)
    assert said == shown
    assert [int(code) for code in re.findall(r"\d", shown[0])] == list(codes(name))
    for argument in COMMANDS[name].params:
        if argument.param_type_name == "argument":
            assert (
                f"| `{(argument.metavar or argument.name).replace('|', chr(92) + '|')}" in section
            )
