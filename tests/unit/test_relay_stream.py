"""What a body that flows is worth once its right has ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.agent import AsAgent, AsCIJob
from jobgate.core.errors import StreamCut, Unavailable
from jobgate.core.liveness import JobState, Stop, StopKind
from jobgate.core.namespace import Namespace, NamespaceChain

from tests.support.relay_parts import (
    AS_AGENT,
    NOW,
    Answer,
    RelayParts,
    a_chain,
    a_cluster,
    a_request,
    a_snapshot,
    a_token,
    some_facts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobgate.ports.relay import RelayFacts, Response

JSON = (("Content-Type", "application/json"),)
TEXT = (("Content-Type", "text/plain"),)
FINISHED = some_facts(state=JobState(status="success", source="hook", seen_at=NOW))
ALL_STOPPED = some_facts(
    stops=(Stop(kind=StopKind.ALL, value="*", until=None, by="ops", why="drill"),)
)


LOG = "/api/v1/namespaces/a/pods/p/log"


@dataclass
class Scripted:
    """An answer whose pieces come at set times, in seconds from the request on."""

    parts: RelayParts = field(default_factory=RelayParts)
    script: list[tuple[float, bytes | Callable[[], None]]] = field(default_factory=list)
    started_at: float = NOW
    length: int | None = None

    def at(self, seconds: float, what: bytes | Callable[[], None]) -> None:
        self.script.append((seconds, what))

    def facts(self, facts: RelayFacts | Exception) -> Callable[[], None]:
        def change() -> None:
            self.parts.store.facts = facts

        return change

    def ask(
        self, headers: tuple[tuple[str, str], ...] = JSON, path: str = "/api/v1/pods", **query: str
    ) -> Response:
        answer = Answer(200, headers, [])
        answer.length = self.length
        answer.chunks = self._chunks  # type: ignore[method-assign]  this very answer's body
        self.parts.clusters.answer = answer
        request = a_request(path, query=tuple(query.items()))
        return self.parts.relay().answer(request, decision_id="d-1", deadline=NOW + 900)

    def _chunks(self) -> Iterator[bytes]:
        """The script, with an empty piece every half second."""
        ticks = 0
        for seconds, what in self.script:
            while ticks * 0.5 < seconds:
                self.parts.clock.now = self.started_at + ticks * 0.5
                ticks += 1
                yield b""
            self.parts.clock.now = self.started_at + seconds
            if callable(what):
                what()
            else:
                yield what

    @property
    def record(self) -> dict[str, Any]:
        (line,) = self.parts.lines
        record: dict[str, Any] = json.loads(line)
        return record


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


def _all(response: Response) -> tuple[bytes, str | None]:
    """The body until its end, and what broke it off."""
    body = b""
    try:
        for piece in response.body:
            body += piece
    except (StreamCut, Unavailable) as exc:
        return body, type(exc).__name__
    return body, None


def _error_event(line: bytes) -> str:
    event = json.loads(line)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 403)
    return str(event["object"]["message"])


# --- The right ends ---


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (FINISHED, "job_finished"),
        (some_facts(state=JobState(status="failed", source="probe", seen_at=NOW)), "job_finished"),
        (ALL_STOPPED, "stopped"),
        (some_facts(stops=None), "stopped"),
        (some_facts(snapshot=a_snapshot(projects={})), "not_listed"),
        (some_facts(snapshot=None), "not_listed"),
        (some_facts(cluster=None), "not_listed"),
        (some_facts(chain=None), "chain_unknown"),
    ],
)
def test_a_watch_ends_with_an_event_that_says_why(
    scripted: Scripted, facts: RelayFacts, reason: str
) -> None:
    scripted.at(1, b'{"type":"ADDED"}\n')
    scripted.at(2, scripted.facts(facts))
    scripted.at(60, b'{"type":"LATE"}\n')

    body, broken = _all(scripted.ask(watch="1"))

    first, last = body.splitlines()
    assert (first, broken) == (b'{"type":"ADDED"}', None)
    assert f"reason {reason}, decision d-1" in _error_event(last)
    assert scripted.parts.clock.now <= NOW + 2 + 3 + 0.5
    record = scripted.record
    assert (record["outcome"], record["status"]) == ("allowed", 200)
    assert (record["ended"], record["reason"], record["bytes_out"]) == (
        "revoked",
        reason,
        len(body),
    )


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        (TEXT, {"follow": "true"}),
        (JSON, {}),
        ((("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch"),), {"watch": "1"}),
        ((("Content-Type", "application/cbor-seq"),), {"watch": "1"}),
    ],
)
def test_anything_else_breaks_off_and_has_no_end(
    scripted: Scripted, headers: tuple[tuple[str, str], ...], query: dict[str, str]
) -> None:
    scripted.at(1, b"before\n")
    scripted.at(2, scripted.facts(FINISHED))
    scripted.at(60, b"after\n")

    assert _all(scripted.ask(headers, **query)) == (b"before\n", "StreamCut")
    assert scripted.parts.clock.now <= NOW + 2 + 3 + 0.5
    assert (scripted.record["ended"], scripted.record["reason"]) == ("revoked", "job_finished")
    assert isinstance(scripted.parts.clusters.answer, Answer)
    assert scripted.parts.clusters.answer.closed


def test_a_stream_that_never_pauses_is_cut_as_well(scripted: Scripted) -> None:
    scripted.at(1, scripted.facts(FINISHED))
    for number in range(1000):
        scripted.at(1 + number / 100, b"x")

    body, broken = _all(scripted.ask(TEXT, path=LOG))

    assert broken == "StreamCut"
    assert len(body) <= 350


@pytest.mark.parametrize("facts", [FINISHED, ALL_STOPPED])
def test_a_log_without_a_byte_so_far_is_refused(scripted: Scripted, facts: RelayFacts) -> None:
    scripted.at(20, scripted.facts(facts))
    scripted.at(60, b"late")

    response = scripted.ask(TEXT, path=LOG, follow="true")

    assert response.status == 403
    assert json.loads(b"".join(response.body))["kind"] == "Status"
    assert scripted.parts.clock.now <= NOW + 20 + 3 + 0.5
    assert isinstance(scripted.parts.clusters.answer, Answer)
    assert scripted.parts.clusters.answer.closed
    record = scripted.record
    assert (record["outcome"], record["ended"], record["status"]) == ("allowed", "revoked", 403)


def test_a_log_without_a_byte_at_lambdas_end_is_a_time_out(scripted: Scripted) -> None:
    scripted.parts.tokens.known["good"] = a_token(expires_at=int(NOW) + 3600)
    scripted.at(2000, b"late")
    assert scripted.ask(TEXT, path=LOG, follow="true").status == 504
    assert NOW + 895 < scripted.parts.clock.now < NOW + 899


def test_a_log_that_has_begun_breaks_off(scripted: Scripted) -> None:
    scripted.at(20, b"line\n")
    scripted.at(30, scripted.facts(FINISHED))
    scripted.at(60, b"late")
    response = scripted.ask(TEXT, path=LOG, follow="true")
    assert response.status == 200
    assert _all(response) == (b"line\n", "StreamCut")


def test_an_event_that_had_begun_is_completed_and_no_other_follows(scripted: Scripted) -> None:
    scripted.parts.bounds = replace(scripted.parts.bounds, relay_cache=0)
    scripted.at(0.2, b'{"a"')
    scripted.at(0.3, scripted.facts(FINISHED))
    scripted.at(0.5, b':1}\n{"b":2}\n')

    body, broken = _all(scripted.ask(watch="1"))

    assert broken is None
    first, last = body.splitlines()
    assert first == b'{"a":1}'
    assert "job_finished" in _error_event(last)


def test_an_event_whose_rest_is_not_there_breaks_off(scripted: Scripted) -> None:
    scripted.at(1, b'{"a"')
    scripted.at(1, scripted.facts(FINISHED))
    scripted.at(60, b":1}\n")

    assert _all(scripted.ask(watch="1")) == (b'{"a"', "StreamCut")


@pytest.mark.parametrize(
    "facts",
    [
        some_facts(snapshot=a_snapshot(AS_AGENT)),
        some_facts(cluster=a_cluster(server="https://elsewhere.test")),
        some_facts(cluster=a_cluster(ca="another")),
        some_facts(
            chain=NamespaceChain(
                kind="group",
                members=(
                    Namespace(namespace_id=99, path="other"),
                    Namespace(namespace_id=25, path="other/sub"),
                ),
                fetched_at=NOW,
            )
        ),
    ],
)
def test_who_is_somebody_else_by_now_does_not_go_on_as_before(
    scripted: Scripted, facts: RelayFacts
) -> None:
    scripted.at(1, scripted.facts(facts))
    scripted.at(60, b"late")

    body, broken = _all(scripted.ask(watch="1"))

    assert broken is None
    assert "has changed since the request began" in _error_event(body)
    assert scripted.record["ended"] == "revoked"


def test_what_changes_nothing_for_the_job_does_not_disturb_it(scripted: Scripted) -> None:
    scripted.at(1, scripted.facts(some_facts(snapshot=a_snapshot(version=9, commit="beef"))))
    scripted.at(30, b"late")

    assert _all(scripted.ask(TEXT)) == (b"late", None)
    assert scripted.record["ended"] == "complete"


@pytest.mark.parametrize("access_as", [AsAgent(), AsCIJob()])
def test_a_stream_in_either_mode_goes_on_while_it_is_allowed(
    scripted: Scripted, access_as: Any
) -> None:
    scripted.parts.store.facts = some_facts(snapshot=a_snapshot(access_as))
    scripted.at(30, b"late")

    assert _all(scripted.ask(TEXT)) == (b"late", None)


def test_a_retired_key_or_a_forgotten_token_ends_what_it_began(scripted: Scripted) -> None:
    scripted.at(1, scripted.parts.tokens.known.clear)
    scripted.at(60, b"late")

    body, _ = _all(scripted.ask(watch="1"))

    assert "token_invalid" in _error_event(body)


@pytest.mark.parametrize("seconds", [0.6, 60])
def test_an_answer_that_was_long_in_coming_is_decided_about_before_its_first_byte(
    scripted: Scripted, seconds: float
) -> None:
    scripted.parts.bounds = replace(scripted.parts.bounds, relay_cache=0.5)
    scripted.at(0, b"secret")
    response = scripted.ask(TEXT)
    scripted.parts.store.facts = FINISHED
    scripted.started_at = scripted.parts.clock.now = NOW + seconds

    assert _all(response) == (b"", "StreamCut")


@pytest.mark.parametrize("facts", [FINISHED, Unavailable("the table")])
def test_a_clock_that_is_set_back_puts_no_look_off(
    scripted: Scripted, facts: RelayFacts | Exception
) -> None:
    response = scripted.ask(TEXT)

    def pieces() -> Iterator[bytes]:
        yield b"before"
        scripted.parts.store.facts = facts
        scripted.parts.clock.now = NOW - 3600
        yield b"after"

    scripted.parts.clusters.answer.chunks = pieces  # type: ignore[method-assign]  this answer's body
    assert _all(response) == (b"before", "StreamCut")


# --- The facts can't be had ---


def test_what_is_known_counts_until_it_is_five_seconds_old(scripted: Scripted) -> None:
    scripted.at(1, scripted.facts(Unavailable("the table")))
    for second in range(2, 60):
        scripted.at(second, b"%d\n" % second)

    body, broken = _all(scripted.ask(TEXT))

    assert broken == "StreamCut"
    assert body == b"2\n3\n4\n"
    assert (scripted.record["ended"], scripted.record["reason"]) == ("revoked", "job_unknown")
    assert scripted.record["cause"] == "the table"


def test_a_short_failure_of_the_table_disturbs_nobody(scripted: Scripted) -> None:
    scripted.at(1, scripted.facts(Unavailable("the table")))
    scripted.at(4, scripted.facts(some_facts()))
    scripted.at(30, b"late")

    assert _all(scripted.ask(TEXT)) == (b"late", None)


def test_a_longer_belief_is_not_made_longer_by_a_failure(scripted: Scripted) -> None:
    scripted.parts.bounds = replace(scripted.parts.bounds, relay_cache=8)
    scripted.at(1, scripted.facts(Unavailable("the table")))
    scripted.at(60, b"late")

    assert _all(scripted.ask(TEXT)) == (b"", "StreamCut")
    assert NOW + 8 <= scripted.parts.clock.now <= NOW + 8.5


def test_the_table_is_read_once_in_the_time_that_it_is_believed(scripted: Scripted) -> None:
    scripted.at(30, b"late")
    _all(scripted.ask(TEXT))
    assert scripted.parts.store.reads <= 11


# --- Other ends ---


def test_a_stream_ends_at_the_end_of_its_token(scripted: Scripted) -> None:
    scripted.parts.tokens.known["good"] = a_token(expires_at=int(NOW) + 20)
    scripted.at(15, b"before\n")
    scripted.at(300, b"after\n")

    assert _all(scripted.ask(TEXT)) == (b"before\n", "StreamCut")
    assert scripted.parts.clock.now == NOW + 20 + scripted.parts.bounds.leeway
    assert (scripted.record["ended"], scripted.record["reason"]) == ("expired", "token_expired")


def test_a_stream_breaks_off_before_lambdas_time_is_over(scripted: Scripted) -> None:
    scripted.parts.tokens.known["good"] = a_token(expires_at=int(NOW) + 3600)
    scripted.at(2000, b"after\n")

    body, broken = _all(scripted.ask(TEXT))

    assert (body, broken) == (b"", "StreamCut")
    assert NOW + 895 < scripted.parts.clock.now < NOW + 899
    assert scripted.record["ended"] == "deadline"
    assert "reason" not in scripted.record


@pytest.mark.parametrize(("life", "end"), [(3600, 895), (600, 595), (2, 1)])
def test_a_watch_is_told_to_end_before_lambda_and_before_its_token(
    scripted: Scripted, life: int, end: int
) -> None:
    scripted.parts.tokens.known["good"] = a_token(expires_at=int(NOW) + life)
    scripted.ask(watch="1", resourceVersion="5")
    (sent,) = scripted.parts.clusters.sent
    assert sent.target == f"/api/v1/pods?watch=1&resourceVersion=5&timeoutSeconds={end}"


def test_a_failure_of_our_own_breaks_the_stream_off(scripted: Scripted) -> None:
    scripted.at(1, scripted.facts(ValueError("canary")))
    scripted.at(60, b"late")
    with pytest.raises(ValueError, match="canary"):
        b"".join(scripted.ask(TEXT).body)
    assert scripted.record["ended"] == "failed"


# --- Silence ---


def test_a_silent_watch_gets_a_byte_a_minute(scripted: Scripted) -> None:
    scripted.parts.store.facts = some_facts(chain=replace(a_chain(), fetched_at=NOW))
    scripted.at(10, b'{"a":1}\n')
    scripted.at(200, b'{"b":2}\n')

    body, broken = _all(scripted.ask(watch="1"))

    assert (body, broken) == (b'{"a":1}\n\n\n\n{"b":2}\n', None)
    assert scripted.record["bytes_out"] == len(body)


def test_no_byte_goes_into_the_middle_of_an_event(scripted: Scripted) -> None:
    scripted.at(10, b'{"a"')
    scripted.at(200, b":1}\n")

    assert _all(scripted.ask(watch="1")) == (b'{"a":1}\n', None)


@pytest.mark.parametrize("headers", [TEXT, JSON])
def test_nothing_but_a_watch_gets_bytes_of_ours(
    scripted: Scripted, headers: tuple[tuple[str, str], ...]
) -> None:
    scripted.at(200, b"late")

    assert _all(scripted.ask(headers)) == (b"late", None)


def test_a_watch_has_no_length_whatever_the_cluster_says() -> None:
    scripted = Scripted(length=1)
    assert scripted.ask(watch="true").length is None
    assert scripted.ask().length == 1
