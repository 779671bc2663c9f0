"""The examples of docs/examples as a user would run them: what they do in the cluster, as whom."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from local.gitlab.environments import environment_slug
from local.installation import GROUP, SHOP, WEB
from tests.support.examples import MERGE_REQUEST, PUSH, Act, Examples, Origin, succeeded

if TYPE_CHECKING:
    from pathlib import Path

    from local.installation import Installation
    from local.stack import Stack
    from tests.support.examples import Played

pytestmark = pytest.mark.stack

FORK = "mallory/web"
_SECONDS = 30.0


@pytest.fixture
def examples(stack: Stack, installation: Installation, tmp_path: Path) -> Examples:
    return Examples(stack, installation, tmp_path)


def refusal(played: Played, line: str) -> str:
    """What a job that has ended is told, once its end is known: a line that worked before."""
    deadline = time.monotonic() + _SECONDS
    while (answer := played.again(line))[0] == 0 or "job_finished" not in answer[1]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{line}: still {answer}")
        time.sleep(0.1)
    return answer[1]


def test_kubectl_deploys_as_the_job_with_its_environment(
    examples: Examples, installation: Installation
) -> None:
    played = succeeded(examples.pipeline("kubectl").play("deploy"))

    deployed = examples.found("deployment", "web")
    assert deployed is not None
    assert deployed["status"]["readyReplicas"] == 1
    (act,) = played.acts("create", "patch")
    # Another test may have made one of this name.
    assert act in {Act(verb, "deployments", "web") for verb in ("create", "patch")}
    seen = played.identity()
    project = installation.projects[WEB]
    groups = [installation.groups[path] for path in (GROUP, SHOP)]
    assert set(seen["groups"]) == {
        "gitlab:ci_job",
        *(f"gitlab:group:{group}" for group in groups),
        *(f"gitlab:group_env_tier:{group}:production" for group in groups),
        f"gitlab:project:{project}",
        f"gitlab:project_env:{project}:production",
        f"gitlab:project_env_tier:{project}:production",
        "system:authenticated",
    }
    assert seen["extra"]["agent.gitlab.com/ci_pipeline_id"] == [str(played.job.pipeline_id)]


def test_helm_installs_and_upgrades_a_release(examples: Examples) -> None:
    pipeline = examples.pipeline("helm")
    for revision in (1, 2):
        played = succeeded(pipeline.play("deploy"))
        assert f"REVISION: {revision}" in played.said
        deployed = examples.found("deployment", "web-chart")
        assert deployed is not None
        noted = deployed["metadata"]["annotations"]["example.com/commit"]
        assert noted == played.job.sha[:8]
        release = f"sh.helm.release.v1.web-chart.v{revision}"
        assert Act("create", "secrets", release) in played.acts("create", "patch")


def test_kustomize_applies_the_overlay(examples: Examples) -> None:
    played = succeeded(examples.pipeline("kustomize").play("deploy"))

    deployed = examples.found("deployment", "production-layered")
    assert deployed is not None
    assert deployed["status"]["readyReplicas"] == 2
    assert examples.found("deployment", "layered") is None
    assert played.acts("create", "patch") == [Act("create", "deployments", "production-layered")]


def test_python_client_publishes_and_then_changes(examples: Examples) -> None:
    pipeline = examples.pipeline("python")
    for verb in ("create", "patch"):
        played = succeeded(pipeline.play("publish"))
        live = examples.found("configmap", "live")
        assert live is not None
        assert live["data"] == {"commit": played.job.sha, "job": str(played.job.id)}
        assert played.acts("create", "patch") == [Act(verb, "configmaps", "live")]


def test_review_app_comes_with_its_merge_request_and_goes_with_the_stop_job(
    examples: Examples,
) -> None:
    slug = environment_slug("review/add-search")
    pipeline = examples.pipeline("review-app", MERGE_REQUEST)
    assert pipeline.jobs == {"review": "on_success", "stop-review": "manual"}

    review = succeeded(pipeline.play("review"))
    assert examples.found("deployment", slug) is not None
    assert examples.found("service", slug) is not None
    seen = review.identity()
    assert seen["extra"]["agent.gitlab.com/environment_slug"] == [slug]
    assert seen["extra"]["agent.gitlab.com/environment_tier"] == ["development"]

    stop = succeeded(pipeline.play("stop-review"))
    assert list(stop.runner.project.iterdir()) == []
    assert examples.found("deployment", slug) is None
    assert examples.found("service", slug) is None
    assert set(stop.acts("delete")) == {
        Act("delete", "deployments", slug),
        Act("delete", "services", slug),
    }
    stopped = stop.identity()
    assert stopped["groups"] == seen["groups"]


def test_review_app_takes_nothing_of_another_away(examples: Examples) -> None:
    other = replace(MERGE_REQUEST, ref="fix-cart")
    pipelines = [examples.pipeline("review-app", origin) for origin in (MERGE_REQUEST, other)]
    for pipeline in pipelines:
        succeeded(pipeline.play("review"))
    succeeded(pipelines[0].play("stop-review"))
    assert examples.found("deployment", environment_slug("review/add-search")) is None
    assert examples.found("deployment", environment_slug("review/fix-cart")) is not None
    succeeded(pipelines[1].play("stop-review"))


def test_manual_job_is_started_by_hand_on_the_default_branch(examples: Examples) -> None:
    pipeline = examples.pipeline("manual")
    assert pipeline.jobs == {"release": "manual"}
    assert examples.pipeline("manual", replace(PUSH, ref="feature")).jobs == {}

    played = succeeded(pipeline.play("release"))
    release = examples.found("configmap", "release")
    assert release is not None
    assert release["data"] == {"commit": played.job.sha}
    assert played.acts("create", "patch") == [Act("create", "configmaps", "release")]


def test_scheduled_job_restarts_as_the_schedules_owner(examples: Examples) -> None:
    examples.stack.gitlab.control.create_user("night-owl")
    examples.admin("create", "deployment", "nightly", "--image=nginx")
    assert examples.pipeline("schedule").jobs == {}
    scheduled = Origin(WEB, "schedule", user="night-owl")

    played = succeeded(examples.pipeline("schedule", scheduled).play("restart"))

    restarted = examples.found("deployment", "nightly")
    assert restarted is not None
    annotations = restarted["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in annotations
    assert played.acts("create", "patch") == [Act("patch", "deployments", "nightly")]
    seen = played.identity()
    assert seen["extra"]["agent.gitlab.com/username"] == ["night-owl"]


def test_child_pipelines_job_is_seen_with_the_childs_pipeline(examples: Examples) -> None:
    parent = examples.pipeline("child-pipeline")
    assert parent.jobs == {"deploy": "on_success"}
    child = parent.child("deploy")
    assert child.jobs == {"deploy": "on_success"}

    played = succeeded(child.play("deploy"))

    assert played.acts("create", "patch") == [Act("create", "configmaps", "child-settings")]
    seen = played.identity()
    assert seen["extra"]["agent.gitlab.com/ci_pipeline_id"] == [str(played.job.pipeline_id)]
    assert examples.found("configmap", "child-settings") is not None


def test_retried_job_is_a_new_one_and_the_firsts_kubeconfig_is_dead(examples: Examples) -> None:
    pipeline = examples.pipeline("retry")
    first = pipeline.play("migrate")
    assert first.code == 1
    assert 'configmaps "database-ready" not found' in first.said
    examples.admin("create", "configmap", "database-ready")

    second = succeeded(pipeline.play("migrate"))

    assert second.job.id != first.job.id
    assert second.job.pipeline_id == first.job.pipeline_id
    made = f"migrated-{second.job.id}"
    assert second.acts("create", "patch") == [Act("create", "configmaps", made)]
    assert examples.found("configmap", made) is not None
    for played in (first, second):
        assert "job_finished" in refusal(played, "kubectl get configmap database-ready")
    assert first.acts("create", "patch") == []


def test_first_jobs_access_token_is_dead_too_where_the_form_is_token(examples: Examples) -> None:
    pipeline = examples.pipeline("retry", settings={"JOBGATE_FORM": "token"})
    examples.admin("delete", "configmap", "database-ready", "--ignore-not-found")
    first = pipeline.play("migrate")
    assert first.code == 1
    assert "reason job_finished" in refusal(first, "kubectl get configmaps")


def test_merge_request_sees_a_difference_and_changes_nothing(examples: Examples) -> None:
    played = succeeded(examples.pipeline("merge-request", MERGE_REQUEST).play("diff"))

    assert "configmap/merge-request-settings created (server dry run)" in played.said
    assert "+  theme: light" in played.said
    assert examples.found("configmap", "merge-request-settings") is None
    assert played.acts("create", "patch") == []


@pytest.fixture(scope="module")
def forks_id(stack: Stack) -> int:
    """A fork of the web project in its owner's namespace."""
    stack.gitlab.control.create_user("mallory")
    return int(stack.gitlab.control.create_project(FORK)["id"])


def test_forks_merge_request_has_no_job_in_the_project(examples: Examples, forks_id: int) -> None:
    examples.ids[FORK] = forks_id
    from_fork = replace(MERGE_REQUEST, user="mallory", merge_request_of=FORK)
    assert examples.pipeline("merge-request", MERGE_REQUEST).jobs == {"diff": "on_success"}
    assert examples.pipeline("merge-request", from_fork).jobs == {}
    assert examples.pipeline("review-app", from_fork).jobs == {}


@pytest.mark.parametrize(
    ("example", "job", "source", "of"),
    [
        ("merge-request", "diff", "merge_request_event", FORK),
        ("review-app", "review", "merge_request_event", FORK),
        ("kubectl", "deploy", "push", None),
    ],
)
def test_forks_own_pipelines_get_nothing(
    examples: Examples, forks_id: int, example: str, job: str, source: str, of: str | None
) -> None:
    examples.ids[FORK] = forks_id
    origin = Origin(FORK, source, user="mallory", merge_request_of=of)

    played = examples.pipeline(example, origin).play(job)

    assert played.code == 1
    assert "not_listed" in played.said
    (kubeconfig,) = played.runner.folder.rglob("kubeconfig")
    assert "clusters" not in kubeconfig.read_text()
    assert played.acts("get", "list", "create", "patch") == []
