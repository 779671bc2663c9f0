"""The stand-in's pure rules, against the facts that GitLab's own specs state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local.gitlab.commits import parse_tree
from local.gitlab.environments import environment_slug, guessed_tier
from local.gitlab.hook_headers import signature
from local.gitlab.id_tokens import id_token_claims
from local.gitlab.ids import Ids
from local.gitlab.instance import Instance
from local.gitlab.pagination import page_by_number
from local.gitlab.push_events import ref_changes
from local.gitlab.rate_limits import RateLimits
from local.gitlab.records import Environment, Group, InvalidError, Job, Project, TakenError

if TYPE_CHECKING:
    from collections.abc import Callable

_NOW = 1_790_000_000.0


@pytest.fixture
def instance() -> Instance:
    made = Instance(url="https://gitlab.example.test", clock=lambda: _NOW)
    for group_id, path, parent_id in ((1, "top", None), (2, "sub1", 1), (9, "ext", None)):
        made.places.put_group(Group(group_id, path, path.capitalize(), parent_id, "private", 0, 0))
    made.places.put_project(a_project(100, "app", 2))
    made.add_user("dana", id=12, namespace_id=700, email="dana@example.test")
    return made


def a_project(project_id: int, path: str, namespace_id: int, **fields: Any) -> Project:
    known: dict[str, Any] = {
        "project_namespace_id": project_id + 5000,
        "default_branch": "main",
        "visibility": "private",
        "protected": ("main", "v*"),
        "creator_id": 1,
        "created_at": 0,
        "updated_at": 0,
    }
    return Project(project_id, path, path, namespace_id, **(known | fields))


def a_job(**fields: Any) -> Job:
    known: dict[str, Any] = {
        "id": 9001,
        "pipeline_id": 7001,
        "project_id": 100,
        "source_project_id": 100,
        "name": "deploy",
        "stage": "deploy",
        "status": "running",
        "ref": "main",
        "tag": False,
        "ref_protected": True,
        "sha": "a" * 40,
        "user_id": 12,
        "source": "push",
        "environment_id": None,
        "environment_action": "start",
        "timeout": 3600,
        "audiences": (),
        "runner_id": 33,
        "runner_environment": "self-hosted",
        "created_at": _NOW,
    }
    return Job(**(known | fields))


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("production", "production"),
        ("Production", "production-iis43c"),
        ("review/feature-1", "review-feature-1-1q251u"),
        ("dev_1", "dev-1-m9ln26"),
        ("staging-1234567890123456", "staging-1234567890123456"),
        ("customers/acme-corp/production", "customers-acme-co-4isp8l"),
        ("test env", "test-env-fdcdgc"),
        ("1", "env-1-x3mbm3"),
        ("foo-", "foo"),
    ],
)
def test_slug_is_the_one_that_gitlab_computes(name: str, slug: str) -> None:
    assert environment_slug(name) == slug


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("production", "production"),
        ("review/1", "development"),
        ("qa", "testing"),
        ("staging", "staging"),
        ("customers", "other"),
    ],
)
def test_tier_is_guessed_from_the_name(name: str, tier: str) -> None:
    assert guessed_tier(name) == tier


def test_paths_are_found_whatever_their_case(instance: Instance) -> None:
    assert instance.project("Top/SUB1/App").id == 100


def test_a_renamed_group_moves_every_project_below_it(instance: Instance) -> None:
    instance.places.put_group(Group(1, "peak", "Peak", None, "private", 0, 1))

    assert instance.places.project_path(instance.project(100)) == "peak/sub1/app"
    assert instance.places.project_at("top/sub1/app") is None
    moved = instance.places.project_formerly_at("top/sub1/app")
    assert moved is not None
    assert moved.id == 100


def test_a_path_that_is_taken_again_no_longer_leads_to_its_former_project(
    instance: Instance,
) -> None:
    instance.places.put_project(a_project(100, "app2", 2))
    instance.places.put_project(a_project(101, "app", 2))

    assert instance.places.project_formerly_at("top/sub1/app") is None
    assert instance.project("top/sub1/app").id == 101


def test_two_projects_cant_share_a_path(instance: Instance) -> None:
    with pytest.raises(TakenError):
        instance.places.put_project(a_project(101, "APP", 2))


def test_a_group_with_projects_isnt_removed(instance: Instance) -> None:
    with pytest.raises(InvalidError):
        instance.places.remove_group(2)


def test_a_fixed_id_is_given_once_and_skipped_by_the_sequence() -> None:
    ids = Ids()
    first = ids.take("job")
    ids.take("job", first + 1)

    assert ids.take("job") == first + 2
    with pytest.raises(TakenError):
        ids.take("job", first)


def test_a_member_of_a_parent_group_sees_the_project_and_a_stranger_doesnt(
    instance: Instance,
) -> None:
    dana, project = instance.user("dana"), instance.project(100)
    assert not instance.sees_project(dana, project)

    instance.add_member("group", 1, user=dana, role="reporter")

    assert instance.sees_project(dana, project)
    assert instance.may(dana, project, "reporter")
    assert not instance.may(dana, project, "developer")


def test_claims_have_gitlabs_types(instance: Instance) -> None:
    instance.add_member("project", 100, user=instance.user("dana"), role="developer")

    claims = id_token_claims(instance, a_job(), audience="https://broker.example.test")

    assert claims.pop("jti")
    assert claims == {
        "namespace_id": "2",
        "namespace_path": "top/sub1",
        "project_id": "100",
        "project_path": "top/sub1/app",
        "job_project_id": "100",
        "job_project_path": "top/sub1/app",
        "job_namespace_id": "2",
        "job_namespace_path": "top/sub1",
        "user_id": "12",
        "user_login": "dana",
        "user_email": "dana@example.test",
        "user_access_level": "developer",
        "pipeline_id": "7001",
        "pipeline_source": "push",
        "job_id": "9001",
        "ref": "main",
        "ref_type": "branch",
        "ref_path": "refs/heads/main",
        "ref_protected": "true",
        "runner_id": 33,
        "runner_environment": "self-hosted",
        "sha": "a" * 40,
        "project_visibility": "private",
        "job_source": "push",
        "ci_config_ref_uri": "gitlab.example.test/top/sub1/app//.gitlab-ci.yml@refs/heads/main",
        "ci_config_sha": "a" * 40,
        "iss": "https://gitlab.example.test",
        "iat": 1_790_000_000,
        "nbf": 1_789_999_995,
        "exp": 1_790_003_600,
        "sub": "project_path:top/sub1/app:ref_type:branch:ref:main",
        "aud": "https://broker.example.test",
    }


def test_environment_claims_come_with_an_environment_only(instance: Instance) -> None:
    instance.environments[5] = Environment(
        5, 100, "review/1", "s", "testing", protected=False, created_at=0
    )

    claims = id_token_claims(instance, a_job(environment_id=5), audience="a")

    assert {name: claims[name] for name in claims if "environment" in name or "tier" in name} == {
        "environment": "review/1",
        "environment_protected": "false",
        "deployment_tier": "testing",
        "environment_action": "start",
        "runner_environment": "self-hosted",
    }


def test_a_fork_pipelines_project_claims_name_the_fork(instance: Instance) -> None:
    instance.places.put_project(a_project(200, "app", 700))

    claims = id_token_claims(instance, a_job(source_project_id=200), audience="a")

    assert (claims["project_id"], claims["job_project_id"]) == ("200", "100")
    assert claims["ci_config_ref_uri"] is None


def test_a_job_without_timeout_gets_a_token_of_five_minutes(instance: Instance) -> None:
    claims = id_token_claims(instance, a_job(timeout=None), audience="a")

    assert claims["exp"] - claims["iat"] == 300


def test_signature_is_the_example_of_standard_webhooks() -> None:
    """The published example of https://www.standardwebhooks.com (test key and message)."""
    assert (
        signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            b'{"test": 2432232314}',
            delivery="msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp=1614265330,
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_created_and_deleted_refs_have_zeros_on_the_missing_side() -> None:
    changes = ref_changes({"refs/heads/a": "1", "refs/heads/b": "2"}, {"refs/heads/b": "3"})

    assert [(c.ref, c.before, c.after) for c in changes] == [
        ("refs/heads/a", "1", "0" * 40),
        ("refs/heads/b", "2", "3"),
    ]


def test_folders_come_before_files() -> None:
    printed = b"100644 blob a1\tA\x00040000 tree b2\tz\x00"

    assert [(e.type, e.path) for e in parse_tree(printed)] == [("tree", "z"), ("blob", "A")]


def test_totals_are_left_out_beyond_ten_thousand_rows() -> None:
    _, few = page_by_number(range(10_000), {}, "u")
    _, many = page_by_number(range(10_001), {}, "u")

    assert few["X-Total"] == "10000"
    assert "X-Total" not in many
    assert 'rel="last"' not in many["Link"]


@pytest.fixture
def limits() -> RateLimits:
    made = RateLimits()
    made.switch(enabled=True, factor=0.005)
    return made


def test_the_third_project_call_of_a_minute_is_refused_without_headers(limits: RateLimits) -> None:
    call: Callable[[float], Any] = lambda now: limits.count(  # noqa: E731  used three times below
        "GET /projects/top%2Fapp", who="user 1", known=True, now=now
    )
    assert call(60).passes
    assert call(61).passes

    refused = call(62)

    assert not refused.passes
    assert refused.headers == {}
    assert call(120).passes


def test_the_general_limit_says_when_to_come_back(limits: RateLimits) -> None:
    verdicts = [limits.count("GET /version", who="user 1", known=True, now=90) for _ in range(11)]

    assert [verdict.passes for verdict in verdicts] == [True] * 10 + [False]
    assert verdicts[-1].headers["Retry-After"] == "30"
    assert verdicts[-1].headers["RateLimit-Remaining"] == "0"
