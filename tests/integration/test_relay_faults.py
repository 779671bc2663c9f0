"""What a caller sees of a cluster that fails: the whole relay, from event to streamed answer."""

from __future__ import annotations

import contextlib
import json
import threading
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.cluster import DirectClusterGateway
from jobgate.adapters.http_wire import WireError
from jobgate.adapters.relay_endpoint import RelayEndpoint
from jobgate.adapters.runtime_api import RuntimeAPI
from jobgate.adapters.streaming_runtime import StreamingRuntime
from jobgate.core.liveness import JobLife

from local.process import free_port
from tests.support.relay_parts import AGENT, NOW, RelayParts, a_cluster, a_request, some_facts
from tests.support.relay_runtime_api import FakeRuntimeAPI, Posted
from tests.support.relay_upstream import End, Left, RawUpstream, Reset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.certificates import CertificateAuthority, ServerCertificate

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_EVENT = {
    "httpMethod": "GET",
    "path": f"/agents/{AGENT}/api/v1/namespaces/x/pods",
    "multiValueHeaders": {"Authorization": ["Bearer good"]},
}


@pytest.fixture(scope="module")
def certificate(
    authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory
) -> ServerCertificate:
    folder: Path = tmp_path_factory.mktemp("upstream")
    return authority.issue("upstream", folder)


@dataclass
class Worker:
    """A relay on a Runtime API, with everything real but the table, the tokens and the secrets."""

    parts: RelayParts
    api: FakeRuntimeAPI
    authority: CertificateAuthority

    def towards(self, url: str) -> None:
        cluster = a_cluster(server=url, ca=self.authority.certificate.read_text())
        self.parts.store.facts = some_facts(cluster=cluster)

    def ask(self, **changes: Any) -> Posted:
        self.api.give(_EVENT | changes)
        return self.api.answer()


@pytest.fixture
def worker(authority: CertificateAuthority) -> Iterator[Worker]:
    parts = RelayParts()
    parts.clusters = DirectClusterGateway(clock=parts.clock)
    endpoint = RelayEndpoint(parts.relay(), log=parts.lines.append, close=parts.clusters.close)
    with FakeRuntimeAPI() as api:
        runtime = StreamingRuntime(
            RuntimeAPI(api.address, clock=parts.clock),
            endpoint,
            environment={},
            clock=parts.clock,
            log=parts.lines.append,
        )

        def run() -> None:
            with contextlib.suppress(OSError, WireError):
                runtime.run()

        thread = threading.Thread(target=run)
        thread.start()
        yield Worker(parts, api, authority)
    thread.join(20)
    parts.clusters.close()


@pytest.mark.parametrize(
    "answer",
    [
        (End(),),
        (Reset(),),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Reset()),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
    ],
)
def test_before_the_head_a_fault_is_a_status(
    worker: Worker, certificate: ServerCertificate, answer: Any
) -> None:
    with RawUpstream(certificate, answer) as upstream:
        worker.towards(upstream.url)
        posted = worker.ask()

    status = json.loads(posted.content)
    assert posted.prelude["statusCode"] == 502
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 502, "BadGateway")
    assert "The cluster can't be reached." in status["message"]
    assert posted.complete
    assert posted.trailers == {}


def test_a_cluster_that_is_not_there_is_a_status(worker: Worker) -> None:
    worker.towards(f"https://127.0.0.1:{free_port()}")
    assert worker.ask().prelude["statusCode"] == 502


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/api/v1/namespaces/x/pods/p/log", "Run the job again."),
        ("GET", "/api/v1/namespaces/x/pods", "Run the job again."),
        ("POST", "/api/v1/namespaces/x/services/s/proxy/", "may be changed."),
    ],
)
def test_an_answer_that_is_slow_in_coming_is_given_up_with_the_right_to_it(
    worker: Worker, certificate: ServerCertificate, method: str, path: str, told: str
) -> None:
    left = threading.Event()
    with RawUpstream(
        certificate, (Left(left),), _HEAD + b"Content-Length: 2\r\n\r\n{}"
    ) as upstream:
        worker.towards(upstream.url)
        worker.api.give(_EVENT | {"httpMethod": method, "path": f"/agents/{AGENT}{path}"})
        upstream.asked(1)
        worker.parts.store.facts = some_facts(state=JobLife(status="canceled", finished_at=NOW))
        worker.parts.clock.now = NOW + 3.1
        posted = worker.api.answer()
        assert left.wait(20)

        worker.towards(upstream.url)
        worker.parts.clock.now = NOW + 10
        assert worker.ask().content == b"{}"
        assert upstream.connections == 2

    status = json.loads(posted.content)
    assert (posted.prelude["statusCode"], posted.complete, posted.trailers) == (403, True, {})
    assert "reason job_finished" in status["message"]
    assert told in status["message"]


@pytest.mark.parametrize(
    "answer",
    [
        (_HEAD + b"Content-Length: 100\r\n\r\n{", End()),
        (_HEAD + b"Content-Length: 100\r\n\r\n{", End(politely=False)),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", End()),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nzz\r\n",),
        (_HEAD + b"\r\n{", End(politely=False)),
    ],
)
def test_after_the_head_a_fault_is_a_broken_stream_and_the_next_request_is_served(
    worker: Worker, certificate: ServerCertificate, answer: Any
) -> None:
    good = _HEAD + b"Content-Length: 2\r\n\r\n{}"
    with RawUpstream(certificate, answer, good) as upstream:
        worker.towards(upstream.url)
        broken, whole = worker.ask(), worker.ask()

    assert (broken.prelude["statusCode"], broken.content) == (200, b"{")
    assert broken.trailers["lambda-runtime-function-error-type"] == "Unavailable"
    assert (whole.prelude["statusCode"], whole.content, whole.trailers) == (200, b"{}", {})
    ended = [json.loads(line).get("ended") for line in worker.parts.lines]
    assert [each for each in ended if each] == ["broken", "complete"]


def test_more_than_was_promised_is_cut_off_and_meets_nobody_else(
    worker: Worker, certificate: ServerCertificate
) -> None:
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers"
    lying = _HEAD + b"Content-Length: 2\r\n\r\n{}" + smuggled
    good = _HEAD + b"Content-Length: 4\r\n\r\nmine"
    with RawUpstream(certificate, lying, good) as upstream:
        worker.towards(upstream.url)
        assert worker.ask().content == b"{}"
        assert worker.ask().content == b"mine"


def test_a_hundred_megabytes_pass_through_little_memory(
    certificate: ServerCertificate, authority: CertificateAuthority
) -> None:
    piece = b"x" * 1_000_000
    head = _HEAD + b"Content-Length: 100000000\r\n\r\n"
    parts = RelayParts()
    parts.clusters = clusters = DirectClusterGateway(clock=parts.clock)
    with RawUpstream(certificate, (head, *([piece] * 100))) as upstream:
        cluster = a_cluster(server=upstream.url, ca=authority.certificate.read_text())
        parts.store.facts = some_facts(cluster=cluster)
        answer = parts.relay().answer(a_request(), decision_id="d", deadline=NOW + 900)
        tracemalloc.start()
        try:
            size = sum(len(each) for each in answer.body)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            clusters.close()
    assert size == 100_000_000
    assert peak < 2_000_000
