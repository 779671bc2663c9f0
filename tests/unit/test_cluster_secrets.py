from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.cluster_secrets import AWSClusterSecrets
from jobgate.core.agent import Credential, EKSCredential
from jobgate.core.cluster_credential import BearerToken, ClientCertificate, cluster_secret
from jobgate.core.errors import Unavailable

from tests.support.relay_parts import NOW, Clock

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = Credential(kind="token", secret="arn:1")
CERT = Credential(kind="cert", secret="arn:2")


class SecretsManager:
    """Secrets by ARN; a value may be an exception."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {
            "arn:1": '{"token": "abc"}',
            "arn:2": '{"certificate": "C", "key": "K"}',
        }
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []
        self.refusals = 0
        self.clock = Clock()
        self.secrets = AWSClusterSecrets(self, self.eks_token, clock=self.clock)

    def eks_token(self, credential: EKSCredential, *, refused: bool = False) -> BearerToken:
        self.refusals += refused
        return BearerToken(f"{credential.cluster}-at-{self.clock.now:.0f}")

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append((service, operation, request))
        value = self.values[request["SecretId"]]
        if isinstance(value, Exception):
            raise value
        return value if isinstance(value, dict) else {"SecretString": value}


@pytest.fixture
def aws() -> SecretsManager:
    return SecretsManager()


def test_each_kind_is_read_in_its_form(aws: SecretsManager) -> None:
    assert aws.secrets.fetch(TOKEN) == BearerToken("abc")
    assert aws.secrets.fetch(CERT) == ClientCertificate("C", "K")
    assert aws.calls[0] == ("secretsmanager", "GetSecretValue", {"SecretId": "arn:1"})


def test_a_token_for_eks_is_signed_in_place_and_kept_for_a_third_of_its_life(
    aws: SecretsManager,
) -> None:
    eks = EKSCredential(cluster="prod", region="eu-central-1")
    for after, signed_at in ((0, 0), (299, 0), (300, 300)):
        aws.clock.now = NOW + after
        assert aws.secrets.fetch(eks) == BearerToken(f"prod-at-{NOW + signed_at:.0f}")
    assert aws.calls == []


def test_a_secret_is_kept_for_minutes_and_then_read_anew(aws: SecretsManager) -> None:
    for after, calls in ((0, 1), (299, 1), (300, 2)):
        aws.clock.now = NOW + after
        aws.secrets.fetch(TOKEN)
        assert len(aws.calls) == calls


def test_a_clock_that_was_set_back_makes_no_secret_young(aws: SecretsManager) -> None:
    aws.secrets.fetch(TOKEN)
    aws.clock.now = NOW - 10
    aws.secrets.fetch(TOKEN)
    assert len(aws.calls) == 2


def test_a_rotated_secret_is_seen_at_once_after_the_cluster_refused_the_old_one(
    aws: SecretsManager,
) -> None:
    old = aws.secrets.fetch(TOKEN)
    aws.values["arn:1"] = '{"token": "new"}'
    assert aws.secrets.renewed(TOKEN, refused=old) == BearerToken("new")
    assert aws.secrets.fetch(TOKEN) == BearerToken("new")
    # Whoever had the old one still is told of the new one, without another call.
    assert aws.secrets.renewed(TOKEN, refused=old) == BearerToken("new")
    assert len(aws.calls) == 2


def test_a_refused_token_for_eks_is_told_of_to_its_signer_alone_then(aws: SecretsManager) -> None:
    eks = EKSCredential(cluster="prod", region="eu-central-1")
    aws.secrets.fetch(eks)
    aws.clock.now = NOW + 300
    aws.secrets.fetch(eks)
    assert aws.refusals == 0
    aws.clock.now = NOW + 600
    old = aws.secrets.fetch(eks)
    aws.clock.now = NOW + 601
    assert aws.secrets.renewed(eks, refused=old) == BearerToken(f"prod-at-{NOW + 601:.0f}")
    assert aws.refusals == 1


def test_a_caller_can_not_make_us_ask_on_and_on(aws: SecretsManager) -> None:
    old = aws.secrets.fetch(TOKEN)
    for after, calls in ((0, 2), (4.9, 2), (5, 3), (6, 3)):
        aws.clock.now = NOW + after
        assert aws.secrets.renewed(TOKEN, refused=old) is None
        assert len(aws.calls) == calls


def test_nothing_newer_can_be_had_while_nobody_answers(aws: SecretsManager) -> None:
    old = aws.secrets.fetch(TOKEN)
    aws.values["arn:1"] = Unavailable("down")
    with pytest.raises(Unavailable):
        aws.secrets.renewed(TOKEN, refused=old)


def test_while_nobody_answers_the_last_secret_serves(aws: SecretsManager) -> None:
    aws.secrets.fetch(TOKEN)
    aws.values["arn:1"] = Unavailable("down")
    aws.clock.now = NOW + 3600
    assert aws.secrets.fetch(TOKEN) == BearerToken("abc")
    aws.values["arn:2"] = Unavailable("down")
    with pytest.raises(Unavailable):
        aws.secrets.fetch(CERT)


def test_the_same_secret_under_another_kind_is_another_credential(aws: SecretsManager) -> None:
    aws.secrets.fetch(TOKEN)
    with pytest.raises(Unavailable):
        aws.secrets.fetch(Credential(kind="cert", secret="arn:1"))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "canary",
        '"canary"',
        "[]",
        "{}",
        '{"token": 5}',
        '{"token": ""}',
        '{"token": "canary canary"}',
        '{"token": "canary\\r\\nImpersonate-User: root"}',
        {},
        {"SecretBinary": b"canary"},
        AWSError("AccessDeniedException"),
        Unavailable("down"),
    ],
)
def test_what_is_no_credential_is_unavailable_and_never_quoted(
    aws: SecretsManager, value: Any
) -> None:
    aws.values["arn:1"] = value
    with pytest.raises(Unavailable) as raised:
        aws.secrets.fetch(TOKEN)
    assert "canary" not in f"{raised.value!r} {raised.value.__cause__!r}"


@pytest.mark.parametrize("kind", ["eks", "", "TOKEN"])
def test_another_kind_is_no_credential(kind: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        cluster_secret(kind, {"token": "a", "certificate": "b", "key": "c"})


def test_a_credential_is_not_shown_when_it_is_printed() -> None:
    shown = repr((BearerToken("canary"), ClientCertificate("canary", "canary")))
    assert "canary" not in shown
    assert json.dumps(shown)


def test_what_is_kept_is_bounded(aws: SecretsManager) -> None:
    for number in range(100):
        aws.values[f"x{number}"] = '{"token": "abc"}'
        credential = Credential(kind="token", secret=f"x{number}")
        refused = aws.secrets.fetch(credential)
        aws.secrets.renewed(credential, refused=refused)
    assert len(aws.secrets._read) == len(aws.secrets._renewed) == 64
