"""The table in memory does what moto's does, and counts as AWS's pages say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.adapters.exchange_counts import DynamoDBExchangeCounter, DynamoDBRedeemedTokens
from jobgate.adapters.job_states import DynamoDBJobStates
from jobgate.adapters.place_store import DynamoDBPlaces
from jobgate.core.bounds import Bounds
from moto import mock_aws

from tests.support import builders as b
from tests.support.fakes import FakeClock
from tests.support.metered_aws import MeteredAWS, size
from tests.support.stores import TABLE, create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall


@pytest.fixture
def moto() -> Iterator[AWSCall]:
    with mock_aws():
        call = BotoAWS(boto3.Session("a", "b", region_name="eu-central-1"))
        create_table(call)
        yield call


@pytest.fixture
def metered() -> MeteredAWS:
    return MeteredAWS(TABLE, clock=FakeClock())


def everything(call: AWSCall) -> list[Any]:
    """Each conditional write of a decision and of an event, where it holds and where it doesn't."""
    clock = FakeClock()
    jobs = DynamoDBJobStates(call, TABLE, bounds=Bounds(), clock=clock)
    places = DynamoDBPlaces(call, TABLE)
    counter = DynamoDBExchangeCounter(call, TABLE)
    redeemed = DynamoDBRedeemedTokens(call, TABLE)
    job = b.a_job().key
    return [
        jobs.ask(job, now=b.NOW),
        jobs.ask(job, now=b.NOW + 1),
        jobs.put(job, b.a_state(source="probe")),
        jobs.put(job, b.a_state("success", finished_at=b.NOW)),
        jobs.put(job, b.a_state()),
        jobs.ask(job, now=b.NOW + 1000),
        jobs.get(job),
        places.mark_place("main", b.APP, at=b.NOW),
        places.save_place("main", b.APP, b.a_place(fetched_at=b.NOW + 1)),
        places.mark_place("main", b.APP, at=b.NOW + 2),
        places.save_place("main", b.APP, b.a_place(fetched_at=b.NOW + 1)),
        places.place("main", b.APP),
        [counter.count("main", 1, window=1, limit=2, ends_at=b.NOW) for _ in range(3)],
        [redeemed.claim("main", "jti", expires_at=b.NOW) for _ in range(2)],
    ]


def test_what_is_written_under_a_condition_is_what_moto_writes(
    moto: AWSCall, metered: MeteredAWS
) -> None:
    assert everything(metered) == everything(moto)
    stored = moto("dynamodb", "Scan", {"TableName": TABLE})["Items"]
    assert all(metered.item(item) == item for item in stored)
    assert len(stored) == 4


def put(metered: MeteredAWS, **attributes: Any) -> float:
    item = items.key("P", "s") | attributes
    used = metered.start()
    metered("dynamodb", "PutItem", {"Item": item})
    return used.writes


@pytest.mark.parametrize(
    ("length", "reads", "writes"),
    [(1, 1, 1), (1017, 1, 1), (1018, 1, 2), (4089, 1, 4), (4090, 2, 5)],
)
def test_an_item_costs_a_unit_for_each_started_kilobyte_and_four(
    metered: MeteredAWS, length: int, reads: int, writes: int
) -> None:
    # The names, and the values of the key, are seven bytes.
    assert put(metered, b={"S": "x" * length}) == writes
    key = items.key("P", "s")
    for consistent, share in ((True, 1), (False, 0.5)):
        used = metered.start()
        metered("dynamodb", "GetItem", {"Key": key, "ConsistentRead": consistent})
        assert used.reads == reads * share


def test_what_is_not_there_costs_a_read_too(metered: MeteredAWS) -> None:
    keys = [items.key("P", str(n)) for n in range(3)]
    used = metered.start()

    metered("dynamodb", "BatchGetItem", {"RequestItems": {TABLE: {"Keys": keys}}})

    assert (used.reads, used.calls["dynamodb", "BatchGetItem"]) == (1.5, 1)


def test_a_write_that_is_refused_costs_what_it_would_have(metered: MeteredAWS) -> None:
    put(metered)
    used = metered.start()

    with pytest.raises(AWSError):
        metered(
            "dynamodb",
            "PutItem",
            {"Item": items.key("P", "s"), "ConditionExpression": "attribute_not_exists(pk)"},
        )

    assert used.writes == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"S": "ä"}, 2),
        ({"N": "123456"}, 5),
        ({"BOOL": True}, 1),
        ({"B": b"123"}, 3),
        ({"M": {"a": {"S": "b"}}}, 6),
        ({"L": [{"S": "b"}]}, 5),
        ({"NS": ["1", "22"]}, 3),
    ],
)
def test_an_items_size_is_that_of_its_names_and_values(
    value: dict[str, Any], expected: int
) -> None:
    assert size({"n": value}) == 1 + expected
