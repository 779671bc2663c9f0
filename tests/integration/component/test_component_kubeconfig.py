"""The kubeconfig that the CI/CD component leaves: its place, its context, or why there is none."""

from __future__ import annotations

import json
import shutil
import stat
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.component_image import CONFIG, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.component_image import Image
    from tests.support.https_server import HTTPSServer


def test_no_choice_among_contexts_is_a_context_that_is_not_there(
    any_image: Image, server: HTTPSServer
) -> None:
    # kubectl and helm would take the identity of the pod that they run in, the runner's.
    names = ("acme/agents:production", "acme/agents:staging")
    several = {**CONFIG, "contexts": [{"name": name, "context": {}} for name in names]}
    del several["current-context"]
    server.answer("/kubeconfig", several)
    code, said = run(any_image, server)
    written = json.loads(said)
    assert code == 0
    assert written.pop("current-context") == "none, so name one by the component's input context"
    assert written == several


@pytest.mark.parametrize("context", ["", "acme/agents:staging"])
def test_namespace_is_of_a_context_that_is_there(
    image: Image, server: HTTPSServer, kubectl: Path, context: str
) -> None:
    names = ("acme/agents:production", "acme/agents:staging")
    several = {**CONFIG, "contexts": [{"name": name, "context": {}} for name in names]}
    del several["current-context"]
    server.answer("/kubeconfig", several)
    image.with_tools().add("curl").add("kubectl", kubectl)
    given = {"namespace": "shop", "context": context}
    code, said = run(image, server, **given)
    if context:
        assert (code, "namespace: shop" in said) == (0, True)
    else:
        assert (code, "with several agents a namespace needs a context" in said) == (1, True)


@pytest.mark.parametrize("chosen", ["", "theirs"])
def test_merged_kubeconfig_has_a_current_context_too(
    image: Image, server: HTTPSServer, kubectl: Path, chosen: str
) -> None:
    names = ("acme/agents:production", "acme/agents:staging")
    several = {**CONFIG, "contexts": [{"name": name, "context": {}} for name in names]}
    del several["current-context"]
    server.answer("/kubeconfig", several)
    theirs = {**CONFIG, "contexts": [{"name": "theirs", "context": {}}], "current-context": chosen}
    image.runner.files["KUBECONFIG"] = json.dumps(theirs)
    image.with_tools().add("curl").add("kubectl", kubectl)
    code, said = run(image, server, merge=True)
    merged = yaml.safe_load(said)
    assert code == 0
    assert {entry["name"] for entry in merged["contexts"]} == {*names, "theirs"}
    none = "none, so name one by the component's input context"
    assert merged["current-context"] == (chosen or none)


def test_kubeconfig_is_private_and_outside_of_the_project(
    any_image: Image, server: HTTPSServer
) -> None:
    run(any_image, server)
    builds = any_image.runner.folder / "builds"
    (file,) = builds.rglob("kubeconfig")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not file.is_relative_to(builds / "project")
    assert list((builds / "project").iterdir()) == []


def test_refusal_with_a_good_status_is_a_refusal(any_image: Image, server: HTTPSServer) -> None:
    server.answer("/kubeconfig", {"error_description": "No agent names this project."})
    code, said = run(any_image, server)
    assert (code, "No agent names this project." in said) == (1, True)


@pytest.mark.parametrize("client", ["curl", "wget"])
def test_refusal_is_said_in_the_answers_words(
    image: Image, server: HTTPSServer, client: str
) -> None:
    refusal = {"error": "access_denied", "error_description": "No agent names this project."}
    server.answer("/kubeconfig", refusal, status=403)
    code, said = run(image.with_tools().add(client), server)
    assert code == 1
    assert "No agent names this project." in said
    assert "jobgate: no kubeconfig" in said


def test_page_that_is_no_kubeconfig_is_refused(any_image: Image, server: HTTPSServer) -> None:
    server.answer("/kubeconfig", b"<html>captive portal</html>")
    code, said = run(any_image, server)
    assert (code, "the answer isn't one" in said) == (1, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"JOBGATE_ID_TOKEN": ""}, "has no JOBGATE_ID_TOKEN"),
        ({"PATH": "{tools}"}, "needs curl or wget"),
    ],
)
def test_what_is_missing_is_named(
    image: Image, server: HTTPSServer, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    image.with_tools()
    if "PATH" not in changes:
        image.add("curl")
    image.runner.environment |= {k: v for k, v in changes.items() if k != "PATH"}
    code, output = run(image, server)
    assert (code, said in output) == (1, True), output
    assert server.asked == []


@pytest.mark.parametrize(
    ("inputs", "target"),
    [
        ({}, "/kubeconfig?format=exec"),
        ({"form": "token"}, "/kubeconfig"),
        (
            {"agent": "acme/agents:production"},
            "/kubeconfig?agent=acme%2Fagents%3Aproduction&format=exec",
        ),
    ],
)
def test_curl_takes_the_exec_form_and_an_agent(
    image: Image, server: HTTPSServer, inputs: dict[str, str], target: str
) -> None:
    run(image.with_tools().add("curl"), server, **inputs)
    assert [asked.target for asked in server.asked] == [target]


def test_old_curl_takes_the_token_form(image: Image, server: HTTPSServer, tmp_path: Path) -> None:
    old = tmp_path / "old-curl"
    old.write_text(
        f'#!/bin/sh\ntest "$1" != --fail-with-body || exit 2\nexec {shutil.which("curl")} "$@"\n'
    )
    old.chmod(0o755)
    assert run(image.with_tools().add("curl", old), server)[0] == 0
    assert server.asked[-1].target == "/kubeconfig"


def test_wget_takes_the_token_form_and_can_not_take_the_other(
    image: Image, server: HTTPSServer
) -> None:
    image.with_tools().add("wget")
    assert run(image, server)[0] == 0
    assert server.asked[-1].target == "/kubeconfig"
    code, said = run(image, server, form="exec")
    assert (code, "needs curl 7.76" in said) == (1, True)


def test_what_an_earlier_job_left_is_neither_used_nor_written_into(
    any_image: Image, server: HTTPSServer
) -> None:
    folder = any_image.runner.project.with_name("project.tmp") / "jobgate-42"
    folder.mkdir(parents=True)
    kept = any_image.runner.folder / "kept"
    kept.touch(0o666)
    for name in ("kubeconfig", "kubeconfig.answer", "kubeconfig.new", "kubeconfig.form"):
        (folder / name).symlink_to(kept)
    assert run(any_image, server)[0] == 0
    made = folder / "kubeconfig"
    assert (made.is_symlink(), stat.S_IMODE(made.stat().st_mode)) == (False, 0o600)
    server.answer("/kubeconfig", {"error_description": "No."}, status=403)
    assert run(any_image, server)[0] == 1
    assert (list(folder.iterdir()), kept.read_text()) == ([made], "")
    refusing = json.loads(made.read_text())
    assert refusing.keys() == {"apiVersion", "kind", "current-context"}
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "change", [{"JOBGATE_ID_TOKEN": ""}, {"JOBGATE_URL": "http://jobgate.example"}]
)
def test_job_that_asks_nobody_has_a_kubeconfig_that_leads_nowhere(
    image: Image, server: HTTPSServer, change: dict[str, str]
) -> None:
    image.with_tools().add("curl").runner.settings |= change
    assert run(image, server)[0] == 1
    made = image.runner.project.with_name("project.tmp") / "jobgate-42" / "kubeconfig"
    assert "clusters" not in json.loads(made.read_text())


def test_stored_kubeconfig_of_the_project_is_not_used_in_the_place_of_ours(
    image: Image, server: HTTPSServer, tmp_path: Path
) -> None:
    # A CI/CD variable of the project's page stands above a job's own.
    stored = tmp_path / "stored"
    stored.write_text("{}")
    image.runner.settings["KUBECONFIG"] = str(stored)
    code, said = run(image.with_tools().add("curl"), server)
    assert (code, "another KUBECONFIG hides this one" in said) == (1, True)
    assert (server.asked, stored.read_text()) == ([], "{}")


def test_only_the_kubeconfig_is_replaced_where_somebody_else_chose_its_place(
    image: Image, server: HTTPSServer
) -> None:
    place = image.runner.project / "config"
    image.runner.project.mkdir(parents=True)
    place.write_text("old")
    place.chmod(0o644)
    (image.runner.project / "source.py").touch()
    image.runner.settings |= {"KUBECONFIG": str(place), "JOBGATE_KUBECONFIG": str(place)}
    assert json.loads(run(image.with_tools().add("curl"), server)[1]) == CONFIG
    assert sorted(path.name for path in place.parent.iterdir()) == ["config", "source.py"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
