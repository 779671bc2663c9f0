from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import Refusal, ending_event
from jobgate.core.watch import is_json_watch, limited_watch

if TYPE_CHECKING:
    from collections.abc import Sequence

JSON = (("Content-Type", "application/json"),)


@pytest.mark.parametrize(
    ("given", "limited"),
    [
        ((), (("timeoutSeconds", "90"),)),
        ((("timeoutSeconds", "0"),), (("timeoutSeconds", "90"),)),
        ((("timeoutSeconds", "-0"),), (("timeoutSeconds", "90"),)),
        ((("timeoutSeconds", "91"),), (("timeoutSeconds", "90"),)),
        ((("timeoutSeconds", "+91"),), (("timeoutSeconds", "90"),)),
        ((("timeoutSeconds", "0091"),), (("timeoutSeconds", "90"),)),
        ((("timeoutSeconds", "0" * 19 + "91"),), (("timeoutSeconds", "90"),)),
        ((("timeoutSeconds", "+" + "0" * 5000),), (("timeoutSeconds", "90"),)),
        ((("timeoutSeconds", "9223372036854775807"),), (("timeoutSeconds", "90"),)),
        (
            (("watch", "1"), ("timeoutSeconds", "3600"), ("limit", "5")),
            (("watch", "1"), ("timeoutSeconds", "90"), ("limit", "5")),
        ),
        # The API server reads the first; the second is nobody's business.
        (
            (("timeoutSeconds", "91"), ("timeoutSeconds", "92")),
            (("timeoutSeconds", "90"), ("timeoutSeconds", "92")),
        ),
    ],
)
def test_a_watch_gets_an_end_of_its_own(
    given: tuple[tuple[str, str], ...], limited: tuple[tuple[str, str], ...]
) -> None:
    assert limited_watch(given, seconds=90.9) == limited


@pytest.mark.parametrize(
    "value",
    [
        "90",
        "1",
        "+1",
        "007",
        "-1",
        "",
        "x",
        "1.5",
        " 9",
        "9e9",
        "9223372036854775808",
        "9" * 30,
        "-" + "1" * 19,
    ],
)
def test_an_end_that_is_soon_or_wrong_is_left_to_the_api_server(value: str) -> None:
    query = (("watch", "1"), ("timeoutSeconds", value))
    assert limited_watch(query, seconds=90.9) == query


@pytest.mark.parametrize("seconds", [0.9, 0, -20])
def test_no_watch_is_given_no_end(seconds: float) -> None:
    """Zero would mean half an hour or more."""
    assert limited_watch((), seconds=seconds) == (("timeoutSeconds", "1"),)


@pytest.mark.parametrize(
    ("verb", "status", "headers", "expected"),
    [
        ("watch", 200, JSON, True),
        ("watch", 200, (("content-type", "Application/JSON; charset=utf-8"),), True),
        ("list", 200, JSON, False),
        ("get", 200, JSON, False),
        ("watch", 403, JSON, False),
        ("watch", 200, (), False),
        (
            "watch",
            200,
            (("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch"),),
            False,
        ),
        ("watch", 200, (("Content-Type", "application/cbor-seq"),), False),
        ("watch", 200, (*JSON, ("Content-Encoding", "gzip")), False),
    ],
)
def test_only_a_plain_json_watch_takes_another_event(
    verb: str, status: int, headers: Sequence[tuple[str, str]], *, expected: bool
) -> None:
    assert is_json_watch(verb, status, headers) is expected


@pytest.mark.parametrize("reason", Reason)
def test_the_last_event_is_a_forbidden_status_and_never_a_call_to_list_anew(reason: Reason) -> None:
    line = ending_event(Refusal(reason=reason), decision_id="d-1")
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    event = json.loads(line)
    status = event["object"]
    assert (event["type"], event.keys()) == ("ERROR", {"type", "object"})
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert f"(reason {reason}, decision d-1)" in status["message"]
