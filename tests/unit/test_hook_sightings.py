from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import hook_items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.hook_sightings import DynamoDBHookSightings
from jobgate.core.errors import Unavailable
from jobgate.core.hook import HookScope, HookSeen
from jobgate.core.webhook import HookSecrets

from tests.support import builders as b

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP = HookScope("group", 7)


def a_hook(entry_id: str | None = "e1", scope: HookScope | None = GROUP) -> HookSecrets:
    return HookSecrets(secret_token="s", signing_token=None, entry_id=entry_id, scope=scope)


class Table:
    """Keeps what is put; `refusal` is raised instead."""

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.seen: list[HookSeen | None] = []

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        assert (service, operation) == ("dynamodb", "PutItem")
        if self.refusal is not None:
            raise self.refusal
        item = request["Item"]
        assert {n: item[n] for n in ("pk", "sk")} == hook_items.hook_seen_key("main", "group", 7)
        self.seen.append(hook_items.hook_seen_of(item))
        return {}


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def sightings(table: Table) -> DynamoDBHookSightings:
    return DynamoDBHookSightings(table, "table", log=lambda _line: None)


def test_a_hook_that_delivers_all_the_time_is_noted_once_a_minute(
    table: Table, sightings: DynamoDBHookSightings
) -> None:
    for seconds in (0, 1, 59, 60, 119, 120):
        sightings.note("main", a_hook(), at=b.NOW + seconds)

    assert table.seen == [HookSeen("e1", b.NOW + seconds) for seconds in (0, 60, 120)]


def test_fresh_secrets_are_noted_at_once(table: Table, sightings: DynamoDBHookSightings) -> None:
    sightings.note("main", a_hook(), at=b.NOW)
    sightings.note("main", a_hook("e2"), at=b.NOW + 1)

    assert table.seen == [HookSeen("e1", b.NOW), HookSeen("e2", b.NOW + 1)]


@pytest.mark.parametrize("refusal", [AWSError("Throttled"), Unavailable("away")])
def test_a_sighting_that_cannot_be_noted_stops_nothing_and_is_noted_the_next_time(
    table: Table, sightings: DynamoDBHookSightings, refusal: Exception
) -> None:
    table.refusal = refusal
    sightings.note("main", a_hook(), at=b.NOW)
    table.refusal = None

    sightings.note("main", a_hook(), at=b.NOW + 1)

    assert table.seen == [HookSeen("e1", b.NOW + 1)]


@pytest.mark.parametrize("hook", [a_hook(None), a_hook(scope=None)])
def test_secrets_that_were_stored_without_a_name_are_not_noted(
    table: Table, sightings: DynamoDBHookSightings, hook: HookSecrets
) -> None:
    sightings.note("main", hook, at=b.NOW)

    assert table.seen == []


@pytest.mark.parametrize("change", [{"v": {"N": "9"}}, {"entry_id": {}}, {"seen_at": {"N": "x"}}])
def test_a_sighting_of_another_form_is_unknown(change: dict[str, Any]) -> None:
    item = hook_items.hook_seen_item("main", "group", 7, HookSeen("e1", b.NOW)) | change

    with pytest.raises(Unavailable):
        hook_items.hook_seen_of(item)
