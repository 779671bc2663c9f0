"""What becomes of a request whose right ends while the head of its answer is awaited."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.cluster_credential import BearerToken
from jobgate.core.errors import OutOfTime, TimedOut, Unanswered, Unavailable
from jobgate.core.liveness import JobLife, Stop, StopKind

from tests.support.relay_parts import (
    AS_AGENT,
    NOW,
    RELAY_SECRET,
    Answer,
    RelayParts,
    a_cluster,
    a_request,
    a_snapshot,
    a_token,
    some_facts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.core.upstream_request import IncomingRequest
    from jobgate.ports.relay import RelayFacts

FINISHED = some_facts(state=JobLife(status="success", finished_at=NOW))
ALL_STOPPED = some_facts(
    stops=(Stop(kind=StopKind.ALL, value="*", until=None, by="ops", why="drill"),)
)
LOG = a_request("/api/v1/namespaces/a/pods/p/log", query=(("follow", "true"),))
MAYBE = "what it was to change may be changed"


@dataclass
class Waiting:
    """A head that comes after `seconds`, while at set times something happens."""

    parts: RelayParts = field(default_factory=RelayParts)
    happens: dict[float, Callable[[], None]] = field(default_factory=dict)
    seconds: float = 60

    def at(self, seconds: float, facts: RelayFacts | Exception) -> None:
        def change() -> None:
            self.parts.store.facts = facts

        self.happens[seconds] = change

    def ask(self, request: IncomingRequest = LOG) -> tuple[int, str]:
        """Status and body of the answer."""
        self.parts.clusters.waiting = self._ticks()
        response = self.parts.relay().answer(request, decision_id="d-1", deadline=NOW + 900)
        return response.status, b"".join(response.body).decode()

    def _ticks(self) -> Iterator[None]:
        for tick in range(int(self.seconds * 2)):
            self.parts.clock.now = NOW + tick / 2
            self.happens.pop(tick / 2, lambda: None)()
            yield

    @property
    def record(self) -> dict[str, Any]:
        (line,) = self.parts.lines
        record: dict[str, Any] = json.loads(line)
        return record


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.mark.parametrize(
    ("facts", "code", "reason"),
    [
        (FINISHED, 403, "job_finished"),
        (ALL_STOPPED, 403, "stopped"),
        (some_facts(stops=None), 403, "stopped"),
        (some_facts(snapshot=a_snapshot(projects={})), 403, "not_listed"),
        (some_facts(snapshot=None), 403, "not_listed"),
        (some_facts(cluster=None), 403, "not_listed"),
        (some_facts(cluster=a_cluster(ca="another")), 403, "not_listed"),
        (some_facts(snapshot=a_snapshot(AS_AGENT)), 403, "not_listed"),
        (some_facts(chain=None), 503, "chain_unknown"),
    ],
)
def test_who_waits_for_an_answer_is_refused_once_the_right_has_ended(
    waiting: Waiting, facts: RelayFacts, code: int, reason: str
) -> None:
    waiting.at(20, facts)

    status, body = waiting.ask()

    assert NOW + 20 <= waiting.parts.clock.now <= NOW + 20 + 3 + 0.5
    told = json.loads(body)
    assert (status, told["kind"], told["code"]) == (code, "Status", code)
    assert f"(reason {reason}, decision d-1)" in told["message"]
    record = waiting.record
    assert (record["outcome"], record["status"], record["reason"]) == ("allowed", code, reason)
    assert (record["ended"], record["bytes_out"]) == ("revoked", len(body))


def test_who_may_goes_on_waiting_and_the_table_is_asked_once_in_the_time_that_it_is_believed(
    waiting: Waiting,
) -> None:
    assert waiting.ask() == (200, "{}")
    assert waiting.parts.store.reads <= 21
    assert waiting.record["ended"] == "complete"


def test_discovery_that_waits_is_refused_in_plain_text(waiting: Waiting) -> None:
    waiting.at(20, FINISHED)
    status, body = waiting.ask(a_request("/apis"))
    assert status == 403
    assert body.startswith("Jobgate: This job has ended")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("facts", [FINISHED, some_facts(cluster=a_cluster(ca="another"))])
def test_of_a_change_that_was_sent_nobody_is_told_that_it_was_not_made(
    waiting: Waiting, method: str, facts: RelayFacts
) -> None:
    waiting.at(20, facts)
    _, body = waiting.ask(a_request("/api/v1/namespaces/a/pods/p", method=method))
    message = json.loads(body)["message"]
    assert MAYBE in message
    assert "Run the" not in message


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("error", "code", "is_sent"),
    [
        (Unanswered("reset"), 502, True),
        (TimedOut("slow"), 504, True),
        (Unavailable("nobody there"), 502, False),
        (OutOfTime("no time left"), 504, False),
    ],
)
def test_a_change_is_in_doubt_where_it_was_sent_and_not_answered(
    waiting: Waiting, method: str, error: Exception, code: int, *, is_sent: bool
) -> None:
    waiting.parts.clusters.answer = error
    status, body = waiting.ask(a_request("/api/v1/pods", method=method))
    assert status == code
    assert (MAYBE in body) == (is_sent and method != "GET")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_changes_nothing_leaves_nothing_in_doubt(waiting: Waiting, method: str) -> None:
    waiting.at(20, FINISHED)
    _, body = waiting.ask(a_request("/api/v1/pods", method=method))
    assert MAYBE not in body


def test_a_wait_ends_at_the_end_of_the_token(waiting: Waiting) -> None:
    waiting.parts.tokens.known["good"] = a_token(expires_at=int(NOW) + 20)
    status, body = waiting.ask()
    assert (status, json.loads(body)["reason"]) == (401, "Unauthorized")
    assert waiting.parts.clock.now == NOW + 20 + waiting.parts.bounds.leeway
    assert (waiting.record["ended"], waiting.record["reason"]) == ("expired", "token_expired")


def test_a_wait_ends_before_lambdas_time_is_over(waiting: Waiting) -> None:
    waiting.parts.tokens.known["good"] = a_token(expires_at=int(NOW) + 3600)
    waiting.seconds = 2000
    status, body = waiting.ask()
    assert (status, json.loads(body)["reason"]) == (504, "Timeout")
    assert NOW + 895 < waiting.parts.clock.now < NOW + 899
    assert (waiting.record["reason"], waiting.record["ended"]) == ("upstream_timeout", "complete")


def test_what_is_known_counts_until_it_is_five_seconds_old(waiting: Waiting) -> None:
    waiting.at(1, Unavailable("the table"))
    status, body = waiting.ask()
    assert (status, json.loads(body)["reason"]) == (503, "ServiceUnavailable")
    assert NOW + 4 <= waiting.parts.clock.now <= NOW + 5.5
    assert (waiting.record["reason"], waiting.record["cause"]) == ("job_unknown", "the table")


def test_a_short_failure_of_the_table_disturbs_nobody(waiting: Waiting) -> None:
    waiting.at(1, Unavailable("the table"))
    waiting.at(4, some_facts())
    assert waiting.ask() == (200, "{}")


def test_a_failure_of_our_own_ends_the_wait(waiting: Waiting) -> None:
    waiting.at(1, ValueError("canary"))
    with pytest.raises(ValueError, match="canary"):
        waiting.ask()
    assert (waiting.record["status"], waiting.record["ended"]) == (500, "failed")


def test_the_second_sending_with_a_renewed_credential_is_looked_at_too(waiting: Waiting) -> None:
    waiting.parts.secrets.newer = {RELAY_SECRET: BearerToken("newer")}
    waiting.parts.clusters.answer = Answer(401, (), [])
    waiting.seconds = 20

    def once_more() -> Iterator[None]:
        yield from waiting._ticks()
        waiting.parts.clusters.waiting = again()

    def again() -> Iterator[None]:
        waiting.parts.store.facts = FINISHED
        for tick in range(100):
            waiting.parts.clock.now = NOW + 20 + tick / 2
            yield

    waiting.parts.clusters.waiting = once_more()
    response = waiting.parts.relay().answer(LOG, decision_id="d-1", deadline=NOW + 900)
    assert len(waiting.parts.clusters.sent) == 2
    assert (response.status, waiting.record["reason"]) == (403, "job_finished")
