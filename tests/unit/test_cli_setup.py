"""`jobgate setup` and `jobgate status` on a stack's real items, and how commands fail."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from jobgate.adapters import agent_items, operator_items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.deployment_reader import DeploymentReader
from jobgate.cli.output import age, plain
from jobgate.cli.registry import Registry
from jobgate.cli.signing_keys import es256_jwk, thumbprint
from jobgate.core.agent import AgentSnapshot, ConfigProject, Problem
from jobgate.core.bounds import Bounds
from jobgate.core.errors import Unavailable
from jobgate.core.keys import PublicKey, signing_key
from jobgate.ports.refresh import ConfigProjectItem
from moto import mock_aws

from local.certificates import CertificateAuthority
from tests.support.operators_stack import NAME, NOW, REGION, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    with mock_aws():
        yield OperatorsStack.deploy()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return CertificateAuthority.create(tmp_path).certificate


def test_set_up_stack_signs_with_slot_a_at_once(stack: OperatorsStack) -> None:
    answer = stack.json("setup")
    reader = DeploymentReader(stack.real, "table", bounds=Bounds(), clock=lambda: NOW)
    key = signing_key(reader().keys, now=NOW)
    assert (key.kid, key.slot) == (answer["kid"], stack.outputs["SigningKeyAArn"])
    assert reader().base_url == "https://api.example.test/live"


def test_published_key_is_the_public_half_of_the_kms_key(stack: OperatorsStack) -> None:
    stack.json("setup")
    (key,) = Registry(stack.table).public_keys()
    der = stack.real("kms", "GetPublicKey", {"KeyId": key.slot})["PublicKey"]
    numbers = load_der_public_key(der).public_numbers()
    coordinates = [
        int.from_bytes(base64.urlsafe_b64decode(key.jwk[name] + "=")) for name in ("x", "y")
    ]
    assert coordinates == [numbers.x, numbers.y]


def test_second_set_up_changes_nothing(stack: OperatorsStack) -> None:
    stack.json("setup", "--base-url", "https://jobs.example.test/")
    before = list(stack.table.query("KEYS"))
    stack.now += 1000
    again = stack.json("setup")
    assert again == {
        "base_url": "https://jobs.example.test",
        "kid": before[0]["sk"]["S"],
        "published_now": False,
        "steps": {},
        "snippet": None,
    }
    assert list(stack.table.query("KEYS")) == before


def test_set_up_leaves_a_rotated_set_of_keys_alone(stack: OperatorsStack) -> None:
    rotated = PublicKey(kid="k2", slot="arn:b", jwk={}, not_before=NOW + 60)
    Registry(stack.table).publish(rotated)
    assert stack.json("setup")["kid"] == "k2"
    assert Registry(stack.table).public_keys() == (rotated,)


def test_private_ca_stays_when_set_up_is_repeated_without_it(
    stack: OperatorsStack, ca_file: Path
) -> None:
    stack.json("setup", "--ca", ca_file)
    stack.json("setup")
    settings = Registry(stack.table).settings()
    assert settings is not None
    assert settings.ca == ca_file.read_text()


def test_set_up_says_what_to_do_next(stack: OperatorsStack) -> None:
    assert "jobgate issuer add" in stack.run("setup").out


@pytest.mark.parametrize("url", ["http://jobs.example.test", "https://u:p@x.test", "https://x?a"])
def test_base_url_must_be_plain_https(stack: OperatorsStack, url: str) -> None:
    answer = stack.run("setup", "--base-url", url)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("jobgate: --base-url m")


def test_rfc_7638_thumbprint_ignores_optional_members() -> None:
    # The members of RFC 7517, A.1; the thumbprint was computed with another implementation.
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    }
    assert thumbprint({**jwk, "use": "enc", "kid": "1"}) == thumbprint(jwk)
    assert thumbprint(jwk) == "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"


def test_key_of_another_type_is_never_published() -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    with pytest.raises(Unavailable):
        es256_jwk(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


# --- How commands fail ---


def test_unknown_stack_is_an_input_error(stack: OperatorsStack) -> None:
    answer = stack.run("setup", "--stack", "other")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "jobgate: This account and region have no stack 'other'.\n"


def test_a_stack_of_an_older_version_is_said_to_be_one(stack: OperatorsStack) -> None:
    outputs = dict(stack.outputs)
    del outputs["GitLabJobHooksTokenArn"]
    stack.outputs = outputs
    answer = stack.run("setup")
    assert answer.code == 2
    assert "is of an older version than this command" in answer.err
    assert "deploy this version first" in answer.err


def test_stack_that_is_not_jobgates_is_an_input_error(stack: OperatorsStack) -> None:
    stack.outputs = {"Url": "https://example.test"}
    answer = stack.run("setup")
    assert answer.code == 2
    assert answer.err == f"jobgate: The stack {NAME!r} isn't Jobgate's: no output 'BaseUrl'.\n"


def test_aws_that_fails_is_unknown_and_said_in_one_sentence(stack: OperatorsStack) -> None:
    stack.break_after = 1
    answer = stack.run("setup")
    assert (answer.code, answer.err) == (3, "jobgate: AWS refused the call: Killed.\n")


@pytest.mark.parametrize("code", ["AccessDeniedException", "ExpiredTokenException"])
def test_missing_right_in_aws_is_a_refusal(
    stack: OperatorsStack, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def denied(*_: object) -> None:
        raise AWSError(code)

    monkeypatch.setattr(stack, "real", denied)
    assert stack.run("setup").code == 4


@pytest.mark.parametrize("arguments", [("nonsense",), ("setup", "--no-such"), ("issuer", "add")])
def test_wrong_usage_is_exit_code_2(stack: OperatorsStack, arguments: tuple[str, ...]) -> None:
    assert stack.run(*arguments).code == 2


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "You must specify a region."),
        ({"AWS_REGION": REGION}, "Unable to locate credentials"),
        ({"AWS_PROFILE": "none"}, "The config profile (none) could not be found"),
    ],
)
def test_operator_without_an_account_is_told_so_without_a_trace(
    environment: dict[str, str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobgate.cli", "status", "--stack", "x"],
        env={"PYTHONPATH": "shared", "AWS_EC2_METADATA_DISABLED": "true", "HOME": os.devnull}
        | environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"jobgate: AWS can't be asked: {said}\n"


# --- Status ---


def _project(stack: OperatorsStack, *, problems: int, error: str | None = None) -> None:
    project = ConfigProjectItem(issuer="main", project_id=50, agents={501: "prod", 502: "new"})
    item = agent_items.config_project_item(project)
    item |= {"last_commit": {"S": "c0ffee" * 6 + "cafe"}, "last_at": {"N": str(NOW - 7300)}}
    stack.table.put(item if error is None else item | {"last_error": {"S": error}})
    problem = Problem(code="x", file="f", line=1, column=2, text="Bad.", fix="Better.")
    snapshot = AgentSnapshot(
        issuer="main",
        agent_id=501,
        agent_name="prod",
        version=3,
        commit="c0ffee",
        valid=True,
        config_project=ConfigProject(project_id=50, path="top/agents", namespace_id=1, root_id=1),
        projects={},
        groups={},
        problems=(problem,) * problems,
    )
    stack.table.put(agent_items.snapshot_item(snapshot))


def test_status_shows_a_projects_commit_and_age(stack: OperatorsStack) -> None:
    _project(stack, problems=0)
    row = next(line for line in stack.run("status").out.splitlines() if "top/agents" in line)
    assert row.split()[:9] == ["main", "top/agents", "2", "-", "c0ffeec0ffe", "2", "h", "0", "-"]


def test_status_without_the_instance_is_unknown(stack: OperatorsStack) -> None:
    _project(stack, problems=0)
    answer = stack.run("status", "--json")
    assert answer.code == 3
    assert [(row["head"], row["findings"]) for row in answer.json] == [(None, [])]


def test_status_of_a_problem_is_a_finding(stack: OperatorsStack) -> None:
    _project(stack, problems=2)
    answer = stack.run("status", "--json")
    assert answer.code == 1
    assert [row["problems"] for row in answer.json] == [2]


def test_status_of_a_failed_refresh_is_a_finding(stack: OperatorsStack) -> None:
    _project(stack, problems=0, error="GitLab answered 401")
    answer = stack.run("status")
    assert answer.code == 1
    assert "GitLab answered 401" in answer.out


def test_status_without_projects_is_done(stack: OperatorsStack) -> None:
    assert stack.json("status") == []


# --- Redrive ---


def test_redrive_gives_every_message_back_in_its_group(stack: OperatorsStack) -> None:
    dead, queue = (stack.outputs[name] for name in ("RefreshDeadLetterQueueUrl", "RefreshQueueUrl"))
    for number in range(23):
        message = {"MessageGroupId": f"main#{number % 3}", "MessageDeduplicationId": str(number)}
        stack.real("sqs", "SendMessage", {"QueueUrl": dead, "MessageBody": str(number), **message})

    assert stack.json("queue", "redrive") == {"moved": 23, "back": 0}

    assert sorted(taken(stack, queue)) == sorted((f"main#{n % 3}", str(n)) for n in range(23))
    assert taken(stack, dead) == []
    assert stack.json("queue", "redrive") == {"moved": 0, "back": 0}


def test_redrive_that_breaks_off_loses_no_message(stack: OperatorsStack) -> None:
    dead, queue = (stack.outputs[name] for name in ("RefreshDeadLetterQueueUrl", "RefreshQueueUrl"))
    message = {"MessageGroupId": "main#50", "MessageDeduplicationId": "1"}
    stack.real("sqs", "SendMessage", {"QueueUrl": dead, "MessageBody": "b", **message})
    stack.run("setup")
    stack.break_after = 3  # the stack is read, the message received and sent, and not deleted

    assert stack.run("queue", "redrive").code == 3

    assert taken(stack, queue) == [("main#50", "b")]
    counts = stack.real(
        "sqs",
        "GetQueueAttributes",
        {"QueueUrl": dead, "AttributeNames": ["ApproximateNumberOfMessagesNotVisible"]},
    )
    assert counts["Attributes"] == {"ApproximateNumberOfMessagesNotVisible": "1"}


def taken(stack: OperatorsStack, url: str) -> list[tuple[str, str]]:
    """Group and body of every message of a queue; they are deleted."""
    found: list[tuple[str, str]] = []
    while True:
        request = {
            "QueueUrl": url,
            "MaxNumberOfMessages": 10,
            "MessageSystemAttributeNames": ["MessageGroupId"],
        }
        messages = stack.real("sqs", "ReceiveMessage", request).get("Messages", [])
        if not messages:
            return found
        for one in messages:
            found.append((one["Attributes"]["MessageGroupId"], one["Body"]))
            handle = {"QueueUrl": url, "ReceiptHandle": one["ReceiptHandle"]}
            stack.real("sqs", "DeleteMessage", handle)


# --- Output ---


def test_what_others_wrote_cannot_move_the_cursor(stack: OperatorsStack) -> None:
    _project(stack, problems=0, error="\x1b[2J[red]all is well")
    assert "\\x1b[2J[red]all is well" in stack.run("status").out


@pytest.mark.parametrize(
    ("text", "shown"), [("a b", "a b"), ("ä", "ä"), ("a\nb", "a\\nb"), ("\u202eb", "\\u202eb")]
)
def test_only_printable_characters_are_shown(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (9e5, "10 d")]
)
def test_age_is_said_in_one_unit(seconds: float, said: str) -> None:
    assert age(seconds) == said


def test_stops_item_denies_until_an_issuer_is_added(stack: OperatorsStack) -> None:
    stack.json("setup")
    assert stack.table.get(operator_items.stops_key("main")) is None
