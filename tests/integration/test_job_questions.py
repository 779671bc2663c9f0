"""Whether a job still runs, asked of a GitLab over HTTPS, good and bad, and kept in a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.https import HTTPSClient
from jobgate.adapters.job_states import DynamoDBJobStates
from jobgate.core.bounds import Bounds
from jobgate.core.liveness import JobLife, end_refusal
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.usecases.lookups import LazyLookups
from moto import mock_aws

from local.aws.emulator import REGION
from local.certificates import CertificateAuthority
from local.gitlab.server import GitLab
from tests.support import builders as b
from tests.support.fakes import FakeClock, FakePlaceStore, a_watch
from tests.support.stores import TABLE, boto_call, create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.gitlab.control import Control

BOUNDS = Bounds(lazy_budget=1)
JOBS = "GET /api/v4/projects/[0-9]+/jobs/"
PROJECT = "top/app"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    authority = CertificateAuthority.create(tmp_path_factory.mktemp("ca"))
    started = GitLab.start(tmp_path_factory.mktemp("gitlab"), authority=authority)
    started.control.create_group("top")
    started.control.create_project(PROJECT)
    yield started
    started.stop()


@dataclass
class Setting:
    """A running job, and requests of it by functions that have just started."""

    control: Control
    states: DynamoDBJobStates
    client: HTTPSClient
    token: str
    clock: FakeClock

    def __post_init__(self) -> None:
        self.running = self.control.create_job(PROJECT, audience=b.AUDIENCE)

    def life(self) -> JobLife:
        """What a request learns."""
        job = b.a_job(job_id=self.running.id, project_id=self.running.project_id)
        lookups = LazyLookups(
            b.a_deployment,
            lambda _alias: GitLabAPI(self.client, self.token, seconds=BOUNDS.lazy_budget),
            FakePlaceStore(),
            a_watch(self.clock, jobs=self.states, bounds=BOUNDS),
            settings=Settings(),
            bounds=BOUNDS,
            clock=self.clock,
        )
        return lookups.of(job).life(self.states.get(job.key))

    def refusal(self) -> Reason | None:
        return end_refusal(self.life(), settings=Settings(), bounds=BOUNDS, now=self.clock())

    def asked(self) -> int:
        found = self.control.requests(JOBS)
        return sum(request["path"].endswith(f"/{self.running.id}") for request in found)


@pytest.fixture
def setting(server: GitLab) -> Iterator[Setting]:
    with mock_aws():
        call = boto_call({"AWS_DEFAULT_REGION": REGION})
        create_table(call)
        clock = FakeClock()
        client = HTTPSClient(f"{server.url}/api/v4", server.control.ca.read_text())
        states = DynamoDBJobStates(call, TABLE, bounds=BOUNDS, clock=clock)
        token = server.control.create_token(["read_api"])
        yield Setting(server.control, states, client, token, clock)
        server.control.clear_faults()
        client.close()


@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
def test_a_jobs_end_is_learned_by_asking_after_the_floor(setting: Setting, status: str) -> None:
    assert setting.refusal() is None
    setting.control.finish_job(setting.running, status)

    setting.clock.advance(BOUNDS.probe_floor - 1)
    assert setting.refusal() is None
    setting.clock.advance(1)
    assert setting.refusal() is Reason.JOB_FINISHED
    setting.clock.advance(1e5)
    assert setting.refusal() is Reason.JOB_FINISHED
    assert setting.asked() == 2


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "500": ("fail_next", {"status": 500}),
    "429": ("fail_next", {"status": 429, "body": "Retry later", "headers": {"Retry-After": "60"}}),
    "401": ("fail_next", {"status": 401, "body": "{}"}),
    "403": ("fail_next", {"status": 403, "body": "{}"}),
    "404": ("fail_next", {"status": 404, "body": "{}"}),
    "slow": ("disturb_next", {"delay": 3}),
    "half a body": ("disturb_next", {"half": True}),
    "no answer": ("disturb_next", {"drop": True}),
    "a redirect": ("fail_next", {"status": 302, "headers": {"Location": "https://127.0.0.1:1/"}}),
    "a page": ("fail_next", {"status": 200, "body": "<html>"}),
    "a list": ("fail_next", {"status": 200, "body": "[]"}),
    "another job": ("fail_next", {"status": 200, "body": '{"id": 1, "status": "running"}'}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_gitlab_that_does_not_tell_ends_access_after_the_grace_and_gives_it_back(
    setting: Setting, fault: str
) -> None:
    assert setting.refusal() is None
    method, options = FAULTS[fault]
    getattr(setting.control, method)(JOBS, times=1000, **options)

    setting.clock.advance(BOUNDS.probe_grace - 1)
    assert setting.refusal() is None
    setting.clock.advance(1)
    assert setting.refusal() is Reason.JOB_UNKNOWN
    setting.control.clear_faults()
    setting.clock.advance(BOUNDS.probe_floor)
    assert setting.refusal() is None


@pytest.mark.parametrize("fault", ["500", "404"])
def test_a_job_that_gitlab_never_told_of_has_a_while_and_no_longer(
    setting: Setting, fault: str
) -> None:
    method, options = FAULTS[fault]
    getattr(setting.control, method)(JOBS, times=1000, **options)

    assert setting.refusal() is None
    setting.clock.advance(BOUNDS.unobserved_life - 1)
    assert setting.refusal() is None
    setting.clock.advance(1)
    assert setting.refusal() is Reason.JOB_UNKNOWN


def test_a_busy_job_is_asked_about_once_a_floor(setting: Setting) -> None:
    for _ in range(40):
        assert setting.refusal() is None
        setting.clock.advance(BOUNDS.probe_floor / 10)

    assert setting.asked() == 4
