from __future__ import annotations

import base64
import json

import jwt
import pytest
from jobgate.core.bound_token import BoundToken, bound_token, requested_token, token_request

from tests.support.builders import NOW
from tests.support.service_account_tokens import a_service_account_token

HOUR = 3600
TOKEN = BoundToken(
    namespace="jobgate", account="jobgate-relay", issued_at=NOW, expires_at=NOW + HOUR
)


def signed(**claims: object) -> str:
    return jwt.encode(claims, "a key that nobody verifies with, since nothing here does")


def test_a_bound_token_says_whose_it_is_and_until_when() -> None:
    assert bound_token(a_service_account_token(NOW, NOW + HOUR)) == TOKEN


@pytest.mark.parametrize(("after", "due"), [(0, False), (1799, False), (1800, True), (9999, True)])
def test_a_token_is_due_from_half_its_life_on(after: float, due: bool) -> None:  # noqa: FBT001  a table's column
    assert TOKEN.is_due(NOW + after) is due


def test_a_token_of_a_clock_that_runs_ahead_is_not_due() -> None:
    assert not TOKEN.is_due(NOW - 10 * HOUR)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "opaque",
        "a.b.c",
        "a.!!!.c",
        a_service_account_token(NOW, NOW + HOUR).replace(".", ".!!!!", 1),
        f"a.{base64.urlsafe_b64encode(b'[' * 100_000).decode()}.c",
        a_service_account_token(NOW, 10**400),
        "..",
        jwt.encode({}, "k" * 32),
        signed(exp=NOW + HOUR, iat=NOW, sub="an issuer's of somebody else"),
        signed(
            **{"kubernetes.io/serviceaccount/namespace": "n", "iss": "kubernetes/serviceaccount"}
        ),
        signed(**{"iat": NOW, "exp": NOW + 1, "kubernetes.io": []}),
        signed(**{"iat": NOW, "exp": NOW + 1, "kubernetes.io": {"namespace": "n"}}),
        signed(
            **{"iat": NOW, "kubernetes.io": {"namespace": "n", "serviceaccount": {"name": "a"}}}
        ),
        a_service_account_token(NOW, NOW),
        a_service_account_token(NOW, NOW - 1),
        a_service_account_token(NOW, float("nan")),
        a_service_account_token(NOW, NOW + HOUR, account="../../secrets/x"),
        a_service_account_token(NOW, NOW + HOUR, account="a?b"),
        a_service_account_token(NOW, NOW + HOUR, account="A"),
        a_service_account_token(NOW, NOW + HOUR, namespace="kube-system/serviceaccounts/x"),
        a_service_account_token(NOW, NOW + HOUR, namespace=""),
        a_service_account_token(NOW, NOW + HOUR, secret={"name": "s"}),
    ],
)
def test_what_is_no_bound_token_of_a_service_account_is_left_alone(token: str) -> None:
    assert bound_token(token) is None


def test_a_request_asks_for_a_life_as_long_and_for_the_servers_own_audience() -> None:
    path, body = token_request(TOKEN)

    assert path == "/api/v1/namespaces/jobgate/serviceaccounts/jobgate-relay/token"
    assert json.loads(body) == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": HOUR},
    }


@pytest.mark.parametrize(
    ("life", "asked"), [(60, 600), (600, 600), (1e12, 1 << 32), (float("inf"), 1 << 32)]
)
def test_a_request_stays_within_the_servers_bounds(life: float, asked: int) -> None:
    token = bound_token(a_service_account_token(NOW, NOW + life))

    assert token is not None
    assert json.loads(token_request(token)[1])["spec"] == {"expirationSeconds": asked}


def test_a_token_that_ends_with_an_object_is_renewed_with_the_same_end() -> None:
    token = bound_token(
        a_service_account_token(NOW, NOW + HOUR, secret={"name": "switch", "uid": "17"})
    )

    assert token is not None
    assert json.loads(token_request(token)[1])["spec"]["boundObjectRef"] == {
        "apiVersion": "v1",
        "kind": "Secret",
        "name": "switch",
        "uid": "17",
    }


def test_the_answers_token_is_taken() -> None:
    new = a_service_account_token(NOW + 1, NOW + HOUR)
    assert requested_token(json.dumps({"status": {"token": new}}).encode(), like=TOKEN) == new


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"canary",
        b'{"status": null}',
        b"[" * 100_000,
        b'{"status": {"token": 7}}',
        b'{"status": {"token": "canary"}}',
        json.dumps(
            {"status": {"token": a_service_account_token(NOW, NOW + 1, account="other")}}
        ).encode(),
        json.dumps(
            {"status": {"token": a_service_account_token(NOW, NOW + 1, namespace="other")}}
        ).encode(),
    ],
)
def test_another_answer_is_refused_and_not_quoted(answer: bytes) -> None:
    with pytest.raises(ValueError, match="the cluster's answer holds") as raised:
        requested_token(answer, like=TOKEN)

    assert "canary" not in str(raised.value)
    assert raised.value.__cause__ is None
