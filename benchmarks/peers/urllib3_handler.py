"""The same relay the usual way: AWS's own runtime client, boto3 for the table, urllib3.

It decides, builds and records by the relay's own core, so that what differs is what carries: the
loop, the HTTP client, AWS's calls. It answers whole, since this runtime can't stream.
"""

import base64
import os
import ssl
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import boto3
import urllib3
from jobgate import wiring
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.adapters.log import write_line
from jobgate.adapters.relay_endpoint import RelayEndpoint
from jobgate.core.errors import TimedOut, Unavailable

_TEXT = ("application/json", "text/")
_TIMES = urllib3.Timeout(connect=5, read=70)


class _Clusters:
    def __init__(self):
        self._pools = {}

    def send(self, cluster, request, *, certificate, deadline, meanwhile):  # noqa: ARG002
        headers = urllib3.HTTPHeaderDict()
        for name, value in request.headers:
            headers.add(name, value)
        try:
            answer = self._pool(cluster).urlopen(
                request.method,
                request.target,
                body=request.body or None,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=_TIMES,
                decode_content=False,
            )
        except urllib3.exceptions.TimeoutError as exc:
            raise TimedOut("the cluster didn't answer in time") from exc
        except urllib3.exceptions.HTTPError as exc:
            raise Unavailable(f"the cluster: {type(exc).__name__}") from exc
        return _Answer(answer)

    def _pool(self, cluster):
        key = (cluster.server, cluster.ca)
        if key not in self._pools:
            parts = urlsplit(cluster.server)
            trust = ssl.create_default_context(cadata=cluster.ca)
            trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self._pools[key] = urllib3.HTTPSConnectionPool(
                parts.hostname, parts.port, ssl_context=trust
            )
        return self._pools[key]


class _Answer:
    connect_seconds = 0.0

    def __init__(self, answer):
        self._data = answer.data
        self.status = answer.status
        self.headers = tuple(answer.headers.iteritems())
        self.length = len(self._data)

    def chunks(self):
        yield self._data

    def close(self):
        """It was read whole."""


_session = boto3.Session()
_relay = RelayEndpoint(
    wiring.relay_flow(os.environ, BotoAWS(_session), _session.get_credentials, _Clusters()),
    log=write_line,
    close=lambda: None,
)


def handler(event, context):
    deadline = time.time() + context.get_remaining_time_in_millis() / 1000
    answer = _relay(
        event, SimpleNamespace(aws_request_id=context.aws_request_id, deadline=deadline)
    )
    data = b"".join(answer.body)
    given = {}
    for name, value in answer.headers:
        given.setdefault(name, []).append(value)
    kind = given.get("Content-Type", [""])[0]
    is_text = kind.startswith(_TEXT) and "Content-Encoding" not in given
    return {
        "statusCode": answer.status,
        "multiValueHeaders": given,
        "body": data.decode() if is_text else base64.b64encode(data).decode(),
        "isBase64Encoded": not is_text,
    }
