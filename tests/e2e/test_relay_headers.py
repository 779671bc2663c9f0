"""Bytes from a raw client through the gateway and the deployed relay to a cluster that keeps them.

Each request ends in one of two ways: nothing reaches the cluster, or exactly the one request does
that the relay is to make of it, identity whole and nothing of the caller's beyond the allow-list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.recorded_cluster import lines_of

if TYPE_CHECKING:
    from tests.support.recorded_cluster import RecordedCluster

pytestmark = pytest.mark.stack

_CANARY = "canary-of-the-caller"
_PATH = "/api/v1/namespaces/shop/pods"

# What the relay sets itself, and what proxies and API servers believe: none of it travels.
_NEVER = (
    "Authorization",
    "Audit-ID",
    "Content-Length",
    "Cookie",
    "Host",
    "Impersonate-Extra-agent.gitlab.com%2fid",
    "Impersonate-Extra-Scopes",
    "Impersonate-Group",
    "Impersonate-Uid",
    "Impersonate-User",
    "Proxy-Authorization",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-User",
    "X-Real-Ip",
    "X-Remote-Extra-Scopes",
    "X-Remote-Group",
    "X-Remote-Uid",
    "X-Remote-User",
)
# These travel under their own name, as they came.
_CARRIED = (
    "Accept",
    "Accept-Encoding",
    "Content-Type",
    "Content-Encoding",
    "User-Agent",
    "Kubectl-Command",
    "Kubectl-Session",
)
_SPELLINGS = ("as it is", "lower", "UPPER", "_ for -", "twice", "in Connection", "space behind")


def _spelled(name: str, spelling: str) -> list[bytes]:
    value = _CANARY
    match spelling:
        case "lower":
            lines = [f"{name.lower()}: {value}"]
        case "UPPER":
            lines = [f"{name.upper()}: {value}"]
        case "_ for -":
            lines = [f"{name.replace('-', '_')}: {value}"]
        case "twice":
            lines = [f"{name}: {value}", f"{name}: {value}-2"]
        case "in Connection":
            lines = [f"Connection: {name}, close", f"{name}: {value}"]
        case "space behind":
            lines = [f"{name} : {value}"]
        case _:
            lines = [f"{name}: {value}"]
    return [line.encode() for line in lines]


@pytest.mark.parametrize("spelling", _SPELLINGS)
def test_no_header_leaks_and_none_of_ours_is_lost(
    recorded: RecordedCluster, identity: list[bytes], spelling: str
) -> None:
    ends = []
    for name in _NEVER:
        statuses, requests = recorded.arrived(recorded.head(_PATH, _spelled(name, spelling)))
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
    for name in _CARRIED:
        statuses, requests = recorded.arrived(recorded.head(_PATH, _spelled(name, spelling)))
        assert [lines_of(request) for request in requests] == [
            recorded.expected(_PATH, identity, [f"{name}: {_CANARY}".encode()])
        ], name
        assert statuses == (200,), name


@pytest.mark.parametrize("name", [*_NEVER, "Accept", "User-Agent"])
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
