"""What a round of the schedule costs where nothing has changed: reads, and not a single write."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from jobgate.adapters import agent_items
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from jobgate.core.settings import Settings
from jobgate.usecases.refresh import Refresh

from tests.support import builders as b
from tests.support.fakes import FakeClock
from tests.support.refresh_setting import APP_ENTRY, Setting
from tests.support.stores import TABLE, CountedCall

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall


@pytest.mark.parametrize("count", [1, 7])
def test_an_unchanged_head_costs_three_reads_an_agent_and_one_a_subject_and_no_write(
    call: AWSCall, count: int
) -> None:
    gitlab = Setting().gitlab
    agents = {1000 + number: f"a{number}" for number in range(count)}
    stored = [agent_items.config_project_item(b.a_config_project_item(agents))]
    stored += [agent_items.cluster_item(b.a_cluster(i, name=n)) for i, n in agents.items()]
    for item in stored:
        call("dynamodb", "PutItem", {"TableName": TABLE, "Item": item})
    gitlab.push(
        b.CONFIG_PROJECT, {f".gitlab/agents/{n}/config.yaml": APP_ENTRY for n in agents.values()}
    )
    counted = CountedCall(call)
    refresh = Refresh(
        gitlab_of=lambda _alias: gitlab,
        store=DynamoDBRefreshStore(counted, TABLE),
        recorder=lambda _line: None,
        settings=Settings(),
        clock=FakeClock(),
        pick=lambda _count: 0,
    )
    refresh.run("main", b.CONFIG_PROJECT)
    counted.operations.clear()
    gitlab.calls.clear()

    refresh.run("main", b.CONFIG_PROJECT)

    # The project before and after, each agent's connection and snapshot; all lists and all
    # subjects, a hundred at once.
    assert Counter(counted.operations) == {"GetItem": 2 + 2 * count, "BatchGetItem": 2}
    # The project and the groups above it, the head, the tree, each file; the shared target once.
    assert len(gitlab.calls) == 1 + 2 + 1 + 1 + count + 1
