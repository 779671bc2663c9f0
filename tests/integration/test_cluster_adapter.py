from __future__ import annotations

import datetime as dt
import gzip
import select
import ssl
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jobgate.adapters import cluster as cluster_adapter
from jobgate.adapters.cluster import DirectClusterGateway
from jobgate.core.cluster_credential import ClientCertificate
from jobgate.core.errors import OutOfTime, TimedOut, Unanswered, Unavailable
from jobgate.core.upstream_request import UpstreamRequest

from local.certificates import CertificateAuthority
from local.process import free_port
from tests.support.relay_parts import NOW, Clock, a_cluster
from tests.support.relay_upstream import OK, End, Left, RawUpstream, Reset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobgate.core.agent import ClusterConnection
    from jobgate.ports.relay import UpstreamResponse

    from local.certificates import ServerCertificate


@pytest.fixture(scope="module")
def certificate(authority: CertificateAuthority) -> ServerCertificate:
    return authority.issue("upstream", authority.certificate.parent)


class Caller:
    """A gateway towards one upstream, whose CA is pinned."""

    def __init__(self, authority: CertificateAuthority) -> None:
        self.clock = Clock()
        self.gateway = DirectClusterGateway(clock=self.clock)
        self.ca = authority.certificate.read_text()
        self.certificate: ClientCertificate | None = None

    def cluster(self, upstream: RawUpstream) -> ClusterConnection:
        return a_cluster(server=upstream.url, ca=self.ca)

    def send(
        self, upstream: RawUpstream, method: str = "GET", target: str = "/x", **options: Any
    ) -> UpstreamResponse:
        body = options.get("body", b"")
        headers = options.get("headers", (("Host", "h"),))
        if method not in ("GET", "HEAD"):
            headers += (("Content-Length", str(len(body))),)
        request = UpstreamRequest(
            method=method,
            target=target,
            headers=headers,
            body=body,
            long_running=options.get("long_running", False),
            proxied=False,
        )
        return self.gateway.send(
            options.get("cluster") or self.cluster(upstream),
            request,
            certificate=self.certificate,
            deadline=options.get("deadline", self.clock() + 30),
            meanwhile=options.get("meanwhile", _nothing),
        )

    def status(self, upstream: RawUpstream, **options: Any) -> int:
        answer = self.send(upstream, **options)
        answer.close()
        return answer.status

    def body(self, upstream: RawUpstream, **options: Any) -> bytes:
        answer = self.send(upstream, **options)
        try:
            return b"".join(answer.chunks())
        finally:
            answer.close()


@pytest.fixture
def caller(authority: CertificateAuthority) -> Iterator[Caller]:
    caller = Caller(authority)
    yield caller
    caller.gateway.close()


def _nothing() -> None:
    """What is done while a head is awaited."""


def _chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + end


def test_a_request_arrives_byte_for_byte(caller: Caller, certificate: ServerCertificate) -> None:
    with RawUpstream(certificate) as upstream:
        answer = caller.send(
            upstream,
            method="PATCH",
            target="/api/v1/a%2Cb?x=%20",
            headers=(("Host", "h"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")),
            body=b"\0\r\n\r\nGET / HTTP/1.1",
        )
        assert b"".join(answer.chunks()) == b"ok"
    (request,) = upstream.requests
    assert request == (
        b"PATCH /api/v1/a%2Cb?x=%20 HTTP/1.1\r\nHost: h\r\nImpersonate-Group: a\r\n"
        b"Impersonate-Group: b\r\nContent-Length: 19\r\n\r\n\0\r\n\r\nGET / HTTP/1.1"
    )


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/a b", ()),
        ("GET", "/a\r\nX: y", ()),
        ("GET", "a", ()),
        ("GET", "/\u03bb", ()),
        ("G T", "/", ()),
        ("GET", "/", (("A", "b\r\nImpersonate-User: root"),)),
        ("GET", "/", (("A", "b\0"),)),
        ("GET", "/", (("A\r\nB", "c"),)),
        ("GET", "/", (("A:", "c"),)),
        ("GET", "/", (("A ", "c"),)),
        ("GET", "/", (("", "c"),)),
    ],
)
def test_what_would_be_another_request_is_never_sent(
    caller: Caller, certificate: ServerCertificate, method: str, target: str, headers: Any
) -> None:
    with RawUpstream(certificate) as upstream:
        with pytest.raises(ValueError, match="can't be sent"):
            caller.send(upstream, method=method, target=target, headers=headers)
        assert upstream.connections == 0


# --- Bodies ---


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b""),
        (_chunked(b"a", b"bc" * 5000), b"a" + b"bc" * 5000),
        (_chunked(), b""),
        (_chunked(b"a", end=b"0\r\nX: y\r\nZ: \r\n\r\n"), b"a"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n", b"a"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        ((b"HTTP/1.1 200 OK\r\n\r\nto the end", End()), b"to the end"),
    ],
)
def test_a_body_is_read_to_its_end(
    caller: Caller, certificate: ServerCertificate, answer: Any, body: bytes
) -> None:
    with RawUpstream(certificate, answer) as upstream:
        assert caller.body(upstream) == body


def test_a_body_that_comes_byte_by_byte_is_the_same(
    caller: Caller, certificate: ServerCertificate
) -> None:
    whole = b"HTTP/1.1 200 OK\r\nA: \tb \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    steps = tuple(whole[i : i + 1] for i in range(len(whole)))
    with RawUpstream(certificate, steps) as upstream:
        answer = caller.send(upstream)
        assert answer.headers == (("A", "b"), ("Transfer-Encoding", "chunked"))
        assert b"".join(answer.chunks()) == b"ab"


def test_a_head_request_has_no_body(caller: Caller, certificate: ServerCertificate) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
    with RawUpstream(certificate, answer, OK) as upstream:
        assert caller.body(upstream, method="HEAD") == b""
        assert caller.body(upstream) == b"ok"
        assert upstream.connections == 1


def test_gzip_is_never_unpacked(caller: Caller, certificate: ServerCertificate) -> None:
    packed = gzip.compress(b"x" * 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with RawUpstream(certificate, head + packed) as upstream:
        assert caller.body(upstream) == packed


def test_a_large_body_is_passed_on_in_pieces(
    caller: Caller, certificate: ServerCertificate
) -> None:
    size, piece = 20_000_000, b"x" * 1_000_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    with RawUpstream(certificate, (head, *([piece] * 20))) as upstream:
        pieces = [len(each) for each in caller.send(upstream).chunks()]
    assert sum(pieces) == size
    assert max(pieces) <= 65_536


def test_each_event_of_a_watch_arrives_when_it_is_sent(
    caller: Caller, certificate: ServerCertificate
) -> None:
    go = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with RawUpstream(certificate, (head, go, b"3\r\none\r\n", b"0\r\n\r\n")) as upstream:
        answer = caller.send(upstream, long_running=True)
        pieces = answer.chunks()
        assert answer.status == 200
        assert next(pieces) == b""
        go.set()
        assert b"".join(pieces) == b"one"


def test_a_silent_watch_says_so_now_and_then(
    caller: Caller, certificate: ServerCertificate
) -> None:
    go = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with RawUpstream(certificate, (head, go, b"1\r\nx\r\n0\r\n\r\n")) as upstream:
        pieces = caller.send(upstream, long_running=True).chunks()
        assert [next(pieces) for _ in range(3)] == [b"", b"", b""]
        go.set()
        assert b"".join(pieces) == b"x"


@pytest.mark.parametrize(
    "answer",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", End()),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", Reset()),
        (b"HTTP/1.1 200 OK\r\n\r\nno goodbye", End(politely=False)),
        (_chunked(b"a", end=b""), End()),
        (_chunked(b"a", end=b"5\r\nab"), End()),
        (_chunked(b"a", end=b"0\r\n"), End()),
        _chunked(b"a", end=b"zz\r\n"),
        _chunked(b"a", end=b"-1\r\n"),
        _chunked(b"a", end=b"0x1\r\n"),
        _chunked(b"a", end=b"1\r\nbc\r\n"),
        _chunked(b"a", end=b"1\nb\n0\n\n" + b"x" * 5000),
        _chunked(b"a", end=b"f" * 16 + b"\r\n"),
        _chunked(b"a", end=b"0\r\n" + b"A: b\r\n" * 100),
    ],
)
def test_a_body_that_breaks_off_is_an_error(
    caller: Caller, certificate: ServerCertificate, answer: Any
) -> None:
    with RawUpstream(certificate, answer, OK) as upstream:
        # A reset may overtake the bytes before it, the head included.
        with pytest.raises(Unavailable):
            caller.body(upstream)
        assert caller.body(upstream) == b"ok"
        assert upstream.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 99 No\r\n\r\n",
        b"HTTP/1.1 600 No\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rB: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
        (b"HTTP/1.1 200 OK\r\nA: b", End()),
        (End(),),
        (Reset(),),
    ],
)
def test_a_head_that_can_not_be_trusted_is_unreachable(
    caller: Caller, certificate: ServerCertificate, answer: Any
) -> None:
    with RawUpstream(certificate, answer) as upstream, pytest.raises(Unanswered) as raised:
        caller.send(upstream)
    assert not isinstance(raised.value, TimedOut)


def test_a_redirect_is_not_followed(caller: Caller, certificate: ServerCertificate) -> None:
    with RawUpstream(certificate) as elsewhere:
        head = b"HTTP/1.1 302 Found\r\nLocation: %b/\r\n" % elsewhere.url.encode()
        with RawUpstream(certificate, head + b"Content-Length: 0\r\n\r\n") as upstream:
            assert caller.status(upstream) == 302
        assert elsewhere.connections == 0


# --- Connections ---


def test_one_connection_serves_request_after_request(
    caller: Caller, certificate: ServerCertificate
) -> None:
    with RawUpstream(certificate) as upstream:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "GET"):
            assert caller.body(upstream, method=method) == b"ok"
        assert upstream.connections == 1


@pytest.mark.parametrize(
    ("idle", "method", "connections"),
    [(49, "GET", 1), (51, "GET", 2), (4, "POST", 1), (6, "POST", 2), (-1, "GET", 2)],
)
def test_an_idle_connection_is_trusted_for_a_while_only(
    caller: Caller, certificate: ServerCertificate, idle: float, method: str, connections: int
) -> None:
    with RawUpstream(certificate) as upstream:
        caller.body(upstream)
        caller.clock.now = NOW + idle
        caller.body(upstream, method=method)
        assert upstream.connections == connections


def test_a_new_connection_resumes_the_tls_session(
    caller: Caller, certificate: ServerCertificate
) -> None:
    with RawUpstream(certificate) as upstream:
        caller.body(upstream)
        caller.clock.now = NOW + 60
        caller.body(upstream)
        assert (upstream.connections, upstream.resumed) == (2, 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_was_closed_meanwhile_is_replaced(
    caller: Caller, certificate: ServerCertificate, method: str
) -> None:
    closing = (OK, End())
    with RawUpstream(certificate, closing, OK) as upstream:
        caller.body(upstream)
        _until_closed(caller)
        assert caller.body(upstream, method=method) == b"ok"
        assert len(upstream.requests) == 2


def _until_closed(caller: Caller) -> None:
    (connection,) = caller.gateway._connections.values()
    assert connection._idle is not None
    poll = select.poll()
    poll.register(connection._idle[0].sock, select.POLLIN)
    assert poll.poll(20_000)


@pytest.mark.parametrize("step", [End(), Reset()])
def test_only_what_changes_nothing_is_sent_twice(
    caller: Caller, certificate: ServerCertificate, step: Any
) -> None:
    """The server takes the second request on a kept connection, and ends without an answer."""
    for method, expected in (("GET", 3), ("HEAD", 3)):
        with RawUpstream(certificate, OK, (step,), OK) as upstream:
            caller.body(upstream)
            answer = caller.send(upstream, method=method)
            answer.close()
            assert len(upstream.requests) == expected
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        with RawUpstream(certificate, OK, (step,), OK) as upstream:
            caller.body(upstream)
            with pytest.raises(Unanswered):
                caller.send(upstream, method=method)
            assert len(upstream.requests) == 2


def test_an_answer_that_began_is_never_asked_for_again(
    caller: Caller, certificate: ServerCertificate
) -> None:
    with RawUpstream(certificate, OK, (b"HTTP/1.1 200 OK\r\n", Reset()), OK) as upstream:
        caller.body(upstream)
        with pytest.raises(Unavailable):
            caller.send(upstream)
        assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ],
)
def test_a_connection_that_closes_or_says_too_much_is_not_kept(
    caller: Caller, certificate: ServerCertificate, answer: bytes
) -> None:
    with RawUpstream(certificate, answer, OK) as upstream:
        assert caller.body(upstream) == b"ok"
        assert caller.body(upstream) == b"ok"
        assert upstream.connections == 2


def test_an_answer_that_was_not_read_to_its_end_is_not_the_next_ones(
    caller: Caller, certificate: ServerCertificate
) -> None:
    with RawUpstream(certificate, _chunked(b"first", b"x"), OK) as upstream:
        answer = caller.send(upstream)
        next(answer.chunks())
        answer.close()
        assert caller.body(upstream) == b"ok"
        assert upstream.connections == 2


def test_an_answer_before_the_request_was_taken_whole_is_passed_on(
    caller: Caller, certificate: ServerCertificate
) -> None:
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    with RawUpstream(certificate, early=early) as upstream:
        assert caller.body(upstream, method="POST", body=bytes(16 * 1024 * 1024)) == b"no"
    (connection,) = caller.gateway._connections.values()
    assert connection._idle is None


@pytest.mark.parametrize("long_running", [False, True])
def test_silence_in_an_ordinary_answer_breaks_it_off_and_in_a_long_one_it_does_not(
    caller: Caller,
    certificate: ServerCertificate,
    monkeypatch: pytest.MonkeyPatch,
    *,
    long_running: bool,
) -> None:
    now, go_on = [0.0], threading.Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    with RawUpstream(certificate, (head, go_on, b"ok")) as upstream:
        answer = caller.send(upstream, long_running=long_running)
        monkeypatch.setattr(cluster_adapter, "time", SimpleNamespace(monotonic=lambda: now[0]))
        pieces = answer.chunks()
        try:
            assert next(pieces) == b""
            now[0] = 71.0
            if long_running:
                assert next(pieces) == b""
            else:
                with pytest.raises(TimedOut, match="in the middle"):
                    next(pieces)
        finally:
            go_on.set()
            answer.close()


# --- Trust ---


def test_a_server_of_another_authority_is_not_spoken_to(
    caller: Caller, certificate: ServerCertificate, tmp_path: Path
) -> None:
    caller.ca = CertificateAuthority.create(tmp_path).certificate.read_text()
    with RawUpstream(certificate) as upstream:
        with pytest.raises(Unavailable, match="SSLCertVerificationError"):
            caller.send(upstream)
        assert upstream.requests == []


def test_without_a_pinned_authority_the_public_ones_count(
    caller: Caller, certificate: ServerCertificate
) -> None:
    with RawUpstream(certificate) as upstream, pytest.raises(Unavailable):
        caller.send(upstream, cluster=a_cluster(server=upstream.url, ca=None))


@pytest.mark.parametrize("name", ["elsewhere.test", "127.0.0.2", "localhost.elsewhere.test"])
def test_a_certificate_for_another_name_is_refused(
    caller: Caller, certificate: ServerCertificate, name: str
) -> None:
    with RawUpstream(certificate) as upstream:
        cluster = a_cluster(server=upstream.url, ca=caller.ca, tls_server_name=name)
        with pytest.raises(Unavailable, match="SSLCertVerificationError"):
            caller.send(upstream, cluster=cluster)
        assert upstream.requests == []


def test_a_connection_is_kept_for_the_name_that_its_certificate_was_checked_for(
    caller: Caller, certificate: ServerCertificate
) -> None:
    with RawUpstream(certificate) as upstream:
        named = a_cluster(server=upstream.url, ca=caller.ca, tls_server_name="localhost")
        other = a_cluster(server=upstream.url, ca=caller.ca, tls_server_name="elsewhere.test")
        assert caller.body(upstream, cluster=named) == b"ok"
        with pytest.raises(Unavailable):
            caller.send(upstream, cluster=other)
        assert caller.body(upstream, cluster=named) == b"ok"


def test_a_connection_is_kept_for_the_authority_that_vouched_for_it(
    caller: Caller, certificate: ServerCertificate, tmp_path: Path
) -> None:
    with RawUpstream(certificate) as upstream:
        assert caller.body(upstream) == b"ok"
        caller.ca = CertificateAuthority.create(tmp_path).certificate.read_text()
        with pytest.raises(Unavailable, match="SSLCertVerificationError"):
            caller.send(upstream)
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("server", ["http://127.0.0.1:1", "ftp://x", "127.0.0.1", "https://"])
def test_only_https_is_spoken(caller: Caller, server: str) -> None:
    with pytest.raises(Unavailable, match="isn't an https URL"):
        caller.gateway.send(
            a_cluster(server=server, ca=caller.ca),
            UpstreamRequest(
                method="GET", target="/", headers=(), body=b"", long_running=False, proxied=False
            ),
            certificate=None,
            deadline=NOW + 30,
            meanwhile=_nothing,
        )


def test_a_client_certificate_is_shown_and_kept_apart(
    caller: Caller, authority: CertificateAuthority, certificate: ServerCertificate, tmp_path: Path
) -> None:
    client = _client_certificate(authority, tmp_path)
    with RawUpstream(certificate, ca=authority.certificate) as upstream:
        caller.certificate = client
        assert caller.body(upstream) == b"ok"
        caller.certificate = None
        with pytest.raises(Unavailable):
            caller.body(upstream)
        assert len(upstream.requests) == 1
        assert upstream.peers[0]["subject"] == ((("commonName", "relay"),),)


def test_a_key_that_is_none_is_unreachable(caller: Caller, certificate: ServerCertificate) -> None:
    caller.certificate = ClientCertificate("no certificate", "no key")
    with RawUpstream(certificate) as upstream, pytest.raises(Unavailable):
        caller.send(upstream)


def _client_certificate(authority: CertificateAuthority, folder: Path) -> ClientCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(authority._name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=36_500))
        .sign(authority._key, hashes.SHA256())
    )
    return ClientCertificate(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


# --- Time ---


def test_nobody_there_is_unreachable(caller: Caller, authority: CertificateAuthority) -> None:
    server = f"https://127.0.0.1:{free_port()}"
    request = UpstreamRequest(
        method="GET", target="/", headers=(), body=b"", long_running=False, proxied=False
    )
    with pytest.raises(Unavailable, match="ConnectionRefusedError") as raised:
        caller.gateway.send(
            a_cluster(server=server, ca=caller.ca),
            request,
            certificate=None,
            deadline=NOW + 30,
            meanwhile=_nothing,
        )
    assert not isinstance(raised.value, Unanswered)


@pytest.mark.parametrize("long_running", [False, True])
def test_a_head_that_does_not_come_is_a_time_out(
    caller: Caller, certificate: ServerCertificate, *, long_running: bool
) -> None:
    never = threading.Event()
    with RawUpstream(certificate, (never,)) as upstream:
        with pytest.raises(TimedOut):
            caller.send(upstream, long_running=long_running, deadline=NOW + 2.2)
        never.set()


class GivenUpError(Exception):
    """What is done while a head is awaited says that it isn't wanted any more."""


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("came", [(), (b"HTTP/1.1 200",), (b"HTTP/1.1 103 Early Hints\r\n\r\n",)])
@pytest.mark.parametrize("kept", [False, True])
def test_who_gives_up_waiting_for_a_head_closes_the_connection(
    caller: Caller, certificate: ServerCertificate, method: str, came: Any, *, kept: bool
) -> None:
    left, calls = threading.Event(), []

    def meanwhile() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise GivenUpError

    with RawUpstream(certificate, *[OK] * kept, (*came, Left(left)), OK) as upstream:
        if kept:
            caller.body(upstream)
        with pytest.raises(GivenUpError):
            caller.send(upstream, method=method, long_running=True, meanwhile=meanwhile)
        assert left.wait(20)
        assert len(upstream.requests) == 1 + kept
        assert caller.body(upstream) == b"ok"
        assert upstream.connections == 2


def test_a_large_request_that_is_not_taken_can_be_given_up(
    caller: Caller, certificate: ServerCertificate
) -> None:
    never, begun = threading.Event(), time.monotonic()

    def meanwhile() -> None:
        if time.monotonic() > begun + 1:
            raise GivenUpError

    with RawUpstream(certificate, early=never) as upstream:
        with pytest.raises(GivenUpError):
            caller.send(upstream, method="POST", body=bytes(64 << 20), meanwhile=meanwhile)
        never.set()


def test_a_large_request_arrives_byte_for_byte(
    caller: Caller, certificate: ServerCertificate
) -> None:
    body = bytes(range(256)) * 24_000
    with RawUpstream(certificate) as upstream:
        assert caller.body(upstream, method="PUT", body=body) == b"ok"
        assert upstream.requests[0].endswith(b"\r\n\r\n" + body)


def test_a_head_that_trickles_in_leaves_time_for_something_else(
    caller: Caller, certificate: ServerCertificate
) -> None:
    """Byte by byte it's never silent for long."""
    calls: list[int] = []
    with RawUpstream(certificate, tuple(OK[i : i + 1] for i in range(len(OK)))) as upstream:
        caller.body(upstream, meanwhile=lambda: calls.append(1))
    assert len(calls) > 5


def test_no_time_left_is_a_time_out_before_anything_is_sent(
    caller: Caller, certificate: ServerCertificate
) -> None:
    with RawUpstream(certificate) as upstream:
        with pytest.raises(OutOfTime):
            caller.send(upstream, deadline=NOW + 1)
        assert upstream.connections == 0


def test_many_clusters_keep_few_connections(caller: Caller, certificate: ServerCertificate) -> None:
    with RawUpstream(certificate) as upstream:
        for number in range(40):
            server = f"{upstream.url}/{number}"
            caller.body(upstream, cluster=a_cluster(server=server, ca=caller.ca))
        assert len(caller.gateway._connections) == 16


def test_tls_below_1_2_is_refused(
    caller: Caller, certificate: ServerCertificate, recwarn: pytest.WarningsRecorder
) -> None:
    with RawUpstream(certificate) as upstream:
        caller.body(upstream)
    (connection,) = caller.gateway._connections.values()
    tls = connection._origin.tls
    assert tls is not None
    assert tls.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname
