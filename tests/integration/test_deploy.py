"""The real `sam build` and `sam deploy`, and what stands afterwards."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from local.aws import AWS
from local.aws.build import REPOSITORY, _digest
from local.aws.commands import inherited
from local.aws.target import Target, target_of
from local.certificates import CertificateAuthority
from local.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

SCHEDULE = "rate(1 minute)"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AWS]:
    folder = tmp_path_factory.mktemp("aws")
    started = AWS.start(
        folder,
        authority=CertificateAuthority.create(folder / "ca"),
        parameters={"ReconcileSchedule": SCHEDULE, "TokenMaxSeconds": "120"},
    )
    yield started
    started.stop()


@pytest.mark.stack
def test_outputs_name_what_the_operators_command_needs(aws: AWS) -> None:
    assert aws.outputs.keys() == {
        "BaseUrl",
        "ApiId",
        "AccessLogGroupName",
        "TokenExchangeLogName",
        "RelayLogName",
        "ConfigRefreshLogName",
        "TableName",
        "SigningKeyAArn",
        "SigningKeyBArn",
        "GitLabTokensArn",
        "GitLabStatusTokenArn",
        "GitLabHooksArn",
        "GitLabJobHooksTokenArn",
        "RefreshQueueUrl",
        "RefreshDeadLetterQueueUrl",
        "OperatorLogName",
        "ClusterSecretPrefix",
    }
    assert all(aws.outputs.values())
    assert aws.outputs["BaseUrl"].endswith(".execute-api.eu-central-1.amazonaws.com/live")
    assert aws.outputs["ClusterSecretPrefix"] == "jobgate/jobgate/cluster/"


@pytest.mark.stack
def test_functions_are_told_the_deployed_names_and_the_given_bounds(aws: AWS) -> None:
    variables = environment(aws, "TokenExchangeFunction")

    assert variables["JOBGATE_TABLE"] == aws.outputs["TableName"]
    assert variables["JOBGATE_GITLAB_TOKENS_SECRET"] == aws.outputs["GitLabTokensArn"]
    assert variables["JOBGATE_TOKEN_MAX"] == "120"
    webhook = environment(aws, "GitlabWebhookFunction")
    assert webhook["JOBGATE_GITLAB_HOOKS_SECRET"] == aws.outputs["GitLabHooksArn"]
    assert webhook["JOBGATE_REFRESH_QUEUE_URL"] == aws.outputs["RefreshQueueUrl"]


@pytest.mark.stack
def test_queued_message_starts_config_refresh(aws: AWS) -> None:
    sqs = boto3.client("sqs", **aws.client_options)

    sqs.send_message(
        QueueUrl=aws.outputs["RefreshQueueUrl"],
        MessageBody=json.dumps({"v": 1}),
        MessageGroupId="default#1",
        MessageDeduplicationId="1",
    )

    def started() -> bool:
        return any(
            message.startswith("START ")
            for group, messages in aws.log_messages().items()
            if group.endswith("ConfigRefreshLogGroup")
            for message in messages
        )

    wait_until(started, children=aws.children, what="A log entry of config_refresh", seconds=30)


@pytest.mark.stack
def test_schedule_aims_at_reconcile_as_often_as_told(aws: AWS) -> None:
    scheduler = boto3.client("scheduler", **aws.client_options)
    (listed,) = scheduler.list_schedules()["Schedules"]
    schedule = scheduler.get_schedule(Name=listed["Name"])

    assert schedule["ScheduleExpression"] == SCHEDULE
    assert f":{physical_id(aws, 'ReconcileFunction')}" in schedule["Target"]["Arn"]


@pytest.mark.stack
@pytest.mark.parametrize("slot", ["SigningKeyAArn", "SigningKeyBArn"])
def test_both_key_slots_sign_with_p_256(aws: AWS, slot: str) -> None:
    kms = boto3.client("kms", **aws.client_options)
    key_id = aws.outputs[slot]

    signature = kms.sign(KeyId=key_id, Message=b"message", SigningAlgorithm="ECDSA_SHA_256")
    public = load_der_public_key(kms.get_public_key(KeyId=key_id)["PublicKey"])

    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    public.verify(signature["Signature"], b"message", ec.ECDSA(hashes.SHA256()))


@pytest.mark.stack
@pytest.mark.parametrize(
    "output",
    ["GitLabTokensArn", "GitLabStatusTokenArn", "GitLabHooksArn", "GitLabJobHooksTokenArn"],
)
def test_secrets_are_empty_maps_until_filled_in(aws: AWS, output: str) -> None:
    secrets = boto3.client("secretsmanager", **aws.client_options)

    assert secrets.get_secret_value(SecretId=aws.outputs[output])["SecretString"] == "{}"


@pytest.mark.stack
def test_layer_ships_neither_the_command_line_nor_tests_nor_its_libraries(aws: AWS) -> None:
    packages = aws.build_folder / "SharedLayer" / "python"
    names = {path.relative_to(packages).as_posix() for path in packages.rglob("*")}

    assert "jobgate/core/bounds.py" in names
    assert not any("jobgate/cli" in name for name in names)
    assert not {name for name in names if {"tests", "test"} & set(name.split("/"))}
    assert not {"kubernetes", "rich", "typer", "pydantic"} & {name.split("/")[0] for name in names}


@pytest.mark.stack
def test_layer_describes_the_aws_services_that_the_functions_call_and_no_other(aws: AWS) -> None:
    described = aws.build_folder / "SharedLayer/python/botocore/data"
    services = {entry.name for entry in described.iterdir() if entry.is_dir()}

    assert services == {"dynamodb", "kms", "secretsmanager", "sqs"}


@pytest.mark.stack
def test_layer_brings_an_executable_streaming_runtime(aws: AWS) -> None:
    wrapper = aws.build_folder / "SharedLayer/bin/streaming-runtime"

    assert wrapper.stat().st_mode & 0o777 == 0o755


@pytest.mark.stack
def test_every_module_of_the_layer_has_bytecode(aws: AWS) -> None:
    packages = aws.build_folder / "SharedLayer/python"
    tag = f"cpython-{target_of(aws.python).version.replace('.', '')}"

    sources = list(packages.rglob("*.py"))

    assert sources
    for source in sources:
        assert (source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc").is_file()


@pytest.mark.stack
def test_layer_s_bytes_depend_on_neither_the_time_nor_the_folder(tmp_path: Path) -> None:
    target = target_of(REPOSITORY / ".venv-ministack/bin/python")
    sources, artifacts = tmp_path / "sources", tmp_path / "artifacts"
    shutil.copytree(REPOSITORY / "shared", sources / "one")
    shutil.copytree(sources / "one", sources / "two")

    for name in ("one", "two"):
        build_layer(
            artifacts / name,
            sources / name,
            JOBGATE_TARGET_PYTHON=target.version,
            JOBGATE_TARGET_PLATFORM=target.wheel_platforms,
            JOBGATE_TARGET_INTERPRETER=str(target.interpreter),
        )

    assert differences(artifacts / "one", artifacts / "two") == []


@pytest.mark.stack
def test_layer_is_built_for_the_cloud_unless_told_otherwise(tmp_path: Path) -> None:
    build_layer(tmp_path)

    libraries = {path.name for path in tmp_path.rglob("*.so")}

    assert "_yaml.cpython-313-aarch64-linux-gnu.so" in libraries
    assert not any("x86_64" in name for name in libraries)


@pytest.mark.parametrize(
    "path",
    [
        "template.yaml",
        "samconfig.toml",
        "functions/relay/app.py",
        "functions/Makefile",
        "shared/Makefile",
        "shared/requirements.txt",
        "shared/bin/streaming-runtime",
        "shared/jobgate/core/new.py",
        "requirements/sam.txt",
    ],
)
def test_build_notices_every_input(tmp_path: Path, path: str) -> None:
    repository = a_repository(tmp_path)
    before = _digest(repository, a_target())

    (repository / path).write_text("changed")

    assert _digest(repository, a_target()) != before


def test_build_notices_a_wrapper_that_lost_its_mode(tmp_path: Path) -> None:
    repository = a_repository(tmp_path)
    before = _digest(repository, a_target())

    (repository / "shared/bin/streaming-runtime").chmod(0o755)

    assert _digest(repository, a_target()) != before


def test_build_notices_another_interpreter(tmp_path: Path) -> None:
    repository = a_repository(tmp_path)

    assert _digest(repository, a_target()) != _digest(repository, a_target(build="3.11.8"))


def test_build_ignores_what_no_artifact_holds(tmp_path: Path) -> None:
    repository = a_repository(tmp_path)
    before = _digest(repository, a_target())

    for path in ("shared/jobgate/cli/app.py", "shared/jobgate/core/__pycache__/new.pyc"):
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text("changed")

    assert _digest(repository, a_target()) == before


@pytest.mark.parametrize(
    ("platform", "architecture", "wheels"),
    [
        ("linux-x86_64", "x86_64", "manylinux2014_x86_64 manylinux_2_28_x86_64"),
        ("linux-aarch64", "arm64", "manylinux2014_aarch64 manylinux_2_28_aarch64"),
        ("macosx-11.0-arm64", "arm64", "macosx_11_0_arm64"),
    ],
)
def test_target_is_named_as_lambda_and_pip_name_it(
    platform: str, architecture: str, wheels: str
) -> None:
    target = a_target(platform=platform)

    assert (target.runtime, target.architecture) == ("python3.11", architecture)
    assert target.wheel_platforms == wheels


def a_target(*, platform: str = "linux-x86_64", build: str = "3.11.7") -> Target:
    return Target(Path("python"), "3.11", platform, build)


def a_repository(folder: Path) -> Path:
    for path in (
        "template.yaml",
        "samconfig.toml",
        "functions/Makefile",
        "functions/relay/app.py",
        "shared/Makefile",
        "shared/requirements.txt",
        "shared/bin/streaming-runtime",
        "shared/jobgate/core/__init__.py",
        "requirements/sam.txt",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("")
    return folder


def build_layer(artifacts: Path, sources: Path = REPOSITORY / "shared", **settings: str) -> None:
    subprocess.run(
        ["make", "--silent", "build-SharedLayer"],
        cwd=sources,
        env={
            **inherited(),
            "JOBGATE_PIP": f"{REPOSITORY / '.venv/bin/python'} -m pip",
            "ARTIFACTS_DIR": str(artifacts),
            **settings,
        },
        check=True,
        timeout=240,
    )


def differences(one: Path, other: Path) -> list[str]:
    compared = filecmp.dircmp(one, other, ignore=[], hide=[])
    return list(different_files(compared))


def different_files(compared: filecmp.dircmp[str]) -> Iterator[str]:
    yield from compared.left_only + compared.right_only + compared.funny_files
    _, mismatched, errors = filecmp.cmpfiles(
        compared.left, compared.right, compared.common_files, shallow=False
    )
    yield from mismatched + errors
    for folder in compared.subdirs.values():
        yield from different_files(folder)


def physical_id(aws: AWS, logical_id: str) -> str:
    cloudformation = boto3.client("cloudformation", **aws.client_options)
    described = cloudformation.describe_stack_resources(
        StackName=aws.stack_name, LogicalResourceId=logical_id
    )
    return described["StackResources"][0]["PhysicalResourceId"]


def environment(aws: AWS, logical_id: str) -> dict[str, str]:
    return live(aws, logical_id)["Environment"]["Variables"]


@pytest.fixture
def again(aws: AWS) -> Iterator[Callable[[str], AWS]]:
    """Deploys one more stack with this `AllowedIdentities`, into the same one each time."""
    yield lambda allowed: aws.beside("again", {"AllowedIdentities": allowed})
    cloudformation = boto3.client("cloudformation", **aws.client_options)
    cloudformation.delete_stack(StackName="again")
    cloudformation.get_waiter("stack_delete_complete").wait(StackName="again")


@pytest.mark.stack
def test_a_parameters_new_value_is_live_with_the_deployment(again: Callable[[str], AWS]) -> None:
    """The routes lead to an alias, which stands for a published version and not for what is new."""
    versions = []
    for allowed in ("gitlab:*", "other:*"):
        deployed = again(allowed)
        for logical_id in ("TokenExchangeFunction", "RelayFunction"):
            assert environment(deployed, logical_id)["JOBGATE_ALLOWED_IDENTITIES"] == allowed
        versions.append(live(deployed, "RelayFunction")["Version"])

    assert versions == ["1", "2"]


def live(aws: AWS, logical_id: str) -> FunctionConfigurationResponseTypeDef:
    """What the routes lead to."""
    functions = boto3.client("lambda", **aws.client_options)
    name = physical_id(aws, logical_id)
    return functions.get_function_configuration(FunctionName=name, Qualifier="live")


@pytest.mark.stack
def test_audit_finds_a_decision_s_record_in_the_deployed_log_groups(aws: AWS) -> None:
    decision = "0d6a3f0e-5b6c-4f0e-9d3c-1f2e3d4c5b6a"
    line = {"type": "request", "decision_id": decision, "outcome": "refused"}
    logs = boto3.client("logs", **aws.client_options)
    place = {"logGroupName": aws.outputs["RelayLogName"], "logStreamName": "audit"}
    logs.create_log_stream(**place)
    now = time.time()  # noqa: TID251  the command compares it with its own clock
    events = [{"timestamp": int(now * 1000), "message": json.dumps(line)}]
    logs.put_log_events(**place, logEvents=events)

    done = subprocess.run(
        [Path(sys.executable).parent / "jobgate", "audit", decision, "--json"],
        env={**aws.environment, "JOBGATE_STACK": aws.stack_name, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [line]
