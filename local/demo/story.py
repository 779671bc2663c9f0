"""The steps of the story. Each does something real, shows it, and checks what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from local.installation import (
    AGENTS,
    AUDIT,
    AUDITOR,
    OPS,
    PRODUCTION_FILE,
    STAGING_FILE,
    STRANGER,
    WEB,
    Installation,
    context,
    production_config,
    staging_config,
)
from local.job import FETCH, JobShell, Result
from local.kubernetes.audit import audit_events
from local.repository import push

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.demo.narrator import Narrator
    from local.stack import Stack

_CHART = Path(__file__).parent / "chart"
_FORBIDDEN_NAMESPACE = "default"
_BROKEN = "ci_access:\n  groups:\n    - id: acme/shop\n      acces_as:\n        ci_job: {}\n"
_DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: nginx}]
"""


class StepFailedError(Exception):
    """Something came out other than the story says."""


@dataclass(slots=True)
class Story:
    """The story's state: who plays, and what was measured."""

    stack: Stack
    narrator: Narrator
    namespace: str
    installation: Installation | None = None
    jobs: dict[str, JobShell] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)

    def type(
        self,
        job: JobShell,
        command: str,
        *,
        code: int | None = 0,
        says: str = "",
        seconds: float = 60,
    ) -> Result:
        """Run a line of a job's script, show it, and check its exit code and a part of its text."""
        self.narrator.typed(command)
        with self.narrator.waiting(command):
            result = job.run(command, seconds=seconds)
        self.narrator.printed(result.output)
        if code is not None and result.code != code:
            raise StepFailedError(f"exit code {result.code}, and the story says {code}")
        if says not in result.output:
            raise StepFailedError(f"the story says that this prints {says!r}")
        return result

    def refused(self, job: JobShell, command: str, *, says: str) -> Result:
        """Run a line that must fail, with these words."""
        result = self.type(job, command, code=None, says=says)
        if result.code == 0:
            raise StepFailedError("this was to be refused")
        return result

    def fetch(self, job: JobShell) -> None:
        """Fetch a job's kubeconfig, and show it."""
        self.narrator.typed(FETCH)
        result = job.fetch()
        self.narrator.printed(result.output)
        if result.code:
            raise StepFailedError("the kubeconfig was refused")

    def push(self, files: dict[str, str | None], message: str) -> None:
        """Push to the configuration project, and show it."""
        for command in push(self.stack, AGENTS, files, message):
            self.narrator.typed(command)


def installs(story: Story) -> None:
    """The operator's part."""
    story.narrator.says(
        "An operator names the GitLab instance, connects its webhook and registers two agents: "
        "`production`, which only impersonates, and `staging`, which has rights of its own."
    )

    def tell(command: str, output: str) -> None:
        story.narrator.typed(command)
        story.narrator.printed(output)

    story.installation = Installation.create(story.stack, namespace=story.namespace, tell=tell)
    story.installation.grant()


def configures(story: Story) -> None:
    """The platform team's part: two files in git."""
    for text, file in (
        (production_config(), PRODUCTION_FILE),
        (staging_config(story.namespace), STAGING_FILE),
    ):
        story.narrator.typed(f"cat {file}")
        story.narrator.printed(text)
    job = story.jobs["web"] = JobShell.start(story.stack, WEB)
    story.push(
        {PRODUCTION_FILE: production_config(), STAGING_FILE: staging_config(story.namespace)},
        "Allow the shop, ops and audit",
    )
    with story.narrator.waiting("Waiting for the webhook and the refresh"):
        _, seconds = job.until(FETCH, lambda result: result.code == 0)
    story.measured["push to first access"] = seconds
    story.narrator.says(f"A job had access {seconds:.1f} s after the push.")


def fetches(story: Story) -> None:
    """A job's kubeconfig."""
    job = story.jobs["web"]
    story.narrator.says(f"A job of {WEB} runs. It has GitLab's ID token, and no other secret.")
    story.fetch(job)
    story.type(job, "kubectl config get-contexts", says=context("production"))
    story.type(job, f"kubectl config use-context {context('production')}")
    story.type(job, f"kubectl config set-context --current --namespace {story.namespace}")


def deploys(story: Story) -> None:
    """Kubectl through the relay."""
    job = story.jobs["web"]
    (job.home / "deployment.yaml").write_text(_DEPLOYMENT)
    story.type(job, "kubectl apply -f deployment.yaml", says="deployment.apps/web created")
    story.type(job, "kubectl rollout status deployment/web", says="successfully rolled out")
    story.type(job, "kubectl logs deployment/web --tail=3")
    story.type(
        job,
        "(sleep 1; kubectl scale deployment/web --replicas=2 >/dev/null) & "
        "timeout 5 kubectl get pods --watch",
        code=124,
        says="Running",
    )


def installs_a_chart(story: Story) -> None:
    """Helm through the relay."""
    job = story.jobs["web"]
    (job.home / "chart").symlink_to(_CHART)
    story.type(job, "helm install hello ./chart --wait --timeout 60s", says="STATUS: deployed")
    story.type(job, "helm list", says="hello")


def shows_who_it_was(story: Story) -> None:
    """The cluster's own record of the identity."""
    job = story.jobs["web"]
    log = story.stack.cluster.audit_log
    user = f"gitlab:ci_job:{job.job.id}"
    if log is None:
        story.type(job, "kubectl auth whoami", says=user)
        return
    story.narrator.says("The API server's audit log says who created the Deployment:")
    seen = [
        event["impersonatedUser"]
        for event in audit_events(log)
        if event["verb"] in ("create", "patch")
        and event.get("objectRef", {}).get("resource") == "deployments"
        and event.get("impersonatedUser", {}).get("username") == user
    ]
    if not seen:
        raise StepFailedError(f"the audit log has no deployment by {user}")
    story.narrator.printed(json.dumps(seen[0], indent=2))


def keeps_to_rbac(story: Story) -> None:
    """The cluster's own rules decide about what the job may do there."""
    assert story.installation is not None  # noqa: S101  the story's first step made it
    job = story.jobs["web"]
    project = story.installation.projects[WEB]
    story.narrator.says(
        f"RBAC binds the group gitlab:project:{project} to `edit` in one namespace, so another "
        "one refuses, in Kubernetes' own words:"
    )
    story.type(job, f"kubectl auth can-i create deployments -n {story.namespace}", says="yes")
    story.refused(
        job, f"kubectl get pods -n {_FORBIDDEN_NAMESPACE}", says="pods is forbidden: User"
    )


def uses_the_other_modes(story: Story) -> None:
    """As the agent, and as a fixed identity."""
    assert story.installation is not None  # noqa: S101  the story's first step made it
    account = f"system:serviceaccount:{story.installation.access_namespace}:jobgate-agent"
    for name, project, who in (
        ("ops", OPS, account),
        ("audit", AUDIT, AUDITOR),
    ):
        job = story.jobs[name] = JobShell.start(story.stack, project)
        story.narrator.says(f"A job of {project}:")
        story.fetch(job)
        story.type(job, "kubectl auth whoami", says=who)
        story.type(job, "kubectl get deployments", says="web")


def refuses_others(story: Story) -> None:
    """Who isn't named."""
    stranger = story.jobs["stranger"] = JobShell.start(story.stack, STRANGER)
    story.narrator.says(f"A job of {STRANGER}, which no file names, gets no kubeconfig:")
    story.narrator.typed(FETCH)
    result = stranger.fetch()
    story.narrator.printed(result.output)
    if result.code == 0 or "not_listed" not in result.output:
        raise StepFailedError("a stranger's job was to be refused as not_listed")
    ops = story.jobs["ops"]
    production = story.jobs["web"].run(
        "kubectl config view -o jsonpath='{.clusters[0].cluster.server}'"
    )
    story.narrator.says(f"A job of {OPS} writes production's address into its own kubeconfig:")
    story.type(ops, "cp $KUBECONFIG hand-made")
    cluster = ops.run("kubectl config view -o jsonpath='{.clusters[0].name}'").output
    story.type(
        ops,
        f"kubectl --kubeconfig hand-made config set-cluster {cluster} --server={production.output}",
    )
    story.refused(
        ops,
        "kubectl --kubeconfig hand-made --cache-dir=$(mktemp -d) get pods",
        says="reason not_listed",
    )


def follows_git(story: Story) -> None:
    """Access follows what is pushed."""
    job = story.jobs["web"]
    story.narrator.says("The platform team takes the entry out:")
    story.push({PRODUCTION_FILE: "ci_access: {}\n"}, "Nobody")
    with story.narrator.waiting("Waiting for the refusal"):
        result, seconds = job.until("kubectl get pods", _refused_as("not_listed"))
    story.narrator.typed("kubectl get pods")
    story.narrator.printed(result.output)
    story.measured["push to refusal"] = seconds
    story.narrator.says(f"Refused {seconds:.1f} s after the push. They put it back:")
    story.push({PRODUCTION_FILE: production_config()}, "Allow the shop again")
    with story.narrator.waiting("Waiting for access"):
        _, seconds = job.until("kubectl get pods", lambda result: result.code == 0)
    story.measured["push to access"] = seconds
    story.narrator.says(f"Allowed again after {seconds:.1f} s.")


def survives_a_mistake(story: Story) -> None:
    """A broken file changes nothing and is reported."""
    assert story.installation is not None  # noqa: S101  the story's first step made it
    job = story.jobs["web"]
    story.narrator.says("A push with a typing mistake changes nothing, and is reported:")
    story.push({PRODUCTION_FILE: _BROKEN}, "Oops")
    show = ("agent", "show", context("production"))
    with story.narrator.waiting("Waiting for the refresh"):
        for _ in range(60):
            shown = story.installation.jobgate(*show)
            if "Did you mean access_as?" in shown:
                break
        else:
            raise StepFailedError("the mistake wasn't reported")
    story.narrator.typed(f"jobgate {' '.join(show)}")
    story.narrator.printed(shown)
    story.type(job, "kubectl get pods")


def ends_with_the_job(story: Story) -> None:
    """Access ends with the job."""
    job = story.jobs["web"]
    story.type(job, "kubectl get deployment web", says="web")
    story.narrator.says("The job ends; GitLab's Job Hook says so:")
    story.stack.gitlab.control.finish_job(job.job)
    with story.narrator.waiting("Waiting for the refusal"):
        result, seconds = job.until("kubectl get pods", _refused_as("job_finished"))
    story.measured["job end to refusal"] = seconds
    story.narrator.typed("kubectl get pods")
    story.narrator.printed(result.output)
    story.narrator.says(f"Refused {seconds:.1f} s after the job's end.")


def _refused_as(reason: str) -> Callable[[Result], bool]:
    return lambda result: result.code != 0 and f"reason {reason}" in result.output


STEPS: tuple[tuple[str, Callable[[Story], None]], ...] = (
    ("An operator installs Jobgate and registers two agents", installs),
    ("A platform team pushes two config.yaml", configures),
    ("A CI job fetches its kubeconfig", fetches),
    ("The job deploys with kubectl", deploys),
    ("The job installs a chart with helm", installs_a_chart),
    ("The cluster knows which job it was", shows_who_it_was),
    ("RBAC decides what the job may do", keeps_to_rbac),
    ("As the agent, and as a fixed identity", uses_the_other_modes),
    ("Others are refused, and told what to do", refuses_others),
    ("Access follows git push", follows_git),
    ("A broken file changes nothing", survives_a_mistake),
    ("Access ends with the job", ends_with_the_job),
)
