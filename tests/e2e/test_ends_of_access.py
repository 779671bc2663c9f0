"""How access ends where no hook tells, by an operator's word, and while keys are rotated.

A deployment of its own, with bounds of seconds, whose GitLab sends no hook.
"""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from local.gitlab.signing_keys import SigningKey
from local.installation import WEB, Installation, context
from local.job import FETCH, JobShell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.job import Result
    from local.stack import Stack

pytestmark = pytest.mark.stack

PARAMETERS = {
    "ProbeFloorSeconds": "2",
    "ProbeGraceSeconds": "5",
    "UnobservedLifeSeconds": "6",
    "LeewaySeconds": "1",
    "IssuersMaxAgeSeconds": "1",
    "RelayCacheSeconds": "1",
    "LazyBudgetSeconds": "1",
    "JwksMaxAgeSeconds": "1",
}
KEYS = "GET /oauth/discovery/keys"
JOBS = "GET /api/v4/projects/[0-9]+/jobs/"
LONG = pytest.mark.long
USE = "kubectl --kubeconfig kept get pods"


@pytest.fixture(scope="module")
def quiet(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The installation, with GitLab's hooks gone."""
    folder = tmp_path_factory.mktemp("quiet") / "stack"
    with stack.beside(folder, "jobgate-quiet", PARAMETERS, own_gitlab=True) as second:
        made = Installation.create(second, namespace="quiet", tell=lambda _command, _output: None)
        made.grant()
        made.configure()
        for hook in second.gitlab.control.hooks():
            second.gitlab.control.delete_hook(hook["id"])
        yield made


@pytest.fixture
def job(quiet: Installation) -> Iterator[JobShell]:
    """A running job with its kubeconfig, in a GitLab without faults."""
    stack = quiet.stack
    shell = JobShell.start(stack, WEB)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    assert (
        shell.run(f"kubectl config set-context --current --namespace={quiet.namespace}").code == 0
    )
    # A refused fetch takes the job's kubeconfig away; what is used is a copy of it.
    assert shell.run("cp $KUBECONFIG kept").code == 0
    assert shell.run(USE).code == 0
    yield shell
    stack.gitlab.control.clear_faults()
    stack.gitlab.control.finish_job(shell.job)


def refused(reason: str) -> Callable[[Result], bool]:
    return lambda result: result.code != 0 and f"reason {reason}" in result.output


def test_a_jobs_end_is_noticed_without_any_hook(quiet: Installation, job: JobShell) -> None:
    control = quiet.stack.gitlab.control
    watch = threading.Thread(target=lambda: ended.append(job.run(f"timeout 30 {USE} --watch")))
    ended: list[Result] = []
    watch.start()
    control.finish_job(job.job)

    job.until(USE, refused("job_finished"), seconds=30)
    watch.join()

    assert ended[0].code != 124, "an open watch outlived its job"
    assert "job_finished" in job.fetch().output
    assert job.run(USE).code != 0


@pytest.mark.long
def test_gitlab_is_asked_once_a_floor_however_busy_the_job_is(
    quiet: Installation, job: JobShell
) -> None:
    control = quiet.stack.gitlab.control
    asked: list[float] = []
    for _ in range(100):
        assert job.run(USE).code == 0
        requests = control.requests(JOBS)
        asked = [r["at"] for r in requests if r["path"].endswith(f"/{job.job.id}")]
        if len(asked) >= 3:
            break

    gaps = [later - before for before, later in itertools.pairwise(asked)]
    assert len(asked) >= 3
    assert min(gaps) > 1.5, gaps


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "500": ("fail_next", {"status": 500}),
    "429": ("fail_next", {"status": 429, "body": "Retry later", "headers": {"Retry-After": "60"}}),
    "slow": ("disturb_next", {"delay": 20}),
    "half a body": ("disturb_next", {"half": True}),
    "a redirect": ("fail_next", {"status": 302, "headers": {"Location": "https://127.0.0.1:1/"}}),
    "no such job": ("fail_next", {"status": 404, "body": "{}"}),
    "another's page": ("fail_next", {"status": 200, "body": "<html>"}),
}


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=() if name == "500" else LONG) for name in FAULTS]
)
def test_a_gitlab_that_does_not_say_whether_the_job_runs_ends_access_and_gives_it_back(
    quiet: Installation, job: JobShell, fault: str
) -> None:
    control = quiet.stack.gitlab.control
    method, options = FAULTS[fault]
    getattr(control, method)(JOBS, times=1000, **options)

    job.until(USE, refused("job_unknown"), seconds=30)
    assert "job_unknown" in job.fetch().output
    control.clear_faults()

    job.until(USE, lambda result: result.code == 0, seconds=30)


@pytest.mark.long
def test_a_job_that_gitlab_never_showed_has_access_for_a_while_and_no_second_one(
    quiet: Installation,
) -> None:
    control = quiet.stack.gitlab.control
    control.fail_next(JOBS, status=403, times=1000)
    shell = JobShell.start(quiet.stack, WEB)

    first = shell.fetch()
    _, seconds = shell.until(FETCH, lambda result: "22" in str(result.code), seconds=30)
    refusal = shell.fetch().output
    control.clear_faults()

    assert first.code == 0, first.output
    assert seconds < 20
    assert "job_unknown" in refusal


@pytest.mark.parametrize("under", [pytest.param("its own id", marks=LONG), "the true key's id"])
def test_a_gitlab_that_publishes_another_key_gets_nobody_in_and_nobody_out(
    quiet: Installation, job: JobShell, under: str
) -> None:
    control = quiet.stack.gitlab.control
    other = SigningKey.generate()
    true_kid = jwt.get_unverified_header(job.job.id_token)["kid"]
    kid = other.kid if under == "its own id" else true_kid
    control.fail_next(
        KEYS,
        status=200,
        body=json.dumps({"keys": [{**other.jwk, "kid": kid}]}),
        headers={"Content-Type": "application/json"},
        times=1000,
    )

    refusal, _ = job.until(f"{FETCH} || cat $KUBECONFIG", token_invalid, seconds=30)
    used = job.run(USE)
    control.clear_faults()

    assert "apiVersion" not in refusal.output
    # Jobgate's own token was given for a true one, and needs GitLab's keys no more.
    assert used.code == 0, used.output
    job.until(FETCH, lambda result: result.code == 0, seconds=30)


def token_invalid(result: Result) -> bool:
    return "token_invalid" in result.output


@pytest.mark.parametrize(
    "kind", ["job", *(pytest.param(kind, marks=LONG) for kind in ("project", "agent", "all"))]
)
def test_what_an_operator_stops_is_refused_until_it_is_restored(
    quiet: Installation, job: JobShell, kind: str
) -> None:
    named = {
        "job": [str(job.job.id)],
        "project": [WEB],
        "agent": [context("production")],
        "all": [],
    }[kind]

    quiet.jobgate("revoke", kind, *named, "--why", "incident 7")
    job.until(USE, refused("stopped"), seconds=20)
    fetched = job.fetch()
    quiet.jobgate("restore", kind, *named)

    job.until(USE, lambda result: result.code == 0, seconds=20)
    # The last stop of an agent leaves the job without any.
    assert "stopped" in fetched.output
    records = [json.loads(line) for line in _operators_log(quiet)]
    assert [record["outcome"] for record in records[-2:]] == ["refused", "allowed"]
    assert {record["stop"]["kind"] for record in records[-2:]} == {kind}


@pytest.mark.long
def test_of_many_commands_at_once_every_stop_counts(quiet: Installation) -> None:
    numbers = [str(number) for number in range(1_000_001, 1_000_007)]
    with ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(lambda n: quiet.jobgate("revoke", "job", n, "--why", "w"), numbers))

    stops = json.loads(quiet.jobgate("restore", "--json"))
    assert {stop["value"] for stop in stops} == set(numbers)
    for number in numbers:
        quiet.jobgate("restore", "job", number)


def _operators_log(quiet: Installation) -> list[str]:
    return quiet.stack.aws.log_messages()[quiet.stack.aws.outputs["OperatorLogName"]]
