from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.adapters import items
from jobgate.cli.inputs import CredentialFile
from jobgate.core.agent import EKSCredential
from moto import mock_aws

from tests.support.operators_stack import OperatorsStack
from tests.unit.test_cli_agents import FIRST, ISSUER, TOKEN, register

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELAY, AGENT = f"jobgate/jg/cluster/main/{FIRST}/relay", f"jobgate/jg/cluster/main/{FIRST}/agent"


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    with mock_aws():
        yield OperatorsStack.trusting(ISSUER)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new"
    path.write_text("canary-new\n")
    return path


def test_each_credential_is_replaced_by_itself(stack: OperatorsStack, new: Path) -> None:
    register(stack)

    answer = stack.json("agent", "rotate", FIRST, "--credential-file", new)

    assert answer == {"id": FIRST, "issuer": "main", "rotated": ["relay"]}
    assert stack.secret(RELAY) == {"token": "canary-new"}
    assert stack.secret(AGENT) == {"token": "canary-agent"}
    stack.json("agent", "rotate", FIRST, "--agent-credential-file", new)
    assert stack.secret(AGENT) == {"token": "canary-new"}


def test_a_secret_that_was_deleted_is_made_again(stack: OperatorsStack, new: Path) -> None:
    register(stack)
    gone = {"SecretId": RELAY, "ForceDeleteWithoutRecovery": True}
    stack.real("secretsmanager", "DeleteSecret", gone)

    stack.json("agent", "rotate", FIRST, "--credential-file", new)

    assert stack.secret(RELAY) == {"token": "canary-new"}


def test_no_credential_is_printed(stack: OperatorsStack, new: Path) -> None:
    register(stack)

    for option in ([], ["--json"]):
        answer = stack.run("agent", "rotate", FIRST, "--credential-file", new, *option)
        assert answer.code == 0
        assert "canary" not in answer.out + answer.err


@pytest.mark.parametrize(
    "own",
    [
        None,
        EKSCredential(cluster="prod", region="eu-central-1"),
        CredentialFile("cert", {"certificate": "C", "key": "K"}),
    ],
)
def test_a_credential_of_another_kind_is_refused_before_anything_is_written(
    stack: OperatorsStack, new: Path, own: CredentialFile | EKSCredential | None
) -> None:
    register(stack, credentials=(TOKEN, own))

    files = ("--credential-file", new, "--agent-credential-file", new)
    answer = stack.run("agent", "rotate", FIRST, *files)

    assert answer.code == 4
    assert "as its agent credential, not with one of kind token" in answer.err
    assert stack.secret(RELAY) == {"token": "canary-relay"}


def test_an_agent_without_a_connection_is_refused(stack: OperatorsStack, new: Path) -> None:
    register(stack)
    stack.table.delete(items.cluster_key("main", FIRST))

    answer = stack.run("agent", "rotate", FIRST, "--credential-file", new)

    assert (answer.code, stack.secret(RELAY)) == (4, {"token": "canary-relay"})


@pytest.mark.parametrize("content", ["", "two words", '{"other": 1}'])
def test_what_is_no_credential_is_an_input_error(
    stack: OperatorsStack, new: Path, content: str
) -> None:
    register(stack)
    new.write_text(content)

    answer = stack.run("agent", "rotate", FIRST, "--credential-file", new)

    assert (answer.code, stack.secret(RELAY)) == (2, {"token": "canary-relay"})


def test_no_file_at_all_is_an_input_error(stack: OperatorsStack) -> None:
    assert stack.run("agent", "rotate", FIRST).code == 2


def test_an_unknown_agent_is_an_input_error(stack: OperatorsStack, new: Path) -> None:
    assert stack.run("agent", "rotate", FIRST, "--credential-file", new).code == 2
