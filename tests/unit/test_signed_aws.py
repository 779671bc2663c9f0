from __future__ import annotations

import contextlib
import datetime as dt
import socket
import threading
from typing import TYPE_CHECKING, Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.http_connection import Timeouts
from jobgate.adapters.signature_v4 import AWSCredentials, signed_headers
from jobgate.adapters.signed_aws import SignedAWS
from jobgate.core.errors import Unavailable

from local.certificates import CertificateAuthority
from tests.support.relay_parts import NOW, Clock
from tests.support.relay_upstream import RawUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)


@given(
    access_key=_KEYS,
    secret_key=_KEYS,
    session=st.none() | _KEYS,
    region=st.sampled_from(["eu-central-1", "us-gov-west-1", "cn-north-1"]),
    service=st.sampled_from(["dynamodb", "kms", "secretsmanager"]),
    target=_VALUES.map(str.strip).filter(bool),
    body=st.binary(max_size=200),
    at=st.integers(min_value=0, max_value=4_000_000_000),
)
def test_the_signature_is_botocores_bit_for_bit(
    access_key: str,
    secret_key: str,
    session: str | None,
    region: str,
    service: str,
    target: str,
    body: bytes,
    at: int,
) -> None:
    host = f"{service}.{region}.amazonaws.com"
    headers = (
        ("Host", host),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("X-Amz-Target", target),
    )
    ours = signed_headers(
        headers,
        body,
        credentials=AWSCredentials(access_key, secret_key, session),
        region=region,
        service=service,
        at=at,
    )
    request = AWSRequest("POST", f"https://{host}/", headers=dict(headers), data=body)
    moment = dt.datetime.fromtimestamp(at, dt.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: moment)
        botocore.auth.SigV4Auth(
            Credentials(access_key, secret_key, session), service, region
        ).add_auth(request)
    assert {k.lower(): v for k, v in ours} == {k.lower(): v for k, v in request.headers.items()}


ENVIRONMENT = {
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": "canary",
    "AWS_SESSION_TOKEN": "session",
}


class FakeAWS:
    """Answers each request by the next of `answers`: a status and a body, or None to hang up."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | None] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def stop(self) -> None:
        for each in (self._server, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join(20)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.append(connection)
            self.connections += 1
            with contextlib.suppress(OSError), connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while line := stream.readline():
                head = line
                length = 0
                while (line := stream.readline()).strip():
                    head += line
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.requests.append(head + stream.read(length))
                answer = self.answers.pop(0) if self.answers else (200, b"{}")
                if answer is None:
                    return
                status, body = answer
                connection.sendall(
                    b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
                )


class Caller:
    def __init__(self, aws: FakeAWS) -> None:
        self.aws = aws
        self.clock = Clock()
        self.pauses: list[float] = []
        self.call = SignedAWS(
            ENVIRONMENT | {"AWS_ENDPOINT_URL": aws.url},
            clock=self.clock,
            pause=self.pauses.append,
        )


@pytest.fixture
def aws() -> Iterator[Caller]:
    server = FakeAWS()
    caller = Caller(server)
    yield caller
    caller.call.close()
    server.stop()


def test_a_call_is_a_signed_post_of_json(aws: Caller) -> None:
    aws.aws.answers = [(200, b'{"Item":{"a":{"S":"b"}}}')]
    assert aws.call("dynamodb", "GetItem", {"TableName": "t"}) == {"Item": {"a": {"S": "b"}}}
    (request,) = aws.aws.requests
    head, _, body = request.partition(b'{"')
    assert head.startswith(b"POST / HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"X-Amz-Target: DynamoDB_20120810.GetItem\r\n" in head
    assert b"Content-Type: application/x-amz-json-1.0\r\n" in head
    assert b"X-Amz-Security-Token: session\r\n" in head
    assert b"Credential=AKIA/20270115/eu-central-1/dynamodb/aws4_request" in head
    assert body == b'TableName":"t"}'
    assert b"canary" not in request


@pytest.mark.parametrize(
    ("service", "operation", "target"),
    [
        ("kms", "Sign", b"TrentService.Sign"),
        ("secretsmanager", "GetSecretValue", b"secretsmanager.GetSecretValue"),
        ("dynamodb", "BatchGetItem", b"DynamoDB_20120810.BatchGetItem"),
    ],
)
def test_each_service_is_addressed_in_its_own_words(
    aws: Caller, service: str, operation: str, target: bytes
) -> None:
    aws.call(service, operation, {})
    assert target in aws.aws.requests[0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"Item":{"a":{"B":"AP8="}}}', {"Item": {"a": {"B": b"\0\xff"}}}),
        (b'{"Item":{"a":{"BS":["AA==","/w=="]}}}', {"Item": {"a": {"BS": [b"\0", b"\xff"]}}}),
        (b'{"Item":{"B":{"S":"AP8="}}}', {"Item": {"B": {"S": "AP8="}}}),
        (b'{"Item":{"BS":{"L":[]}}}', {"Item": {"BS": {"L": []}}}),
        (b'{"Item":{"Signature":{"S":"x"}}}', {"Item": {"Signature": {"S": "x"}}}),
        (b'{"Signature":"AP8=","KeyId":"AA=="}', {"Signature": b"\0\xff", "KeyId": "AA=="}),
        (b'{"SecretBinary":"AP8="}', {"SecretBinary": b"\0\xff"}),
    ],
)
def test_binary_values_are_bytes(aws: Caller, answer: bytes, expected: dict[str, Any]) -> None:
    aws.aws.answers = [(200, answer)]
    assert aws.call("kms", "Sign", {"Message": b"\0\xff"}) == expected
    assert b'{"Message":"AP8="}' in aws.aws.requests[0]


def test_only_bytes_are_turned_into_base64(aws: Caller) -> None:
    with pytest.raises(TypeError):
        aws.call("kms", "Sign", {"Message": object()})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (
            b'{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}',
            "ConditionalCheckFailedException",
        ),
        (b'{"__type":"AccessDeniedException","Message":"x"}', "AccessDeniedException"),
        (b"{}", "400"),
    ],
)
def test_what_aws_refuses_is_its_code(aws: Caller, body: bytes, code: str) -> None:
    aws.aws.answers = [(400, body)]
    with pytest.raises(AWSError) as refused:
        aws.call("dynamodb", "GetItem", {})
    assert refused.value.code == code
    assert len(aws.aws.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"{}"),
        (503, b'{"__type":"ServiceUnavailable"}'),
        (400, b'{"__type":"x#ThrottlingException"}'),
        (400, b'{"__type":"ProvisionedThroughputExceededException"}'),
        (200, b"<html>"),
        (200, b"[]"),
        None,
    ],
)
def test_a_read_is_repeated_a_few_times_and_a_write_never(
    aws: Caller, answer: tuple[int, bytes] | None
) -> None:
    aws.aws.answers = [answer, answer, (200, b'{"a":1}')]
    assert aws.call("dynamodb", "BatchGetItem", {}) == {"a": 1}
    assert aws.pauses == [0.05, 0.2]
    aws.aws.answers = [answer] * 9
    with pytest.raises(Unavailable):
        aws.call("dynamodb", "BatchGetItem", {})
    aws.aws.answers = [answer]
    aws.aws.requests.clear()
    with pytest.raises(Unavailable):
        aws.call("dynamodb", "PutItem", {})
    assert len(aws.aws.requests) == 1


def test_one_connection_serves_call_after_call(aws: Caller) -> None:
    for _ in range(5):
        aws.call("dynamodb", "GetItem", {})
    assert aws.aws.connections == 1


def test_an_idle_connection_is_replaced_after_a_while(aws: Caller) -> None:
    aws.call("dynamodb", "GetItem", {})
    aws.clock.now = NOW + 60
    aws.call("dynamodb", "GetItem", {})
    assert aws.aws.connections == 2


def test_a_silent_aws_is_given_up_after_the_given_times() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        call = SignedAWS(
            ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"},
            clock=Clock(),
            pause=lambda _seconds: None,
            timeouts=Timeouts(connect=0.05, send=0.05, head=0.05),
        )
        with pytest.raises(Unavailable, match="TimeoutError"):
            call("dynamodb", "GetItem", {})


def test_nobody_there_is_unavailable() -> None:
    call = SignedAWS(
        {
            "AWS_REGION": "r",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        },
        clock=Clock(),
        pause=lambda _seconds: None,
    )
    with pytest.raises(Unavailable):
        call("kms", "Sign", {})


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_missing_variable_is_named(name: str) -> None:
    given = {"AWS_REGION": "r", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "canary"}
    del given[name]
    with pytest.raises(ValueError, match=f"^{name} is missing$"):
        SignedAWS(given, clock=Clock())


def test_a_private_authority_is_trusted_as_aws_own_tools_do(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    given = {
        "AWS_REGION": "r",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_ENDPOINT_URL": "https://127.0.0.1:9",
        "AWS_CA_BUNDLE": str(bundle),
    }
    authority = CertificateAuthority.create(tmp_path / "ca")
    server = authority.issue("aws", tmp_path / "ca")
    bundle.write_bytes(authority.certificate.read_bytes())
    with RawUpstream(server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as upstream:
        call = SignedAWS({**given, "AWS_ENDPOINT_URL": upstream.url}, clock=Clock())
        assert call("kms", "Sign", {}) == {}
        call.close()


def test_credentials_are_not_shown() -> None:
    assert "canary" not in repr(AWSCredentials("AKIA", "canary", "canary"))
