"""Two GitLab instances of one deployment that gave the same ids to projects, jobs and agents.

Each has its own audience, its own certificate authority, its own webhooks, and a namespace of the
cluster that only its jobs may use.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from local.certificates import CertificateAuthority
from local.gitlab.server import GitLab
from local.installation import (
    AGENTS,
    ALIAS,
    AUDIENCE,
    GROUP,
    PRODUCTION_FILE,
    SHOP,
    WEB,
    CommandFailedError,
    Installation,
    context,
    production_config,
)
from local.job import JobShell
from local.repository import push
from tests.support.hook_delivery import deliver, group_hook

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from local.gitlab.control_connection import Job
    from local.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.long]

PARAMETERS = {"RelayCacheSeconds": "1", "IssuersMaxAgeSeconds": "1"}
ALIASES = (ALIAS, "other")
AUDIENCES = {ALIAS: AUDIENCE, "other": "https://jobgate.other.example"}
USE = "kubectl get --raw /version"
_PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Site:
    """One GitLab instance with its installation, and the namespace that is its jobs' own."""

    alias: str
    installation: Installation

    @property
    def stack(self) -> Stack:
        return self.installation.stack

    @property
    def namespace(self) -> str:
        return self.installation.namespace

    @property
    def prefix(self) -> str:
        """What its identities begin with."""
        return "gitlab" if self.alias == ALIAS else f"gitlab@{self.alias}"

    def job(self) -> Job:
        return self.stack.gitlab.control.create_job(WEB, audience=AUDIENCES[self.alias])

    def jobgate(self, *arguments: str, **secrets: str) -> str:
        return self.installation.jobgate(*arguments, "--issuer", self.alias, **secrets)


Sites = dict[str, Site]


@pytest.fixture(scope="module")
def sites(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("two") / "stack"
    with (
        ExitStack() as stops,
        stack.beside(folder, "jobgate-two", PARAMETERS, own_gitlab=True) as second,
    ):
        first = Installation.create(second, namespace="of-main", tell=lambda _c, _o: None)
        gitlab = GitLab.start(
            folder / "other-gitlab",
            authority=CertificateAuthority.create(folder / "other-ca"),
            hook_authority=stack.authority,
        )
        stops.callback(gitlab.stop)
        (folder / "other").mkdir()
        elsewhere = replace(second, folder=folder / "other", gitlab=gitlab)
        both = {ALIAS: Site(ALIAS, first), "other": Site("other", other(elsewhere))}
        for site in both.values():
            site.stack.admin.must(
                *("create", "rolebinding", "web", f"--namespace={site.namespace}"),
                "--clusterrole=edit",
                f"--group={site.prefix}:project:{site.installation.projects[WEB]}",
            )
            configure(site, production_config(), "Allow the shop")
        yield both


def other(stack: Stack) -> Installation:
    """The second instance: the same places in the same order, and an agent of the same name."""
    gitlab = stack.gitlab.control
    groups = {path: int(gitlab.create_group(path)["id"]) for path in (GROUP, SHOP)}
    projects = {path: int(gitlab.create_project(path)["id"]) for path in (AGENTS, WEB)}
    gitlab.commit(AGENTS, {"README.md": "# agents\n"})
    installed = Installation(stack, "of-other", groups, projects)
    (stack.folder / "operator").mkdir(mode=0o700)
    add_issuer(installed, ca=gitlab.ca)
    set_up = gitlab.create_token(["api"], group=GROUP, role="owner")
    installed.jobgate("gitlab", "connect", GROUP, "--issuer", "other", GITLAB_TOKEN=set_up)
    installed.make_namespace()
    options = (*installed.cluster_options, "--no-agent-mode", "--issuer", "other")
    installed.jobgate("agent", "register", AGENTS, "production", *options)
    return installed


def add_issuer(installed: Installation, *, ca: Path) -> str:
    stack = installed.stack
    token = stack.folder / "operator" / "gitlab-token"
    token.touch(mode=0o600)
    run_time = stack.gitlab.control.create_token(["read_api"], group=GROUP, role="reporter")
    token.write_text(run_time)
    issuer = ("issuer", "add", "other", "--url", stack.gitlab.url, "--ca", str(ca))
    audience = ("--audience", AUDIENCES["other"], "--token-file", str(token))
    return installed.jobgate(*issuer, *audience)


def configure(site: Site, config: str, message: str) -> None:
    """Push the agent's file, and wait until it counts. Raises TimeoutError."""
    push(site.stack, AGENTS, {PRODUCTION_FILE: config}, message)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not snapshot(site).get("valid"):
        if time.monotonic() > deadline:
            raise TimeoutError("A push has no effect.")


def snapshot(site: Site) -> dict[str, Any]:
    shown = json.loads(site.jobgate("agent", "show", context("production"), "--json"))
    return dict(shown["snapshot"] or {})


@pytest.fixture
def twins(sites: Sites) -> Iterator[dict[str, JobShell]]:
    """A running job of each instance with the same id, each with its kubeconfig."""
    jobs = {alias: site.job() for alias, site in sites.items()}
    same = {(job.id, job.project_id, job.pipeline_id) for job in jobs.values()}
    assert len(same) == 1, "the jobs of the two instances have drifted apart"
    shells = {}
    for alias, site in sites.items():
        shells[alias] = JobShell.open(site.stack, jobs[alias])
        fetched = shells[alias].fetch()
        assert fetched.code == 0, fetched.output
        assert shells[alias].run(USE).code == 0
    yield shells
    for alias, site in sites.items():
        site.stack.gitlab.control.finish_job(jobs[alias])


def refused(reason: str) -> Any:
    return lambda result: result.code != 0 and f"reason {reason}" in result.output


def works(shell: JobShell) -> bool:
    """Whether a job's old kubeconfig and a fresh one are good, again and again."""
    results = [shell.run(USE) for _ in range(3)] + [shell.fetch()]
    return [result.code for result in results] == [0] * 4


def token_of(shell: JobShell) -> str:
    return shell.run("kubectl config view --raw -o jsonpath='{.users[0].user.token}'").output


def test_everything_has_the_same_id_in_both(sites: Sites) -> None:
    main, other_one = (sites[alias] for alias in ALIASES)
    for path in (AGENTS, WEB):
        assert main.installation.projects[path] == other_one.installation.projects[path]
    assert main.installation.groups == other_one.installation.groups
    agents = {a: json.loads(s.jobgate("agent", "list", "--json")) for a, s in sites.items()}
    ids = {
        alias: [agent["id"] for agent in found if agent["context"] == context("production")]
        for alias, found in agents.items()
    }
    assert ids[ALIAS] == ids["other"]


def test_the_default_instance_keeps_gitlabs_names_and_the_other_has_its_alias_in_each(
    sites: Sites, twins: Mapping[str, JobShell]
) -> None:
    seen = {alias: whoami(shell) for alias, shell in twins.items()}

    number, made = twins[ALIAS].job, sites[ALIAS].installation
    for alias, prefix in ((ALIAS, "gitlab"), ("other", "gitlab@other")):
        assert seen[alias]["username"] == f"{prefix}:ci_job:{number.id}"
        assert seen[alias]["groups"] == [
            f"{prefix}:ci_job",
            f"{prefix}:group:{made.groups[GROUP]}",
            f"{prefix}:group:{made.groups[SHOP]}",
            f"{prefix}:project:{number.project_id}",
            "system:authenticated",
        ]
    assert "jobgate/issuer" not in seen[ALIAS]["extra"]
    assert seen["other"]["extra"] == seen[ALIAS]["extra"] | {"jobgate/issuer": ["other"]}


def whoami(shell: JobShell) -> dict[str, Any]:
    result = shell.run("kubectl auth whoami -o json")
    assert result.code == 0, result.output
    return dict(json.loads(result.output)["status"]["userInfo"])


@pytest.mark.parametrize(("of", "elsewhere"), [ALIASES, ALIASES[::-1]])
def test_what_one_instances_project_may_do_the_others_of_the_same_id_may_not(
    sites: Sites, twins: Mapping[str, JobShell], of: str, elsewhere: str
) -> None:
    result = twins[of].run(f"kubectl get pods --namespace={sites[elsewhere].namespace}")

    assert result.code == 1
    assert f'User "{sites[of].prefix}:ci_job:{twins[of].job.id}" cannot list' in result.output


@pytest.mark.parametrize(("of", "taken_for"), [ALIASES, ALIASES[::-1]])
def test_an_id_token_of_one_instance_is_never_good_as_the_others(
    sites: Sites, twins: Mapping[str, JobShell], of: str, taken_for: str
) -> None:
    gitlab, job = sites[of].stack.gitlab.control, twins[of].job
    own, foreign = sites[of].stack.gitlab.url, sites[taken_for].stack.gitlab.url
    foreign_key = {"kid": jwt.get_unverified_header(twins[taken_for].job.id_token)["kid"]}

    def tried(audience: str, **options: Any) -> int:
        return redeemed(sites[of], gitlab.mint_id_token(job, AUDIENCES[audience], **options))

    assert tried(of) == 200
    assert tried(taken_for) == 401
    assert tried(of, claims={"iss": foreign}) == 401
    assert tried(taken_for, claims={"iss": foreign}) == 401
    assert tried(taken_for, claims={"iss": foreign}, header=foreign_key) == 401
    assert tried(of, claims={"iss": own}, header=foreign_key) == 401
    both = [AUDIENCES[alias] for alias in ALIASES]
    spoken_for = gitlab.mint_id_token(job, both, claims={"iss": foreign})
    assert redeemed(sites[of], spoken_for) == 401


def redeemed(site: Site, id_token: str) -> int:
    """The status of `GET /kubeconfig`; what refuses says that the token is no good."""
    status, answer = call(
        site, f"{site.stack.gateway.url}/kubeconfig", {"Authorization": f"Bearer {id_token}"}
    )
    assert status == 200 or json.loads(answer)["reason"] == "token_invalid"
    return status


def call(
    site: Site, url: str, headers: Mapping[str, str], body: bytes | None = None
) -> tuple[int, str]:
    request = urllib.request.Request(url, body, dict(headers))
    trust = ssl.create_default_context(cafile=str(site.stack.authority.certificate))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_an_access_token_of_one_instances_job_leads_to_its_own_agent_of_the_shared_id(
    sites: Sites, twins: Mapping[str, JobShell]
) -> None:
    """The agent's id is in the URL; whose agent it is, only the token says."""
    main, other_one = twins[ALIAS], twins["other"]
    view = "kubectl config view --raw -o jsonpath='{.clusters[0].cluster.server}'"
    assert main.run(view).output == other_one.run(view).output

    path = f"/api/v1/namespaces/{sites['other'].namespace}/pods"
    url = main.run(view).output + path
    statuses = {
        alias: call(sites[alias], url, {"Authorization": f"Bearer {token_of(shell)}"})[0]
        for alias, shell in twins.items()
    }

    assert statuses == {ALIAS: 403, "other": 200}


@pytest.mark.parametrize(("of", "stays"), [ALIASES, ALIASES[::-1]])
def test_a_jobs_end_in_one_instance_ends_no_job_of_the_other(
    sites: Sites, twins: Mapping[str, JobShell], of: str, stays: str
) -> None:
    sites[of].stack.gitlab.control.finish_job(twins[of].job)

    twins[of].until(USE, refused("job_finished"), seconds=30)
    assert works(twins[stays])


@pytest.mark.parametrize(("of", "sent_to"), [ALIASES, ALIASES[::-1]])
def test_a_hook_is_proven_by_the_secrets_of_the_instance_in_its_path_alone(
    sites: Sites, twins: Mapping[str, JobShell], of: str, sent_to: str
) -> None:
    job = twins[of].job
    event = {"object_kind": "build", "build_id": job.id, "build_status": "success"}
    event["project_id"] = job.project_id
    hook = group_hook(sites[of].stack, of)

    def delivered(alias: str) -> int:
        return deliver(sites[of].stack, alias, hook, event)

    assert delivered(sent_to) == 401
    assert delivered("nobody") == 401
    assert works(twins[of])
    assert works(twins[sent_to])
    assert delivered(of) == 202
    twins[of].until(USE, refused("job_finished"), seconds=30)
    assert works(twins[sent_to])


@pytest.mark.parametrize("kind", ["job", "project", "agent", "issuer"])
def test_a_stop_of_one_instance_stops_nothing_of_the_other(
    sites: Sites, twins: Mapping[str, JobShell], kind: str
) -> None:
    named = {
        "job": [str(twins["other"].job.id)],
        "project": [WEB],
        "agent": [context("production")],
        "issuer": ["other"],
    }[kind]

    sites["other"].jobgate("revoke", kind, *named, "--why", "drill")
    twins["other"].until(USE, refused("stopped"), seconds=30)
    unharmed = works(twins[ALIAS])
    sites["other"].jobgate("restore", kind, *named)

    assert unharmed
    twins["other"].until(USE, lambda result: result.code == 0, seconds=30)


@pytest.mark.parametrize(("of", "stays"), [ALIASES, ALIASES[::-1]])
def test_a_configuration_of_one_instance_says_nothing_of_the_others_agent_of_the_same_name(
    sites: Sites, twins: Mapping[str, JobShell], of: str, stays: str
) -> None:
    before = snapshot(sites[stays])
    push(sites[of].stack, AGENTS, {PRODUCTION_FILE: "ci_access: {}\n"}, "Allow nobody")
    twins[of].until(USE, refused("not_listed"), seconds=30)
    unharmed = works(twins[stays])
    push(sites[of].stack, AGENTS, {PRODUCTION_FILE: production_config()}, "Allow the shop")

    assert unharmed
    assert snapshot(sites[stays]) == before
    twins[of].until(USE, lambda result: result.code == 0, seconds=30)


def test_each_instance_is_known_by_its_own_certificate_authority_alone(sites: Sites) -> None:
    first = sites[ALIAS].stack.authority.certificate

    with pytest.raises(CommandFailedError, match=r"certificate|reach"):
        add_issuer(sites["other"].installation, ca=first)


def test_an_instance_that_is_away_takes_nothing_from_the_other(
    sites: Sites, twins: Mapping[str, JobShell]
) -> None:
    control = sites["other"].stack.gitlab.control
    control.fail_next(" /", status=503, times=1000)
    try:
        assert works(twins[ALIAS])
        fresh = JobShell.open(sites[ALIAS].stack, sites[ALIAS].job())
        assert fresh.fetch().code == 0
    finally:
        control.clear_faults()
        # So that the next jobs have the same id again.
        sites["other"].job()
