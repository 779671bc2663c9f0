"""The relay as deployed, with faults in the cluster, DynamoDB, the keys and Secrets Manager."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobgate import wiring
from jobgate.core.errors import StreamCut, Unavailable
from jobgate.core.relay_refusal import DECISION_HEADER

from local.certificates import CertificateAuthority
from tests.support.aws_stand_in import AWSStandIn, failure
from tests.support.relay_faults import FAULTS, Fault, table, world_with
from tests.support.relay_upstream import OK, RawUpstream
from tests.support.relay_world import RELAY_TOKEN, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.relay_endpoint import RelayEndpoint
    from jobgate.ports.relay import Response

# As on Lambda, an instance keeps its connections until its process ends.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

_now = time.time  # noqa: TID251  the deployed relay takes the system's clock
_DOCUMENT = Path(__file__).parents[2] / "docs" / "relay-faults.md"


@dataclass(frozen=True, slots=True)
class Context:
    aws_request_id: str
    deadline: float
    invoked_function_arn: str = "arn"


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CertificateAuthority]:
    return {
        name: CertificateAuthority.create(tmp_path_factory.mktemp(name))
        for name in ("own", "other")
    }


@pytest.fixture
def upstream(
    request: pytest.FixtureRequest, authorities: dict[str, CertificateAuthority]
) -> Iterator[RawUpstream]:
    fault: Fault | None = getattr(request, "param", None)
    own = authorities["own"]
    certificate = own.issue("cluster", own.certificate.parent)
    with RawUpstream(certificate, *(fault.cluster if fault else (OK,))) as running:
        yield running


@pytest.fixture
def world(upstream: RawUpstream, authorities: dict[str, CertificateAuthority]) -> World:
    ca = authorities["own"].certificate.read_text()
    return World(server=upstream.url, ca=ca, now=_now())


def _event(world: World, path: str, method: str) -> dict[str, Any]:
    path, _, query = path.partition("?")
    given = {query.split("=")[0]: [query.split("=")[1]]} if query else None
    return world.event(
        path,
        httpMethod=method,
        multiValueQueryStringParameters=given,
        queryStringParameters=given and {name: values[-1] for name, values in given.items()},
        body="{}" if method == "POST" else None,
    )


def _read(response: Response) -> tuple[bytes, str]:
    """The body, and how it ended."""
    pieces = []
    try:
        pieces.extend(response.body)
    except (StreamCut, Unavailable):
        return b"".join(pieces), "broken"
    return b"".join(pieces), "complete"


def _answered(
    endpoint: RelayEndpoint, event: dict[str, Any], *, seconds: float = 30
) -> tuple[Response, bytes, str]:
    response = endpoint(event, Context("d-1", _now() + seconds))
    return response, *_read(response)


@pytest.mark.parametrize(
    ("fault", "upstream"),
    [(fault, fault) for fault in FAULTS],
    indirect=["upstream"],
    ids=[f"{fault.where}: {fault.what}" for fault in FAULTS],
)
def test_a_fault_is_seen_as_the_document_says(
    fault: Fault,
    upstream: RawUpstream,
    world: World,
    authorities: dict[str, CertificateAuthority],
    capfd: pytest.CaptureFixture[str],
) -> None:
    world = world_with(fault, world)
    if world.ca in authorities:
        world = replace(world, ca=authorities[world.ca].certificate.read_text())
    with AWSStandIn({}, world.secrets) as aws:
        aws.put(world.stored())
        fault.aws(aws, world)
        endpoint = wiring.relay(world.environment(aws.url))
        event = _event(world, fault.path, fault.method)
        response, body, ended = _answered(endpoint, event, seconds=fault.seconds)
        calls = set(aws.calls)
    log = capfd.readouterr().out
    record = json.loads(log.splitlines()[-1])
    told = dict(response.headers)
    status, reason = fault.sees
    assert (response.status, record.get("reason"), ended) == (status, reason, fault.ended)
    assert len(upstream.requests) == fault.sent
    assert (DECISION_HEADER in told) == (reason is not None)
    assert "Location" not in told
    assert not calls & {"Sign", "GetPublicKey"}
    for secret in (RELAY_TOKEN, world.token(), "relay-credential"):
        assert secret not in log
        assert secret.encode() not in body
    if reason is not None:
        told_status = json.loads(body)
        assert (told_status["kind"], told_status["code"]) == ("Status", status)
        assert f"(reason {reason}, decision d-1)" in told_status["message"]


@pytest.mark.parametrize(
    "fault",
    # What is late is late in the same way.
    [f for f in FAULTS if f.sees[1] and not (f.sent or f.changes or f.what.endswith("in time"))],
    ids=lambda fault: f"{fault.where}: {fault.what}",
)
def test_discovery_is_told_the_same_in_words(
    fault: Fault, upstream: RawUpstream, world: World
) -> None:
    with AWSStandIn({}, world.secrets) as aws:
        aws.put(world.stored())
        fault.aws(aws, world)
        endpoint = wiring.relay(world.environment(aws.url))
        response, body, ended = _answered(endpoint, _event(world, "/api", "GET"))
    assert (response.status, ended) == (403, "complete")
    assert dict(response.headers)["Content-Type"] == "text/plain; charset=utf-8"
    assert f"(reason {fault.sees[1]}, decision d-1)" in body.decode()
    assert upstream.requests == []


def test_after_a_fault_the_same_instance_answers_again(upstream: RawUpstream, world: World) -> None:
    with AWSStandIn({}, world.secrets) as aws:
        aws.put(world.stored())
        endpoint = wiring.relay(world.environment(aws.url))
        event = _event(world, "/api/v1/pods", "GET")
        for operations in (("BatchGetItem",), ("GetSecretValue",), ("GetItem", "Query")):
            aws.faults = dict.fromkeys(operations, lambda _: failure(500, "InternalServerError"))
            refused, _, _ = _answered(wiring.relay(world.environment(aws.url)), event)
            assert refused.status in (502, 503)
            aws.faults = {}
            assert _answered(endpoint, event)[0].status == 200


def test_what_is_believed_lasts_through_a_fault_and_no_longer(
    upstream: RawUpstream, world: World
) -> None:
    environment = {"JOBGATE_RELAY_CACHE": "0.3"}
    with AWSStandIn({}, world.secrets) as aws:
        aws.put(world.stored())
        endpoint = wiring.relay(world.environment(aws.url) | environment)
        event = _event(world, "/api/v1/pods", "GET")
        assert _answered(endpoint, event)[0].status == 200
        aws.faults = {"BatchGetItem": lambda _: failure(500, "InternalServerError")}
        assert _answered(endpoint, event)[0].status == 200
        until = time.monotonic() + 5
        while (status := _answered(endpoint, event)[0].status) == 200:
            assert time.monotonic() < until
        assert status == 503


def test_the_document_shows_the_table() -> None:
    assert table() in _DOCUMENT.read_text(), "run python -m tests.support.relay_faults"
