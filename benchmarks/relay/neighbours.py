"""What stands around the relay in the benchmark, in a process of its own: a cluster and AWS.

    python -m benchmarks.relay.neighbours FOLDER

The cluster is a socket with TLS that answers 1 KB, 100 KB, 5 MB or a short watch, and refuses what
lacks the credential or the impersonated user. Prints one line of JSON, and ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

from local.certificates import CertificateAuthority
from tests.support.aws_stand_in import AWSStandIn
from tests.support.relay_parts import a_job
from tests.support.relay_world import RELAY_TOKEN, TABLE, World

SIZES = {"small": 1024, "medium": 100 * 1024, "large": 5 * 1024 * 1024}
WATCH_EVENTS = 3
WATCH_PAUSE_SECONDS = 0.01
_NAMED = "/api/v1/namespaces/shop/configmaps/"
WATCH = "/api/v1/namespaces/shop/pods"
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


def path_of(size: str) -> str:
    """The path of an object of a size."""
    return _NAMED + size


class _Cluster:
    def __init__(self, certificate: Path, key: Path) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"https://127.0.0.1:{self._server.getsockname()[1]}"
        self._answers = {
            name: _JSON + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
            for name, size in SIZES.items()
        }

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            plain, _ = self._server.accept()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self._tls.wrap_socket(plain, server_side=True) as sock:
            while head := _read_head(sock):
                lower = head.lower()
                if (
                    b"authorization: bearer " + RELAY_TOKEN.encode() not in lower
                    or b"impersonate-user: gitlab:ci_job:" not in lower
                ):
                    sock.sendall(_REFUSED)
                elif (path := head.split(b" ", 2)[1].decode()).startswith(_NAMED):
                    sock.sendall(self._answers[path.removeprefix(_NAMED)])
                else:
                    _watch(sock)


def _read_head(sock: ssl.SSLSocket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = sock.recv(65_536)
        if not more:
            return b""
        data += more
    return data


def _watch(sock: ssl.SSLSocket) -> None:
    event = json.dumps({"type": "ADDED", "object": {"kind": "Pod", "x": "x" * 400}}).encode()
    chunk = b"%x\r\n%b\r\n" % (len(event), event)
    sock.sendall(_JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    for _ in range(WATCH_EVENTS - 1):
        time.sleep(WATCH_PAUSE_SECONDS)
        sock.sendall(chunk)
    sock.sendall(b"0\r\n\r\n")


def main(folder: Path) -> None:
    """Serve until the input ends."""
    authority = CertificateAuthority.create(folder)
    issued = authority.issue("cluster", folder)
    cluster = _Cluster(issued.certificate, issued.key)
    now = time.time()  # noqa: TID251  tokens are dated by the machine's clock
    world = World(server=cluster.url, ca=authority.certificate.read_text(), now=now)
    with AWSStandIn({}, world.secrets) as aws:
        aws.put(world.stored())
        cluster.start()
        told = {
            "cluster": cluster.url,
            "ca": str(authority.certificate),
            "environment": world.environment(aws.url),
            "table": TABLE,
            "job_id": a_job().job_id,
            "token": world.token(),
            "jwk": dict(world.public_key().jwk),
            "events": {
                **{size: world.event(path_of(size)) for size in SIZES},
                "watch": world.event(
                    WATCH,
                    queryStringParameters={"watch": "true"},
                    multiValueQueryStringParameters={"watch": ["true"]},
                ),
            },
        }
        print(json.dumps(told), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
