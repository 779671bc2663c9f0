"""Bytes from a raw client through the gateway and the deployed relay to a cluster that keeps them.

Each request ends in one of two ways: nothing reaches the cluster, or exactly the one request does
that the relay is to make of it, identity whole and nothing of the caller's beyond the allow-list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.header_matrix import CANARY, CARRIED, NEVER, SPELLINGS, raw_lines
from tests.support.recorded_cluster import lines_of

if TYPE_CHECKING:
    from tests.support.recorded_cluster import RecordedCluster

pytestmark = pytest.mark.stack

_PATH = "/api/v1/namespaces/shop/pods"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_header_leaks_and_none_of_ours_is_lost(
    recorded: RecordedCluster, identity: list[bytes], spelling: str
) -> None:
    ends = []
    for name in NEVER:
        statuses, requests = recorded.arrived(recorded.head(_PATH, raw_lines(name, spelling)))
        assert len(requests) <= 1, (name, requests)
        if requests:
            lines = lines_of(requests[0])
            assert lines == recorded.expected(_PATH, identity, []), name
            assert statuses == (200,)
        else:
            assert statuses[:1] != (200,), name
            assert all(status >= 400 for status in statuses), name
        ends.append(bool(requests))
    # A matrix that refuses everything would prove nothing.
    assert any(ends) or spelling == "space behind"


@pytest.mark.parametrize("spelling", ["as it is", "lower", "UPPER", "in Connection"])
def test_what_is_carried_arrives_once_under_its_own_name(
    recorded: RecordedCluster, identity: list[bytes], spelling: str
) -> None:
    for name in CARRIED:
        statuses, requests = recorded.arrived(recorded.head(_PATH, raw_lines(name, spelling)))
        assert [lines_of(request) for request in requests] == [
            recorded.expected(_PATH, identity, [f"{name}: {CANARY}".encode()])
        ], name
        assert statuses == (200,), name


@pytest.mark.parametrize("name", [*NEVER, "Accept", "User-Agent"])
def test_naming_our_headers_in_connection_takes_none_away(
    recorded: RecordedCluster, identity: list[bytes], name: str
) -> None:
    _, requests = recorded.arrived(recorded.head(_PATH, [f"Connection: {name}".encode()]))
    for request in requests:
        assert lines_of(request) == recorded.expected(_PATH, identity, [])
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (b"curl/8\x00Impersonate-User: root", False),
        (b"curl/8\rImpersonate-User: root", False),
        ("curl/8 ü".encode(), False),
        (b"curl/8   \t", True),
    ],
)
def test_a_value_brings_no_second_header(
    recorded: RecordedCluster, identity: list[bytes], *, value: bytes, arrives: bool
) -> None:
    _, requests = recorded.arrived(recorded.head(_PATH, [b"User-Agent: " + value]))
    assert [lines_of(request) for request in requests] == (
        [recorded.expected(_PATH, identity, [b"User-Agent: curl/8"])] if arrives else []
    )
