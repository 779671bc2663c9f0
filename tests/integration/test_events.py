"""Every event of `events/` through its built function, behind AWS's own emulator of Lambda."""

from __future__ import annotations

import base64
import datetime as dt
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3
import pytest

from local import invoke
from local.__main__ import _endpoints
from local.emulator import InterfaceEmulator
from local.gateway.api import API, read_api
from local.gateway.event import Identifiers, build_event
from local.gateway.request import Request, Target
from local.gateway.routing import match
from local.installation import AGENTS, Installation
from local.invoke import EVENTS, ROOT, Surroundings, filled
from local.process import free_port, wait_until
from local.sam_template import translate
from tests.support.events import EXPECTED, assert_gives, cases, event_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.gateway.functions import Function
    from local.stack import Stack

linux = pytest.mark.skipif(sys.platform != "linux", reason="the emulator is a program for Linux")

# What `sam local invoke` can show without a deployed stack.
WITHOUT_AWS = (
    "token_exchange/token_malformed",
    "token_exchange/token_wrong_grant_type",
    "token_exchange/kubeconfig_without_bearer",
    "token_exchange/unknown_path",
    "relay/pods_without_token",
    "relay/api_discovery_without_token",
)

PROXY_CASES = sorted(case for case in cases() if "httpMethod" in event_of(case))


@pytest.fixture(scope="module")
def functions(stack: Stack) -> dict[str, Function]:
    return Surroundings.of(stack).functions(stack.aws.build_folder)


@pytest.fixture(scope="module")
def emulator_of(
    stack: Stack,
    installation: Installation,
    functions: dict[str, Function],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], InterfaceEmulator]]:
    """The emulator of a function by name, started when it is first asked for."""
    runtime = Surroundings.of(stack).runtime(stack.aws.python)
    logs = tmp_path_factory.mktemp("emulators")
    started: dict[str, InterfaceEmulator] = {}
    with ExitStack() as stops:

        def emulator(name: str) -> InterfaceEmulator:
            if name not in started:
                started[name] = InterfaceEmulator.start(
                    functions[name], runtime, logs / f"{name}.log"
                )
                stops.callback(started[name].stop)
            return started[name]

        yield emulator


def test_each_event_is_expected_to_give_something_and_nothing_else_is() -> None:
    assert cases() == EXPECTED.keys()


def test_each_function_has_events() -> None:
    functions = {file.parent.name for file in (ROOT / "functions").glob("*/app.py")}
    assert {case.partition("/")[0] for case in cases()} == functions


@pytest.fixture(scope="module")
def api() -> API:
    return read_api(translate(ROOT / "template.yaml", {}))


@pytest.mark.parametrize("case", PROXY_CASES)
def test_proxy_event_is_what_the_gateway_makes_of_its_request(case: str, api: API) -> None:
    event = event_of(case)
    # Behind a custom domain the path isn't one of the API's own, the resource is.
    found = match(api, event["httpMethod"], event["path"]) or match(
        api, event["httpMethod"], event["resource"]
    )
    assert found is not None

    rebuilt = build_event(
        request_of(event),
        found,
        body=base64.b64decode(event["body"] or ""),
        binary_media_types=api.binary_media_types,
        identifiers=Identifiers(
            event["requestContext"]["requestId"],
            event["requestContext"]["extendedRequestId"],
            event["headers"]["X-Amzn-Trace-Id"],
        ),
        now=dt.datetime.fromtimestamp(event["requestContext"]["requestTimeEpoch"] / 1000, dt.UTC),
    )

    kept = ("accountId", "apiId", "deploymentId", "path", "resourceId")
    rebuilt["requestContext"] |= {name: event["requestContext"][name] for name in kept}
    assert rebuilt == event
    assert found.route.function == case.partition("/")[0].title().replace("_", "") + "Function"


def request_of(event: dict[str, Any]) -> Request:
    """The request that a proxy event was made of."""
    context = event["requestContext"]
    headers = tuple(
        (name, value)
        for name, values in event["multiValueHeaders"].items()
        for value in values
        if name != "X-Forwarded-For"
    )
    query = urlencode(event["multiValueQueryStringParameters"] or {}, doseq=True)
    target = Target(context["stage"], event["path"], query)
    source = context["identity"]["sourceIp"]
    return Request(event["httpMethod"], target, headers, source, context["protocol"])


@pytest.mark.stack
@linux
@pytest.mark.parametrize("case", sorted(EXPECTED))
def test_event_gives_what_its_case_says(
    case: str, stack: Stack, emulator_of: Callable[[str], InterfaceEmulator]
) -> None:
    expected = EXPECTED[case]
    emulator = emulator_of(case.partition("/")[0])
    logged = emulator.child.log.stat().st_size
    event = filled((EVENTS / f"{case}.json").read_text(), Surroundings.of(stack))

    answer = emulator.invoke(event)

    assert_gives(case, answer)

    def is_logged() -> bool:
        return expected.logs in emulator.child.log.read_bytes()[logged:].decode(errors="replace")

    wait_until(is_logged, children=[emulator.child], what=f"{expected.logs!r} in the log")


@pytest.mark.stack
@linux
@pytest.mark.parametrize("case", WITHOUT_AWS)
def test_event_gives_the_same_where_aws_can_not_be_reached(
    case: str, stack: Stack, functions: dict[str, Function], tmp_path: Path
) -> None:
    nowhere = f"https://127.0.0.1:{free_port()}"
    runtime = replace(Surroundings.of(stack).runtime(stack.aws.python), endpoint=nowhere)
    function = functions[case.partition("/")[0]]
    emulator = InterfaceEmulator.start(function, runtime, tmp_path / "log")
    try:
        answer = emulator.invoke((EVENTS / f"{case}.json").read_bytes())
    finally:
        emulator.stop()

    assert_gives(case, answer)


@pytest.mark.stack
@linux
def test_refresh_event_makes_config_refresh_read_the_project_from_gitlab(
    stack: Stack, installation: Installation, emulator_of: Callable[[str], InterfaceEmulator]
) -> None:
    read = f"GET /api/v4/projects/{installation.projects[AGENTS]}($|[?/])"
    before = len(stack.gitlab.control.requests(read))
    event = (EVENTS / "config_refresh/refresh.json").read_text()

    emulator_of("config_refresh").invoke(filled(event, Surroundings.of(stack)))

    assert len(stack.gitlab.control.requests(read)) > before


@pytest.mark.stack
@linux
def test_job_end_event_stores_that_the_job_has_ended(
    stack: Stack, emulator_of: Callable[[str], InterfaceEmulator]
) -> None:
    event = event_of("config_refresh/job_end")
    given = json.loads(event["Records"][0]["body"])["job"]

    emulator_of("config_refresh").invoke(json.dumps(event).encode())

    dynamodb = boto3.client("dynamodb", **stack.aws.client_options)
    key = {
        "pk": {"S": f"JOB#{given['issuer']}#{given['project_id']}#{given['job_id']}"},
        "sk": {"S": "STATE"},
    }
    stored = dynamodb.get_item(TableName=stack.aws.outputs["TableName"], Key=key)
    assert stored["Item"]["status"] == {"S": "success"}


@pytest.mark.stack
@linux
def test_make_invoke_prints_the_answer_of_a_function_of_the_running_stack(
    stack: Stack,
    installation: Installation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text(json.dumps(_endpoints(stack)))
    monkeypatch.setattr(invoke, "_ENDPOINTS", endpoints)

    code = invoke.main(["relay", str(EVENTS / "relay/exec.json")])

    printed = capfd.readouterr()
    assert (code, json.loads(printed.out)["body"]["code"]) == (0, 501)
    assert '"reason":"unsupported"' in printed.err
    assert "(rapid)" not in printed.err


def test_make_invoke_without_a_running_stack_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(invoke, "_ENDPOINTS", tmp_path / "endpoints.json")

    assert invoke.main(["relay", "events/relay/exec.json"]) == 2
    assert "run `make local`" in capsys.readouterr().err
