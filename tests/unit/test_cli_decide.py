"""`jobgate decide` as a user runs it: GitLab's vectors, its input and output forms, its exit codes.

Every row of part A.10 runs here that is about a decision. Those about stored rows or the history of
refreshes (test_vectors.py) have no form in files; row 70 needs an environment without a name, which
no ID token has.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.cli.app import app
from jobgate.core.environment import environment_slug
from typer.testing import CliRunner

from tests.support.id_tokens import ABSENT, gitlab_claims
from tests.unit.test_vectors import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Mapping

VECTORS = Path(__file__).parents[1] / "vectors"
NOT_OF_FILES = {31, 32, 39, 41, 47, 70}
OWN_TESTS = {30, 40, 44, 56}

Files = dict[str, dict[str, Any]]


def vectors(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return loaded


def rows(name: str) -> list[Any]:
    found = [row for row in vectors(name)["rows"] if row["id"] not in NOT_OF_FILES]
    return [pytest.param(row, id=str(row["id"])) for row in found]


INSTANCE: dict[str, Any] = vectors("ci_access")["instance"]


class Given:
    """The inputs of a run in a folder: files by configuration project's path and agent's name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instance: dict[str, Any] = {
            "v": 1,
            "settings": {"instance_wide": False, "entry_limit": 500},
            **INSTANCE,
        }

    def settings(self, **settings: Any) -> None:
        self.instance["settings"] = {**self.instance["settings"], **settings}

    def add(self, kind: str, *items: Mapping[str, Any]) -> None:
        self.instance[kind] = [*self.instance.get(kind, ()), *items]

    def push(self, agent: str, config: Any) -> None:
        """Write an agent's config.yaml; a value is written as JSON, which is YAML."""
        path = self._folder(self._holder(agent)) / agent / "config.yaml"
        path.parent.mkdir(parents=True)
        data = config if isinstance(config, bytes) else json.dumps(config).encode()
        path.write_bytes(data)

    def claims(self, project_id: int, **changes: Any) -> dict[str, Any]:
        project = next(p for p in self.instance["projects"] if p["id"] == project_id)
        path, namespace = project["path_with_namespace"], str(project["namespace_id"])
        return gitlab_claims(
            **{
                "project_id": str(project_id),
                "project_path": path,
                "namespace_id": namespace,
                "namespace_path": path.rpartition("/")[0],
                "job_project_id": str(project_id),
                "job_project_path": path,
                "job_namespace_id": namespace,
                "job_namespace_path": path.rpartition("/")[0],
                "iss": ABSENT,
                "aud": ABSENT,
                "exp": ABSENT,
                **changes,
            }
        )

    def arguments(self, claims: Any, *more: str) -> list[str]:
        """The command line, once the files are written."""
        (self.folder / "instance.json").write_text(json.dumps(self.instance))
        (self.folder / "claims.json").write_text(json.dumps(claims))
        paths = {p["id"]: p["path_with_namespace"] for p in self.instance["projects"]}
        holders = sorted({agent["project_id"] for agent in self.instance["agents"]})
        folders: list[str] = []
        for holder in holders:
            self._folder(holder).mkdir(parents=True, exist_ok=True)
            folders += ["--agents", f"{paths[holder]}={self._folder(holder)}"]
        files = [f"--{name}={self.folder / name}.json" for name in ("instance", "claims")]
        return ["decide", *folders, *files, *more]

    def run(self, project_id: int, **changes: Any) -> dict[str, Any]:
        """The answer, as JSON, for a job of a project."""
        found = run(*self.arguments(self.claims(project_id, **changes), "--json"))
        assert found.exit_code == 0, found.stderr
        answer: dict[str, Any] = json.loads(found.stdout)
        return answer

    def allowed(self, project_id: int, **changes: Any) -> dict[int, dict[str, Any]]:
        """The allowed agents by id."""
        agents = self.run(project_id, **changes)["agents"]
        return {agent["id"]: agent for agent in agents if agent["allowed"]}

    def agent(self, agent_id: int, project_id: int, **changes: Any) -> dict[str, Any]:
        """One agent's decision."""
        agents: list[dict[str, Any]] = self.run(project_id, **changes)["agents"]
        return next(agent for agent in agents if agent["id"] == agent_id)

    def _folder(self, project_id: int) -> Path:
        return self.folder / f"project-{project_id}" / ".gitlab/agents"

    def _holder(self, agent: str) -> int:
        found: int = next(a["project_id"] for a in self.instance["agents"] if a["name"] == agent)
        return found


def run(*arguments: str) -> Any:
    found = CliRunner().invoke(app, list(arguments))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


# --- GitLab's vectors ---


def test_every_number_that_is_about_a_decision_is_run() -> None:
    names = ("ci_access", "filters", "environment_patterns", "config_yaml")
    run_here = {param.values[0]["id"] for name in names for param in rows(name)}

    assert run_here | OWN_TESTS == NUMBERS - NOT_OF_FILES


@pytest.mark.parametrize("row", rows("ci_access"))
def test_ci_access_decides_as_gitlab(row: dict[str, Any], given: Given) -> None:
    given.settings(instance_wide=row["instance_wide"])
    given.add("agents", *row.get("extra_agents", ()))
    for agent, ci_access in row["ci_access"].items():
        given.push(agent, {"ci_access": ci_access})

    allowed = given.allowed(row["job_project_id"])

    only = row.get("only_agent")
    kinds = {str(i): a["via"]["kind"] for i, a in allowed.items() if only in (None, i)}
    assert kinds == row["expect"]
    if "via" in row:
        assert {agent["via"]["id"] for agent in allowed.values()} == {row["via"]}


def test_30_access_as_absent_and_agent_are_one(given: Given) -> None:
    given.push("prod", {"ci_access": {"projects": [{"id": "alice/app"}]}})
    entry = {"id": "top/sub1/sub2/bottom/app", "access_as": {"agent": {}}}
    given.push("stg", {"ci_access": {"projects": [entry]}})
    given.push("na", {"ci_access": {"projects": [{"id": "top/sub1/sub2/bottom/app"}]}})

    allowed = given.allowed(100)

    assert {i: (a["access_as"], a["identity"]) for i, a in allowed.items()} == {
        502: ("agent", None),
        601: ("agent", None),
    }


def test_40_projects_are_matched_whatever_the_case(given: Given) -> None:
    paths = ["TOP/sub1/sub2/bottom/APP", "top/sub1/sub2/bottom/app-two"]
    given.push("prod", {"ci_access": {"projects": [{"id": path} for path in paths]}})

    assert [sorted(given.allowed(project)) for project in (100, 101)] == [[501], [501]]


def test_44_only_the_first_entries_up_to_the_limit_count(given: Given) -> None:
    given.settings(entry_limit=1)
    paths = ["top/sub1/sub2/bottom/app", "top/other/infra"]
    given.push("prod", {"ci_access": {"projects": [{"id": path} for path in paths]}})

    answer = given.run(60)

    assert sorted(given.allowed(100)) == [501]
    assert [agent["id"] for agent in answer["agents"] if agent["allowed"]] == [601]
    assert [(p["code"], p["text"]) for p in answer["problems"]] == [
        ("beyond_limit", "top/other/infra")
    ]


@pytest.mark.parametrize("row", rows("filters"))
def test_filters_keep_what_gitlab_keeps(row: dict[str, Any], given: Given) -> None:
    names = {name.lower(): number for number, name in enumerate(row["given"], start=1001)}
    for name, (agent, number) in zip(row["given"], names.items(), strict=True):
        kind, *_ = (entry := dict(vectors("filters")["entries"][name])).values()
        del entry["kind"]
        holder = 100 if kind == "implicit" else 50
        given.add("agents", {"id": number, "name": agent, "project_id": holder})
        if kind == "project":
            entry["id"] = "top/sub1/sub2/bottom/app"
            given.push(agent, {"ci_access": {"projects": [entry]}})
        elif kind == "group":
            given.push(agent, {"ci_access": {"groups": [{"id": "top", **entry}]}})

    claims: dict[str, Any] = {"ref_protected": str(row["ref_protected"]).lower()}
    if row["environment"] is not None:
        claims["environment"] = row["environment"]
    allowed = given.allowed(100, **claims)

    assert sorted(allowed) == sorted(names[name.lower()] for name in row["kept"])


def test_56_without_ref_protected_everything_is_refused(given: Given) -> None:
    given.push("prod", {"ci_access": {"projects": [{"id": "top/sub1/sub2/bottom/app"}]}})

    answer = given.run(100, ref_protected=ABSENT)

    assert {agent["reason"] for agent in answer["agents"]} == {"token_invalid"}
    assert "ref_protected" in answer["agents"][0]["nearest_miss"]


@pytest.mark.parametrize("row", rows("environment_patterns"))
def test_environment_patterns_match_as_gitlabs(row: dict[str, Any], given: Given) -> None:
    entry = {"id": "top", "environments": [row["pattern"]]}
    given.push("prod", {"ci_access": {"groups": [entry]}})

    allowed = given.allowed(100, environment=row["environment"])

    assert (501 in allowed) is row["matches"]


@pytest.mark.parametrize("row", rows("config_yaml"))
def test_config_yaml_is_read_as_strictly_as_by_gitlab(row: dict[str, Any], given: Given) -> None:
    given.push("prod", b"#" * row["bytes"] if row["yaml"] is None else row["yaml"].encode())

    answer = given.run(50)

    own = next(agent for agent in answer["agents"] if agent["id"] == 501)
    if row["result"] == "refused":
        assert (own["allowed"], own["reason"]) == (False, "config_unknown")
        assert [problem["code"] for problem in answer["problems"]] == [row["problem"]]
    else:
        assert own["via"]["kind"] == "implicit"
        assert {problem["code"] for problem in answer["problems"]} <= {"not_found"}


@pytest.mark.parametrize("row", rows("identities"))
def test_a_jobs_identity_is_gitlabs(row: dict[str, Any], given: Given) -> None:
    job = row["job"]
    above = [None, *row["groups_above"]]
    given.instance["groups"] = [
        {"id": i, "full_path": "/".join(f"g{n}" for n in range(depth)), "parent_id": parent}
        for depth, (parent, i) in enumerate(itertools.pairwise(above), start=1)
    ]
    root = "g0" if row["groups_above"] else "alice"
    namespace = (row["groups_above"] or [700])[-1]
    given.instance["projects"] = [
        {
            "id": job["project_id"],
            "path_with_namespace": f"{root}/x/app",
            "namespace_id": namespace,
        },
        {
            "id": row["config_project_id"],
            "path_with_namespace": f"{root}/agents",
            "namespace_id": (row["groups_above"] or [700])[0],
        },
    ]
    given.instance["agents"] = [
        {"id": row["agent_id"], "name": "a", "project_id": row["config_project_id"]}
    ]
    entry = {"id": f"{root}/x/app", "access_as": {"ci_job": {}}, "default_namespace": "payments"}
    given.push("a", {"ci_access": {"projects": [entry]}})

    claims = {name: str(job[name]) for name in ("job_id", "pipeline_id")}
    if "environment" in job:
        claims |= {"environment": job["environment"], "deployment_tier": job["tier"]}
    (agent,) = given.run(job["project_id"], user_login=job["user_login"], **claims)["agents"]

    assert (agent["access_as"], agent["namespace"]) == ("ci_job", "payments")
    assert agent["identity"] == {
        "user": row["user"],
        "uid": row["uid"],
        "groups": row["groups"],
        "extra": {key: values for key, *values in row["extra"]},
    }


# --- The output ---


def test_an_allowed_agent_says_through_which_entry_and_as_whom(given: Given) -> None:
    identity = {"username": "deployer", "groups": ["ops"], "extra": [{"key": "k", "val": ["a"]}]}
    entry = {"id": "top/sub1", "access_as": {"impersonate": identity}}
    given.push("prod", {"ci_access": {"groups": [entry]}})

    assert given.agent(501, 100) == {
        "id": 501,
        "context": "top/sub1/agents:prod",
        "allowed": True,
        "via": {"kind": "group", "id": 2, "path": "top/sub1"},
        "access_as": "impersonate",
        "identity": {"user": "deployer", "uid": None, "groups": ["ops"], "extra": {"k": ["a"]}},
        "namespace": None,
        "reason": None,
        "nearest_miss": None,
    }


def test_a_refused_agent_says_why_and_what_was_missing(given: Given) -> None:
    entry = {"id": "top/sub1/sub2/bottom/app", "environments": ["production"]}
    given.push("prod", {"ci_access": {"projects": [entry]}})

    assert given.agent(501, 100, environment="review/1") == {
        "id": 501,
        "context": "top/sub1/agents:prod",
        "allowed": False,
        "via": None,
        "access_as": None,
        "identity": None,
        "namespace": None,
        "reason": "environment_mismatch",
        "nearest_miss": "project top/sub1/sub2/bottom/app: environments don't match review/1",
    }


def test_every_agent_of_the_instance_is_in_the_output(given: Given) -> None:
    answer = given.run(100)

    assert answer["v"] == 1
    assert [agent["id"] for agent in answer["agents"]] == [501, 502, 601, 701, 901]
    assert {agent["reason"] for agent in answer["agents"]} == {"not_listed"}


def test_problems_have_their_place_and_a_fix(given: Given) -> None:
    given.push("prod", b"ci_access:\n  projects:\n    - id: top/nowhere\n")

    (problem,) = given.run(100)["problems"]

    assert problem.pop("fix")
    assert problem == {
        "code": "not_found",
        "file": ".gitlab/agents/prod/config.yaml",
        "line": 3,
        "column": 11,
        "text": "top/nowhere",
    }


def test_a_slug_that_is_given_goes_before_the_computed_one(given: Given) -> None:
    given.push("prod", {"ci_access": {"groups": [{"id": "top", "access_as": {"ci_job": {}}}]}})
    given.add("environments", {"project_id": 100, "name": "review/1", "slug": "review-1-abc123"})

    slugs = [
        given.agent(501, 100, environment=name)["identity"]["extra"][
            "agent.gitlab.com/environment_slug"
        ]
        for name in ("review/1", "review/2")
    ]

    assert slugs == [["review-1-abc123"], [environment_slug("review/2")]]


def test_a_job_whose_project_moved_meanwhile_has_no_groups(given: Given) -> None:
    given.push("prod", {"ci_access": {"groups": [{"id": "top"}]}})

    agent = given.agent(501, 100, job_namespace_id="9", namespace_id="9")

    assert (agent["allowed"], agent["reason"]) == (False, "chain_unknown")


def test_a_merge_requests_job_of_an_older_gitlab_is_unknown(given: Given) -> None:
    given.push("prod", {"ci_access": {"groups": [{"id": "top"}]}})
    absent = dict.fromkeys(
        ("job_project_id", "job_project_path", "job_namespace_id", "job_namespace_path"), ABSENT
    )

    agent = given.agent(501, 100, pipeline_source="merge_request_event", **absent)

    assert (agent["reason"], agent["nearest_miss"]) == (
        "job_unknown",
        "no entry: the token doesn't say which project runs the job",
    )


def test_an_old_token_is_decided_for_the_moment_when_it_was_made(given: Given) -> None:
    given.push("prod", {"ci_access": {"groups": [{"id": "top"}]}})

    assert sorted(given.allowed(100, iat=1000, nbf=995, exp=4600)) == [501]


def test_only_the_claims_that_decide_are_needed(given: Given) -> None:
    given.push("prod", {"ci_access": {"groups": [{"id": "top"}]}})
    absent = dict.fromkeys(("iat", "nbf", "jti", "sub", "sha", "runner_id", "user_id"), ABSENT)

    assert sorted(given.allowed(100, **absent)) == [501]


def test_people_read_a_table_and_the_problems_below_it(given: Given) -> None:
    entry = {"id": "top/sub1", "default_namespace": "payments"}
    given.push("prod", {"ci_access": {"groups": [entry]}})
    given.push("stg", {"ci_access": {"groups": [{"id": "top/\x1b[2J"}]}})

    found = run(*given.arguments(given.claims(100)))

    line = next(line for line in found.stdout.splitlines() if "agents:prod" in line)
    assert line.split()[:6] == [
        "top/sub1/agents:prod",
        "yes",
        "group",
        "top/sub1",
        "agent",
        "payments",
    ]
    assert "not_found" in found.stdout
    assert "\x1b" not in found.stdout


# --- As a program ---


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobgate.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": "shared", "PATH": ""},
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize("number", [1, 2, 16, 22, 25])
def test_a_row_gives_the_same_as_a_program_of_its_own(number: int, given: Given) -> None:
    row = next(row for row in vectors("ci_access")["rows"] if row["id"] == number)
    given.settings(instance_wide=row["instance_wide"])
    for agent, ci_access in row["ci_access"].items():
        given.push(agent, {"ci_access": ci_access})

    found = program(*given.arguments(given.claims(row["job_project_id"]), "--json"))

    agents = json.loads(found.stdout)["agents"]
    kinds = {str(a["id"]): a["via"]["kind"] for a in agents if a["allowed"]}
    assert (found.returncode, found.stderr, kinds) == (0, "", row["expect"])


def test_aws_is_not_even_loaded(given: Given) -> None:
    arguments = given.arguments(given.claims(100), "--json")
    code = (
        "import sys\nfrom jobgate.cli.app import app\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    app()\nfinally:\n    assert not {'boto3', 'moto'} & set(sys.modules)\n"
    )

    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": "shared"},
        cwd=Path(__file__).parents[2],
    )

    assert (found.returncode, found.stderr) == (0, "")


# --- The folders ---


def test_a_folder_without_a_path_is_the_only_configuration_projects(given: Given) -> None:
    given.instance["agents"] = [{"id": 501, "name": "prod", "project_id": 50}]
    given.push("prod", {"ci_access": {"groups": [{"id": "top"}]}})
    arguments = [a.partition("=")[2] if a.startswith("top/") else a for a in given.arguments({})]
    claims = given.folder / "claims.json"
    claims.write_text(json.dumps(given.claims(100)))

    found = run(*arguments, "--json")

    assert [agent["allowed"] for agent in json.loads(found.stdout)["agents"]] == [True]


def test_a_folder_without_a_path_is_of_the_project_that_has_its_agents(given: Given) -> None:
    given.push("na", {"ci_access": {"groups": [{"id": "top"}]}})
    folder = given._folder(60)
    arguments = given.arguments(given.claims(100), "--json")

    found = run("decide", "--agents", str(folder), *arguments[-3:])

    allowed = [agent["id"] for agent in json.loads(found.stdout)["agents"] if agent["allowed"]]
    assert allowed == [601]


def test_a_project_without_a_folder_is_decided_as_one_without_files(given: Given) -> None:
    given.push("na", {"ci_access": {"groups": [{"id": "top"}]}})
    arguments = given.arguments(given.claims(50), "--json")

    found = run("decide", "--agents", f"TOP/Other/infra={given._folder(60)}", *arguments[-3:])

    agents = json.loads(found.stdout)["agents"]
    assert {a["id"]: a["via"]["kind"] for a in agents if a["allowed"]} == {
        501: "implicit",
        502: "implicit",
        601: "group",
    }


def test_a_link_is_never_followed(given: Given) -> None:
    secret = given.folder / "secret.yaml"
    secret.write_text('ci_access: {groups: [{id: top, default_namespace: "s3cret"}]}')
    config = given._folder(50) / "prod/config.yaml"
    config.parent.mkdir(parents=True)
    config.symlink_to(secret)

    answer = given.run(100)

    assert not any(agent["allowed"] for agent in answer["agents"])
    assert "s3cret" not in json.dumps(answer)
    assert [problem["code"] for problem in answer["problems"]] == ["not_a_file"]


# --- Bad input ---


def refusal(*arguments: str) -> str:
    found = run(*arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    message: str = found.stderr
    return message


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["nowhere"], "nowhere isn't a folder"),
        (["top/none=."], "no project top/none with an agent"),
        (["top/sub1/sub2/bottom/app=."], "no project top/sub1/sub2/bottom/app with an agent"),
        (["top/sub1/agents={0}", "TOP/sub1/agents={0}"], "top/sub1/agents is given twice"),
        (["top/sub1/agents={0}/../.."], "itself"),
    ],
)
def test_a_bad_folder_is_said_in_a_sentence(folders: list[str], message: str, given: Given) -> None:
    given.push("prod", {})
    arguments = given.arguments(given.claims(100))[-2:]
    options = [
        part for folder in folders for part in ("--agents", folder.format(given._folder(50)))
    ]

    assert message in refusal("decide", *options, *arguments)


def test_a_folder_that_may_be_of_two_projects_must_be_told(given: Given) -> None:
    given.add("agents", {"id": 602, "name": "prod", "project_id": 60})
    given.push("prod", {})
    arguments = given.arguments(given.claims(100))[-2:]

    message = refusal("decide", "--agents", str(given._folder(50)), *arguments)

    assert "PROJECT_PATH=DIR" in message


GROUP = {"id": 1, "full_path": "top", "parent_id": None}
PROJECT = {"id": 100, "path_with_namespace": "top/app", "namespace_id": 1}
AGENT = {"id": 501, "name": "prod", "project_id": 100}
GOOD: dict[str, Any] = {
    "v": 1,
    "settings": {"instance_wide": False, "entry_limit": 500},
    "groups": [GROUP],
    "users": [],
    "projects": [PROJECT],
    "agents": [AGENT],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": 2}, "v must be 1"),
        ({"v": True}, "v must be 1"),
        ({"more": 1}, "the file has an unknown key 'more'"),
        ({"settings": {"instance_wide": "no"}}, "settings.instance_wide must be true or false"),
        ({"settings": {"entry_limit": 0}}, "settings.entry_limit must be a whole number"),
        ({"settings": {"limit": 1}}, "settings has an unknown key 'limit'"),
        ({"groups": {}}, "groups must be a list"),
        ({"groups": [1]}, "groups[0] must be an object"),
        ({"groups": [{"id": 1, "full_path": "top"}]}, "groups[0] has no parent_id"),
        ({"groups": [{**GROUP, "id": "1"}]}, "groups[0].id must be a whole number"),
        ({"groups": [{**GROUP, "id": 2**63}]}, "groups[0].id must be a whole number"),
        ({"groups": [{**GROUP, "full_path": ""}]}, "groups[0].full_path must be a text"),
        ({"groups": [{**GROUP, "full_path": "\ud800"}]}, "groups[0].full_path must be a text"),
        ({"groups": [{**GROUP, "parent_id": 7}]}, "parent_id 7 is of no group"),
        ({"groups": [{**GROUP, "parent_id": 1}]}, "more ancestors than GitLab allows"),
        ({"groups": [GROUP, GROUP]}, "the id of a namespace '1' is there twice"),
        ({"users": [{"namespace_id": 1, "username": "a"}]}, "the id of a namespace '1'"),
        ({"users": [{"namespace_id": 2, "username": "TOP"}]}, "the path of a namespace 'top'"),
        ({"projects": [{**PROJECT, "namespace_id": 3}]}, "3 is of no group and no user"),
        ({"projects": [PROJECT, {**PROJECT, "id": 101}]}, "the path of a project 'top/app'"),
        ({"projects": [PROJECT, PROJECT]}, "the id of a project '100' is there twice"),
        ({"agents": [{**AGENT, "project_id": 7}]}, "project_id 7 is of no project"),
        ({"agents": [{**AGENT, "name": "No"}]}, "agents[0].name isn't an agent's name"),
        ({"agents": [AGENT, AGENT]}, "the id of an agent '501' is there twice"),
        ({"agents": [AGENT, {**AGENT, "id": 502}]}, "is there twice"),
        (
            {"environments": [{"project_id": 7, "name": "a", "slug": "a"}]},
            "project_id 7 is of no project",
        ),
    ],
)
def test_a_fault_of_the_instance_is_said_with_its_place(
    change: dict[str, Any], message: str, given: Given
) -> None:
    given.instance = GOOD
    arguments = given.arguments(given.claims(100))
    (given.folder / "instance.json").write_text(json.dumps(GOOD | change))

    found = refusal(*arguments)

    assert found.startswith("jobgate: --instance: ")
    assert message in found


@pytest.mark.parametrize("key", [key for key in GOOD if key != "v"])
def test_nothing_but_environments_may_be_left_out(key: str, given: Given) -> None:
    given.instance = GOOD
    arguments = given.arguments(given.claims(100))
    left = {name: value for name, value in GOOD.items() if name != key}
    (given.folder / "instance.json").write_text(json.dumps(left))

    assert f"the file has no {key}" in refusal(*arguments)


@pytest.mark.parametrize("option", ["instance", "claims"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "must hold a JSON object"),
        (b"{", "isn't good JSON"),
        (b'{"v": 1, "v": 2}', "a key is there twice"),
        (b'{"v": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "isn't good JSON"),
        (b"\xff", "isn't UTF-8 text"),
    ],
)
def test_a_file_that_is_not_json_is_refused(
    option: str, content: bytes, message: str, given: Given
) -> None:
    arguments = given.arguments(given.claims(100))
    (given.folder / f"{option}.json").write_bytes(content)

    found = refusal(*arguments)

    assert f"--{option}: " in found
    assert message in found


def test_a_file_that_is_not_there_is_said(given: Given) -> None:
    arguments = given.arguments(given.claims(100))
    (given.folder / "claims.json").unlink()

    assert "--claims: " in refusal(*arguments)


@pytest.mark.parametrize("name", ["project_id", "job_id", "pipeline_id", "ref", "user_login"])
def test_claims_that_do_not_say_which_job_it_is_are_refused(name: str, given: Given) -> None:
    name = f"job_{name}" if name == "project_id" else name
    claims = {**given.claims(100), name: {}}

    assert f"the claim {name}" in refusal(*given.arguments(claims))


@pytest.mark.parametrize("name", ["job_id", "ref"])
def test_claims_without_ref_protected_must_be_good_for_the_rest(name: str, given: Given) -> None:
    claims = given.claims(100, **{name: ABSENT, "ref_protected": ABSENT})

    assert "the claim" in refusal(*given.arguments(claims))


def test_a_token_in_place_of_its_payload_is_refused_and_not_shown(given: Given) -> None:
    arguments = given.arguments({})
    (given.folder / "claims.json").write_text("eyJhbGciOiJSUzI1NiJ9.eyJzIjoxfQ.c2ln")

    message = refusal(*arguments)

    assert "not the token itself" in message
    assert "eyJ" not in message


def test_agents_must_be_given(given: Given) -> None:
    arguments = given.arguments(given.claims(100))

    assert run("decide", *arguments[-2:]).exit_code == 2
