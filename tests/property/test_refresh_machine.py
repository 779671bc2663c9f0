"""The refresh's state machine, on the in-memory store and on DynamoDB by moto."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from jobgate.adapters import agent_items
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from moto import mock_aws

from local.aws.emulator import REGION
from tests.support import builders as b
from tests.support.refresh_machine import RefreshMachine
from tests.support.stores import boto_call, create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.ports.refresh import ConfigProjectItem, RefreshStore

_numbers = itertools.count(1)


@pytest.fixture
def call() -> Iterator[AWSCall]:
    with mock_aws():
        yield boto_call({"AWS_DEFAULT_REGION": REGION})


def on_dynamodb(call: AWSCall) -> type[RefreshMachine]:
    """The machine with a table of its own for each run."""

    class OnDynamoDB(RefreshMachine):
        def make_store(self, project: ConfigProjectItem) -> RefreshStore:
            table = f"table-{next(_numbers)}"
            create_table(call, table)
            for item in (
                agent_items.config_project_item(project),
                agent_items.cluster_item(b.a_cluster()),
            ):
                call("dynamodb", "PutItem", {"TableName": table, "Item": item})
            return DynamoDBRefreshStore(call, table)

    return OnDynamoDB


def run(machine: type[RefreshMachine], *, examples: int, steps: int) -> None:
    given: Any = settings(max_examples=examples, stateful_step_count=steps)
    run_state_machine_as_test(machine, settings=given)  # type: ignore[no-untyped-call]  # hypothesis


def test_refreshes_hold_their_invariants_in_memory() -> None:
    run(RefreshMachine, examples=150, steps=30)


def test_refreshes_hold_their_invariants_on_dynamodb(call: AWSCall) -> None:
    run(on_dynamodb(call), examples=10, steps=20)


@pytest.mark.parametrize("at", range(1, 26))
def test_a_slow_refresh_a_fast_one_and_a_late_removal(at: int) -> None:
    machine = RefreshMachine()
    machine.push(frozenset({"a", "b"}))
    machine.message_is_taken()
    check(machine)
    machine.push(frozenset({"a"}))
    machine.slow_refresh_is_overtaken(at, frozenset({"a", "b", "c"}))
    check(machine)
    machine.message_is_taken()
    check(machine)
    machine.quiet()
    check(machine)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_refreshes_hold_their_invariants_for_long_in_memory() -> None:
    run(RefreshMachine, examples=3000, steps=60)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_refreshes_hold_their_invariants_for_long_on_dynamodb(call: AWSCall) -> None:
    run(on_dynamodb(call), examples=200, steps=40)


def check(machine: RefreshMachine) -> None:
    machine.versions_never_go_back()
    machine.index_is_a_superset()
    machine.nobody_has_what_neither_the_last_good_nor_the_head_grants()
    machine.who_took_over_a_path_has_nothing()
    machine.who_had_an_entry_of_its_own_has_one()
