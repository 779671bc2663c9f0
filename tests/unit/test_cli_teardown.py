"""`jobgate teardown`: what goes, in which order, what stays, and runs that break off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.aws_api import AWSError
from jobgate.cli import registration
from jobgate.cli.inputs import CredentialFile
from jobgate.cli.registry import Registry
from jobgate.cli.stored_secrets import change_entry
from jobgate.core.agent import EKSCredential
from jobgate.ports.gitlab import GitLabProject
from moto import mock_aws

from tests.support import builders as b
from tests.support.operators_stack import NOW, TABLE, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOK = {"id": "e", "secret_token": "canary", "scope": {"kind": "group", "id": 7}}
PROJECT = GitLabProject(
    project_id=50,
    path="top/agents",
    default_branch="main",
    namespace_id=1,
    namespace_path="top",
    namespace_kind="group",
)


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    """A deployment in use: an issuer, an agent with a token, and one of EKS."""
    with mock_aws():
        stack = OperatorsStack.deploy()
        stack.json("setup")
        registry = Registry(stack.table)
        registry.prepare_issuer(b.an_issuer(), now=NOW)
        registry.save_issuer(b.an_issuer())
        register(stack, "prod", CredentialFile("token", {"token": "canary"}))
        register(stack, "eks", EKSCredential(cluster="c", region="eu-central-1"))
        yield stack


def register(stack: OperatorsStack, name: str, credential: CredentialFile | EKSCredential) -> int:
    agent = registration.NewAgent(
        issuer="main",
        project=PROJECT,
        name=name,
        server="https://k8s.example.test:6443",
        ca=None,
    )
    agent_id = registration.reserve(stack.table, agent)
    registration.register(
        stack.real, stack.stack, stack.table, agent, agent_id, credentials=(credential, None)
    )
    return agent_id


def secrets(stack: OperatorsStack) -> list[str]:
    listed = stack.real("secretsmanager", "ListSecrets", {})["SecretList"]
    return sorted(each["Name"] for each in listed)


def is_there(stack: OperatorsStack) -> bool:
    try:
        stack.table.id()
    except AWSError:
        return False
    return True


def key_states(stack: OperatorsStack) -> set[str]:
    keys = (stack.outputs["SigningKeyAArn"], stack.outputs["SigningKeyBArn"])
    found = (stack.real("kms", "DescribeKey", {"KeyId": key}) for key in keys)
    return {each["KeyMetadata"]["KeyState"] for each in found}


def lefts(answer: Any) -> str:
    return "\n".join(each["what"] for each in answer["left"])


def test_without_yes_nothing_goes_and_the_plan_is_told(stack: OperatorsStack) -> None:
    before = secrets(stack)

    answer = stack.run("teardown", "--with-state")

    assert (answer.code, "--yes" in answer.err) == (4, True)
    assert "Removes the stack 'jg'" in answer.out
    assert f"Removes the table {TABLE}" in answer.out
    assert (secrets(stack), stack.status, is_there(stack)) == (before, "CREATE_COMPLETE", True)
    changing = {"DeleteStack", "DeleteTable", "DeleteSecret", "ScheduleKeyDeletion", "UpdateTable"}
    assert not changing & {operation for _, operation in stack.calls}


def test_the_stack_and_the_clusters_credentials_go_and_state_stays(stack: OperatorsStack) -> None:
    told = stack.json("teardown", "--yes")

    assert stack.status == "DELETE_COMPLETE"
    assert told["secrets"] == ["jobgate/jg/cluster/main/1000000001/relay"]
    assert secrets(stack) == ["hooks", "keep", "status", "tokens"]
    assert is_there(stack)
    assert key_states(stack) == {"Enabled"}
    left = lefts(told)
    assert f"the table {TABLE}" in left
    assert stack.outputs["SigningKeyAArn"] in left
    assert stack.outputs["SigningKeyBArn"] in left
    assert "the accounts of agent 1000000001 at https://k8s.example.test:6443" in left
    assert "the access entry of agent 1000000002" in left
    assert "tokens that were stored" in left


def test_with_state_the_table_goes_and_the_keys_are_to_go(stack: OperatorsStack) -> None:
    told = stack.json("teardown", "--yes", "--with-state")

    assert not is_there(stack)
    assert key_states(stack) == {"PendingDeletion"}
    assert f"the table {TABLE}" not in lefts(told)
    assert "until they are deleted in 30 days" in lefts(told)


CHANGES = {
    12: "DeleteSecret",
    14: "UpdateTable",
    15: "DeleteTable",
    17: "ScheduleKeyDeletion",
    19: "ScheduleKeyDeletion",
    21: "DeleteStack",
}


def test_every_call_that_changes_something_is_known(stack: OperatorsStack) -> None:
    assert stack.run("teardown", "--yes", "--with-state").code == 0
    made = {n: name for n, (_, name) in enumerate(stack.calls, start=1)}
    changing = set(CHANGES.values())
    assert {n: name for n, name in made.items() if name in changing} == CHANGES


@pytest.mark.parametrize("survived", [11, *CHANGES][:-1])
def test_a_run_that_breaks_off_is_completed_by_another(
    stack: OperatorsStack, survived: int
) -> None:
    stack.break_after = survived
    assert stack.run("teardown", "--yes", "--with-state").code == 3
    stack.break_after = None

    if stack.status != "DELETE_COMPLETE":
        assert stack.run("teardown", "--yes", "--with-state").code == 0

    assert stack.status == "DELETE_COMPLETE"
    assert secrets(stack) == ["hooks", "keep", "status", "tokens"]
    assert not is_there(stack)
    assert key_states(stack) == {"PendingDeletion"}


def test_a_stack_that_cannot_be_deleted_is_told_with_the_reason(stack: OperatorsStack) -> None:
    stack.status_of_deletion = "DELETE_FAILED"

    answer = stack.run("teardown", "--yes")

    assert (answer.code, "couldn't delete the stack" in answer.err) == (3, True)


def test_a_deletion_that_goes_on_for_too_long_is_not_told_as_done(stack: OperatorsStack) -> None:
    stack.status_of_deletion = "DELETE_IN_PROGRESS"

    def meanwhile() -> None:
        stack.now += 1200

    stack.meanwhile = meanwhile
    answer = stack.run("teardown", "--yes")

    assert (answer.code, "still being deleted" in answer.err) == (3, True)


def test_webhooks_need_the_set_up_token_or_to_be_kept(stack: OperatorsStack) -> None:
    change_entry(stack.real, "hooks", "main", [HOOK])

    refused = stack.run("teardown", "--yes")
    assert (refused.code, "GITLAB_TOKEN" in refused.err) == (2, True)
    assert (stack.status, stack.secret("hooks")) == ("CREATE_COMPLETE", {"main": [HOOK]})

    told = stack.json("teardown", "--yes", "--keep-hooks")
    assert "the webhook of group 7 of 'main'" in lefts(told)
    assert told["hooks"] == []


def test_a_stack_that_is_gone_is_no_stack(stack: OperatorsStack) -> None:
    stack.json("teardown", "--yes")

    again = stack.run("teardown", "--yes")

    assert (again.code, "no stack 'jg'" in again.err) == (2, True)
