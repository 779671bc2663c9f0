"""The CI/CD component in a job: its script lines in real shells, beside what the job has itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from local.pipeline import InputError, component, job, jobs
from tests.support.component_image import CONFIG, DEPLOY, TEMPLATE, included, run
from tests.support.https_server import HTTPSServer, https_server

if TYPE_CHECKING:
    from local.certificates import CertificateAuthority
    from tests.support.component_image import Image

PLAIN = Path(__file__).parents[3] / "docs" / "examples" / "kubernetes-access.yml"


def test_job_has_its_kubeconfig_in_script_and_after_script(
    any_image: Image, server: HTTPSServer
) -> None:
    found = job(included(server), DEPLOY)
    code, said = any_image.runner.run(found)
    assert (code, json.loads(said)) == (0, CONFIG)
    assert json.loads(any_image.runner.run(found, part="after_script")[1]) == CONFIG


def test_url_may_end_with_a_slash(any_image: Image, server: HTTPSServer) -> None:
    url = server.url.replace("127.0.0.1", "localhost") + "/"
    assert json.loads(run(any_image, server, url=url)[1]) == CONFIG


def test_jobs_own_before_script_keeps_it_by_reference(image: Image, server: HTTPSServer) -> None:
    text = """
deploy:
  extends: .kubernetes-access
  before_script:
    - echo first
    - !reference [.kubernetes-access, before_script]
    - echo last
  script: ['cat "$KUBECONFIG"']
"""
    code, said = run(image.with_tools().add("curl"), server, text)
    assert code == 0
    assert said.splitlines()[:2] == ["first", "last"]
    assert json.loads(said.split("last\n")[1]) == CONFIG


def test_variables_of_the_job_stay_and_its_shells_mask_too(
    image: Image, server: HTTPSServer
) -> None:
    text = """
deploy:
  extends: .kubernetes-access
  variables: {MINE: kept}
  script: ['echo "$MINE"; umask']
"""
    code, said = run(image.with_tools().add("curl"), server, text)
    assert (code, said.split()) == (0, ["kept", "0022"])


SHELLS = {
    "dash": ("dash",),
    "dash -u": ("dash", "-u"),
    "bash": ("bash",),
    "bash as sh": ("bash", "--posix"),
    "bash as the runner has it": ("bash", "-o", "pipefail"),
    "bash with everything": ("bash", "-u", "-C", "-o", "pipefail"),
    "ash": ("busybox", "ash"),
    "ash with pipefail": ("busybox", "ash", "-o", "pipefail"),
}


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_every_common_shell_runs_it_and_stops_at_a_refusal(
    image: Image, server: HTTPSServer, busybox: Path, shell: tuple[str, ...], *, refused: bool
) -> None:
    if refused:
        server.answer("/kubeconfig", {"error_description": "No."}, status=403)
    program = busybox if shell[0] == "busybox" else Path(shutil.which(shell[0]) or "")
    image.runner.shell = (str(program), *shell[1:])
    code, said = run(image.with_tools().add("curl"), server)
    if refused:
        assert (code, "No." in said) == (1, True)
    else:
        assert (code, json.loads(said)) == (0, CONFIG)


@pytest.mark.parametrize("failing", ["answer", "kubectl"])
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_shell_that_goes_on_after_failures_stops_all_the_same(
    image: Image, server: HTTPSServer, shell: str, failing: str
) -> None:
    if failing == "answer":
        server.answer("/kubeconfig", {"error_description": "No."}, status=403)
    image.with_tools().add("curl").add("kubectl", shutil.which("false"))
    image.runner.shell = (shutil.which(shell) or "",)
    text = """
deploy:
  extends: .kubernetes-access
  before_script: [set +e, !reference [.kubernetes-access, before_script]]
  script: [echo went on]
"""
    code, said = run(image, server, text, context="acme/agents:production")
    assert (code, "went on" in said) == (1, False)


def test_paths_may_have_blanks(any_image: Image, server: HTTPSServer) -> None:
    any_image.runner.name = "my project"
    assert json.loads(run(any_image, server)[1]) == CONFIG


def test_id_token_may_have_a_name_of_its_own(image: Image, server: HTTPSServer) -> None:
    text = """
deploy:
  extends: .kubernetes-access
  id_tokens: {GITLAB_OIDC_TOKEN: {aud: https://jobgate.test}}
  variables: {JOBGATE_ID_TOKEN: $GITLAB_OIDC_TOKEN}
  script: ['cat "$KUBECONFIG"']
"""
    image.runner.environment["GITLAB_OIDC_TOKEN"] = "another.canary.token"
    assert json.loads(run(image.with_tools().add("curl"), server, text)[1]) == CONFIG
    assert [asked.body for asked in server.asked] == [b"token=another.canary.token"]


def test_two_deployments_are_two_includes_with_two_jobs(
    image: Image, server: HTTPSServer, authority: CertificateAuthority, tmp_path: Path
) -> None:
    image.with_tools().add("curl")
    (tmp_path / "second").mkdir()
    certificate = authority.issue("second", tmp_path / "second")
    with https_server(certificate, authority.certificate) as second:
        second.answer("/kubeconfig", CONFIG)
        both = {
            **included(server),
            **included(second, job=".second-access"),
            "first": {"extends": ".kubernetes-access", "script": ["true"]},
            "second": {"extends": ".second-access", "script": ["true"]},
        }
        found = jobs(both)
        assert [image.runner.run(found[name])[0] for name in ("first", "second")] == [0, 0]
        assert (server.count("/kubeconfig"), second.count("/kubeconfig")) == (1, 1)


def test_default_before_script_is_replaced_by_ours_and_kept_by_reference(
    image: Image, server: HTTPSServer
) -> None:
    image.with_tools().add("curl")
    kept = [["default", "before_script"], [".kubernetes-access", "before_script"]]
    references = ", ".join(f"!reference [{', '.join(path)}]" for path in kept)
    text = (
        f"deploy: {{extends: .kubernetes-access, before_script: [{references}], script: ['true']}}"
    )
    below = {**included(server), "default": {"before_script": ["echo the default"]}}
    assert image.runner.run(job(below, text)) == (0, "the default\n")
    assert image.runner.run(job(below, DEPLOY))[1].startswith("{")


@pytest.mark.parametrize(
    "inputs", [{"url": None}, {"form": "other"}, {"merge": "yes"}, {"contxt": "x"}]
)
def test_inputs_that_gitlab_refuses(server: HTTPSServer, inputs: dict[str, Any]) -> None:
    given = {"url": server.url, "audience": "a", **inputs}
    with pytest.raises(InputError):
        component(TEMPLATE, {k: v for k, v in given.items() if v is not None})


def test_plain_form_is_the_component_with_its_defaults() -> None:
    plain = yaml.safe_load(PLAIN.read_text())
    access = plain[".kubernetes-access"]
    given = {
        "url": access["variables"]["JOBGATE_URL"],
        "audience": access["id_tokens"]["JOBGATE_ID_TOKEN"]["aud"],
    }
    extended = "job: {extends: .kubernetes-access, script: ['true']}"
    assert job(component(TEMPLATE, given), extended) == job(plain, extended)
