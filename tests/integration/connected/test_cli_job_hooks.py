"""The webhooks of authorised projects, by `gitlab connect` and by the schedule, AWS by moto."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters.deployment_reader import DeploymentReader
from jobgate.adapters.kept_hooks import StoredKeptIssuers
from jobgate.adapters.made_hooks import DynamoDBMadeHooks
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from jobgate.adapters.secrets import SecretReader
from jobgate.cli.stored_secrets import change_entry
from jobgate.core.bounds import Bounds
from jobgate.core.hook import HookMade, HookWrite
from jobgate.core.reasons import Reason
from jobgate.ports.hooks import KeptHooks, KeptIssuers
from jobgate.usecases.job_hooks import JobHooks

from tests.support import builders as b
from tests.support.connected_stack import (
    AGENTS,
    GROUP,
    OTHER,
    a_function,
    connect,
    list_agent,
    made_by,
    of_each_project,
)

if TYPE_CHECKING:
    from pathlib import Path

    from local.gitlab.control import Control
    from tests.support.operators_stack import Answer, OperatorsStack
    from tests.support.webhook_receiver import Receiver


def test_with_job_hooks_each_authorised_project_has_one_and_they_share_an_entry(
    stack: OperatorsStack, gitlab: Control
) -> None:
    answer = of_each_project(stack, gitlab)

    assert answer.code == 0
    assert made_by(answer) == [("project", AGENTS, True, None), ("project", OTHER, True, None)]
    assert [e["scope"]["kind"] for e in stack.secret("hooks")["main"]] == ["project", "projects"]
    # Secrets Manager keeps every version of a day, and a hundred at most.
    assert stack.calls.count(("secretsmanager", "PutSecretValue")) == 3
    assert "run again" in answer.json["job_end"]


def test_where_gitlab_fails_in_the_middle_another_run_leaves_one_webhook_and_secret_a_place(
    stack: OperatorsStack, gitlab: Control
) -> None:
    of_each_project(stack, gitlab)
    before = {entry["id"] for entry in stack.secret("hooks")["main"]}
    for _ in range(3):
        gitlab.fail_next(f"GET /api/v4/projects/{OTHER}/hooks", status=500)
        broken = connect(stack, "top", "--job-hooks", "projects")
        assert broken.code == 1
        assert "answered 500" in broken.json["hooks"][1]["failed"]
    # What is shared stays beside the new: GitLab has what is made from it still.
    stored = stack.secret("hooks")["main"]
    assert len([e for e in stored if e["scope"]["id"] == AGENTS]) == 1
    assert before & {e["id"] for e in stored if e["scope"]["kind"] == "projects"}

    assert connect(stack, "top", "--job-hooks", "projects").code == 0

    assert len(gitlab.hooks()) == len(stack.secret("hooks")["main"]) == 2


def a_later_project(stack: OperatorsStack, gitlab: Control) -> int:
    """A push authorises another project, which has a commit: GitLab tests no empty one's."""
    later = int(gitlab.create_project(f"top/later-{uuid.uuid4().hex}")["id"])
    gitlab.commit(later, {"README.md": "first\n"})
    list_agent(stack, projects={OTHER: b.an_entry("top/other"), later: b.an_entry("top/later")})
    return later


def the_schedule(stack: OperatorsStack, *, kept: KeptIssuers | None = None) -> list[dict[str, Any]]:
    """A round of what reconcile does for webhooks; its lines."""
    lines: list[dict[str, Any]] = []
    table = stack.outputs["TableName"]
    keeper = JobHooks(
        agents=DynamoDBRefreshStore(stack.real, table),
        made=DynamoDBMadeHooks(stack.real, table),
        recorder=lambda line: lines.append(json.loads(line)),
        clock=lambda: stack.now,
        pick=lambda _count: 0,
    )
    keeper.run(kept or kept_by(stack), until=stack.now + 60)
    return lines


def kept_by(stack: OperatorsStack) -> StoredKeptIssuers:
    """What the schedule keeps, as its function reads it."""

    def clock() -> float:
        return stack.now

    table = stack.outputs["TableName"]
    return StoredKeptIssuers(
        DeploymentReader(stack.real, table, bounds=Bounds(), clock=clock, decides=False),
        SecretReader(stack.real, clock=clock),
        hooks=stack.outputs["GitLabHooksArn"],
        tokens=stack.outputs["GitLabJobHooksTokenArn"],
    )


def connect_with_token(
    stack: OperatorsStack, gitlab: Control, folder: Path, *, scope: str = "api", role: str, on: str
) -> Answer:
    """Each authorised project's webhook, and a token of this scope and role to keep them."""
    gitlab.set_instance(tier="free")
    list_agent(stack, projects={OTHER: b.an_entry("top/other")})
    token = folder / "job-hooks"
    place = {"project": on} if "/" in on else {"group": on}
    token.write_text(gitlab.create_token([scope], role=role, **place))
    return connect(stack, "top", "--job-hooks", "projects", "--job-hooks-token-file", str(token))


def test_the_schedule_makes_the_webhook_of_a_project_that_is_authorised_later(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver, tmp_path: Path
) -> None:
    user = gitlab.create_user(f"keeper-{uuid.uuid4().hex}")["username"]
    gitlab.add_member(user, "maintainer", project="top/other")
    answer = connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    assert (answer.code, stack.secret("keep").keys()) == (0, {"main"})
    later = a_later_project(stack, gitlab)
    assert [line["project_id"] for line in the_schedule(stack) if "error" in line] == [later]
    token = gitlab.create_token(["api"], user=user)
    gitlab.add_member(user, "maintainer", project=later)
    change_entry(stack.real, stack.outputs["GitLabJobHooksTokenArn"], "main", token)

    assert the_schedule(stack) == [
        {"type": "job_hook", "issuer": "main", "project_id": later, "made": True}
    ]

    assert the_schedule(stack) == []
    assert not [f for f in stack.run("status", "--json").json[0]["findings"] if "authorised" in f]
    receiver.received.clear()
    gitlab.create_job(later, status="success")
    gitlab.settle()
    delivered = receiver.received[-1]
    assert delivered.path == f"/webhooks/gitlab/main?project={later}"
    assert a_function(stack)(delivered) == 202
    for other in (OTHER, AGENTS):
        forged = replace(delivered, path=f"/webhooks/gitlab/main?project={other}")
        assert a_function(stack)(forged) == 401


@pytest.mark.parametrize(
    ("scope", "role", "on", "said"),
    [
        ("read_api", "maintainer", "top/other", "lacks the scope api"),
        ("api", "developer", "top/other", "no Maintainer of these projects"),
        ("api", "maintainer", "top/agents", "may push to the configuration project"),
        ("api", "maintainer", "top", "may push to the configuration project"),
    ],
)
def test_a_token_that_may_too_little_or_too_much_is_not_stored(
    stack: OperatorsStack,
    gitlab: Control,
    tmp_path: Path,
    scope: str,
    role: str,
    on: str,
    said: str,
) -> None:
    answer = connect_with_token(stack, gitlab, tmp_path, scope=scope, role=role, on=on)

    assert (answer.code, stack.secret("keep")) == (1, {})
    assert said in " ".join(answer.json["tokens"]["job hooks' token"]["missing"])
    # The webhooks are made all the same, by the set-up token.
    assert [hook["missing"] for hook in answer.json["hooks"]] == [None, None]


def test_a_projects_webhook_goes_with_what_authorised_it(
    stack: OperatorsStack, gitlab: Control, tmp_path: Path
) -> None:
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    list_agent(stack)

    assert the_schedule(stack) == [
        {"type": "job_hook", "issuer": "main", "project_id": OTHER, "removed": True}
    ]

    assert [hook["url"].partition("?")[2] for hook in gitlab.hooks()] == [""]


def test_projects_below_an_authorised_group_have_a_webhook(
    stack: OperatorsStack, gitlab: Control
) -> None:
    gitlab.set_instance(tier="free")
    list_agent(stack, groups={GROUP: b.an_entry("top")})

    connect(stack, "top", "--job-hooks", "projects")

    assert str(OTHER) in {hook["url"].partition("?project=")[2] for hook in gitlab.hooks()}


def test_a_project_that_is_authorised_later_is_a_finding_until_its_webhook_is_made(
    stack: OperatorsStack, gitlab: Control
) -> None:
    of_each_project(stack, gitlab)

    def findings() -> list[str]:
        (row,) = stack.run("status", "--json").json
        return [f for f in row["findings"] if "authorised" in f]

    assert findings() == []
    a_later_project(stack, gitlab)
    assert [f.partition(" projects")[0] for f in findings()] == ["1 authorised"]

    assert connect(stack, "top", "--job-hooks", "projects").code == 0
    assert findings() == []


def test_where_no_project_was_given_a_webhook_for_its_jobs_none_is_missed(
    stack: OperatorsStack, gitlab: Control
) -> None:
    gitlab.set_instance(tier="free")
    list_agent(stack, projects={OTHER: b.an_entry("top/other")})
    assert connect(stack, "top").code == 0

    (row,) = stack.run("status", "--json").json

    assert not [f for f in row["findings"] if "authorised" in f]


def test_an_entry_that_is_refused_needs_no_webhook(stack: OperatorsStack, gitlab: Control) -> None:
    of_each_project(stack, gitlab)
    refused = replace(b.an_entry("top/later"), refused=Reason.OUT_OF_SCOPE)
    list_agent(stack, projects={OTHER: b.an_entry("top/other"), 999: refused})

    (row,) = stack.run("status", "--json").json

    assert not [f for f in row["findings"] if "authorised" in f]


def test_an_archived_project_has_nothing_to_tell_of(
    stack: OperatorsStack, gitlab: Control, tmp_path: Path
) -> None:
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    archived = a_later_project(stack, gitlab)
    user = gitlab.create_user(f"keeper-{uuid.uuid4().hex}")["username"]
    for project in (archived, OTHER):
        gitlab.add_member(user, "maintainer", project=project)
    gitlab.edit_project(archived, archived=True)
    token = gitlab.create_token(["api"], user=user)
    change_entry(stack.real, stack.outputs["GitLabJobHooksTokenArn"], "main", token)

    told = {"type": "job_hook", "issuer": "main", "project_id": archived}
    assert the_schedule(stack) == [told | {"archived": True}]
    assert the_schedule(stack) == []
    assert not [f for f in stack.run("status", "--json").json[0]["findings"] if "authorised" in f]
    assert connect(stack, "top", "--job-hooks", "projects").code == 0

    gitlab.edit_project(archived, archived=False)
    stack.now += 3600
    assert told | {"made": True} in the_schedule(stack)


def test_what_could_not_be_written_is_said_so_and_is_no_success(
    stack: OperatorsStack, gitlab: Control
) -> None:
    of_each_project(stack, gitlab)
    gone = replace(b.an_entry("top/gone"))
    list_agent(stack, projects={OTHER: b.an_entry("top/other")}, groups={4040: gone})
    gitlab.fail_next(f"PUT /api/v4/projects/{OTHER}/hooks", status=422)

    answer = stack.run("gitlab", "connect", "top", "--job-hooks", "projects")

    assert answer.code == 1
    assert f"The webhook of project {OTHER} couldn't be written: GitLab" in answer.out
    assert "Which projects are below group 4040 isn't known" in answer.out
    assert f"Repaired, with new secrets, the webhook of project {OTHER}" not in answer.out


@pytest.mark.parametrize("projects", [1, 4])
def test_the_job_hooks_token_is_checked_by_a_list_and_not_project_by_project(
    stack: OperatorsStack, gitlab: Control, tmp_path: Path, projects: int
) -> None:
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    table = DynamoDBMadeHooks(stack.real, stack.outputs["TableName"])
    for number in range(projects):
        table.note("main", 9000 + number, HookMade(entry_id="e", revision=1))
    gitlab.clear_requests()

    answer = stack.run("gitlab", "status", "--json")

    lacking = ", ".join(str(9000 + number) for number in range(projects))
    assert f"no Maintainer of these projects: {lacking}." in str(answer.json)
    assert len(gitlab.requests()) == 8


# --- Old secrets ---


def answers_of(stack: OperatorsStack, gitlab: Control, receiver: Receiver) -> list[int]:
    """What a function that has just started answers to a job of the authorised project."""
    receiver.received.clear()
    gitlab.create_job(OTHER, status="success")
    gitlab.settle()
    ours = [d for d in receiver.received if d.path.endswith(f"?project={OTHER}")]
    return [a_function(stack)(delivered) for delivered in ours]


def shared_entries(stack: OperatorsStack) -> list[str]:
    return [e["id"] for e in stack.secret("hooks")["main"] if e["scope"]["kind"] == "projects"]


def test_whatever_answers_are_lost_no_delivery_is_refused_and_old_secrets_stay_few(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver
) -> None:
    gitlab.set_instance(version="18.11.1")  # whose signatures would be too old in what follows
    of_each_project(stack, gitlab)
    for number in range(9):
        # GitLab takes every other one's secrets, and none of its answers comes.
        kind: dict[str, Any] = {"half": True} if number % 2 else {"status": 503}
        gitlab.disturb_next(f"PUT /api/v4/projects/{OTHER}/hooks", **kind)
        assert connect(stack, "top", "--job-hooks", "projects").code == 1
        assert set(answers_of(stack, gitlab, receiver)) == {202}
    assert 2 <= len(shared_entries(stack)) <= 7

    stack.now += 300
    assert connect(stack, "top", "--job-hooks", "projects").code == 0

    assert len(shared_entries(stack)) == 1
    assert set(answers_of(stack, gitlab, receiver)) == {202}


def test_runs_that_change_nothing_leave_no_secrets_behind(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver
) -> None:
    of_each_project(stack, gitlab)
    for _ in range(5):
        gitlab.fail_next(f"PUT /api/v4/projects/{OTHER}/hooks", status=422)
        assert connect(stack, "top", "--job-hooks", "projects").code == 1
        # The old one, which the webhook has, and the new one, which the schedule goes on with.
        assert len(shared_entries(stack)) == 2
    assert set(answers_of(stack, gitlab, receiver)) == {202}


@pytest.mark.parametrize("kind", [{"status": 503}, {"half": True}, {"status": 422}])
def test_a_places_webhook_keeps_two_secrets_at_most_however_often_a_run_fails(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver, kind: dict[str, Any]
) -> None:
    assert connect(stack, "top/agents").code == 0
    for _ in range(4):
        gitlab.disturb_next(f"PUT /api/v4/projects/{AGENTS}/hooks", **kind)
        assert connect(stack, "top/agents").code == 3
        assert len(stack.secret("hooks")["main"]) <= 2
        receiver.received.clear()
        gitlab.commit("top/agents", {"README.md": f"{uuid.uuid4()}\n"})
        gitlab.settle()
        assert [a_function(stack)(delivered) for delivered in receiver.received] == [202]

    assert connect(stack, "top/agents").code == 0
    assert len(stack.secret("hooks")["main"]) == 1


def test_old_secrets_that_are_good_still_are_a_finding_until_they_are_ended(
    stack: OperatorsStack, gitlab: Control, tmp_path: Path
) -> None:
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    gitlab.fail_next(f"PUT /api/v4/projects/{OTHER}/hooks", status=422)
    connect(stack, "top", "--job-hooks", "projects")

    def findings() -> list[str]:
        (row,) = stack.run("gitlab", "status", "--json").json
        return [f for f in row["findings"] if "Older secrets" in f]

    assert f"for projects {OTHER}; to end them: `jobgate gitlab connect" in findings()[0]
    the_schedule(stack)
    assert "for no project any more" in findings()[0]
    assert connect(stack, "top/agents").code == 0
    assert findings() == []


def test_a_round_that_began_before_connect_gives_no_webhook_what_is_dropped(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver, tmp_path: Path
) -> None:
    gitlab.set_instance(version="18.11.1")  # whose signatures would be too old in what follows
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    stack.now += 86_400
    began = kept_by(stack).kept("main", seconds=60)
    assert began is not None

    class Began(KeptIssuers):
        def aliases(self) -> list[str]:
            return ["main"]

        def kept(self, alias: str, *, seconds: float) -> KeptHooks | None:
            return began

    assert connect(stack, "top", "--job-hooks", "projects").code == 0
    stack.now += 86_400
    assert ["warning" in line for line in the_schedule(stack, kept=Began())] == [True]

    assert len(shared_entries(stack)) == 1
    assert set(answers_of(stack, gitlab, receiver)) == {202}


def test_what_the_schedule_begins_while_old_secrets_are_dropped_brings_them_back(
    stack: OperatorsStack, gitlab: Control
) -> None:
    of_each_project(stack, gitlab)
    (old,) = shared_entries(stack)
    table = DynamoDBMadeHooks(stack.real, stack.outputs["TableName"])
    real = stack.real

    class Meanwhile:
        """A round of the schedule notes that it begins, after connect has looked who does."""

        def __call__(self, service: str, operation: str, request: Any) -> dict[str, Any]:
            text = str(request.get("SecretString"))
            if operation == "PutSecretValue" and old not in text and stack.real is not real:
                stack.real = real
                made = table.made("main").get(OTHER, HookMade())
                table.note("main", OTHER, made.begun(HookWrite(stack.now, old)))
            return real(service, operation, request)

    stack.real = Meanwhile()  # type: ignore[assignment]
    assert connect(stack, "top", "--job-hooks", "projects").code == 0

    assert stack.real is real
    assert old in shared_entries(stack)


# --- A new base URL, and the end ---


def test_a_new_base_url_reaches_the_webhooks_with_the_next_round(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver, tmp_path: Path
) -> None:
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    moved = receiver.url.replace("127.0.0.1", "localhost")
    stack.json("setup", "--base-url", moved)

    the_schedule(stack)

    urls = [hook["url"] for hook in gitlab.hooks() if "?project" in hook["url"]]
    assert urls == [f"{moved}/webhooks/gitlab/main?project={OTHER}"]


def test_another_deployments_webhooks_stay_when_ours_are_made_and_removed(
    stack: OperatorsStack, gitlab: Control
) -> None:
    theirs = "https://staging.example.test/webhooks/gitlab/main"
    for project in (AGENTS, OTHER):
        gitlab.create_hook(theirs, project=project, name="Jobgate")

    of_each_project(stack, gitlab)
    assert len(gitlab.hooks()) == 4
    stack.json("teardown", "--yes")

    assert [hook["url"] for hook in gitlab.hooks()] == [theirs, theirs]


@pytest.mark.parametrize("scope", [None, "read_api"])
def test_a_wrong_set_up_token_takes_nothing_away(
    stack: OperatorsStack, gitlab: Control, tmp_path: Path, scope: str | None
) -> None:
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    kept, hooks = stack.secret("keep"), stack.secret("hooks")
    wrong = "glpat-wrong" if scope is None else gitlab.create_token([scope], group="top")
    stack.environment["GITLAB_TOKEN"] = wrong

    answer = stack.run("teardown", "--yes")

    assert answer.code == 4
    assert (stack.secret("keep"), stack.secret("hooks")) == (kept, hooks)
    assert len(gitlab.hooks()) == 2


@pytest.mark.parametrize("status", [403, 404])
def test_a_webhook_out_of_sight_is_named_and_holds_up_no_other(
    stack: OperatorsStack, gitlab: Control, tmp_path: Path, status: int
) -> None:
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    body = json.dumps({"message": "not for you"})
    gitlab.fail_next(f"GET /api/v4/projects/{AGENTS}/hooks", status=status, body=body)

    told = stack.json("teardown", "--yes", "--with-state")

    assert [hook["url"].partition("?")[2] for hook in gitlab.hooks()] == [""]
    assert f"the webhook of project {AGENTS} of 'main'" in [left["what"] for left in told["left"]]
    assert told["hooks"] == [f"project {OTHER}"]
    assert stack.secret("keep") == {}


@pytest.mark.parametrize("options", [(), ("--keep-hooks",)], ids=["removed", "kept"])
def test_a_teardown_that_breaks_off_anywhere_forgets_no_webhook(
    stack: OperatorsStack, gitlab: Control, tmp_path: Path, options: tuple[str, ...]
) -> None:
    connect_with_token(stack, gitlab, tmp_path, role="maintainer", on="top/other")
    command = ("teardown", "--yes", "--with-state", *options)
    body = json.dumps({"message": "404 Project Not Found"})
    gitlab.fail_next(f"GET /api/v4/projects/{OTHER}/hooks", status=404, body=body, times=99)
    for broken_after in range(3, 60, 2):
        stack.break_after = broken_after
        answer = stack.run(*command, "--json")
        stack.break_after = None
        if stack.status == "DELETE_COMPLETE":
            break
        planned = stack.run("teardown", *options)
        assert f"the webhook of project {OTHER} of 'main'" in planned.out

    assert stack.status == "DELETE_COMPLETE"
    if answer.code == 0:
        left = [each["what"] for each in answer.json["left"]]
        assert f"the webhook of project {OTHER} of 'main'" in left


def test_a_removed_issuers_webhooks_are_named(stack: OperatorsStack, gitlab: Control) -> None:
    of_each_project(stack, gitlab)

    told = stack.json("issuer", "remove", "main")

    assert told["hooks"] == [f"the webhook of project {n} of 'main'" for n in (AGENTS, OTHER)]
    assert stack.secret("hooks") == {}
