"""The header matrix at the relay itself, without a gateway that might take something out before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from jobgate.adapters.cluster import DirectClusterGateway
from jobgate.adapters.relay_endpoint import RelayEndpoint

from local.certificates import CertificateAuthority
from tests.support.header_matrix import CANARY, CARRIED, NEVER, SPELLINGS, header_lines
from tests.support.relay_parts import AGENT, NOW, RelayParts, a_cluster, some_facts
from tests.support.relay_upstream import RawUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

_AUDIT_ID = re.compile(rb"Audit-ID: [^\r]+")


class Relay:
    """A relay towards a cluster that keeps every byte."""

    def __init__(self, upstream: RawUpstream, ca: str) -> None:
        self.upstream = upstream
        self.parts = RelayParts()
        self.parts.store.facts = some_facts(cluster=a_cluster(server=upstream.url, ca=ca))
        self.gateway = DirectClusterGateway(clock=lambda: NOW)
        self.parts.clusters = self.gateway  # type: ignore[assignment]  the real one
        log = self.parts.lines.append
        self.endpoint = RelayEndpoint(self.parts.relay(), log=log, close=self.gateway.close)

    def arrived(self, headers: list[tuple[str, str]]) -> tuple[int, list[list[bytes]]]:
        """The answer's status, and the lines of what the cluster got."""
        before = len(self.upstream.requests)
        given: dict[str, list[str]] = {"Authorization": ["Bearer good"]}
        for name, value in headers:
            given.setdefault(name, []).append(value)
        event = {
            "httpMethod": "GET",
            "path": f"/agents/{AGENT}/api/v1/pods",
            "multiValueHeaders": given,
        }
        response = self.endpoint(event, _Context())
        b"".join(response.body)
        requests = self.upstream.requests[before:]
        return response.status, [_AUDIT_ID.sub(b"Audit-ID: ID", r).split(b"\r\n") for r in requests]


class _Context:
    aws_request_id = "d-1"
    deadline = NOW + 900
    invoked_function_arn = "arn"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    authority = CertificateAuthority.create(tmp_path_factory.mktemp("ca"))
    certificate = authority.issue("cluster", authority.certificate.parent)
    with RawUpstream(certificate) as upstream:
        made = Relay(upstream, authority.certificate.read_text())
        yield made
        made.gateway.close()


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", NEVER)
def test_no_header_leaks_and_none_of_ours_is_lost(relay: Relay, name: str, spelling: str) -> None:
    _, (alone,) = relay.arrived([])
    assert b"Impersonate-User: gitlab:ci_job:42" in alone
    assert b"Authorization: Bearer relay-token" in alone
    status, requests = relay.arrived(header_lines(name, spelling))
    assert requests in ([], [alone])
    assert (status == 200) == bool(requests)
    # Only what asks to be somebody, or to be two, is a reason to refuse.
    refused = name.lower().startswith("impersonate") or name == "Authorization"
    assert refused or requests == [alone]


@pytest.mark.parametrize("name", CARRIED)
def test_what_is_carried_arrives_under_its_own_name(relay: Relay, name: str) -> None:
    _, (alone,) = relay.arrived([])
    for spelling in ("as it is", "lower", "UPPER", "in Connection"):
        _, (lines,) = relay.arrived(header_lines(name, spelling))
        added = f"{name}: {CANARY}".encode()
        assert [line for line in lines if line != added] == alone, spelling
        assert lines.count(added) == 1, spelling


@pytest.mark.parametrize("spelling", ["_ for -", "space behind"])
def test_what_is_like_a_carried_name_does_not_travel(relay: Relay, spelling: str) -> None:
    _, (alone,) = relay.arrived([])
    for name in (each for each in CARRIED if "-" in each or spelling != "_ for -"):
        assert relay.arrived(header_lines(name, spelling))[1] == [alone], name


@pytest.mark.parametrize("name", [*NEVER, *CARRIED])
def test_naming_a_header_in_connection_takes_none_of_ours_away(relay: Relay, name: str) -> None:
    _, (alone,) = relay.arrived([])
    for value in (name, name.lower(), f"close, {name}"):
        assert relay.arrived([("Connection", value)]) == (200, [alone])
