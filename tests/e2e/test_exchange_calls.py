"""The exchange's calls as a job makes them, on a stack whose access tokens live for seconds."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from local.installation import ALIAS, AUDIENCE, STRANGER, WEB, Installation, context
from local.job import JobShell
from tests.support.documented_calls import documented_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stack import Stack

pytestmark = pytest.mark.stack

TOKEN_MAX = 8
LEEWAY = 1
PARAMETERS = {
    "TokenMaxSeconds": str(TOKEN_MAX),
    "LeewaySeconds": str(LEEWAY),
    "IssuersMaxAgeSeconds": "1",
}
FETCH_EXEC = (
    'printf %s "$JOBGATE_ID_TOKEN" | curl -sS --fail-with-body --data-urlencode token@- '
    '-o "$KUBECONFIG" "$JOBGATE_URL/kubeconfig?format=exec"'
)


@pytest.fixture(scope="module")
def stack(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A deployment of its own: its access tokens end soon."""
    folder = tmp_path_factory.mktemp("brief") / "stack"
    with stack.beside(folder, "jobgate-brief", PARAMETERS, own_gitlab=True) as second:
        yield second


@pytest.fixture(scope="module")
def installation(stack: Stack) -> Installation:
    installed = Installation.create(stack, namespace="brief", tell=lambda _command, _output: None)
    installed.grant()
    installed.configure()
    return installed


@pytest.fixture
def job(stack: Stack, installation: Installation) -> Iterator[JobShell]:
    shell = JobShell.start(stack, WEB)
    yield shell
    stack.gitlab.control.finish_job(shell.job)


def in_namespace(shell: JobShell, installation: Installation) -> None:
    set_context = f"kubectl config set-context --current --namespace={installation.namespace}"
    assert shell.run(set_context).code == 0


def test_a_job_longer_than_its_token_goes_on_with_the_exec_form_alone(
    job: JobShell, installation: Installation
) -> None:
    assert job.fetch().code == 0
    in_namespace(job, installation)
    job.run('cp "$KUBECONFIG" plain')
    assert job.run(FETCH_EXEC).code == 0
    in_namespace(job, installation)
    began = time.monotonic()
    assert job.run("kubectl --kubeconfig=plain get pods").code == 0
    # One process that makes a request every few seconds, for longer than a token lives.
    waited = job.run("kubectl wait --for=create configmap/never --timeout=12s", seconds=40)
    assert time.monotonic() - began > TOKEN_MAX + LEEWAY
    assert "timed out waiting" in waited.output, waited.output

    expired = job.run("kubectl --kubeconfig=plain get pods")
    assert (expired.code, "token_expired" in expired.output) == (1, True), expired.output
    renewed = job.run("kubectl get pods")
    assert renewed.code == 0, renewed.output


def test_the_exec_form_ends_with_the_job_and_says_why(
    stack: Stack, job: JobShell, installation: Installation
) -> None:
    assert job.run(FETCH_EXEC).code == 0
    in_namespace(job, installation)
    assert job.run("kubectl get pods").code == 0
    stack.gitlab.control.finish_job(job.job)

    refused, _ = job.until("kubectl get pods", lambda result: result.code != 0, seconds=30)

    assert "job_finished" in refused.output


def test_the_id_token_is_in_no_argument_list_and_in_no_file(
    job: JobShell, installation: Installation
) -> None:
    assert job.run(FETCH_EXEC).code == 0
    in_namespace(job, installation)
    seen = job.run(
        "(for i in $(seq 60); do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; echo; "
        "sleep 0.02; done > seen) & for i in 1 2 3; do kubectl get pods >/dev/null; done; wait; "
        "cat seen"
    ).output
    assert "/credential?agent=" in seen
    for token in (job.job.id_token, job.job.id_token.rpartition(".")[2]):
        assert token not in seen
    written = [file for file in job.home.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any(file.name == "kubeconfig" for file in written)
    assert [f for f in written if job.job.id_token[-40:].encode() in f.read_bytes()] == []


def test_the_exec_form_without_the_id_token_says_what_to_set(
    job: JobShell, installation: Installation
) -> None:
    assert job.run(FETCH_EXEC).code == 0
    in_namespace(job, installation)

    result = job.run("unset JOBGATE_ID_TOKEN; kubectl get pods")

    assert result.code == 1
    assert "set JOBGATE_ID_TOKEN or JOBGATE_ID_TOKEN_FILE" in result.output


def test_helm_and_the_yaml_form_take_the_same_file(
    job: JobShell, installation: Installation
) -> None:
    fetched = job.run(
        'printf %s "$JOBGATE_ID_TOKEN" | curl -sS --fail-with-body -H "Accept: application/yaml" '
        '--data-urlencode token@- --data-urlencode "agent=' + context("production") + '" '
        '-D headers -o "$KUBECONFIG" "$JOBGATE_URL/kubeconfig?format=exec"; '
        "grep -i ^content-type headers"
    )
    assert "application/yaml" in fetched.output
    in_namespace(job, installation)
    assert job.run("helm list").code == 0


def test_a_bound_token_is_refused_elsewhere(job: JobShell, installation: Installation) -> None:
    job.run(
        'printf %s "$JOBGATE_ID_TOKEN" | curl -sS --fail-with-body --data-urlencode token@- '
        '-o "$KUBECONFIG" "$JOBGATE_URL/kubeconfig?agent=' + context("production") + '"'
    )
    in_namespace(job, installation)
    assert job.run("kubectl get pods").code == 0
    agents = json.loads(installation.jobgate("agent", "list", "--json"))
    own, other = sorted(agents, key=lambda agent: agent["context"])
    job.run(f"sed -i 's|/agents/{own['id']}|/agents/{other['id']}|' $KUBECONFIG")

    assert "wrong_agent" in job.run("kubectl get pods --request-timeout=20s").output


CALLS = documented_calls(Path(__file__).parents[2] / "docs/exchange.md")


def test_the_page_shows_calls_good_and_bad() -> None:
    assert len(CALLS) >= 17


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_a_documented_call_is_answered_as_the_page_shows(
    stack: Stack, job: JobShell, number: int
) -> None:
    call = CALLS[number]
    if "# The job has ended." in call.command:
        stack.gitlab.control.finish_job(job.job)
        stack.gitlab.control.settle()

    output = job.run(call.command).output

    assert call.fits(output), (call.command, call.answer, output)


def test_an_explanation_is_read_at_a_terminal(job: JobShell, stack: Stack) -> None:
    explain = (
        'printf %s "$JOBGATE_ID_TOKEN" | curl -sS --data-urlencode token@- "$JOBGATE_URL/explain"'
    )
    allowed = job.run(explain)
    assert allowed.code == 0
    assert (
        f"allowed  {context('production')}\n  by group acme/shop, as gitlab:ci_job:"
        in allowed.output
    )
    assert "staging" not in allowed.output

    stranger = JobShell.start(stack, STRANGER).run(explain)

    assert "No access: not_listed" in stranger.output
    assert "production" not in stranger.output


def test_of_fifty_jobs_with_one_token_that_is_good_once_one_gets_in(
    stack: Stack, installation: Installation, job: JobShell
) -> None:
    add = ["issuer", "add", ALIAS, "--url", stack.gitlab.url, "--audience", AUDIENCE]
    add += ["--token-file", str(stack.folder / "operator" / "gitlab-token")]
    add += ["--ca", str(stack.authority.certificate)]
    installation.jobgate(*add, "--single-use")
    try:
        refused, _ = job.until(FETCH_EXEC, lambda result: result.code != 0, seconds=30)
        assert refused.code != 0
        assert "are good once" in job.kubeconfig.read_text()

        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(lambda _: _redeemed(stack, job.job.id_token), range(50)))

        assert sorted(statuses) == [200] + [400] * 49
    finally:
        installation.jobgate(*add, "--many-uses")
    again, _ = job.until(FETCH_EXEC, lambda result: result.code == 0, seconds=30)
    assert again.code == 0


def _redeemed(stack: Stack, id_token: str) -> int:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": id_token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
    }
    request = urllib.request.Request(f"{stack.gateway.url}/token", urlencode(form).encode())
    trust = ssl.create_default_context(cafile=str(stack.authority.certificate))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code if "redeemed before" in error.read().decode() else 0
