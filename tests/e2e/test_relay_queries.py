"""A query is judged and recorded as the API server reads it: its audit log beside our record."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from local.installation import WEB
from local.job import JobShell
from local.kubernetes.audit import audit_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.installation import Installation
    from local.stack import Stack

pytestmark = pytest.mark.stack

_SECONDS = 30.0


@pytest.fixture(scope="module")
def shell(stack: Stack, installation: Installation) -> Iterator[JobShell]:
    shell = JobShell.start(stack, WEB)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    yield shell
    stack.gitlab.control.finish_job(shell.job)


@pytest.mark.parametrize(
    ("query", "verb"),
    [
        ("limit=1", "list"),
        # API Gateway splits at a raw semicolon, and each part goes on as a pair of its own.
        ("watch=1;timeoutSeconds=1", "watch"),
        ("limit=1;watch=1;timeoutSeconds=1", "watch"),
        ("watch=0;watch=1", "list"),
        ("watch;timeoutSeconds=1", "watch"),
        # An encoded one is a part of its value, on both sides.
        ("watch=0%3Bwatch=1&timeoutSeconds=1", "watch"),
        ("limit=1&labelSelector=a%3Bwatch=1", "list"),
        ("&&watch=FALSE&&", "list"),
        ("watch=true&watch=false&timeoutSeconds=1", "watch"),
        ("watch=%66alse", "list"),
        ("w%61tch=1&timeoutSeconds=1", "watch"),
        ("WATCH=1&limit=1", "list"),
        ("watch=+&timeoutSeconds=1", "watch"),
        ("fieldSelector=metadata.name%3Dno%2Cmetadata.namespace%3Dshop&limit=1", "list"),
        ("fieldSelector=metadata.name%3Dno;watch=1;timeoutSeconds=1", "watch"),
    ],
)
def test_the_api_server_reads_a_query_as_the_record_does(
    stack: Stack, installation: Installation, shell: JobShell, query: str, verb: str
) -> None:
    path = f"/api/v1/namespaces/{installation.namespace}/configmaps"
    decision_id = _ask(stack, shell, f"{path}?{query}")

    audited = _found(lambda: _audited(stack, decision_id))
    recorded = _found(lambda: _recorded(stack, decision_id))

    assert audited["verb"] == recorded["verb"] == verb
    names = audited["objectRef"].get("name"), recorded.get("name")
    assert names[0] == names[1], names


def _ask(stack: Stack, shell: JobShell, path: str) -> str:
    """Send a GET with its query as it is; the decision's id, by which the API server audits too."""
    config = json.loads(shell.run("kubectl config view --raw -o json").output)
    url = config["clusters"][0]["cluster"]["server"] + path
    token = config["users"][0]["user"]["token"]
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    trust = ssl.create_default_context(cafile=str(stack.authority.certificate))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=_SECONDS) as answer:
            answer.read()
            return str(answer.headers["Audit-Id"])
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["Audit-Id"])


def _audited(stack: Stack, decision_id: str) -> dict[str, Any] | None:
    events = audit_events(stack.cluster.audit_log)
    return next((event for event in events if event["auditID"] == decision_id), None)


def _recorded(stack: Stack, decision_id: str) -> dict[str, Any] | None:
    for file in stack.gateway.logs.glob("*Relay*"):
        for line in file.read_text().splitlines():
            if decision_id in line and line.startswith('{"v":1,"type":"request"'):
                record: dict[str, Any] = json.loads(line)
                return record
    return None


def _found(look: Any) -> dict[str, Any]:
    """What is written a moment after the answer."""
    until = time.monotonic() + _SECONDS
    while (found := look()) is None:
        assert time.monotonic() < until
        time.sleep(0.1)
    return dict(found)
