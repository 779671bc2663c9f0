"""What a function writes into its file reaches its log group: each line once, and none halved."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from local.aws.log_delivery import LogDelivery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS = {"region_name": "eu-central-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}


@pytest.fixture
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def make_group(name: str) -> None:
    boto3.client("logs", **OPTIONS).create_log_group(logGroupName=name)


def messages(group: str) -> list[str]:
    found = boto3.client("logs", **OPTIONS).filter_log_events(logGroupName=group)
    return [event["message"] for event in found["events"]]


def wait_for(group: str, expected: list[str]) -> None:
    deadline = time.monotonic() + 30
    while messages(group) != expected:
        assert time.monotonic() < deadline, messages(group)
        time.sleep(0.05)


@pytest.mark.usefixtures("aws")
def test_lines_come_once_they_are_whole(tmp_path: Path) -> None:
    make_group("relay")
    log = tmp_path / "relay.log"
    delivery = LogDelivery({"relay": log}, OPTIONS)
    try:
        log.write_bytes(b'{"n": 1}\n{"n"')
        wait_for("relay", ['{"n": 1}'])
        with log.open("ab") as file:
            file.write(b": 2}\n\n\xff\n")
        wait_for("relay", ['{"n": 1}', '{"n": 2}', "\N{REPLACEMENT CHARACTER}"])
    finally:
        delivery.stop()

    assert messages("relay") == ['{"n": 1}', '{"n": 2}', "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.usefixtures("aws")
def test_what_is_left_is_sent_at_the_end_however_much_it_is(tmp_path: Path) -> None:
    make_group("relay")
    log = tmp_path / "relay.log"
    delivery = LogDelivery({"relay": log}, OPTIONS)
    log.write_text("".join(f"{n}\n" for n in range(1000)))
    delivery.stop()

    assert messages("relay") == [str(n) for n in range(1000)]


@pytest.mark.usefixtures("aws")
def test_a_group_that_is_not_there_holds_no_other_back_and_gets_its_lines_later(
    tmp_path: Path,
) -> None:
    make_group("relay")
    for name in ("gone", "relay"):
        (tmp_path / name).write_text(f"{name}\n")
    delivery = LogDelivery({name: tmp_path / name for name in ("gone", "relay")}, OPTIONS)
    try:
        wait_for("relay", ["relay"])
        make_group("gone")
        wait_for("gone", ["gone"])
    finally:
        delivery.stop()
