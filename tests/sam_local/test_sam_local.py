"""Every event through `sam local invoke`, and the exchange through `sam local start-api`.

Only `make sam-local` runs these, since they need Docker's engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from local.installation import AUDIENCE, WEB
from local.invoke import EVENTS, Surroundings, filled
from local.sam_local.base_image import ENVIRONMENT, write_base_image
from local.sam_local.engine import Docker
from local.sam_local.sam import SAM
from tests.support.events import assert_gives, cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.gateway.functions import Function
    from local.installation import Installation
    from local.stack import Stack

pytestmark = pytest.mark.sam_local


@pytest.fixture(scope="module")
def functions(stack: Stack) -> dict[str, Function]:
    return Surroundings.of(stack).functions(stack.aws.build_folder)


@pytest.fixture(scope="module")
def docker(stack: Stack) -> Iterator[Docker]:
    """The engine with AWS's image, or ours; what came to it here is taken away again."""
    docker = Docker(os.environ)  # noqa: TID251  which docker to use is the caller's to say
    images = docker.images()
    python = stack.aws.parameters["PythonRuntime"].removeprefix("python")
    image = f"public.ecr.aws/lambda/python:{python}-{stack.aws.parameters['Architecture']}"
    try:
        if image not in images and not docker.pull(image):
            _make_image(docker, image, stack)
        yield docker
    finally:
        for made in docker.images() - images:
            docker("rmi", "--force", made, check=False)


def _make_image(docker: Docker, image: str, stack: Stack) -> None:
    changes = [f"--change=ENV {name}={value}" for name, value in ENVIRONMENT.items()]
    runtime = Surroundings.of(stack).runtime(stack.aws.python)
    with tempfile.TemporaryFile() as archive:
        write_base_image(archive, stack.aws.python, runtime.folder)
        archive.seek(0)
        docker("import", *changes, "-", image, standard_input=archive)


@pytest.fixture(scope="module")
def sam(
    stack: Stack,
    installation: Installation,
    docker: Docker,
    functions: dict[str, Function],
) -> Iterator[SAM]:
    # Sockets' paths may hold 107 bytes, and the folder of a test's files is longer.
    with tempfile.TemporaryDirectory(prefix="jg-") as folder:
        running = SAM.start(Path(folder) / "sam", docker, stack, functions.values())
        try:
            yield running
        finally:
            running.stop()


@pytest.mark.parametrize("case", sorted(cases()))
def test_sam_local_invoke_gives_what_the_case_says(
    case: str, stack: Stack, sam: SAM, functions: dict[str, Function]
) -> None:
    event = filled((EVENTS / f"{case}.json").read_text(), Surroundings.of(stack))

    answer = sam.invoke(functions[case.partition("/")[0]].logical_id, event)

    assert_gives(case, answer)


@pytest.fixture(scope="module")
def api(sam: SAM) -> Iterator[str]:
    with sam.start_api() as url:
        yield url


def test_kubeconfig_that_sam_local_start_api_gives_works(
    api: str, stack: Stack, installation: Installation, tmp_path: Path
) -> None:
    job = stack.gitlab.control.create_job(WEB, audience=AUDIENCE)
    form = urlencode({"token": job.id_token}).encode()
    with urllib.request.urlopen(f"{api}/kubeconfig", data=form, timeout=60) as answer:
        kubeconfig = answer.read()
    (tmp_path / "config").write_bytes(kubeconfig)
    assert json.loads(kubeconfig)["kind"] == "Config"

    done = subprocess.run(
        [stack.clients.kubectl, "get", "pods", "-n", installation.namespace],
        env={"KUBECONFIG": str(tmp_path / "config"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr.strip()) == (
        0,
        f"No resources found in {installation.namespace} namespace.",
    )


def test_sam_local_start_api_refuses_as_the_deployment_does(api: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{api}/kubeconfig", data=b"token=a.b.c", timeout=60)

    assert refused.value.code == 401
    assert json.loads(refused.value.read())["reason"] == "token_invalid"


def test_sam_local_start_api_serves_our_public_keys(api: str) -> None:
    with urllib.request.urlopen(f"{api}/.well-known/jwks.json", timeout=60) as answer:
        (key,) = json.load(answer)["keys"]

    assert (key["kty"], key["crv"]) == ("EC", "P-256")
