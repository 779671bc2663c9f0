"""The least that can stream: an event in, one request on a kept socket, its bytes out."""

import json
import os
import socket
import ssl
from urllib.parse import urlsplit

_SETTINGS = json.loads(os.environ["PEER_SETTINGS"])
_API = os.environ["AWS_LAMBDA_RUNTIME_API"]
_ROOT = "/2018-06-01/runtime/invocation"
_NEXT = f"GET {_ROOT}/next HTTP/1.1\r\nHost: {_API}\r\n\r\n".encode()


def main():
    cluster = _connect(_SETTINGS["cluster"], ssl.create_default_context(cafile=_SETTINGS["ca"]))
    while True:
        api = _connect(f"http://{_API}", None)
        api.sendall(_NEXT)
        head, event = _message(api)
        request_id = head.split(b"Aws-Request-Id: ")[1].split(b"\r\n")[0].decode()
        _carry(api, cluster, request_id, json.loads(event))
        api.close()


def _carry(api, cluster, request_id, event):
    path = event["path"].split("/", 3)[3]
    cluster.sendall(
        f"{event['httpMethod']} /{path} HTTP/1.1\r\nHost: c\r\n"
        f"Authorization: Bearer {_SETTINGS['credential']}\r\n"
        "Impersonate-User: gitlab:ci_job:42\r\n\r\n".encode()
    )
    data = _head(cluster)
    head, _, body = data.partition(b"\r\n\r\n")
    prelude = b'{"statusCode":200,"headers":{"Content-Type":"application/json"}}' + b"\0" * 8
    opening = (
        f"POST {_ROOT}/{request_id}/response HTTP/1.1\r\nHost: {_API}\r\n"
        "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
        "Content-Type: application/vnd.awslambda.http-integration-response\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode() + b"%x\r\n%b\r\n" % (len(prelude), prelude)
    if b"chunked" in head:
        # The cluster's framing serves as ours.
        api.sendall(opening + body)
        while not body.endswith(b"0\r\n\r\n"):
            body = cluster.recv(65_536)
            api.sendall(body)
    else:
        left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        api.sendall(opening)
        while left:
            body = body or cluster.recv(65_536)
            api.sendall(b"%x\r\n%b\r\n" % (len(body), body))
            left -= len(body)
            body = b""
        api.sendall(b"0\r\n\r\n")
    _message(api)


def _connect(url, tls):
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname, parts.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(sock, server_hostname=parts.hostname) if tls else sock


def _head(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65_536)
    return data


def _message(sock):
    head, _, body = _head(sock).partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(65_536)
    return head, body


if __name__ == "__main__":
    main()
