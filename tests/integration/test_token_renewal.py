"""Renewal against a real API server, and against a ministack's Secrets Manager."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jobgate.adapters.cluster import DirectClusterGateway
from jobgate.adapters.stored_credentials import AWSStoredCredentials
from jobgate.adapters.token_requests import ClusterTokenRequests
from jobgate.cli.app import app
from jobgate.cli.cluster_rules import AGENT_ACCOUNT, RELAY_ACCOUNT
from jobgate.core.agent import Credential
from jobgate.core.bound_token import bound_token
from jobgate.core.cluster_credential import BearerToken
from jobgate.core.errors import Conflict, NotForUs, Unavailable
from typer.testing import CliRunner

from local.aws.emulator import start_emulator
from local.certificates import CertificateAuthority
from tests.support.kubernetes import Kubernetes, running_kubernetes
from tests.support.relay_parts import a_cluster
from tests.support.service_account_tokens import claims_of, moved
from tests.support.stores import boto_call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
_now = time.time  # noqa: TID251  the API server lives in real time
NAMESPACE = "jobgate"
RELAY = Credential(kind="token", secret="jobgate/test/cluster/main/1/relay")


@dataclass(frozen=True)
class World:
    """A cluster with one agent's two accounts."""

    kubernetes: Kubernetes
    relay: str
    agent: str

    def another(self, token: str, *, by: str) -> str:
        old = bound_token(token)
        assert old is not None
        cluster = self.kubernetes.cluster
        gateway = DirectClusterGateway(clock=_now)
        connection = a_cluster(server=cluster.url, ca=cluster.ca.read_text())
        try:
            requests = ClusterTokenRequests(gateway, clock=_now)
            return requests.another(connection, old, by=BearerToken(by))
        finally:
            gateway.close()

    def user(self, token: str) -> str:
        """Who the API server takes a token's bearer for."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        command = ("create", "--raw", "/apis/authentication.k8s.io/v1/tokenreviews", "-f", "-")
        printed = self.kubernetes.kubectl.must(*command, stdin=json.dumps(review))
        return str(json.loads(printed)["status"].get("user", {}).get("username"))

    def moved(self, token: str, *, issued: int, expires: int) -> str:
        """A token of the cluster's for another time, in seconds from now."""
        key = self.kubernetes.cluster.admin_kubeconfig.with_name("service-account.key")
        now = int(_now())
        return moved(token, key, issued_at=now + issued, expires_at=now + expires)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as running:
        kubectl, form = running.kubectl, "constrained"
        printed = CliRunner().invoke(
            app, ["rbac", "--impersonation", form, "--namespace", NAMESPACE]
        )
        kubectl.must("apply", "--server-side", "--filename=-", stdin=printed.stdout)
        tokens = (
            kubectl.must("create", "token", account, f"--namespace={NAMESPACE}").strip()
            for account in (RELAY_ACCOUNT, AGENT_ACCOUNT)
        )
        yield World(running, *tokens)


def test_the_relays_account_renews_both_tokens_with_a_life_as_long(world: World) -> None:
    relay, agent = world.relay, world.agent

    for token, user in ((relay, "jobgate-relay"), (agent, "jobgate-agent")):
        new = world.another(token, by=relay)

        assert new != token
        assert world.user(new) == f"system:serviceaccount:jobgate:{user}"
        life = claims_of(new)["exp"] - claims_of(new)["iat"]
        assert life == claims_of(token)["exp"] - claims_of(token)["iat"]
        assert claims_of(new)["aud"] == claims_of(token)["aud"]


def test_a_token_that_was_renewed_renews_the_next_one(world: World) -> None:
    token = world.relay
    for _ in range(2):
        token = world.another(token, by=token)
    assert world.user(token) == "system:serviceaccount:jobgate:jobgate-relay"


def test_neither_account_gets_a_token_of_another_one(world: World) -> None:
    kubectl = world.kubernetes.kubectl
    for namespace in ("jobgate", "kube-system"):
        other = kubectl.must("create", "token", "default", f"--namespace={namespace}").strip()
        for by in (world.relay, world.agent):
            with pytest.raises(NotForUs, match=f"may not create a token for {namespace}/default"):
                world.another(other, by=by)


def test_the_agents_account_renews_nothing(world: World) -> None:
    for token in (world.relay, world.agent):
        with pytest.raises(NotForUs, match="may not create a token"):
            world.another(token, by=world.agent)


def test_a_token_that_has_ended_is_refused_in_words(world: World) -> None:
    ended = world.moved(world.relay, issued=-7200, expires=-3600)

    with pytest.raises(NotForUs, match="has ended or was revoked"):
        world.another(ended, by=ended)


def test_a_token_that_ends_with_a_secret_is_followed_by_one_that_does(world: World) -> None:
    kubectl, where = world.kubernetes.kubectl, "--namespace=jobgate"
    kubectl.must("create", "secret", "generic", "switch", where)
    bound = ("--bound-object-kind=Secret", "--bound-object-name=switch")
    old = kubectl.must("create", "token", "jobgate-relay", where, *bound).strip()

    new = world.another(old, by=world.relay)

    secrets = [claims_of(token)["kubernetes.io"]["secret"] for token in (old, new)]
    assert secrets[0] == secrets[1]
    kubectl.must("delete", "secret", "switch", where)
    with pytest.raises(NotForUs):
        world.another(old, by=world.relay)


def test_a_cluster_that_is_down_is_unavailable(world: World) -> None:
    old = bound_token(world.relay)
    assert old is not None
    requests = ClusterTokenRequests(DirectClusterGateway(clock=_now), clock=_now)
    nowhere = a_cluster(server="https://127.0.0.1:1", ca=world.kubernetes.cluster.ca.read_text())

    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        requests.another(nowhere, old, by=BearerToken(world.relay))


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AWSCall]:
    folder = tmp_path_factory.mktemp("ministack")
    authority = CertificateAuthority.create(folder / "ca")
    interpreter = ROOT / ".venv-ministack" / "bin" / "python"
    emulator = start_emulator(interpreter, folder, authority=authority)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in emulator.environment.items():
            patched.setenv(name, value)
        yield boto_call(emulator.environment)
    emulator.child.stop(seconds=1)


def test_of_two_renewals_at_once_one_counts_and_the_former_token_stays_as_previous(
    aws: AWSCall,
) -> None:
    secret = {"Name": RELAY.secret, "SecretString": '{"token": "first"}'}
    aws("secretsmanager", "CreateSecret", secret)
    credentials = AWSStoredCredentials(aws)
    one, other = credentials.read(RELAY), credentials.read(RELAY)

    credentials.replace(one, by=BearerToken("second"))
    with pytest.raises(Conflict):
        credentials.replace(other, by=BearerToken("third"))

    def at(stage: str) -> str:
        request = {"SecretId": RELAY.secret, "VersionStage": stage}
        return str(aws("secretsmanager", "GetSecretValue", request)["SecretString"])

    assert json.loads(at("AWSCURRENT")) == {"token": "second"}
    assert json.loads(at("AWSPREVIOUS")) == {"token": "first"}
    credentials.replace(credentials.read(RELAY), by=BearerToken("fourth"))
    assert json.loads(at("AWSCURRENT")) == {"token": "fourth"}
    assert json.loads(at("AWSPREVIOUS")) == {"token": "second"}


def test_what_an_operator_stores_meanwhile_stays(aws: AWSCall) -> None:
    credential = Credential(kind="token", secret="jobgate/test/cluster/main/2/relay")
    name = {"SecretId": credential.secret}
    secret = {"Name": credential.secret, "SecretString": '{"token": "first"}'}
    aws("secretsmanager", "CreateSecret", secret)
    credentials = AWSStoredCredentials(aws)
    read = credentials.read(credential)
    aws("secretsmanager", "PutSecretValue", name | {"SecretString": '{"token": "operators"}'})

    with pytest.raises(Conflict):
        credentials.replace(read, by=BearerToken("ours"))

    assert credentials.read(credential).secret == BearerToken("operators")


def test_a_secret_that_was_deleted_is_not_made_again(aws: AWSCall) -> None:
    credential = Credential(kind="token", secret="jobgate/test/cluster/main/3/relay")
    secret = {"Name": credential.secret, "SecretString": '{"token": "first"}'}
    aws("secretsmanager", "CreateSecret", secret)
    credentials = AWSStoredCredentials(aws)
    read = credentials.read(credential)
    gone = {"SecretId": credential.secret, "ForceDeleteWithoutRecovery": True}
    aws("secretsmanager", "DeleteSecret", gone)

    with pytest.raises(Unavailable, match="ResourceNotFoundException"):
        credentials.replace(read, by=BearerToken("ours"))
    with pytest.raises(Unavailable, match="ResourceNotFoundException"):
        credentials.read(credential)
