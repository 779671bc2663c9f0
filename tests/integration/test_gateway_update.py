"""An update of what is deployed, while requests come: as on AWS, none of them fails."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.gateway.settings import Settings
from local.process import wait_until
from tests.support.gateway import Client, query, start_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Client]:
    client = start_gateway(tmp_path)
    yield client
    client.gateway.stop()


def updated(client: Client, value: str) -> None:
    """Give each function's own variable another value."""
    file = client.gateway.logs.with_name("gateway.json")
    settings = Settings.from_json(json.loads(file.read_text()))
    functions = tuple(
        replace(function, environment={**function.environment, "OWN": value})
        for function in settings.functions
    )
    client.gateway.update(replace(settings, functions=functions))


def context(client: Client) -> tuple[str, int]:
    told = client.send("/stock/5" + query(do="context")).json()
    return told["environment"]["OWN"], told["pid"]


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_request_runs_on_in_what_it_began_in_and_the_next_one_meets_the_new(
    gateway: Client, tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as pool:
        meeting = query(do="meet", folder=tmp_path, me="began", other="go")
        waiting = pool.submit(gateway.send, "/stock/5" + meeting)
        wait_until((tmp_path / "began").exists, children=(), what="The request's worker")
        own, idle = context(gateway)
        assert own == "value"

        updated(gateway, "changed")

        own, new = context(gateway)
        assert own == "changed"
        assert not waiting.done()
        (tmp_path / "go").touch()
        reply = waiting.result()
    former = reply.json()["pid"]
    assert reply.status == 200
    assert len({former, idle, new}) == 3
    wait_until(lambda: gone(idle) and gone(former), children=(), what="The former workers' end")
    assert not gone(new)


def test_updates_under_load_fail_no_request(gateway: Client) -> None:
    with ThreadPoolExecutor() as pool:
        replies = [pool.submit(gateway.send, "/stock/5" + query(do="context")) for _ in range(5)]
        for value in ("second", "third", "fourth"):
            updated(gateway, value)
            replies += [pool.submit(gateway.send, "/stock/5" + query(do="context"))]
        assert {reply.result().status for reply in replies} == {200}
    assert context(gateway)[0] == "fourth"
