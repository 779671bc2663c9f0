from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jobgate.cli.cluster_credentials import agent_credential, relay_credential
from jobgate.cli.inputs import CredentialFile
from jobgate.core.agent import EKSCredential
from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

EKS = "eu-central-1/prod"
ROLE = "arn:aws:iam::123456789012:role/path/jobgate-cluster"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("abc\n")
    return file


def test_a_file_or_an_identity_of_awss_is_a_credential(token: Path) -> None:
    stored = CredentialFile("token", {"token": "abc"})
    own = EKSCredential(cluster="prod", region="eu-central-1")
    role = EKSCredential(cluster="prod", region="eu-central-1", role_arn=ROLE)
    assert relay_credential(token, None, None) == stored
    assert relay_credential(None, EKS, None) == own
    assert relay_credential(None, EKS, ROLE) == role
    assert agent_credential(None, None, None) is None
    assert agent_credential(None, EKS, None) is None
    assert agent_credential(token, None, None) == stored
    assert agent_credential(token, EKS, None) == stored
    assert agent_credential(None, EKS, ROLE) == role


@pytest.mark.parametrize(
    ("eks", "role", "text"),
    [
        (None, None, "either --credential-file or --eks"),
        (None, ROLE, "either --credential-file or --eks"),
        ("prod", None, "REGION/CLUSTER"),
        ("eu-central-1/", None, "REGION/CLUSTER"),
        ("eu-central-1/a b", None, "REGION/CLUSTER"),
        ("evil.example/x", None, "REGION/CLUSTER"),
        ("eu-central-1/prod\n", None, "REGION/CLUSTER"),
        (EKS, "role/x", "a role's ARN"),
        (EKS, "arn:aws:iam::123456789012:user/x", "a role's ARN"),
    ],
)
def test_what_is_neither_is_refused(eks: str | None, role: str | None, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        relay_credential(None, eks, role)


def test_two_ways_at_once_are_refused(token: Path) -> None:
    with pytest.raises(InvalidRequest, match="either"):
        relay_credential(token, EKS, None)
    with pytest.raises(InvalidRequest, match="needs --eks"):
        relay_credential(token, None, ROLE)
    with pytest.raises(InvalidRequest, match="either"):
        agent_credential(token, EKS, ROLE)
    with pytest.raises(InvalidRequest, match="needs --eks"):
        agent_credential(None, None, ROLE)
