"""Each item of an exchange missing, each key of it unprocessed: a row each, none opens more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobgate.usecases.exchange import Exchanged
from jobgate.usecases.presented_token import Refused

from tests.support.deployments import CountingTable, ManyAgents

if TYPE_CHECKING:
    from collections.abc import Mapping

# One by the project's entry, one by its group's, one by the project's that the instance leads to.
BY_PROJECT, BY_GROUP, BY_INSTANCE = 10_000, 10_001, 10_002
ALL = {BY_PROJECT, BY_GROUP, BY_INSTANCE}

# What is left where this item is missing: agents, or the reason of a refusal.
MISSING: dict[str, set[int] | str] = {
    "SUBJECT#main#project#100": {BY_GROUP, BY_INSTANCE},
    "SUBJECT#main#group#1": {BY_PROJECT, BY_INSTANCE},
    "SUBJECT#main#group#2": ALL,  # there is none
    "SUBJECT#main#instance#0": {BY_PROJECT, BY_GROUP},
    "PROJECT#main#100": "chain_unknown",
    "NAMESPACE#main#2": {BY_PROJECT, BY_INSTANCE},
    "JOB#main#100#9001": ALL,  # nothing was heard of it: its token's life is short
    "STOPS#main": "stopped",
    "AGENT#main#10000": {BY_GROUP, BY_INSTANCE},
    "AGENT#main#10001": {BY_PROJECT, BY_INSTANCE},
    "AGENT#main#10002": {BY_PROJECT, BY_GROUP},
    "PROJECT#main#10000": {BY_GROUP, BY_INSTANCE},
    "PROJECT#main#10001": {BY_PROJECT, BY_INSTANCE},
    "PROJECT#main#10002": {BY_PROJECT, BY_GROUP},
}


class Deployment(ManyAgents):
    """Three agents, of whose items some are missing or are never processed."""

    def __init__(self, *, missing: str | None = None, unprocessed: str | None = None) -> None:
        super().__init__(agents=3, candidates=3)
        table = self.table
        table._items = {key: item for key, item in table._items.items() if key[0] != missing}
        if unprocessed is not None:
            self.table = self._replaced(Unprocessed(table, unprocessed))

    def _replaced(self, table: Unprocessed) -> CountingTable:
        for part in (
            self.exchange.decisions.store,
            self.exchange.decisions.lookups.store,  # type: ignore[attr-defined]  # the real one's
        ):
            part._call = table
        return self.table

    def outcome(self) -> set[int] | str:
        outcome = self.exchange.redeem("id-token.of.the-job")
        if isinstance(outcome, Refused):
            return str(outcome.reason)
        assert isinstance(outcome, Exchanged)
        return {grant.agent_id for grant in outcome.grants}


class Unprocessed:
    """An AWSCall that never processes the keys of one partition."""

    def __init__(self, table: CountingTable, partition: str) -> None:
        self._table = table
        self._partition = partition

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        ((name, asked),) = request["RequestItems"].items()
        left = [key for key in asked["Keys"] if key["pk"]["S"] == self._partition]
        kept = [key for key in asked["Keys"] if key["pk"]["S"] != self._partition]
        answer: dict[str, Any] = {"Responses": {name: []}}
        if kept:
            answer = self._table(service, operation, {"RequestItems": {name: {"Keys": kept}}})
        return {**answer, "UnprocessedKeys": {name: {"Keys": left}} if left else {}}


def test_with_everything_in_its_place_all_agents_let_the_job_in() -> None:
    assert Deployment().outcome() == ALL


def test_the_table_has_a_row_for_each_stored_item() -> None:
    stored = {key[0] for key in Deployment().table._items}

    assert MISSING.keys() - stored == {"SUBJECT#main#group#2"}
    assert stored <= MISSING.keys()


@pytest.mark.parametrize("partition", MISSING)
def test_a_missing_item_takes_away_and_never_gives(partition: str) -> None:
    outcome = Deployment(missing=partition).outcome()

    assert outcome == MISSING[partition]
    assert isinstance(outcome, str) or outcome <= ALL


@pytest.mark.parametrize("partition", MISSING)
def test_a_key_that_stays_unprocessed_denies_all(partition: str) -> None:
    assert Deployment(unprocessed=partition).outcome() == "job_unknown"
