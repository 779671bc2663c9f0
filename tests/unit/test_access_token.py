from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from jobgate.core.access_token import MAX_BYTES, audience, claims_of, expiry, token_of
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken

from tests.support import builders as b

BOUNDS = Bounds()
NOW = int(b.NOW)


@pytest.mark.parametrize(
    ("subject_ends_in", "observed", "lives"),
    [
        (7200, True, 3600),
        (1200, True, 1200),
        (7200, False, 900),
        (600, False, 600),
    ],
)
def test_a_token_ends_with_the_first_of_its_bounds(
    subject_ends_in: int, *, observed: bool, lives: int
) -> None:
    ends = expiry(ends_at=NOW + subject_ends_in, observed=observed, bounds=BOUNDS, now=b.NOW)

    assert ends == NOW + lives


def test_a_short_maximum_also_bounds_an_unobserved_job() -> None:
    bounds = Bounds(token_max=60)

    ends = expiry(ends_at=NOW + 900, observed=False, bounds=bounds, now=b.NOW)

    assert ends == NOW + 60


@pytest.mark.parametrize(("observed", "lives"), [(True, 90_000), (False, 900)])
def test_without_a_maximum_only_an_observed_job_has_a_token_to_its_id_tokens_end(
    *, observed: bool, lives: int
) -> None:
    bounds = Bounds(token_max=0)

    ends = expiry(ends_at=NOW + 90_000, observed=observed, bounds=bounds, now=b.NOW)

    assert ends == NOW + lives


@pytest.mark.parametrize(
    "token",
    [
        b.an_access_token(),
        b.an_access_token(agent_id=b.PROD),
        b.an_access_token(b.a_job(environment="review/1", tier="testing", user_id=None)),
        b.an_access_token(b.a_job(environment="production", runner_id=None)),
    ],
)
def test_claims_are_read_back_as_the_token_that_they_were_made_of(token: Any) -> None:
    claims = json.loads(json.dumps(claims_of(token, base_url=b.BASE_URL, now=b.NOW)))

    assert token_of(claims) == token


def test_claims_have_the_form_that_others_may_rely_on() -> None:
    claims = claims_of(b.an_access_token(), base_url=b.BASE_URL, now=b.NOW + 0.9)

    assert {name: value for name, value in claims.items() if name != "job"} == {
        "iss": b.BASE_URL,
        "aud": f"{b.BASE_URL}/agents",
        "sub": "gitlab:main:ci_job:9001",
        "jti": "jti-1",
        "iat": NOW,
        "exp": NOW + 900,
        "v": 1,
        "did": "decision-1",
    }
    assert claims["aud"] == audience(b.BASE_URL)
    assert set(claims["job"]) == {
        "issuer",
        "id",
        "project_id",
        "namespace_id",
        "project_path",
        "pipeline_id",
        "pipeline_source",
        "user_id",
        "user_login",
        "runner_id",
        "ref",
        "ref_protected",
    }


@pytest.mark.parametrize("name", ["v", "job", "did", "jti", "exp"])
def test_a_token_that_lacks_a_claim_is_invalid(name: str) -> None:
    claims = claims_of(b.an_access_token(), base_url=b.BASE_URL, now=b.NOW)
    del claims[name]

    with pytest.raises(InvalidToken):
        token_of(claims)


@pytest.mark.parametrize("name", ["issuer", "id", "project_id", "ref_protected", "user_id"])
def test_a_token_whose_job_lacks_a_value_is_invalid(name: str) -> None:
    claims = copy.deepcopy(claims_of(b.an_access_token(), base_url=b.BASE_URL, now=b.NOW))
    del claims["job"][name]

    with pytest.raises(InvalidToken):
        token_of(claims)


@pytest.mark.parametrize("changes", [{"v": 2}, {"v": "1"}, {"job": None}, {"job": []}])
def test_a_token_of_another_form_is_invalid(changes: dict[str, Any]) -> None:
    claims = claims_of(b.an_access_token(), base_url=b.BASE_URL, now=b.NOW)

    with pytest.raises(InvalidToken):
        token_of(claims | changes)


def test_a_token_of_long_but_possible_names_fits_its_bound() -> None:
    job = b.a_job(
        project_path="/".join(["g" * 60] * 15),
        ref="r" * 255,
        environment="e" * 255,
        tier="development",
        user_login="u" * 255,
    )

    claims = claims_of(b.an_access_token(job), base_url=b.BASE_URL, now=b.NOW)

    signed = len(json.dumps(claims, separators=(",", ":"))) * 4 / 3 + 250
    assert signed < MAX_BYTES


@pytest.mark.parametrize("slug", [None, "review-1-a1b2c3"])
def test_a_slug_that_gitlab_gave_is_in_the_token_and_no_other(slug: str | None) -> None:
    job = b.a_job(environment="review/1", environment_slug=slug)

    claims = claims_of(b.an_access_token(job), base_url=b.BASE_URL, now=b.NOW)

    assert claims["job"].get("environment_slug") == slug
    assert ("environment_slug" in claims["job"]) is (slug is not None)
    assert token_of(claims).job == job
