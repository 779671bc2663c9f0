"""What GitLab's claims mean, claim by claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken
from jobgate.core.id_token import verified_job

from tests.support import builders as b
from tests.support.id_tokens import ABSENT, gitlab_claims

if TYPE_CHECKING:
    from jobgate.core.job import VerifiedJob

BOUNDS = Bounds()
NOW = int(b.NOW)
RUNNING = ("job_project_id", "job_project_path", "job_namespace_id", "job_namespace_path")
BEFORE_18_4 = dict.fromkeys(RUNNING, ABSENT)


def read(now: float = b.NOW, *, not_before: int | None = None, **changes: Any) -> VerifiedJob:
    return verified_job(
        gitlab_claims(**changes), issuer="main", bounds=BOUNDS, now=now, not_before=not_before
    )


def test_a_token_of_gitlab_is_the_job_that_it_describes() -> None:
    verified = read(environment="review/1", deployment_tier="testing")

    job = b.a_job(environment="review/1", tier="testing")
    assert verified == b.a_verified_job(job, expires_at=NOW + 3600)


@pytest.mark.parametrize("not_before", [None, NOW - 1, NOW])
def test_a_token_that_was_issued_since_the_table_is_live_is_good(not_before: int | None) -> None:
    assert read(not_before=not_before) == read()


@pytest.mark.parametrize("not_before", [NOW + 1, NOW + 3600])
def test_a_token_that_is_older_than_the_live_table_has_expired(not_before: int) -> None:
    with pytest.raises(InvalidToken) as refused:
        read(not_before=not_before)

    assert refused.value.expired


def test_the_project_that_runs_the_job_counts_and_not_the_fork() -> None:
    verified = read(
        project_id="666",
        project_path="fork/app",
        namespace_id="667",
        pipeline_source="merge_request_event",
    )

    assert verified.job == b.a_job(pipeline_source="merge_request_event")
    assert verified.project_is_certain


def test_without_the_running_projects_claims_the_project_is_the_tokens() -> None:
    verified = read(**BEFORE_18_4)

    assert verified.job == b.a_job()
    assert verified.project_is_certain


def test_a_job_that_another_project_runs_for_the_source_is_of_a_fork() -> None:
    assert not read().is_of_fork
    assert read(project_id="777").is_of_fork
    assert read(project_id="777").job.project_id == b.APP
    assert not read(**BEFORE_18_4, project_id="777").is_of_fork


@pytest.mark.parametrize("source", ["merge_request_event", "parent_pipeline"])
def test_without_them_a_merge_requests_project_is_uncertain(source: str) -> None:
    assert not read(**BEFORE_18_4, pipeline_source=source).project_is_certain


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ref_protected": True}, {"ref_protected": True}),
        ({"ref_protected": False}, {"ref_protected": False}),
        ({"ref_protected": "false"}, {"ref_protected": False}),
        ({"user_id": ""}, {"user_id": None}),
        ({"user_id": None}, {"user_id": None}),
        ({"user_id": ABSENT}, {"user_id": None}),
        ({"runner_id": ABSENT}, {"runner_id": None}),
        ({"runner_id": None}, {"runner_id": None}),
        ({"runner_id": "33"}, {"runner_id": 33}),
        ({"job_id": 9001}, {"job_id": 9001}),
        ({"environment": "prod"}, {"environment": "prod", "tier": None}),
        ({"environment": ""}, {"environment": "", "tier": None}),
        ({"deployment_tier": "production"}, {"environment": None, "tier": None}),
        ({"environment": None, "deployment_tier": None}, {"environment": None}),
    ],
)
def test_claims_are_typed_as_gitlab_writes_them(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    job = read(**changes).job

    assert {name: getattr(job, name) for name in expected} == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": ABSENT},
        {"sub": "project_id:100"},
        {"groups_direct": ["x"] * 200},
        {"user_email": None},
        {"user_access_level": None},
        {"ci_config_sha": 7},
        {"sha": ABSENT},
        {"namespace_path": None},
        {"something_new": {"a": [1]}},
    ],
)
def test_a_claim_that_nothing_uses_refuses_nothing(changes: dict[str, Any]) -> None:
    assert read(**changes).job == b.a_job()


IDS = ("job_id", "job_project_id", "job_namespace_id", "pipeline_id")


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize(
    "value",
    [
        None, "", "0", "-1", "+1", " 1", "1 ", "01", "1.0", "0x1", "1_000", "one",
        "\u0661", "9" * 20, 0, -1, 1.0, True, False, 2**63, ["1"], {"id": "1"},
    ],
    ids=repr,
)  # fmt: skip
def test_an_id_is_a_positive_decimal_and_nothing_else(name: str, value: Any) -> None:
    with pytest.raises(InvalidToken, match=name):
        read(**{name: value})


@pytest.mark.parametrize("name", ["job_id", "job_project_path", "job_namespace_id", "pipeline_id"])
def test_a_claim_that_names_the_job_may_not_be_absent(name: str) -> None:
    with pytest.raises(InvalidToken, match=name):
        read(**{name: ABSENT})


@pytest.mark.parametrize("name", ["user_id", "runner_id"])
@pytest.mark.parametrize("value", ["x", "-1", -1, True, [1], "1e3"])
def test_an_id_that_may_be_absent_is_still_an_id(name: str, value: Any) -> None:
    with pytest.raises(InvalidToken, match=name):
        read(**{name: value})


@pytest.mark.parametrize(
    "name", ["job_project_path", "pipeline_source", "user_login", "ref", "jti", "environment"]
)
@pytest.mark.parametrize("value", [1, True, ["a"], "x" * 1025, "a\ud800"], ids=repr)
def test_a_text_is_a_text_of_bounded_length(name: str, value: Any) -> None:
    with pytest.raises(InvalidToken, match=name):
        read(**{name: value})


@pytest.mark.parametrize(
    "name", ["job_project_path", "pipeline_source", "user_login", "ref", "jti"]
)
def test_a_text_is_not_empty(name: str) -> None:
    with pytest.raises(InvalidToken, match=name):
        read(**{name: ""})


@pytest.mark.parametrize(
    "value", [ABSENT, None, "", "True", "TRUE", "yes", "1", 1, 0, 1.0, [], ["true"]], ids=repr
)
def test_whether_a_ref_is_protected_is_said_plainly_or_not_at_all(value: Any) -> None:
    with pytest.raises(InvalidToken, match="ref_protected"):
        read(ref_protected=value)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [ABSENT, None, str(NOW), NOW + 0.5, True, -1, float("inf"), float("nan"), 10**30, [NOW]],
    ids=repr,
)
def test_a_time_is_a_whole_number_of_seconds(name: str, value: Any) -> None:
    with pytest.raises(InvalidToken, match=name):
        read(**{name: value})


LEEWAY = int(BOUNDS.leeway)
KEPT = int(BOUNDS.job_kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - LEEWAY + 1},
        {"exp": NOW},
        {"nbf": NOW + LEEWAY},
        {"iat": NOW + LEEWAY},
        {"iat": NOW - KEPT, "nbf": NOW - KEPT},
    ],
)
def test_a_token_is_good_up_to_the_very_border(changes: dict[str, Any]) -> None:
    assert read(**changes).job == b.a_job()


@pytest.mark.parametrize(
    ("changes", "expired"),
    [
        ({"exp": NOW - LEEWAY}, True),
        ({"exp": 0}, True),
        ({"nbf": NOW + LEEWAY + 1}, False),
        ({"iat": NOW + LEEWAY + 1}, False),
        ({"iat": NOW - KEPT - 1}, False),
    ],
)
def test_a_token_beyond_the_border_is_refused(changes: dict[str, Any], *, expired: bool) -> None:
    with pytest.raises(InvalidToken) as refused:
        read(**changes)

    assert refused.value.expired is expired


def test_no_refusal_quotes_a_claims_value() -> None:
    with pytest.raises(InvalidToken) as refused:
        read(ref="", user_login="canary")

    assert "canary" not in str(refused.value)
