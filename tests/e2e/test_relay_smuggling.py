"""Forms of request smuggling, and targets that can be read in two ways, through gateway and relay.

Whatever a raw client sends as one request is one at the cluster at most, and the relay's own.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.recorded_cluster import RecordedCluster

pytestmark = pytest.mark.stack

_PATH = "/api/v1/namespaces/shop/pods"
_SMUGGLED = b"GET /api/v1/namespaces/kube-system/secrets HTTP/1.1\r\nHost: h\r\n\r\n"
_TOO_LONG = b"%x" % (1 << 70)


def _post(*lines: bytes) -> tuple[bytes, ...]:
    return (b"Content-Type: application/json", *lines)


_FORMS: dict[str, tuple[tuple[bytes, ...], bytes]] = {
    "both lengths": (
        _post(b"Content-Length: 4", b"Transfer-Encoding: chunked"),
        b"0\r\n\r\n" + _SMUGGLED,
    ),
    "both lengths, the other way": (
        _post(b"Transfer-Encoding: chunked", b"Content-Length: 6"),
        b"0\r\n\r\nX" + _SMUGGLED,
    ),
    "two lengths": (_post(b"Content-Length: 2", b"Content-Length: 90"), b"{}" + _SMUGGLED),
    "a list of lengths": (_post(b"Content-Length: 2, 90"), b"{}" + _SMUGGLED),
    "a signed length": (_post(b"Content-Length: +2"), b"{}" + _SMUGGLED),
    "a negative length": (_post(b"Content-Length: -1"), b"{}" + _SMUGGLED),
    "a length in words": (_post(b"Content-Length: 0x2"), b"{}" + _SMUGGLED),
    "space before the colon": (_post(b"Content-Length : 90"), b"{}" + _SMUGGLED),
    "space before the coding's colon": (
        _post(b"Transfer-Encoding : chunked", b"Content-Length: 2"),
        b"{}" + _SMUGGLED,
    ),
    "another coding": (
        _post(b"Transfer-Encoding: xchunked", b"Content-Length: 2"),
        b"{}" + _SMUGGLED,
    ),
    "a coding twice": (
        _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        b"2\r\n{}\r\n0\r\n\r\n" + _SMUGGLED,
    ),
    "a coding with a tab": (
        _post(b"Transfer-Encoding:\x0bchunked", b"Content-Length: 2"),
        b"{}" + _SMUGGLED,
    ),
    "a folded line": (_post(b"Transfer-Encoding:", b" chunked"), b"2\r\n{}\r\n0\r\n\r\n"),
    "a folded header of ours": (_post(b"X-A: b", b" Impersonate-User: root"), b""),
    "two hosts": (_post(b"Host: elsewhere", b"Content-Length: 2"), b"{}" + _SMUGGLED),
    "a bare LF in the head": (_post(b"X-A: b\nImpersonate-User: root"), b""),
    "a bare LF ends the head": (_post(b"X-A: b\n\n" + _SMUGGLED), b""),
    "a huge chunk": (_post(b"Transfer-Encoding: chunked"), _TOO_LONG + b"\r\n{}" + _SMUGGLED),
    "a negative chunk": (
        _post(b"Transfer-Encoding: chunked"),
        b"-2\r\n{}\r\n0\r\n\r\n" + _SMUGGLED,
    ),
    "a chunk with a bare LF": (
        _post(b"Transfer-Encoding: chunked"),
        b"2\n{}\n0\n\n" + _SMUGGLED,
    ),
    "a chunk longer than its size": (
        _post(b"Transfer-Encoding: chunked"),
        b"2\r\n{}XX\r\n0\r\n\r\n" + _SMUGGLED,
    ),
    "a chunk size with an underscore": (
        _post(b"Transfer-Encoding: chunked"),
        b"0_2\r\n{}\r\n0\r\n\r\n" + _SMUGGLED,
    ),
    "a chunk extension with a bare LF": (
        _post(b"Transfer-Encoding: chunked"),
        b"2;a\nb\r\n{}\r\n0\r\n\r\n" + _SMUGGLED,
    ),
    "trailers that name headers": (
        _post(b"Transfer-Encoding: chunked"),
        b"2\r\n{}\r\n0\r\nImpersonate-User: root\r\nAuthorization: x\r\n\r\n",
    ),
    "a body with a GET": ((b"Content-Length: 2",), b"{}" + _SMUGGLED),
    "a second request behind": (_post(b"Content-Length: 2"), b"{}" + _SMUGGLED),
    "HTTP/1.0 with a coding": (
        _post(b"Transfer-Encoding: chunked", b"Connection: keep-alive"),
        b"",
    ),
    "an upgrade to HTTP/2": (
        _post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        _SMUGGLED,
    ),
    "Expect": (_post(b"Expect: 100-continue", b"Content-Length: 2"), b"{}" + _SMUGGLED),
}


@pytest.mark.parametrize("form", _FORMS)
def test_a_form_of_smuggling_is_one_request_at_most(
    recorded: RecordedCluster, identity: list[bytes], form: str
) -> None:
    lines, rest = _FORMS[form]
    method = "GET" if form == "a body with a GET" else "POST"
    data = recorded.head("/api/v1/namespaces/shop/configmaps", lines, method=method) + rest
    if form.startswith("HTTP/1.0"):
        data = data.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
    _, requests = recorded.arrived(data)
    assert len(requests) <= 1, requests
    for request in requests:
        head, _, body = request.partition(b"\r\n\r\n")
        given = head.split(b"\r\n")
        assert given[0] == f"{method} /api/v1/namespaces/shop/configmaps HTTP/1.1".encode()
        assert body in (b"{}", b"")
        assert b"Content-Length: %d" % len(body) in given
        assert [line for line in given if line.lower().startswith(b"impersonate")] == identity
        assert b"kube-system" not in request
        assert b"root" not in b"".join(line for line in given if b"username" not in line)


_TARGETS = (
    *(
        f"/api/v1/namespaces/shop{inner}{end}"
        for inner, end in itertools.product(
            ("/../kube-system", "/%2e%2e/kube-system", "//kube-system", "/a%2fb", "/a%2Fb", "/./x"),
            ("/secrets", "/"),
        )
    ),
    "/api/v1/pods\\..\\secrets",
    "/api/v1/%00",
    "/api/v1/%",
    "/api/v1/a%0d%0ab",
    "/api/v1/pods#x",
)


@pytest.mark.parametrize("target", _TARGETS)
def test_a_target_that_can_be_read_in_two_ways_reaches_no_cluster(
    recorded: RecordedCluster, target: str
) -> None:
    statuses, requests = recorded.arrived(recorded.head(target))
    assert requests == []
    assert all(status >= 400 for status in statuses)


@pytest.mark.parametrize(
    "target",
    ["https://elsewhere.example{}", "http://elsewhere.example{}", "elsewhere.example:443", "*"],
)
def test_an_absolute_target_reaches_no_other_host(recorded: RecordedCluster, target: str) -> None:
    own = recorded.target(_PATH)
    data = recorded.head(_PATH).replace(own.encode(), target.format(own).encode(), 1)
    _, requests = recorded.arrived(data)
    host = recorded.upstream.url.removeprefix("https://").encode()
    for request in requests:
        assert request.startswith(f"GET {_PATH} HTTP/1.1\r\n".encode())
        assert b"Host: " + host in request.split(b"\r\n")
    assert len(requests) <= 1
