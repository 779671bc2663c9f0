"""A cluster's token is renewed, and the former ends, while jobs use the cluster: none notices."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import boto3
import pytest
import yaml

from local.installation import WEB, Installation
from local.job import JobShell
from tests.support.load import Load
from tests.support.service_account_tokens import moved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(900)]

_now = time.time  # noqa: TID251  the cluster lives in real time
_PATIENCE_SECONDS = 150


@pytest.fixture(scope="module")
def renewing(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("renewing") / "stack"
    with stack.beside(folder, "jobgate-renewing", {}, own_gitlab=True) as second:
        made = Installation.create(second, namespace="renewing", tell=lambda _c, _o: None)
        made.grant()
        made.configure()
        yield made


def accepted(installation: Installation, token: str) -> bool:
    """Whether the API server still takes a token."""
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    command = ("create", f"--raw={path}", "--filename=-")
    printed = installation.stack.admin.must(*command, stdin=json.dumps(review))
    return bool(json.loads(printed)["status"].get("authenticated", False))


def test_no_request_fails_while_a_token_is_renewed_and_the_former_ends(
    renewing: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = renewing.stack
    job = JobShell.start(stack, WEB)
    fetched = job.fetch()
    assert fetched.code == 0, fetched.output
    kubeconfig = yaml.safe_load(job.kubeconfig.read_text())
    path = kubeconfig["clusters"][0]["cluster"]["server"].removeprefix(stack.gateway.url)
    (agent,) = [
        each["id"]
        for each in json.loads(renewing.jobgate("agent", "list", "--json"))
        if each["context"].endswith(":production")
    ]
    secrets = boto3.client("secretsmanager", **stack.aws.client_options)
    name = f"{stack.aws.outputs['ClusterSecretPrefix']}main/{agent}/relay"

    def stored() -> str:
        return str(json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])["token"])

    # The API server takes a token for a minute after its end; half its life is long over.
    now, key = int(_now()), stack.cluster.admin_kubeconfig.with_name("service-account.key")
    old = moved(stored(), key, issued_at=now - 900, expires_at=now - 15)
    secrets.put_secret_value(SecretId=name, SecretString=json.dumps({"token": old}))
    assert accepted(renewing, old)
    load = Load(
        stack,
        job.job.id_token,
        kubeconfig["users"][0]["user"]["token"],
        f"{path}/api/v1/namespaces/{renewing.namespace}/pods?limit=1",
    )
    with load:
        time.sleep(2)
        described = boto3.client("cloudformation", **stack.aws.client_options)
        function = described.describe_stack_resource(
            StackName=stack.aws.stack_name, LogicalResourceId="ReconcileFunction"
        )["StackResourceDetail"]["PhysicalResourceId"]
        invoked = boto3.client("lambda", **stack.aws.client_options).invoke(FunctionName=function)
        assert "FunctionError" not in invoked, invoked["Payload"].read()
        new = stored()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while accepted(renewing, old):
            assert time.monotonic() < deadline
            time.sleep(1)
        time.sleep(12)  # The API server believes a token for ten seconds.

    stack.gitlab.control.finish_job(job.job)
    with capsys.disabled():
        print(f"\nrenewal under load: {load.done}, {len(load.failed)} failed")  # noqa: T201
    assert new != old
    assert load.failed == []
    assert min(load.done[kind] for kind in ("exchange", "relay")) > 20
    previous = secrets.get_secret_value(SecretId=name, VersionStage="AWSPREVIOUS")
    assert json.loads(previous["SecretString"]) == {"token": old}
