"""Which projects were given a webhook, in a table of moto's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from jobgate.adapters import hook_items
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.adapters.made_hooks import DynamoDBMadeHooks
from jobgate.core.errors import Conflict
from jobgate.core.hook import Due, HookMade, HookWrite, due
from moto import mock_aws

from tests.support.stores import create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_800_000_000.0
ADDRESS = "https://api.example.test/webhooks/gitlab/main"
DAY, HOUR = 86_400, 3_600


@pytest.fixture
def aws() -> Iterator[BotoAWS]:
    with mock_aws():
        call = BotoAWS(boto3.Session("a", "b", region_name="eu-central-1"))
        create_table(call, "table")
        yield call


@pytest.fixture
def hooks(aws: BotoAWS) -> DynamoDBMadeHooks:
    return DynamoDBMadeHooks(aws, "table")


def test_what_was_noted_is_read_back_until_it_is_forgotten(hooks: DynamoDBMadeHooks) -> None:
    write = HookWrite(NOW, "e1")
    begun = HookMade().begun(write)
    hooks.note("main", 42, begun)
    assert hooks.made("main") == {42: begun}

    finished = begun.finished(write, ADDRESS, now=NOW + 1)
    hooks.note("main", 42, finished)

    assert hooks.made("main") == {42: finished}
    assert hooks.made("other") == {}
    hooks.forget("main", 42)
    assert hooks.made("main") == {}


def test_of_two_who_have_read_the_same_the_second_is_refused(hooks: DynamoDBMadeHooks) -> None:
    first, second = (HookMade().begun(HookWrite(NOW, entry)) for entry in ("e1", "e2"))
    hooks.note("main", 42, first)
    for late in (second, first):
        with pytest.raises(Conflict):
            hooks.note("main", 42, late)
    hooks.note("main", 42, first.begun(HookWrite(NOW, "e2")))
    with pytest.raises(Conflict):
        hooks.note("main", 42, first.finished(HookWrite(NOW, "e1"), ADDRESS, now=NOW))
    assert hooks.made("main")[42].entries == {"e1", "e2"}


def test_an_item_from_before_writes_were_noted_is_read_and_written(
    aws: BotoAWS, hooks: DynamoDBMadeHooks
) -> None:
    old = {"v": {"N": "1"}, "entry_id": {"S": "e1"}, "made_at": {"N": "1799999999.0"}}
    item = hook_items.hook_made_key("main", 42) | old
    aws("dynamodb", "PutItem", {"TableName": "table", "Item": item})

    (made,) = hooks.made("main").values()

    assert made == HookMade(entry_id="e1", at=1_799_999_999.0)
    hooks.note("main", 42, made.begun(HookWrite(NOW, "e2")))
    assert hooks.made("main")[42].entries == {"e1", "e2"}


def test_an_archived_projects_webhook_has_no_secrets_any_more(hooks: DynamoDBMadeHooks) -> None:
    made = HookMade(entry_id="e1", at=NOW, address=ADDRESS, revision=1)
    found = made.begun(HookWrite(NOW, "e2")).found_archived(now=NOW)
    hooks.note("main", 42, made)
    with pytest.raises(Conflict):  # two changes on
        hooks.note("main", 42, found)
    assert (found.entries, found.archived, found.revision) == (frozenset(), True, 3)


GOOD = HookMade(entry_id="e1", at=NOW, address=ADDRESS, revision=2)
ARCHIVED = HookMade(at=NOW, archived=True)
UNFINISHED = GOOD.begun(HookWrite(NOW, "e1"))


@pytest.mark.parametrize(
    ("made", "later", "why"),
    [
        (None, 0, Due.NEW),
        (HookMade(revision=2), 0, Due.AGAIN),
        (HookMade().begun(HookWrite(NOW, "e1")), 0, Due.AGAIN),
        (GOOD, 0, None),
        (GOOD, DAY - 1, None),
        (GOOD, DAY, Due.AGAIN),
        (GOOD, -1, Due.AGAIN),
        (HookMade(entry_id="e0", at=NOW, address=ADDRESS), 0, Due.CHANGED),
        (HookMade(entry_id="e1", at=NOW, address="https://x/"), 0, Due.CHANGED),
        (HookMade(entry_id="e1", at=NOW), 0, Due.CHANGED),
        (UNFINISHED, 119, None),
        (UNFINISHED, 120, Due.CHANGED),
        (ARCHIVED, HOUR - 1, None),
        (ARCHIVED, HOUR, Due.AGAIN),
    ],
)
def test_why_a_webhook_is_to_be_written(made: HookMade | None, later: float, why: Due) -> None:
    assert due(made, "e1", ADDRESS, now=NOW + later) is why
