"""Two GitLab instances with the same ids: nothing of one is ever taken for the other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.decision_store import DecisionStore
from jobgate.core.agent import AsCIJob
from jobgate.core.liveness import StopKind
from jobgate.usecases.exchange import Exchanged
from jobgate.usecases.presented_token import Refused

from tests.support import builders as b
from tests.support.exchanges import an_exchange, explain_of
from tests.support.fakes import FakeClock, FakeTokenSigner, FakeTokenVerifier
from tests.support.stores import TABLE, job_item

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall
    from jobgate.usecases.exchange import Exchange

ALIASES = ("main", "other")
ISSUERS = (
    b.an_issuer(),
    b.an_issuer("other", url="https://other.example.test", is_default=False),
)
DEPLOYMENT = b.a_deployment(*ISSUERS, roots=[(alias, "top") for alias in ALIASES])


def put(call: AWSCall, *stored: items.Item) -> None:
    for item in stored:
        call("dynamodb", "PutItem", {"TableName": TABLE, "Item": item})


def install(call: AWSCall, alias: str, *, agent_ids: tuple[int, ...] = (b.PROD,)) -> None:
    """An agent of this issuer that lets the default project in, and all that is known of a job."""
    for agent_id in agent_ids:
        agent = b.an_agent(
            agent_id, issuer=alias, projects={b.APP: b.an_entry(access_as=AsCIJob())}
        )
        put(call, agent_items.snapshot_item(agent))
    stamps = {items.stamp(agent_id): {"N": "1"} for agent_id in agent_ids}
    put(
        call,
        items.subject_key(alias, "project", b.APP) | stamps,
        items.place_item(alias, b.APP, b.a_place()),
        items.chain_item(alias, b.a_chain()),
        operator_items.stops_item(alias, ()),
    )


def an_exchange_of_both(call: AWSCall, signer: FakeTokenSigner | None = None) -> Exchange:
    clock = FakeClock()
    jobs = {alias: b.a_verified_job(b.a_job(issuer=alias)) for alias in ALIASES}
    return an_exchange(
        deployment=lambda: DEPLOYMENT,
        verifier=FakeTokenVerifier(jobs),
        store=DecisionStore(call, TABLE, clock=clock),
        signer=signer,
        clock=clock,
    )


def reason(exchange: Exchange, alias: str) -> str | None:
    outcome = exchange.redeem(alias)
    return str(outcome.reason) if isinstance(outcome, Refused) else None


def test_an_agent_of_one_issuer_is_not_there_for_the_others_job_of_the_same_ids(
    call: AWSCall,
) -> None:
    install(call, "main")
    install(call, "other", agent_ids=())
    exchange = an_exchange_of_both(call)

    assert (reason(exchange, "main"), reason(exchange, "other")) == (None, "not_listed")


@pytest.mark.parametrize(
    "ended",
    [
        lambda alias: job_item(
            b.a_job(issuer=alias).key, b.a_state("success"), expires_at=int(b.NOW) + 99
        ),
        lambda alias: operator_items.stops_item(alias, (b.a_stop(StopKind.PROJECT, b.APP),)),
        lambda alias: operator_items.stops_item(alias, (b.a_stop(StopKind.ISSUER),)),
    ],
)
@pytest.mark.parametrize(("of", "stays"), [("main", "other"), ("other", "main")])
def test_what_ends_one_issuers_job_leaves_the_others_alone(
    call: AWSCall, ended: Any, of: str, stays: str
) -> None:
    for alias in ALIASES:
        install(call, alias)
    put(call, ended(of))
    exchange = an_exchange_of_both(call)

    assert reason(exchange, of) in ("job_finished", "stopped")
    assert reason(exchange, stays) is None


def test_identities_of_all_but_the_default_issuer_carry_the_alias(call: AWSCall) -> None:
    for alias in ALIASES:
        install(call, alias)
    explain = explain_of(an_exchange_of_both(call))
    identities = {}

    for alias in ALIASES:
        explanation = explain.run(alias)
        assert not isinstance(explanation, Refused)
        (agent,) = explanation.agents
        identities[alias] = agent.identity

    main, other = (identities[alias] for alias in ALIASES)
    assert main is not None
    assert other is not None
    assert (main.username, other.username) == ("gitlab:ci_job:9001", "gitlab@other:ci_job:9001")
    assert all(group.startswith("gitlab@other:") for group in other.groups)
    assert set(main.groups).isdisjoint(other.groups)


def test_the_tokens_of_two_issuers_jobs_name_their_issuers(call: AWSCall) -> None:
    for alias in ALIASES:
        install(call, alias)
    signer = FakeTokenSigner()
    exchange = an_exchange_of_both(call, signer)

    assert all(isinstance(exchange.redeem(alias), Exchanged) for alias in ALIASES)

    jobs: list[Any] = [claims["job"] for claims in signer.signed]
    assert [job["issuer"] for job in jobs] == ["main", "other"]
    assert [claims["sub"] for claims in signer.signed] == [
        "gitlab:main:ci_job:9001",
        "gitlab:other:ci_job:9001",
    ]
