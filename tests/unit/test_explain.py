"""What `/explain` shows: the decisions about agents that name the job, and nothing of others."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core import explanation
from jobgate.core.agent import AsCIJob
from jobgate.core.agent_decision import as_json as agent_as_json
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.explanation import Explanation
from jobgate.core.liveness import StopKind
from jobgate.core.namespace import Surroundings
from jobgate.core.reasons import Reason
from jobgate.usecases.presented_token import Refused

from tests.support import builders as b
from tests.support.exchanges import an_exchange, explain_of
from tests.support.fakes import FakeExchangeStore, FakeLookups, FakeTokenSigner, FakeTokenVerifier

if TYPE_CHECKING:
    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.errors import JobgateError
    from jobgate.core.job import JobIdentity

TOKEN = "id-token.of.a-job"
LISTED = b.an_agent(projects={b.APP: b.an_entry(access_as=AsCIJob(), namespace="payments")})
FILTERED = b.an_agent(
    b.STAGING, name="staging", projects={b.APP: b.an_entry(environments=["production"])}
)
HIDDEN = b.an_agent(503, name="hidden", projects={101: b.an_entry("top/other")})
UNKNOWN = Surroundings(place=None, chain=None)


def explained(
    *agents: AgentSnapshot,
    job: JobIdentity | None = None,
    context: str | None = None,
    refusal: JobgateError | None = None,
    surroundings: Surroundings | None = None,
    lines: list[str] | None = None,
    **facts: Any,
) -> Explanation | Refused:
    signer = FakeTokenSigner()
    exchange = an_exchange(
        verifier=FakeTokenVerifier(
            {} if refusal else {TOKEN: b.a_verified_job(job)}, refusal=refusal
        ),
        store=FakeExchangeStore(
            b.some_facts(project_agents=[agent.agent_id for agent in agents], **facts), agents
        ),
        lookups=FakeLookups(surroundings),
        signer=signer,
        recorder=[].append if lines is None else lines.append,
    )
    outcome = explain_of(exchange).run(TOKEN, context=context)
    assert signer.signed == []
    # Whatever is explained, the exchange says the same.
    reason = outcome.reason
    if context is None:
        assert getattr(exchange.redeem(TOKEN), "reason", None) == reason
    return outcome


def contexts(outcome: Explanation | Refused) -> list[str]:
    assert isinstance(outcome, Explanation)
    return [agent.context for agent in outcome.agents]


def test_agents_that_name_the_job_are_shown_with_what_is_missing() -> None:
    outcome = explained(FILTERED, LISTED, HIDDEN)

    assert isinstance(outcome, Explanation)
    assert outcome.reason is None
    assert [agent_as_json(agent) for agent in outcome.agents] == [
        {
            "id": 501,
            "context": "top/sub1/agents:prod",
            "allowed": True,
            "via": {"kind": "project", "id": 100, "path": "top/sub1/app"},
            "access_as": "ci_job",
            "identity": {
                "user": "gitlab:ci_job:9001",
                "uid": None,
                "groups": [
                    "gitlab:ci_job", "gitlab:group:1", "gitlab:group:2", "gitlab:project:100",
                ],
                "extra": {
                    "agent.gitlab.com/id": ["501"],
                    "agent.gitlab.com/config_project_id": ["50"],
                    "agent.gitlab.com/project_id": ["100"],
                    "agent.gitlab.com/ci_pipeline_id": ["7001"],
                    "agent.gitlab.com/ci_job_id": ["9001"],
                    "agent.gitlab.com/username": ["dana"],
                },
            },
            "namespace": "payments",
            "reason": None,
            "nearest_miss": None,
        },
        {
            "id": 502,
            "context": "top/sub1/agents:staging",
            "allowed": False,
            "via": None,
            "access_as": None,
            "identity": None,
            "namespace": None,
            "reason": "no_environment",
            "nearest_miss": (
                "project top/sub1/app: environments are asked for, and the job has none"
            ),
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    "agent",
    [
        HIDDEN,
        dataclasses.replace(HIDDEN, valid=False, config_project=b.a_config_project(77)),
        dataclasses.replace(HIDDEN, projects={}, groups={9: b.an_entry("elsewhere")}),
        dataclasses.replace(HIDDEN, projects={}, instance=b.an_entry("")),
    ],
)
@pytest.mark.parametrize("stopped", [False, True])
def test_an_agent_that_does_not_name_the_job_is_as_one_that_is_not_there(
    agent: AgentSnapshot, *, stopped: bool
) -> None:
    facts = {"stops": (b.a_stop(StopKind.AGENT, 503),)} if stopped else {}
    with_agent = explained(LISTED, agent, **facts)
    asked_for = explained(LISTED, agent, context=agent.context, **facts)

    assert with_agent == explained(LISTED, **facts)
    assert asked_for == explained(LISTED, context="top/sub1/agents:nothing", **facts)


def test_an_agent_with_groups_is_not_shown_while_nobody_knows_the_jobs_groups() -> None:
    agent = dataclasses.replace(HIDDEN, projects={}, groups={9: b.an_entry("elsewhere")})

    outcome = explained(agent, surroundings=UNKNOWN)

    assert (contexts(outcome), outcome.reason) == ([], Reason.CHAIN_UNKNOWN)


def test_the_configuration_project_sees_that_its_agent_has_no_valid_file() -> None:
    job = b.a_job(project_id=b.CONFIG_PROJECT, project_path="top/sub1/agents")

    outcome = explained(b.an_agent(valid=False), job=job)

    assert contexts(outcome) == ["top/sub1/agents:prod"]
    assert outcome.reason is Reason.CONFIG_UNKNOWN


def test_a_stopped_agent_is_shown_to_a_job_that_it_names() -> None:
    outcome = explained(LISTED, stops=(b.a_stop(StopKind.AGENT, b.PROD),))

    assert contexts(outcome) == ["top/sub1/agents:prod"]
    assert outcome.reason is Reason.STOPPED


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"state": b.a_state("success")}, Reason.JOB_FINISHED),
        ({"stops": (b.a_stop(StopKind.ALL),)}, Reason.STOPPED),
        ({"stops": None}, Reason.STOPPED),
    ],
)
def test_a_job_that_gets_nothing_at_all_is_told_why_and_shown_no_agent(
    facts: dict[str, Any], reason: Reason
) -> None:
    outcome = explained(LISTED, **facts)

    assert (contexts(outcome), outcome.reason) == ([], reason)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (InvalidToken("why"), Reason.TOKEN_INVALID),
        (InvalidToken("late", expired=True), Reason.TOKEN_EXPIRED),
        (Unavailable("no keys"), Reason.JOB_UNKNOWN),
    ],
)
def test_a_token_that_is_not_good_is_refused_and_recorded(
    refusal: JobgateError, reason: Reason
) -> None:
    lines: list[str] = []

    outcome = explained(LISTED, refusal=refusal, lines=lines)

    assert isinstance(outcome, Refused)
    assert outcome.reason is reason
    assert {json.loads(line)["reason"] for line in lines} == {reason}


def test_the_text_for_a_terminal_is_exactly_this() -> None:
    outcome = explained(LISTED, FILTERED)

    assert isinstance(outcome, Explanation)
    assert explanation.as_text(outcome) == (
        "Job 9001 of top/sub1/app, started by dana, ref main (protected), no environment\n"
        "\n"
        "allowed  top/sub1/agents:prod\n"
        "  by project top/sub1/app, as gitlab:ci_job:9001, namespace payments\n"
        "refused  top/sub1/agents:staging: no_environment\n"
        "  project top/sub1/app: environments are asked for, and the job has none\n"
        "\n"
        "Jobgate decision id-1\n"
    )


def test_without_any_agent_the_text_says_what_to_do() -> None:
    outcome = explained(HIDDEN)

    assert isinstance(outcome, Explanation)
    text = explanation.as_text(outcome)
    assert "No access: not_listed\n  No agent's configuration lets this job use" in text
    assert "Add the project, or one of its groups, under ci_access" in text
    assert "hidden" not in text


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\u202e", "a\nallowed  top/x:y", "\x9b31m"])
def test_what_others_wrote_cannot_rewrite_the_terminal(hostile: str) -> None:
    job = b.a_job(ref=hostile, environment=f"x{hostile}", user_login=hostile)
    outcome = explained(FILTERED, job=job)

    assert isinstance(outcome, Explanation)
    text = explanation.as_text(outcome)
    assert hostile not in text
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.count("\n") == 8


def test_the_json_is_exactly_this() -> None:
    outcome = explained(HIDDEN, job=b.a_job(environment="review/1", tier="development"))

    assert isinstance(outcome, Explanation)
    assert explanation.as_json(outcome) == {
        "v": 1,
        "decision_id": "id-1",
        "job": {
            "issuer": "main",
            "id": 9001,
            "project_id": 100,
            "project_path": "top/sub1/app",
            "pipeline_id": 7001,
            "user_login": "dana",
            "ref": "main",
            "ref_protected": True,
            "environment": "review/1",
        },
        "reason": "not_listed",
        "text": (
            "No agent's configuration lets this job use this cluster. Add the project, or one of "
            "its groups, under ci_access in the agent's config.yaml on the default branch of its "
            "configuration project."
        ),
        "agents": [],
    }
