"""`jobgate decide` as a user runs it: GitLab's vectors, its input and output forms, its exit codes.

Every row of part A.10 runs here that is about a decision. Those about stored rows or the history of
refreshes (test_vectors.py) have no form in files; row 18 needs a second issuer; and some rows of
slugs have the suffix of a digest that nothing has.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jobgate.core.environment import environment_slug

from tests.support.given_files import Given, run
from tests.support.id_tokens import ABSENT
from tests.unit.test_vectors import NUMBERS

VECTORS = Path(__file__).parents[1] / "vectors"
NOT_OF_FILES = {18, 31, 32, 39, 41, 47}
OWN_TESTS = {30, 40, 44, 56}


def vectors(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return loaded


def rows(name: str) -> list[Any]:
    found = [row for row in vectors(name)["rows"] if row["id"] not in NOT_OF_FILES]
    return [pytest.param(row, id=str(row["id"])) for row in found]


INSTANCE: dict[str, Any] = vectors("ci_access")["instance"]


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path, INSTANCE)


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


SLUGS = [row for row in rows("environment_slugs") if not row.values[0].get("stubbed_suffix")]


def test_every_slug_with_the_digest_of_its_name_is_run() -> None:
    assert [row.id for row in SLUGS] == [
        *(f"B.2-{number}" for number in (3, 5, 10, 14)),
        *(f"B.3-{number}" for number in range(1, 12)),
    ]


@pytest.mark.parametrize("row", SLUGS)
def test_environment_slugs_are_gitlabs(row: dict[str, Any], given: Given) -> None:
    given.push("prod", {"ci_access": {"groups": [{"id": "top", "access_as": {"ci_job": {}}}]}})

    agent = given.agent(501, 100, environment=row["name"], deployment_tier="other")

    assert agent["identity"]["extra"]["agent.gitlab.com/environment_slug"] == [row["slug"]]
    assert f"gitlab:project_env:100:{row['slug']}" in agent["identity"]["groups"]


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


def test_the_order_of_the_lists_changes_nothing(given: Given) -> None:
    given.push("prod", {"ci_access": {"groups": [{"id": "top"}, {"id": "top/sub1"}]}})
    answer = given.run(100)

    for kind in ("groups", "users", "projects", "agents"):
        given.instance[kind] = given.instance[kind][::-1]

    assert given.run(100) == answer


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


@pytest.mark.parametrize(("fork_jobs", "reason"), [("allow", None), ("deny", "fork_refused")])
def test_a_forks_job_is_decided_as_the_deployment_has_it(
    fork_jobs: str, reason: str | None, given: Given
) -> None:
    given.settings(fork_jobs=fork_jobs)
    given.push("prod", {"ci_access": {"groups": [{"id": "top"}]}})

    agent = given.agent(501, 100, project_id="71", pipeline_source="merge_request_event")

    assert (agent["allowed"], agent["reason"]) == (reason is None, reason)


@pytest.mark.parametrize(
    ("allowed", "reason"), [(["system:x"], None), (["system:y"], "reserved_identity")]
)
def test_a_reserved_name_is_decided_as_the_deployment_has_it(
    allowed: list[str], reason: str | None, given: Given
) -> None:
    given.settings(allowed_identities=allowed)
    entry = {"id": "top", "access_as": {"impersonate": {"username": "system:x"}}}
    given.push("prod", {"ci_access": {"groups": [entry]}})

    agent = given.agent(501, 100)

    assert (agent["allowed"], agent["reason"]) == (reason is None, reason)


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
