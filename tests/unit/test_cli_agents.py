"""Registering and removing agents on real items: ids, order of writes, and runs that break off."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from jobgate.cli import agent_ids, registration
from jobgate.cli.errors import Refused
from jobgate.cli.inputs import CredentialFile
from jobgate.cli.registry import Registry
from jobgate.core.agent import AgentSnapshot, ConfigProject, Entry, Problem
from jobgate.core.errors import Conflict, Unavailable
from jobgate.core.issuer import Issuer
from jobgate.ports.gitlab import GitLabProject
from jobgate.ports.refresh import Subject
from moto import mock_aws

from tests.support.operators_stack import NOW, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST = 1_000_000_001
ISSUER = Issuer(
    alias="main",
    url="https://gitlab.example.test",
    base_url="https://gitlab.example.test",
    audience="https://jobs.example.test",
    ca=None,
    is_default=True,
)
PROJECT = GitLabProject(
    project_id=50,
    path="Top/agents",
    default_branch="main",
    namespace_id=1,
    namespace_path="Top",
    namespace_kind="group",
)
TOKEN = CredentialFile("token", {"token": "canary-relay"})
NEW = registration.NewAgent(
    issuer="main",
    project=PROJECT,
    name="prod",
    server="https://k8s.example.test:6443",
    ca=None,
)
BOTH = (TOKEN, CredentialFile("token", {"token": "canary-agent"}))


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    with mock_aws():
        yield OperatorsStack.trusting(ISSUER)


def register(
    stack: OperatorsStack,
    agent: registration.NewAgent = NEW,
    credentials: tuple[CredentialFile, registration.Given | None] = BOTH,
) -> int:
    table = stack.breakable_table
    described = stack.stack
    agent_id = registration.reserve(table, agent)
    registration.register(stack, described, table, agent, agent_id, credentials=credentials)
    return agent_id


def remove(stack: OperatorsStack, agent_id: int = FIRST) -> None:
    registration.remove(
        stack,
        stack.stack,
        stack.breakable_table,
        issuer="main",
        agent_id=agent_id,
        of=(50, "prod"),
    )


def listed(stack: OperatorsStack) -> dict[int, str]:
    project = registration.config_project(stack.table, "main", 50)
    return {} if project is None else dict(project.agents)


def indexed(stack: OperatorsStack, kind: str = "project", subject_id: int = 50) -> frozenset[int]:
    return items.agents_of(stack.table.get(items.subject_key("main", kind, subject_id)))


def a_snapshot(stack: OperatorsStack) -> AgentSnapshot:
    return AgentSnapshot(
        issuer="main",
        agent_id=FIRST,
        agent_name="prod",
        version=1,
        commit="c0ffee",
        valid=True,
        config_project=ConfigProject(project_id=50, path="Top/agents", namespace_id=1, root_id=1),
        projects={100: Entry(path="top/app")},
        groups={7: Entry(path="top/sub")},
    )


# --- Ids ---


def test_own_ids_start_above_gitlabs_and_only_grow(stack: OperatorsStack) -> None:
    assert register(stack) == FIRST
    assert register(stack, replace(NEW, name="staging")) == FIRST + 1


def test_removed_id_never_comes_back(stack: OperatorsStack) -> None:
    register(stack)
    remove(stack)
    assert register(stack) == FIRST + 1


def test_taken_over_id_never_comes_back(stack: OperatorsStack) -> None:
    assert register(stack, replace(NEW, wanted_id=7)) == 7
    remove(stack, 7)
    with pytest.raises(Refused):
        register(stack, replace(NEW, wanted_id=7))


def test_taken_over_id_is_refused_to_a_second_agent(stack: OperatorsStack) -> None:
    register(stack, replace(NEW, wanted_id=7))
    with pytest.raises(Refused):
        register(stack, replace(NEW, name="staging", wanted_id=7))
    assert listed(stack) == {7: "prod"}


def test_name_is_unique_in_its_project_alone(stack: OperatorsStack) -> None:
    register(stack)
    assert register(stack) == FIRST
    elsewhere = replace(NEW, project=replace(PROJECT, project_id=51))
    assert register(stack, elsewhere) == FIRST + 1


def test_registered_agent_cannot_be_given_another_id(stack: OperatorsStack) -> None:
    register(stack)
    with pytest.raises(Refused, match=str(FIRST)):
        register(stack, replace(NEW, wanted_id=9))


def test_two_operators_at_once_get_one_id(stack: OperatorsStack) -> None:
    reserved = agent_ids.reserve(stack.table, "main", project_id=50, name="prod", wanted=None)
    # The other's read was older than that write: its own conditional write finds the name taken.
    with pytest.raises(Conflict):
        agent_ids._allocate(stack.table, "main", "50/prod", None)
    assert agent_ids.reserve(stack.table, "main", project_id=50, name="prod", wanted=None) == (
        reserved
    )


def test_ids_without_a_counter_are_unknown(stack: OperatorsStack) -> None:
    with pytest.raises(Unavailable):
        register(stack, replace(NEW, issuer="other"))


# --- What is written ---


def test_registered_agent_has_all_that_a_refresh_and_the_relay_need(stack: OperatorsStack) -> None:
    register(stack)
    cluster = agent_items.cluster_of(stack.table.get(items.cluster_key("main", FIRST)))
    assert cluster is not None
    assert (cluster.agent_name, cluster.config_project_id) == ("prod", 50)
    assert stack.secret(cluster.relay_credential.secret) == {"token": "canary-relay"}
    assert cluster.agent_credential is not None
    assert stack.secret(cluster.agent_credential.secret) == {"token": "canary-agent"}
    assert cluster.relay_credential.secret == f"jobgate/jg/cluster/main/{FIRST}/relay"
    assert (listed(stack), indexed(stack)) == ({FIRST: "prod"}, {FIRST})


def test_project_is_a_known_root_from_its_first_agent_on(stack: OperatorsStack) -> None:
    register(stack)
    project = registration.config_project(stack.table, "main", 50)
    assert project is not None
    assert project.root_path == "top"


def test_agent_without_a_credential_of_its_own_has_none(stack: OperatorsStack) -> None:
    register(stack, credentials=(TOKEN, None))
    cluster = agent_items.cluster_of(stack.table.get(items.cluster_key("main", FIRST)))
    assert cluster is not None
    assert cluster.agent_credential is None
    assert stack.secret(f"jobgate/jg/cluster/main/{FIRST}/agent") is None


def test_second_agent_of_a_project_leaves_the_first_and_its_refresh_alone(
    stack: OperatorsStack,
) -> None:
    register(stack)
    store = DynamoDBRefreshStore(stack.real, "table")
    store.note_refresh("main", 50, root_path="top", commit="c0ffee", error=None, at=1.0)
    register(stack, replace(NEW, name="staging"))
    project = registration.config_project(stack.table, "main", 50)
    assert project is not None
    assert project.last_commit == "c0ffee"
    assert project.agents == {FIRST: "prod", FIRST + 1: "staging"}


# --- Runs that break off ---


def calls_of_a_registration() -> int:
    with mock_aws():
        stack = OperatorsStack.deploy()
        Registry(stack.table).prepare_issuer(ISSUER, now=NOW)
        stack.calls.clear()
        register(stack)
        return len(stack.calls)


@pytest.mark.parametrize("survived", range(1, 10))
def test_registration_that_breaks_off_grants_nothing_and_completes(
    stack: OperatorsStack, survived: int
) -> None:
    stack.calls.clear()
    stack.break_after = survived
    with pytest.raises(AWSError):
        register(stack)
    assert listed(stack) == {}
    stack.break_after = None
    assert register(stack) == FIRST
    assert (listed(stack), indexed(stack)) == ({FIRST: "prod"}, {FIRST})
    assert stack.secret(f"jobgate/jg/cluster/main/{FIRST}/agent") == {"token": "canary-agent"}


def test_every_break_of_a_registration_is_tried() -> None:
    # One describes the stack, one reads its settings, two reserve the id, one looks which server
    # is connected, one writes the connection, two the secrets, one the index, two the configuration
    # project.
    assert calls_of_a_registration() == 11


def test_broken_registration_is_not_completed_for_another_cluster(stack: OperatorsStack) -> None:
    stack.calls.clear()
    stack.break_after = 7
    with pytest.raises(AWSError):
        register(stack)
    stack.break_after = None
    other = CredentialFile("token", {"token": "other"})
    with pytest.raises(Refused):
        register(stack, replace(NEW, server="https://other.test"), (other, None))
    assert stack.secret(f"jobgate/jg/cluster/main/{FIRST}/relay") != {"token": "other"}


def test_a_registered_agents_other_server_is_refused_where_it_is_stored_too(
    stack: OperatorsStack,
) -> None:
    agent_id = register(stack)
    other = replace(NEW, server="https://other.test")
    with pytest.raises(Refused):
        registration.register(
            stack, stack.stack, stack.table, other, agent_id, credentials=(BOTH[1], None)
        )
    assert stack.secret(f"jobgate/jg/cluster/main/{FIRST}/relay") == {"token": "canary-relay"}


def test_second_registration_replaces_what_the_connection_says(stack: OperatorsStack) -> None:
    register(stack)
    renewed = CredentialFile("token", {"token": "canary-renewed"})
    changed = replace(NEW, tls_server_name="k8s.example.test")
    assert register(stack, changed, (renewed, None)) == FIRST
    cluster = agent_items.cluster_of(stack.table.get(items.cluster_key("main", FIRST)))
    assert cluster is not None
    assert (cluster.tls_server_name, cluster.agent_credential) == ("k8s.example.test", None)
    assert stack.secret(f"jobgate/jg/cluster/main/{FIRST}/relay") == {"token": "canary-renewed"}
    assert stack.secret(f"jobgate/jg/cluster/main/{FIRST}/agent") is None


@pytest.mark.parametrize("survived", range(1, 12))
def test_repair_that_breaks_off_leaves_the_agent_at_work_and_completes(
    stack: OperatorsStack, survived: int
) -> None:
    register(stack)
    renewed = CredentialFile("token", {"token": "canary-renewed"})
    stack.calls.clear()
    stack.break_after = survived
    with contextlib.suppress(AWSError):
        register(stack, credentials=(renewed, BOTH[1]))
    stack.break_after = None
    secret = f"jobgate/jg/cluster/main/{FIRST}/relay"
    assert stack.secret(secret)["token"] in ("canary-relay", "canary-renewed")
    assert listed(stack) == {FIRST: "prod"}
    assert register(stack, credentials=(renewed, BOTH[1])) == FIRST
    assert stack.secret(secret) == {"token": "canary-renewed"}


@pytest.mark.parametrize("survived", range(1, 16))
def test_removal_that_breaks_off_is_completed_by_another(
    stack: OperatorsStack, survived: int
) -> None:
    register(stack)
    publish(stack)
    stack.calls.clear()
    stack.break_after = survived
    with pytest.raises(AWSError):
        remove(stack)
    stack.break_after = None
    remove(stack)
    assert_gone(stack)


def test_removed_agent_leaves_only_its_tombstone(stack: OperatorsStack) -> None:
    register(stack)
    publish(stack)
    remove(stack)
    assert_gone(stack)
    ids = agent_ids.read(stack.table.get(items.agent_ids_key("main")))
    assert ids.is_tombstone(FIRST)
    assert not ids.is_tombstone(FIRST + 1)


def test_removing_one_agent_leaves_its_projects_others(stack: OperatorsStack) -> None:
    register(stack)
    register(stack, replace(NEW, name="staging"))
    remove(stack)
    assert (listed(stack), indexed(stack)) == ({FIRST + 1: "staging"}, {FIRST + 1})


def publish(stack: OperatorsStack) -> None:
    stack.table.put(agent_items.snapshot_item(a_snapshot(stack)))
    # The last is what a killed refresh has left.
    subjects = [Subject("project", 100), Subject("group", 7), Subject("project", 300)]
    store = DynamoDBRefreshStore(stack.real, "table")
    store.add_to_index({subject: [a_snapshot(stack)] for subject in subjects})


def assert_gone(stack: OperatorsStack) -> None:
    assert registration.config_project(stack.table, "main", 50) is None
    assert stack.table.get(items.cluster_key("main", FIRST)) is None
    assert stack.table.get(items.snapshot_key("main", FIRST)) is None
    assert stack.secret(f"jobgate/jg/cluster/main/{FIRST}/relay") is None
    assert stack.secret(f"jobgate/jg/cluster/main/{FIRST}/agent") is None
    assert stack.table.get(items.list_key("main", FIRST)) is None
    for kind, subject_id in (("project", 50), ("project", 100), ("group", 7), ("project", 300)):
        assert indexed(stack, kind, subject_id) == frozenset()


def test_clusters_credentials_are_encrypted_with_the_stack_s_own_key(
    stack: OperatorsStack,
) -> None:
    register(stack)
    without = keys_of_secrets(stack)
    made = stack.real("kms", "CreateKey", {})["KeyMetadata"]["Arn"]
    stack.outputs = {**stack.outputs, "DataKeyArn": made}

    register(stack)
    changed = keys_of_secrets(stack)
    register(stack, replace(NEW, name="later"))

    assert without == [None, None]
    assert changed == [made, made]
    assert keys_of_secrets(stack, FIRST + 1) == [made, made]


def keys_of_secrets(stack: OperatorsStack, agent_id: int = FIRST) -> list[str | None]:
    """The customer's key of each of an agent's two secrets."""
    named = [f"jobgate/jg/cluster/main/{agent_id}/{name}" for name in ("relay", "agent")]
    secrets = [stack.real("secretsmanager", "DescribeSecret", {"SecretId": n}) for n in named]
    return [secret.get("KmsKeyId") for secret in secrets]


# --- Commands ---


def test_list_tells_unfinished_from_registered_agents(stack: OperatorsStack) -> None:
    register(stack)
    publish(stack)
    agent_ids.reserve(stack.table, "main", project_id=51, name="lost", wanted=None)
    rows = stack.json("agent", "list")
    assert [(r["id"], r["context"], r["state"]) for r in rows] == [
        (FIRST, "Top/agents:prod", "active"),
        (FIRST + 1, "project 51:lost", "unfinished"),
    ]


def test_show_tells_the_connection_and_no_secret(stack: OperatorsStack) -> None:
    register(stack)
    publish(stack)
    for answer in (stack.run("agent", "show", FIRST), stack.run("agent", "show", FIRST, "--json")):
        assert answer.code == 0
        assert "https://k8s.example.test:6443" in answer.out
        assert "canary" not in answer.out + answer.err
    shown = stack.json("agent", "show", FIRST)
    assert shown["snapshot"] == {
        "commit": "c0ffee",
        "version": 1,
        "valid": True,
        "valid_since": None,
        "projects": 1,
        "groups": 1,
        "instance": False,
        "problems": [],
    }


def test_show_tells_since_when_a_configuration_counts(stack: OperatorsStack) -> None:
    register(stack)
    since = replace(a_snapshot(stack), valid_since=1_790_000_000.5)
    stack.table.put(agent_items.snapshot_item(since))

    shown = stack.json("agent", "show", FIRST)

    assert shown["snapshot"]["valid_since"] == "2026-09-21T14:13:20+00:00"
    assert "2026-09-21T14:13:20+00:00" in stack.run("agent", "show", FIRST).out


def test_show_tells_each_problem_with_its_place_and_its_fix(stack: OperatorsStack) -> None:
    register(stack)
    problem = Problem(
        code="not_found", file="c.yaml", line=3, column=7, text="top/gone", fix="Correct it."
    )
    stack.table.put(agent_items.snapshot_item(replace(a_snapshot(stack), problems=(problem,))))

    shown = stack.json("agent", "show", FIRST)

    assert shown["snapshot"]["problems"] == [
        {
            "code": "not_found",
            "file": "c.yaml",
            "line": 3,
            "column": 7,
            "text": "top/gone",
            "fix": "Correct it.",
        }
    ]
    line = "c.yaml:3:7: not_found: top/gone. Correct it."
    assert line in stack.run("agent", "show", FIRST).out.splitlines()


@pytest.mark.parametrize("allowed", [True, False])
def test_show_tells_whether_clients_may_impersonate(
    stack: OperatorsStack, *, allowed: bool
) -> None:
    register(stack, replace(NEW, allow_client_impersonation=allowed))

    shown = stack.json("agent", "show", FIRST)

    assert shown["connection"]["client_impersonation"] is allowed


def test_agent_before_its_first_refresh_is_shown_so(stack: OperatorsStack) -> None:
    register(stack)
    shown = stack.json("agent", "show", FIRST)
    assert (shown["state"], shown["snapshot"]) == ("not refreshed yet", None)


def test_remove_by_id_needs_no_gitlab(stack: OperatorsStack) -> None:
    register(stack)
    assert stack.json("agent", "remove", FIRST)["removed"] is True
    again = stack.run("agent", "remove", FIRST)
    assert (again.code, again.err) == (2, f"jobgate: The agent {FIRST} was removed.\n")


@pytest.mark.parametrize("reference", ["5", "prod", ":prod", "٣"])
def test_reference_to_no_agent_is_an_input_error(stack: OperatorsStack, reference: str) -> None:
    assert stack.run("agent", "show", reference).code == 2


def test_unknown_issuer_is_an_input_error(stack: OperatorsStack) -> None:
    assert stack.run("agent", "show", "5", "--issuer", "other").code == 2


def test_issuer_with_agents_is_not_removed(stack: OperatorsStack) -> None:
    register(stack)
    assert stack.run("issuer", "remove", "main").code == 4
    assert [i["alias"] for i in stack.json("issuer", "list")] == ["main"]


def test_removed_issuer_keeps_its_ids_and_stops(stack: OperatorsStack) -> None:
    register(stack)
    remove(stack)
    stack.json("issuer", "remove", "main")
    assert stack.json("issuer", "list") == []
    Registry(stack.table).prepare_issuer(ISSUER, now=NOW)
    assert register(stack) == FIRST + 1
    assert operator_items.stops_of(stack.table.get(operator_items.stops_key("main"))) == ()


def test_alias_never_stands_for_another_instance(stack: OperatorsStack) -> None:
    stack.json("issuer", "remove", "main")
    with pytest.raises(Refused, match="for ever"):
        Registry(stack.table).prepare_issuer(replace(ISSUER, url="https://other.test"), now=NOW)
