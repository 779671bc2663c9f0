"""TokenRequests, and the secrets that they end up in: what is sent, and what a refusal means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.stored_credentials import AWSStoredCredentials
from jobgate.adapters.token_requests import ClusterTokenRequests
from jobgate.core.agent import Credential
from jobgate.core.bound_token import bound_token
from jobgate.core.cluster_credential import BearerToken, ClientCertificate
from jobgate.core.errors import Conflict, JobgateError, NotForUs, TimedOut, Unavailable
from jobgate.ports.renewal import StoredCredential

from tests.support.relay_parts import NOW, Answer, Clock, Clusters, a_cluster
from tests.support.service_account_tokens import a_service_account_token

if TYPE_CHECKING:
    from collections.abc import Mapping

OLD = a_service_account_token(NOW - 1800, NOW + 1800)
NEW = a_service_account_token(NOW, NOW + 3600)
CREDENTIAL = Credential(kind="token", secret="jobgate/s/cluster/main/1/relay")
GIVEN = json.dumps({"status": {"token": NEW}}).encode()


class Asking:
    """One request for another token of OLD's kind; the cluster is below a path."""

    def __init__(self, status: int = 201, *pieces: Any) -> None:
        self.clusters = Clusters()
        self.answer = Answer(status, (), list(pieces or (b"", GIVEN)))
        self.clusters.answer = self.answer
        self.clock = Clock()

    def ask(self, by: BearerToken | ClientCertificate | None = None) -> str:
        old = bound_token(OLD)
        assert old is not None
        cluster = a_cluster(server="https://k8s.test:6443/clusters/a")
        requests = ClusterTokenRequests(self.clusters, clock=self.clock)
        return requests.another(cluster, old, by=by or BearerToken(OLD))


def test_a_token_is_asked_for_with_the_given_bearer_and_nobody_else() -> None:
    asking = Asking()

    assert asking.ask() == NEW

    (sent,) = asking.clusters.sent
    assert (sent.method, sent.target) == (
        "POST",
        "/clusters/a/api/v1/namespaces/jobgate/serviceaccounts/jobgate-relay/token",
    )
    assert sent.headers == (
        ("Host", "k8s.test:6443"),
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(sent.body))),
        ("User-Agent", "jobgate-reconcile"),
        ("Authorization", f"Bearer {OLD}"),
    )
    assert asking.clusters.certificates == [None]
    assert asking.clusters.deadlines == [asking.clock.now + 7]
    assert asking.answer.closed


def test_a_token_is_asked_for_with_a_certificate_without_a_bearer() -> None:
    asking = Asking()
    certificate = ClientCertificate("C", "K")

    asking.ask(certificate)

    assert asking.clusters.certificates == [certificate]
    assert "Authorization" not in dict(asking.clusters.sent[0].headers)


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, NotForUs, "the cluster refuses the relay's credential, which has ended or was revo"),
        (403, NotForUs, "may not create a token for jobgate/jobgate-relay: apply `jobgate rbac`"),
        (404, NotForUs, "the cluster has no account jobgate/jobgate-relay any more"),
        (500, Unavailable, "the cluster answered 500 to a TokenRequest"),
        (302, Unavailable, "the cluster answered 302 to a TokenRequest"),
    ],
)
def test_each_refusal_says_what_it_means(status: int, error: type[JobgateError], text: str) -> None:
    asking = Asking(status)

    with pytest.raises(error, match=text) as raised:
        asking.ask()

    assert type(raised.value) is error
    assert asking.answer.closed


def test_an_answer_without_a_token_is_none() -> None:
    with pytest.raises(Unavailable, match="holds no token"):
        Asking(201, b'{"status": {}}').ask()


def test_an_answer_without_end_is_left() -> None:
    with pytest.raises(Unavailable, match="too long"):
        Asking(201, *[b"x" * 65_536] * 2).ask()


def test_an_answer_that_drips_is_left() -> None:
    asking = Asking()

    def dripping() -> Any:
        for _ in range(100):
            asking.clock.now += 1
            yield b" "

    asking.answer.pieces = dripping()
    with pytest.raises(TimedOut):
        asking.ask()
    assert asking.clock.now <= NOW + 8


class SecretsManager:
    """Keeps what was asked for; `refusals` are error codes by operation."""

    def __init__(self, **refusals: str) -> None:
        self.refusals = refusals
        self.calls: list[tuple[str, Mapping[str, Any]]] = []

    def __call__(self, _service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append((operation, request))
        if operation in self.refusals:
            raise AWSError(self.refusals[operation])
        return {"SecretString": json.dumps({"token": OLD}), "VersionId": "v1"}


STORED = StoredCredential(credential=CREDENTIAL, secret=BearerToken(OLD), version="v1")


def test_a_credential_is_read_with_its_version() -> None:
    assert AWSStoredCredentials(SecretsManager()).read(CREDENTIAL) == STORED


def test_a_new_version_becomes_current_only_in_the_place_of_the_one_that_was_read() -> None:
    aws = SecretsManager()

    AWSStoredCredentials(aws).replace(STORED, by=BearerToken(NEW))

    (put, written), (move, moved) = aws.calls
    version = written["ClientRequestToken"]
    assert (put, move) == ("PutSecretValue", "UpdateSecretVersionStage")
    assert written == {
        "SecretId": CREDENTIAL.secret,
        "ClientRequestToken": version,
        "SecretString": json.dumps({"token": NEW}),
        "VersionStages": ["jobgate-renewal"],
    }
    assert moved == {
        "SecretId": CREDENTIAL.secret,
        "VersionStage": "AWSCURRENT",
        "MoveToVersionId": version,
        "RemoveFromVersionId": "v1",
    }


@pytest.mark.parametrize(
    ("operation", "code", "error"),
    [
        ("UpdateSecretVersionStage", "InvalidParameterException", Conflict),
        ("UpdateSecretVersionStage", "InternalServiceError", Unavailable),
        ("PutSecretValue", "ResourceNotFoundException", Unavailable),
        ("PutSecretValue", "AccessDeniedException", Unavailable),
    ],
)
def test_a_refused_write_is_told(operation: str, code: str, error: type[JobgateError]) -> None:
    aws = SecretsManager(**{operation: code})

    with pytest.raises(error) as raised:
        AWSStoredCredentials(aws).replace(STORED, by=BearerToken(NEW))

    assert NEW not in str(raised.value)


def test_a_credential_that_can_not_be_read_is_told() -> None:
    aws = SecretsManager(GetSecretValue="ResourceNotFoundException")

    with pytest.raises(Unavailable, match="can't be read: ResourceNotFoundException"):
        AWSStoredCredentials(aws).read(CREDENTIAL)
