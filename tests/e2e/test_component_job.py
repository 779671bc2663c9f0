"""The CI/CD component's job against the whole stack: kubectl and helm, a refusal, a migration."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.cli.cluster_rules import RELAY_ACCOUNT

from local.installation import AUDIENCE, STRANGER, WEB, context
from local.pipeline import TEMPLATE, component, job
from local.runner import Runner
from tests.support.component_image import Image

if TYPE_CHECKING:
    from pathlib import Path

    from local.installation import Installation
    from local.stack import Stack

pytestmark = pytest.mark.stack

DEPLOY = """
deploy:
  extends: .kubernetes-access
  script:
    - kubectl auth whoami
    - kubectl get configmaps
    - helm list
  after_script:
    - kubectl get configmaps --output=name
"""
MIGRATING = """
deploy:
  extends: .kubernetes-access
  script: [kubectl auth whoami]
  after_script:
    - export KUBECONFIG="$JOBGATE_KUBECONFIG"
    - kubectl config get-contexts --output=name
"""
STOP = """
stop:
  extends: .kubernetes-access
  variables: {GIT_STRATEGY: none}
  environment: {name: review/1, action: stop}
  script: [kubectl delete configmap review --ignore-not-found]
"""


def a_runner(stack: Stack, folder: Path, project: str, **environment: str) -> Runner:
    made = stack.gitlab.control.create_job(project, audience=AUDIENCE)
    programs = folder / "bin"
    programs.mkdir()
    for program in (stack.clients.kubectl, stack.clients.helm):
        (programs / program.name).symlink_to(program)
    return Runner(
        folder,
        environment={
            "PATH": f"{programs}:{os.defpath}",
            "HOME": str(folder),
            "CURL_CA_BUNDLE": str(stack.authority.certificate),
            "JOBGATE_ID_TOKEN": made.id_token,
            **environment,
        },
    )


def a_job(stack: Stack, installation: Installation, text: str, **inputs: Any) -> dict[str, Any]:
    given = {"url": stack.gateway.url, "audience": AUDIENCE, "context": context("production")}
    return job(component(TEMPLATE, {**given, "namespace": installation.namespace, **inputs}), text)


@pytest.mark.parametrize("form", ["exec", "token"])
def test_components_job_uses_kubectl_and_helm(
    stack: Stack, installation: Installation, tmp_path: Path, form: str
) -> None:
    runner = a_runner(stack, tmp_path, WEB)
    found = a_job(stack, installation, DEPLOY, form=form)

    code, said = runner.run(found)
    assert code == 0, said
    assert "gitlab:ci_job:" in said

    code, said = runner.run(found, part="after_script")
    assert (code, "configmap/kube-root-ca.crt" in said) == (0, True), said


def test_image_without_curl_uses_gnu_wget(
    stack: Stack, installation: Installation, tmp_path: Path
) -> None:
    image = Image(tmp_path, stack.authority).with_tools().add("wget")
    image.add("kubectl", stack.clients.kubectl).add("helm", stack.clients.helm)
    made = stack.gitlab.control.create_job(WEB, audience=AUDIENCE)
    image.runner.environment["JOBGATE_ID_TOKEN"] = made.id_token

    code, said = image.runner.run(a_job(stack, installation, DEPLOY))

    assert code == 0, said
    assert f"gitlab:ci_job:{made.id}" in said


def test_stop_job_without_a_checkout_works_too(
    stack: Stack, installation: Installation, tmp_path: Path
) -> None:
    code, said = a_runner(stack, tmp_path, WEB).run(a_job(stack, installation, STOP))

    assert code == 0, said


def test_refused_job_is_told_why(stack: Stack, installation: Installation, tmp_path: Path) -> None:
    runner = a_runner(stack, tmp_path, STRANGER)

    code, said = runner.run(a_job(stack, installation, DEPLOY))

    assert code == 1
    assert "not_listed" in said
    assert runner.environment["JOBGATE_ID_TOKEN"] not in said


def test_refused_jobs_after_script_takes_no_other_identity(
    stack: Stack, installation: Installation, tmp_path: Path
) -> None:
    runner = a_runner(stack, tmp_path, STRANGER)
    # What a pod's programs go by, where nothing tells them otherwise.
    runner.environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9"}
    found = a_job(stack, installation, DEPLOY)
    assert runner.run(found)[0] == 1

    for line in ("kubectl get pods", "helm list"):
        code, said = runner.line(line, runner.variables(found))

        assert (code, "none, see why in the job log" in said) == (1, True), said


def test_contexts_of_gitlabs_own_agents_stay_beside_ours(
    stack: Stack, installation: Installation, tmp_path: Path
) -> None:
    names = ("acme/agents:theirs", context("production"))
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "gitlab", "cluster": {"server": "https://kas.example.test"}}],
        "users": [{"name": "agent:9", "user": {"token": f"ci:9:{uuid.uuid4()}"}}],
        "contexts": [
            {"name": name, "context": {"cluster": "gitlab", "user": "agent:9"}} for name in names
        ],
    }
    runner = a_runner(stack, tmp_path, WEB)
    runner.files["KUBECONFIG"] = json.dumps(config)
    found = a_job(stack, installation, MIGRATING, merge=True)

    code, said = runner.run(found)
    assert code == 0, said
    # An agent that both serve is Jobgate's now.
    assert "gitlab:ci_job:" in said
    assert RELAY_ACCOUNT not in said
    (ours,) = runner.folder.rglob("kubeconfig")
    assert ours.stat().st_mode & 0o077 == 0
    # GitLab's runner writes its own file anew before the after_script.
    code, said = runner.run(found, part="after_script")
    assert code == 0, said
    assert sorted(said.split()) == sorted(names)
