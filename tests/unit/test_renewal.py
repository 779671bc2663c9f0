from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from jobgate.core.agent import Credential, EKSCredential
from jobgate.core.cluster_credential import BearerToken, ClientCertificate
from jobgate.core.errors import Conflict, NotForUs, Unavailable
from jobgate.ports.renewal import (
    AgentConnections,
    StoredCredential,
    StoredCredentials,
    TokenRequests,
)
from jobgate.usecases.renewal import Renewal

from tests.support.builders import NOW
from tests.support.fakes import FakeClock
from tests.support.relay_parts import a_cluster
from tests.support.service_account_tokens import a_service_account_token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.core.agent import ClusterConnection, ClusterCredential
    from jobgate.core.bound_token import BoundToken
    from jobgate.core.cluster_credential import ClusterSecret

HOUR = 3600
RELAY = Credential(kind="token", secret="relay")
AGENT = Credential(kind="token", secret="agent")
RELAY_TOKEN = a_service_account_token(NOW, NOW + HOUR)
AGENT_TOKEN = a_service_account_token(NOW, NOW + HOUR, account="jobgate-agent")


class System(AgentConnections, StoredCredentials, TokenRequests):
    """Agents with their secrets, one cluster, and what was told. Values may be exceptions."""

    def __init__(self, **connections: ClusterConnection | Exception | None) -> None:
        self.clock = FakeClock()
        self.clusters = {int(name[1:]): value for name, value in connections.items()} or {
            1: a_cluster(relay_credential=RELAY, agent_credential=AGENT)
        }
        self.secrets: dict[str, ClusterSecret | Exception] = {
            "relay": BearerToken(RELAY_TOKEN),
            "agent": BearerToken(AGENT_TOKEN),
        }
        self.versions = dict.fromkeys(self.secrets, 1)
        self.asked: list[tuple[str, ClusterSecret]] = []
        self.refusal: Exception | None = None
        self.cluster_ahead = 0.0
        self.lines: list[str] = []
        self.between: list[str] = []  # secrets that somebody else replaces while we ask
        self.slow = 0.0
        self.first = 0
        self.unread: Exception | None = None

    def agents(self) -> Iterable[tuple[str, int]]:
        yield from (("main", agent_id) for agent_id in self.clusters)
        if self.unread is not None:
            raise self.unread

    def cluster(self, issuer: str, agent_id: int) -> ClusterConnection | None:
        found = self.clusters[agent_id]
        if isinstance(found, Exception):
            raise found
        return found

    def read(self, credential: Credential) -> StoredCredential:
        secret = self.secrets[credential.secret]
        if isinstance(secret, Exception):
            raise secret
        version = str(self.versions[credential.secret])
        return StoredCredential(credential=credential, secret=secret, version=version)

    def replace(self, stored: StoredCredential, *, by: BearerToken) -> None:
        name = stored.credential.secret
        if stored.version != str(self.versions[name]):
            raise Conflict("another version is current by now")
        self.secrets[name] = by
        self.versions[name] += 1

    def another(self, cluster: ClusterConnection, token: BoundToken, *, by: ClusterSecret) -> str:
        self.asked.append((token.account, by))
        self.clock.advance(self.slow)
        if self.refusal is not None:
            raise self.refusal
        for name in self.between:
            self.versions[name] += 1
        now = self.clock() + self.cluster_ahead
        return a_service_account_token(now, now + HOUR, account=token.account)

    def run(self, *, seconds: float = 20) -> list[dict[str, object]]:
        self.lines.clear()
        Renewal(
            agents=self,
            stored=self,
            requests=self,
            recorder=self.lines.append,
            clock=self.clock,
            pick=lambda count: self.first % count,
        ).run(until=self.clock() + seconds)
        return [json.loads(line) for line in self.lines]


def told(credential: str, **values: object) -> dict[str, object]:
    head = {"type": "cluster_credential", "issuer": "main", "agent_id": 1}
    return head | {"credential": credential} | values


def test_nothing_is_asked_for_before_half_of_a_life() -> None:
    system = System()
    system.clock.advance(HOUR / 2 - 1)

    assert system.run() == []
    assert system.asked == []


def test_both_tokens_are_renewed_at_half_their_life_by_the_relays_account_alone() -> None:
    system = System()
    system.clock.advance(HOUR / 2)

    lines = system.run()

    assert lines == [
        told("relay", renewed=True, hours_left=1.0),
        told("agent", renewed=True, hours_left=1.0),
    ]
    now = system.clock()
    new = BearerToken(a_service_account_token(now, now + HOUR))
    assert system.asked == [
        ("jobgate-relay", BearerToken(RELAY_TOKEN)),
        ("jobgate-agent", new),
    ]
    assert system.secrets["relay"] == new
    assert system.run() == []


def test_a_token_that_has_ended_by_our_clock_is_asked_for_all_the_same() -> None:
    system = System()
    system.clock.advance(10 * HOUR)

    assert [line["renewed"] for line in system.run()] == [True, True]


def test_a_cluster_that_refuses_is_told_of_in_each_round_and_nothing_is_replaced() -> None:
    system = System()
    system.clock.advance(HOUR)
    system.refusal = NotForUs("the cluster refuses the relay's credential")

    for _ in range(2):
        assert system.run() == [
            told("relay", error="the cluster refuses the relay's credential"),
            told("agent", error="the cluster refuses the relay's credential"),
        ]
    assert set(system.versions.values()) == {1}


def test_a_secret_that_was_deleted_is_told_of_and_not_made_again() -> None:
    system = System()
    gone = Unavailable("a cluster's credential can't be read: ResourceNotFoundException")
    system.secrets["agent"] = gone
    system.clock.advance(HOUR / 2)

    lines = system.run()

    assert lines == [
        told("relay", renewed=True, hours_left=1.0),
        told("agent", error=str(gone)),
    ]
    assert system.secrets["agent"] is gone


def test_what_somebody_else_has_stored_meanwhile_is_not_replaced() -> None:
    system = System()
    system.clock.advance(HOUR / 2)
    system.between = ["relay"]

    lines = system.run()

    assert lines[0] == told("relay", warning="another version was stored meanwhile, and counts")
    assert system.secrets["relay"] == BearerToken(RELAY_TOKEN)


@pytest.mark.parametrize("ahead", [-HOUR, -HOUR / 2])
def test_clocks_that_are_half_a_life_apart_are_an_error_and_the_token_is_stored(
    ahead: float,
) -> None:
    system = System()
    system.clock.advance(HOUR / 2)
    system.cluster_ahead = ahead

    lines = system.run()

    error = "the new token is due at once: the cluster's clock is far from ours"
    assert lines == [told("relay", error=error), told("agent", error=error)]
    assert set(system.versions.values()) == {2}


def test_a_clock_that_was_set_back_renews_nothing() -> None:
    system = System()
    system.clock.advance(-100 * HOUR)

    assert system.run() == []


@pytest.mark.parametrize(
    "secret",
    [BearerToken("opaque"), ClientCertificate("C", "K")],
)
def test_what_has_no_end_that_we_know_is_left_alone(secret: ClusterSecret) -> None:
    system = System()
    system.secrets = {"relay": secret, "agent": secret}
    system.clock.advance(100 * HOUR)

    assert system.run() == []
    assert system.asked == []


@pytest.mark.parametrize(
    "credential",
    [
        EKSCredential(cluster="prod", region="eu-central-1"),
        Credential(kind="cert", secret="relay"),
    ],
)
def test_what_is_no_token_has_nothing_to_renew_and_is_not_read(
    credential: ClusterCredential,
) -> None:
    system = System(n1=a_cluster(relay_credential=credential, agent_credential=None))
    system.secrets = {}
    system.clock.advance(HOUR)

    assert system.run() == []


def test_an_agents_token_beside_an_identity_of_awss_is_an_error() -> None:
    eks = EKSCredential(cluster="prod", region="eu-central-1")
    system = System(n1=a_cluster(relay_credential=eks, agent_credential=AGENT))
    system.clock.advance(HOUR)

    assert system.run() == [
        told("agent", error="the relay's identity is AWS's, and can't ask for the agent's token")
    ]


def test_an_agents_token_is_asked_for_with_the_relays_certificate() -> None:
    certificate = Credential(kind="cert", secret="relay")
    system = System(n1=a_cluster(relay_credential=certificate, agent_credential=AGENT))
    system.secrets["relay"] = ClientCertificate("C", "K")
    system.clock.advance(HOUR / 2)

    system.run()

    assert system.asked == [("jobgate-agent", ClientCertificate("C", "K"))]


def test_one_agents_failure_holds_up_no_other() -> None:
    good = a_cluster(relay_credential=RELAY, agent_credential=None)
    system = System(n1=Unavailable("an item that can't be read"), n2=good, n3=None)
    system.clock.advance(HOUR / 2)

    lines = {line["agent_id"]: line for line in system.run()}

    assert lines[1]["error"] == "an item that can't be read"
    assert lines[2]["renewed"] is True
    assert lines.keys() == {1, 2}


def test_a_project_that_cannot_be_read_holds_up_no_other_and_is_told_of() -> None:
    system = System(n2=a_cluster(relay_credential=RELAY, agent_credential=None))
    system.unread = Unavailable("a configuration project that can't be read")
    system.clock.advance(HOUR / 2)

    told_of, renewed = system.run()

    assert told_of == {"type": "cluster_credential", "error": str(system.unread)}
    assert renewed["renewed"] is True


@pytest.mark.parametrize(("first", "tried"), [(0, [1, 2, 3, 4]), (58, [59, 60, 1, 2])])
def test_a_round_begins_anywhere_and_begins_nothing_after_its_time(
    first: int, tried: list[int]
) -> None:
    """Sixty clusters that are down, each of which takes five seconds to say so."""
    cluster = a_cluster(relay_credential=RELAY, agent_credential=None)
    system = System(**{f"n{n}": replace(cluster, agent_id=n) for n in range(1, 61)})
    system.clock.advance(HOUR)
    system.refusal, system.slow, system.first = Unavailable("the cluster is away"), 5.0, first

    *lines, last = system.run(seconds=20)

    assert [line["agent_id"] for line in lines] == tried
    assert last["warning"] == "56 agents are left to the next round"


def test_no_token_is_told() -> None:
    system = System()
    system.clock.advance(HOUR / 2)
    system.run()

    for secret in (*system.secrets.values(), BearerToken(RELAY_TOKEN), BearerToken(AGENT_TOKEN)):
        assert isinstance(secret, BearerToken)
        assert secret.token not in "".join(system.lines)
