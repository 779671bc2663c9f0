"""`jobgate gitlab`, `jobgate status`: tokens and webhooks, against the stand-in, AWS by moto."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import agent_items, items
from jobgate.cli.hook_entries import hook_entry, new_secrets
from jobgate.core.gitlab_token import TokenEnd
from jobgate.core.hook import HookScope

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
from tests.support.operators_stack import NOW, Answer, OperatorsStack

if TYPE_CHECKING:
    from pathlib import Path

    from local.gitlab.control import Control
    from tests.support.webhook_receiver import Receiver


# --- Which webhooks ---


def test_a_group_has_one_webhook_for_pushes_and_jobs_of_all_its_projects(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver
) -> None:
    answer = connect(stack, "top")

    assert (answer.code, made_by(answer)) == (0, [("group", GROUP, True, None)])
    gitlab.commit("top/other", {"a": "b"})
    gitlab.finish_job(gitlab.create_job("top/other"))
    gitlab.settle()
    events = {delivered.headers["x-gitlab-event"] for delivered in receiver.received}
    assert {"Push Hook", "Job Hook"} <= events
    assert {delivered.path for delivered in receiver.received} == {"/webhooks/gitlab/main"}
    (entry,) = stack.secret("hooks")["main"]
    assert entry["scope"] == {"kind": "group", "id": GROUP}


def test_without_premium_each_configuration_project_below_has_a_webhook(
    stack: OperatorsStack, gitlab: Control
) -> None:
    gitlab.set_instance(tier="free")
    list_agent(stack, projects={OTHER: b.an_entry("top/other")})

    answer = connect(stack, "top")

    assert (answer.code, made_by(answer)) == (0, [("project", AGENTS, True, None)])
    assert "ProbeFloorSeconds" in answer.json["job_end"]


def test_without_premium_a_group_without_agents_is_told_what_to_do(
    stack: OperatorsStack, gitlab: Control
) -> None:
    gitlab.set_instance(tier="free")
    group = f"top-{uuid.uuid4().hex}"
    gitlab.create_group(group, visibility="public")
    elsewhere = gitlab.create_project(f"{group}/agents", visibility="public")
    list_agent(stack, project=elsewhere["id"], path=f"{group}/agents")

    answer = connect(stack, "top")

    assert answer.code == 4
    assert "Premium" in answer.err
    assert "register one" in answer.err
    assert stack.secret("hooks") == {}


@pytest.mark.parametrize("status", [403, 404])
def test_group_webhooks_are_refused_to_an_owner_only_without_the_licence(
    stack: OperatorsStack, gitlab: Control, status: int
) -> None:
    list_agent(stack)
    gitlab.fail_next(f"GET /api/v4/groups/{GROUP}/hooks", status=status)

    assert made_by(connect(stack, "top")) == [("project", AGENTS, True, None)]


def test_a_maintainer_of_a_group_is_refused_not_told_of_premium(
    stack: OperatorsStack, gitlab: Control
) -> None:
    list_agent(stack)
    token = gitlab.create_token(["api"], group="top", role="maintainer")
    stack.environment["GITLAB_TOKEN"] = token

    answer = connect(stack, "top")

    assert answer.code == 4
    assert "Premium" not in answer.err
    assert token not in answer.out + answer.err
    assert gitlab.hooks() == []


def test_the_whole_instance_has_a_system_hook_which_carries_no_job_events(
    stack: OperatorsStack, gitlab: Control
) -> None:
    stack.environment["GITLAB_TOKEN"] = gitlab.create_token(["api"])

    answer = connect(stack, "--instance")

    assert (answer.code, made_by(answer)) == (0, [("instance", 0, True, None)])
    assert "no job events" in answer.json["job_end"]
    assert [hook["signed"] for hook in answer.json["hooks"]] == [False]
    assert "job_events" not in gitlab.hooks()[0]


def test_a_system_hook_needs_an_administrator(stack: OperatorsStack) -> None:
    assert connect(stack, "--instance").code == 4


@pytest.mark.parametrize("arguments", [(), ("top", "--instance"), ("top", "--job-hooks", "none")])
def test_a_place_is_named_once(stack: OperatorsStack, arguments: tuple[str, ...]) -> None:
    assert connect(stack, *arguments).code == 2


@pytest.mark.parametrize("path", ["top/none", "50", "TOP", "top/"])
def test_a_place_that_the_token_does_not_see_by_this_path_is_an_input_error(
    stack: OperatorsStack, path: str
) -> None:
    assert connect(stack, path).code == 2


# --- Repair, and secrets ---


def test_running_again_repairs_the_same_webhook_with_fresh_secrets(
    stack: OperatorsStack, gitlab: Control
) -> None:
    connect(stack, "top/agents")
    (before,) = stack.secret("hooks")["main"]
    (hook,) = gitlab.hooks()
    gitlab.edit_hook(hook["id"], job_events=False, enable_ssl_verification=False, token="x")

    answer = connect(stack, "top/agents")

    (after,) = stack.secret("hooks")["main"]
    assert made_by(answer) == [("project", AGENTS, False, None)]
    (repaired,) = gitlab.hooks()
    assert repaired["id"] == hook["id"]
    assert repaired["job_events"]
    assert repaired["enable_ssl_verification"]
    assert all(before[name] != after[name] for name in ("id", "secret_token", "signing_token"))


def test_of_two_webhooks_with_our_address_one_is_kept(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver
) -> None:
    for _ in range(2):
        gitlab.create_hook(f"{receiver.url}/webhooks/gitlab/main", project=AGENTS)
    gitlab.create_hook("https://chat.example.test/", project=AGENTS)

    connect(stack, "top/agents")

    urls = sorted(hook["url"] for hook in gitlab.hooks())
    assert urls == [f"{receiver.url}/webhooks/gitlab/main", "https://chat.example.test/"]


def test_a_new_base_url_moves_the_webhook(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver
) -> None:
    connect(stack, "top/agents")
    moved = receiver.url.replace("127.0.0.1", "localhost")
    stack.json("setup", "--base-url", moved)

    connect(stack, "top/agents")

    assert [hook["url"] for hook in gitlab.hooks()] == [f"{moved}/webhooks/gitlab/main"]


def test_secrets_of_other_places_stay(stack: OperatorsStack) -> None:
    for path in ("top/agents", "top/other", "top/agents"):
        connect(stack, path)
    scopes = [entry["scope"]["id"] for entry in stack.secret("hooks")["main"]]
    assert sorted(scopes) == [AGENTS, OTHER]


def test_no_secret_is_printed(stack: OperatorsStack) -> None:
    for options in ((), ("--json",)):
        answer = stack.run("gitlab", "connect", "top/agents", *options)
        (entry,) = stack.secret("hooks")["main"]
        printed = answer.out + answer.err
        secrets = [entry["secret_token"], entry["signing_token"], stack.environment["GITLAB_TOKEN"]]
        secrets += stack.secret("tokens").values()
        assert not [secret for secret in secrets if secret in printed]


def test_a_broken_off_run_leaves_no_delivery_refused_and_is_completed_by_another(
    stack: OperatorsStack, gitlab: Control, receiver: Receiver
) -> None:
    connect(stack, "top/agents")
    for broken_after in range(1, len(stack.calls) + 1):
        stack.break_after = broken_after
        connect(stack, "top/agents")
        stack.break_after = None
        receiver.received.clear()
        gitlab.commit("top/agents", {"README.md": f"{broken_after}\n"})
        gitlab.settle()
        assert [a_function(stack)(delivered) for delivered in receiver.received] == [202]
    assert connect(stack, "top/agents").code == 0
    assert len(gitlab.hooks()) == len(stack.secret("hooks")["main"]) == 1


def test_more_webhooks_than_the_secret_holds_are_refused_and_nothing_changes(
    stack: OperatorsStack, gitlab: Control
) -> None:
    held = [
        hook_entry(HookScope("project", 10**9 + n), new_secrets(signing=True)) for n in range(299)
    ]
    stack.real(
        "secretsmanager",
        "PutSecretValue",
        {
            "SecretId": stack.outputs["GitLabHooksArn"],
            "SecretString": json.dumps({"main": held}, separators=(",", ":")),
        },
    )

    answer = of_each_project(stack, gitlab)

    assert answer.code == 4
    assert "64 KiB" in answer.err
    assert gitlab.hooks() == []
    assert stack.secret("hooks") == {"main": held}


def test_older_gitlab_is_given_a_secret_token_alone(stack: OperatorsStack, gitlab: Control) -> None:
    gitlab.set_instance(version="18.11.1")
    answer = connect(stack, "top/agents")
    assert [hook["signed"] for hook in answer.json["hooks"]] == [False]
    assert stack.secret("hooks")["main"][0]["signing_token"] is None


# --- The test event ---


@pytest.mark.parametrize(
    ("status", "missing"),
    [(500, "500"), (200, "didn't reach this deployment")],
    ids=["an error", "somebody else's success"],
)
def test_a_deployment_that_answers_otherwise_is_told(
    stack: OperatorsStack, receiver: Receiver, status: int, missing: str
) -> None:
    receiver.answer = lambda _: status

    answer = connect(stack, "top/agents")

    assert answer.code == 1
    assert missing in answer.json["hooks"][0]["missing"]


def test_a_function_that_does_not_know_the_new_secrets_yet_is_waited_for(
    stack: OperatorsStack, receiver: Receiver
) -> None:
    started, hear = stack.now, receiver.answer
    receiver.answer = lambda d: hear(d) if stack.now - started > 30 else 401

    assert made_by(connect(stack, "top/agents")) == [("project", AGENTS, True, None)]


def test_secrets_that_never_come_to_be_known_are_told(
    stack: OperatorsStack, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 401

    answer = connect(stack, "top/agents")

    assert "401" in answer.json["hooks"][0]["missing"]
    assert stack.now - NOW < 120


def test_an_empty_project_cannot_be_tested_and_says_so(
    stack: OperatorsStack, gitlab: Control
) -> None:
    gitlab.create_project("top/empty")

    answer = connect(stack, "top/empty")

    assert answer.code == 1
    assert "at least one commit" in answer.json["hooks"][0]["missing"]


@pytest.mark.parametrize(("status", "said"), [(404, "can't send"), (429, "in a minute")])
def test_gitlab_that_sends_no_test_event_says_how_to_go_on(
    stack: OperatorsStack, gitlab: Control, status: int, said: str
) -> None:
    gitlab.fail_next("/test/push_events", status=status)

    answer = connect(stack, "top/agents")

    assert answer.code == 1
    assert said in answer.json["hooks"][0]["missing"]


# --- Tokens ---


def lacks(answer: Answer, kind: str = "run-time token") -> list[str]:
    found: list[str] = answer.json["tokens"][kind]["missing"]
    return found


def test_a_run_time_token_that_does_not_reach_a_configuration_project_is_told(
    stack: OperatorsStack, gitlab: Control
) -> None:
    gitlab.create_group("apart")
    apart = gitlab.create_project("apart/agents")["id"]
    list_agent(stack, project=apart, path="apart/agents")

    answer = connect(stack, "top/agents")

    assert answer.code == 1
    assert lacks(answer) == [f"It doesn't see project {apart}."]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revoked": True}, "GitLab doesn't accept it: it was revoked, or has expired."),
        ({"scopes": ["read_user"]}, "It lacks the scope read_api."),
    ],
)
def test_a_run_time_token_that_is_no_good_is_told(
    stack: OperatorsStack, gitlab: Control, change: dict[str, Any], said: str
) -> None:
    token = gitlab.call("create_token", scopes=["read_api"], group="top")
    _store(stack, token["token"])
    gitlab.call("edit_token", token=token["id"], **change)

    answer = connect(stack, "top/agents")

    assert (answer.code, lacks(answer)) == (1, [said])


def test_a_guest_is_no_reporter(stack: OperatorsStack, gitlab: Control) -> None:
    _store(stack, gitlab.create_token(["read_api"], group="top", role="guest"))
    list_agent(stack)

    assert lacks(connect(stack, "top/agents")) == ["Its user is no Reporter in top/agents."]


def test_a_commit_status_token_is_checked_where_there_is_one(
    stack: OperatorsStack, gitlab: Control
) -> None:
    list_agent(stack)
    assert "commit status token" not in connect(stack, "top/agents").json["tokens"]
    _store(stack, gitlab.create_token(["api"], group="top", role="reporter"), secret="status")

    answer = connect(stack, "top/agents")

    assert lacks(answer, "commit status token") == ["Its user is no Developer in top/agents."]


def test_the_set_up_token_comes_from_the_environment_alone(stack: OperatorsStack) -> None:
    del stack.environment["GITLAB_TOKEN"]
    answer = connect(stack, "top/agents")
    assert answer.code == 2
    assert "GITLAB_TOKEN" in answer.err
    assert stack.secret("hooks") == {}


@pytest.mark.parametrize("scopes", [["read_api"], ["read_repository"]])
def test_a_set_up_token_without_the_right_is_refused(
    stack: OperatorsStack, gitlab: Control, scopes: list[str]
) -> None:
    token = gitlab.create_token(scopes, group="top", role="owner")
    stack.environment["GITLAB_TOKEN"] = token
    answer = connect(stack, "top/agents")
    assert answer.code == 4
    assert token not in answer.out + answer.err


def _store(stack: OperatorsStack, token: str, *, secret: str = "tokens") -> None:
    stack.real(
        "secretsmanager",
        "PutSecretValue",
        {"SecretId": secret, "SecretString": json.dumps({"main": token})},
    )


# --- jobgate gitlab status ---


def test_status_of_a_connected_instance_has_no_finding(
    stack: OperatorsStack, gitlab: Control
) -> None:
    _store(stack, gitlab.create_token(["read_api"], group="top", expires_at="2027-12-31"))
    connect(stack, "top")

    (row,) = stack.json("gitlab", "status")

    assert row["findings"] == []
    assert row["tokens"]["run-time token"]["days_left"] == 349
    assert [(hook["kind"], hook["id"]) for hook in row["hooks"]] == [("group", GROUP)]


@pytest.mark.parametrize(("ends", "warned"), [("2027-02-15", True), ("2027-02-16", False)])
def test_a_token_is_warned_about_thirty_days_ahead(
    stack: OperatorsStack, gitlab: Control, ends: str, *, warned: bool
) -> None:
    connect(stack, "top")
    _store(stack, gitlab.create_token(["read_api"], group="top", expires_at=ends))

    answer = stack.run("gitlab", "status")

    assert answer.code == int(warned)
    assert ("rotate-token" in answer.out) is warned


def test_a_webhook_that_has_delivered_nothing_is_a_finding(
    stack: OperatorsStack, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 200
    connect(stack, "top")

    answer = stack.run("gitlab", "status")

    assert answer.code == 1
    assert "has delivered nothing" in answer.out


def test_an_instance_without_a_webhook_is_a_finding(stack: OperatorsStack) -> None:
    answer = stack.run("gitlab", "status")
    assert answer.code == 1
    assert "jobgate gitlab connect" in answer.out


def test_an_instance_that_is_away_is_unknown(stack: OperatorsStack, gitlab: Control) -> None:
    connect(stack, "top")
    gitlab.fail_next("personal_access_tokens", status=503)
    assert stack.run("gitlab", "status").code == 3


# --- jobgate gitlab rotate-token ---


def test_a_rotated_token_is_stored_and_the_old_one_ended(
    stack: OperatorsStack, gitlab: Control
) -> None:
    before = stack.secret("tokens")["main"]

    answer = stack.run("gitlab", "rotate-token", "--days", 90, "--json")

    after = stack.secret("tokens")["main"]
    assert (answer.code, answer.json["expires_at"]) == (0, "2027-04-15")
    assert before != after
    assert before not in answer.out + answer.err
    assert after not in answer.out + answer.err
    connect(stack, "top")
    (row,) = stack.json("gitlab", "status")
    assert row["tokens"]["run-time token"]["expires_at"] == "2027-04-15"
    _store(stack, before)
    assert stack.run("gitlab", "status").code == 1


def test_a_token_that_may_not_rotate_itself_stays(stack: OperatorsStack, gitlab: Control) -> None:
    token = gitlab.create_token(["read_api"], group="top")
    _store(stack, token)

    answer = stack.run("gitlab", "rotate-token")

    assert answer.code == 4
    assert "self_rotate" in answer.err
    assert stack.secret("tokens") == {"main": token}


def test_nothing_is_rotated_that_could_not_be_stored(
    stack: OperatorsStack, gitlab: Control
) -> None:
    stack.run("gitlab", "rotate-token", "--days", 90)
    reads_before_the_first_write = stack.calls.index(("secretsmanager", "PutSecretValue"))
    token = stack.secret("tokens")["main"]
    stack.break_after = reads_before_the_first_write

    assert stack.run("gitlab", "rotate-token").code == 3

    stack.break_after = None
    assert stack.secret("tokens")["main"] == token
    assert gitlab.requests("rotate")[-1]["status"] == 200
    assert stack.run("gitlab", "rotate-token").code == 0


@pytest.mark.parametrize("days", [0, 366, -1])
def test_a_tokens_life_is_one_that_gitlab_allows(stack: OperatorsStack, days: int) -> None:
    assert stack.run("gitlab", "rotate-token", "--days", days).code == 2


def test_a_token_made_in_gitlab_is_taken_over_if_it_is_good(
    stack: OperatorsStack, gitlab: Control, tmp_path: Path
) -> None:
    file = tmp_path / "new"
    file.write_text(gitlab.create_token(["read_user"], group="top"))
    before = stack.secret("tokens")
    assert stack.run("gitlab", "rotate-token", "--token-file", file).code == 4
    assert stack.secret("tokens") == before
    good = gitlab.create_token(["read_api"], group="top")
    file.write_text(good)
    assert stack.run("gitlab", "rotate-token", "--token-file", file).code == 0
    assert stack.secret("tokens") == {"main": good}


# --- jobgate status ---


def processed(stack: OperatorsStack, commit: str | None, **more: Any) -> None:
    item = b.a_config_project_item({b.PROD: "prod"})
    stored = agent_items.config_project_item(item)
    if commit is not None:
        stored |= {"last_commit": {"S": commit}, "last_at": {"N": str(NOW - 7300)}}
    stack.table.put(stored | {name: {"S": value} for name, value in more.items()})
    home = b.a_config_project(AGENTS, path="top/agents")
    stack.table.put(agent_items.snapshot_item(b.an_agent(config_project=home)))


def test_status_of_a_processed_head_with_a_webhook_has_no_finding(
    stack: OperatorsStack, gitlab: Control
) -> None:
    head = gitlab.commit("top/agents", {"x": "1"})
    processed(stack, head)
    connect(stack, "top")

    answer = stack.run("status", "--json")

    assert answer.code == 0, answer.out
    (row,) = answer.json
    assert (row["head"], row["commit"], row["findings"], row["unknown"]) == (head, head, [], None)
    assert (row["webhook"]["kind"], row["webhook"]["id"]) == ("group", GROUP)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (TokenEnd(expires_at="2027-02-01", good=True, noted_at=NOW), "ends within 16 days"),
        (TokenEnd(expires_at=None, good=False, noted_at=NOW), "isn't accepted by GitLab"),
        (TokenEnd(expires_at="2027-12-01", good=True, noted_at=NOW), None),
    ],
)
def test_status_tells_of_a_token_that_ends(
    stack: OperatorsStack, gitlab: Control, end: TokenEnd, said: str | None
) -> None:
    processed(stack, gitlab.commit("top/agents", {"x": str(end)}))
    connect(stack, "top")
    stack.table.put(items.token_end_item("main", end))

    answer = stack.run("status", "--json")

    expected = [] if said is None else [f"the run-time token {said}: jobgate gitlab rotate-token"]
    assert answer.json[0]["findings"] == expected
    assert stack.run("gitlab", "rotate-token").code == 0
    assert stack.json("status")[0]["findings"] == []


def test_status_tells_of_a_head_that_is_not_processed(
    stack: OperatorsStack, gitlab: Control
) -> None:
    processed(stack, gitlab.commit("top/agents", {"x": "2"}))
    gitlab.commit("top/agents", {"x": "3"})
    connect(stack, "top")

    answer = stack.run("status", "--json")

    assert (answer.code, answer.json[0]["findings"]) == (1, ["the head isn't processed"])


def test_status_tells_of_a_project_without_a_webhook(
    stack: OperatorsStack, gitlab: Control
) -> None:
    processed(stack, gitlab.commit("top/agents", {"x": "4"}))
    connect(stack, "top/other")

    answer = stack.run("status", "--json")

    assert answer.json[0]["findings"] == ["no webhook: jobgate gitlab connect"]


def test_status_is_unknown_while_gitlab_is_away(stack: OperatorsStack, gitlab: Control) -> None:
    processed(stack, gitlab.commit("top/agents", {"x": "5"}))
    connect(stack, "top/agents")
    gitlab.fail_next(f"GET /api/v4/projects/{AGENTS}", status=503)

    answer = stack.run("status")

    assert answer.code == 3
    assert "GitLab can't be asked" in answer.out


def test_a_finding_is_told_also_while_gitlab_is_away(
    stack: OperatorsStack, gitlab: Control
) -> None:
    processed(stack, "c0ffee", last_error="GitLab answered 401")
    gitlab.fail_next(f"GET /api/v4/projects/{AGENTS}", status=503)
    assert stack.run("status").code == 1
