"""Tokens for EKS: byte for byte what botocore's presigner makes, and whose identity they carry."""

from __future__ import annotations

import base64
import datetime as dt
from typing import TYPE_CHECKING, Any

import botocore.auth
import botocore.session
import pytest
from botocore.credentials import Credentials
from botocore.model import ServiceId
from botocore.signers import RequestSigner
from hypothesis import given
from hypothesis import strategies as st
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.eks_tokens import EKSTokens
from jobgate.adapters.signature_v4 import AWSCredentials
from jobgate.core.agent import EKSCredential
from jobgate.core.errors import Unavailable

from tests.support.relay_parts import NOW, Clock

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN = AWSCredentials("AKIA", "secret", "session+/=")
_SESSION = botocore.session.get_session()  # the signer itself holds it by a weak reference
ROLE = "arn:aws:iam::123456789012:role/jobgate-cluster"


def _as_botocore(cluster: str, region: str, credentials: AWSCredentials, at: float) -> str:
    """The token that `aws eks get-token` prints (awscli, customizations/eks/get_token.py)."""
    signer = RequestSigner(
        ServiceId("STS"),
        region,
        "sts",
        "v4",
        Credentials(
            credentials.access_key_id, credentials.secret_access_key, credentials.session_token
        ),
        _SESSION.get_component("event_emitter"),
    )
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    request: dict[str, Any] = {
        "method": "GET",
        "url": f"https://sts.{region}.{suffix}/?Action=GetCallerIdentity&Version=2011-06-15",
        "body": {},
        "headers": {"x-k8s-aws-id": cluster},
        "context": {},
    }
    with pytest.MonkeyPatch.context() as patch:
        moment = dt.datetime.fromtimestamp(at, dt.UTC)
        patch.setattr(botocore.auth, "get_current_datetime", lambda: moment)
        url = signer.generate_presigned_url(
            request, region_name=region, expires_in=60, operation_name=""
        )
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


class STS:
    """Answers AssumeRole by `answer`, or raises it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []
        self.answer: Any = {
            "Credentials": {
                "AccessKeyId": "ASIA",
                "SecretAccessKey": "theirs",
                "SessionToken": "their session",
                "Expiration": "2027-01-15T09:00:00Z",  # an hour after NOW
            }
        }

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> Any:
        self.calls.append((service, operation, request))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def sts() -> STS:
    return STS()


@given(
    cluster=st.from_regex(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}", fullmatch=True),
    region=st.sampled_from(["eu-central-1", "us-east-1", "cn-north-1", "ap-southeast-2"]),
    key=st.from_regex(r"[A-Z0-9]{16,20}", fullmatch=True),
    secret=st.from_regex(r"[A-Za-z0-9+/]{40}", fullmatch=True),
    session=st.none() | st.from_regex(r"[A-Za-z0-9+/=]{1,400}", fullmatch=True),
    at=st.integers(1_600_000_000, 4_000_000_000),
)
def test_a_token_is_byte_for_byte_botocores(
    cluster: str, region: str, key: str, secret: str, session: str | None, at: int
) -> None:
    credentials = AWSCredentials(key, secret, session)
    tokens = EKSTokens(STS(), lambda: credentials, clock=lambda: at)

    ours = tokens(EKSCredential(cluster=cluster, region=region)).token

    assert ours == _as_botocore(cluster, region, credentials, at)


def test_ones_own_identity_needs_no_call(sts: STS) -> None:
    EKSTokens(sts, lambda: OWN, clock=Clock())(EKSCredential(cluster="prod", region="eu-central-1"))
    assert sts.calls == []


def test_a_roles_token_is_signed_with_the_roles_session(sts: STS) -> None:
    tokens = EKSTokens(sts, lambda: OWN, clock=Clock())
    token = tokens(EKSCredential(cluster="prod", region="eu-west-1", role_arn=ROLE)).token
    theirs = AWSCredentials("ASIA", "theirs", "their session")
    assert token == _as_botocore("prod", "eu-west-1", theirs, NOW)
    request = {"RoleArn": ROLE, "RoleSessionName": "jobgate-relay"}
    assert sts.calls == [("sts", "AssumeRole", request)]


def test_a_session_serves_until_a_token_might_outlive_it(sts: STS) -> None:
    clock = Clock()
    tokens = EKSTokens(sts, lambda: OWN, clock=clock)
    for after, calls in ((0, 1), (2699, 1), (2700, 2)):
        clock.now = NOW + after
        tokens(EKSCredential(cluster="prod", region="eu-west-1", role_arn=ROLE))
        assert len(sts.calls) == calls


def test_a_session_whose_token_was_refused_is_not_used_again(sts: STS) -> None:
    """It was revoked, or its role was made anew under the same name."""
    tokens = EKSTokens(sts, lambda: OWN, clock=Clock())
    credential = EKSCredential(cluster="prod", region="eu-west-1", role_arn=ROLE)
    tokens(credential)
    given = {"AccessKeyId": "ASIB", "SecretAccessKey": "new", "SessionToken": "new session"}
    sts.answer = {"Credentials": given | {"Expiration": "2027-01-15T09:00:00Z"}}
    new = _as_botocore("prod", "eu-west-1", AWSCredentials("ASIB", "new", "new session"), NOW)
    assert tokens(credential, refused=True).token == new
    assert tokens(credential).token == new
    assert len(sts.calls) == 2


def test_two_roles_have_sessions_of_their_own(sts: STS) -> None:
    tokens = EKSTokens(sts, lambda: OWN, clock=Clock())
    for role in (ROLE, f"{ROLE}-2", ROLE, f"{ROLE}-2"):
        tokens(EKSCredential(cluster="prod", region="eu-west-1", role_arn=role))
    assert [request["RoleArn"] for _, _, request in sts.calls] == [ROLE, f"{ROLE}-2"]


@pytest.mark.parametrize(
    "answer",
    [
        AWSError("AccessDenied"),
        Unavailable("down"),
        {},
        {"Credentials": None},
        {"Credentials": {"AccessKeyId": "a", "SecretAccessKey": "canary", "SessionToken": "c"}},
        {
            "Credentials": {
                "AccessKeyId": "a",
                "SecretAccessKey": "canary",
                "SessionToken": "canary",
                "Expiration": "canary",
            }
        },
    ],
)
def test_a_role_that_can_not_be_had_is_unavailable_and_nothing_is_quoted(
    sts: STS, answer: Any
) -> None:
    sts.answer = answer
    tokens = EKSTokens(sts, lambda: OWN, clock=Clock())
    with pytest.raises(Unavailable) as raised:
        tokens(EKSCredential(cluster="prod", region="eu-west-1", role_arn=ROLE))
    assert "canary" not in f"{raised.value!r} {raised.value.__cause__!r}"
