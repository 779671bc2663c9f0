from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.agent import AsCIJob
from jobgate.core.errors import InvalidToken, JobgateError, Unavailable
from jobgate.core.liveness import StopKind
from jobgate.core.namespace import Surroundings
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.usecases.exchange import Exchanged
from jobgate.usecases.presented_token import Refused

from tests.support import builders as b
from tests.support.exchanges import an_exchange
from tests.support.fakes import (
    FakeExchangeStore,
    FakeLookups,
    FakeRedeemedTokens,
    FakeTokenSigner,
    FakeTokenVerifier,
)

if TYPE_CHECKING:
    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import VerifiedJob
    from jobgate.ports import Deployment
    from jobgate.ports.exchange import ExchangeFacts

TOKEN = "id-token-canary.of.a-job"
NOW = int(b.NOW)
LISTED = b.an_agent(projects={b.APP: b.an_entry(namespace="payments")})
UNKNOWN = Surroundings(place=None, chain=None)


class Setting:
    """An exchange on fakes; the defaults allow one agent."""

    def __init__(
        self,
        *agents: AgentSnapshot,
        verified: VerifiedJob | None = None,
        refusal: JobgateError | None = None,
        facts: ExchangeFacts | None = None,
        surroundings: Surroundings | None = None,
        of_groups: dict[int, list[int]] | None = None,
        failing: tuple[str, ...] = (),
        deployment: Deployment | None = None,
        lookups: FakeLookups | None = None,
        settings: Settings | None = None,
    ) -> None:
        given = agents or (LISTED,)
        own = facts or b.some_facts(project_agents=[agent.agent_id for agent in given])
        self.store = FakeExchangeStore(own, given, of_groups=of_groups, failing=failing)
        self.signer = FakeTokenSigner(failing="sign" in failing)
        self.redeemed = FakeRedeemedTokens()
        self.lines: list[str] = []
        self.exchange = an_exchange(
            deployment=lambda: deployment or b.a_deployment(),
            verifier=FakeTokenVerifier({TOKEN: verified or b.a_verified_job()}, refusal=refusal),
            store=self.store,
            lookups=lookups or FakeLookups(surroundings),
            signer=self.signer,
            redeemed=self.redeemed,
            recorder=self.lines.append,
            settings=settings,
        )

    def redeem(self, token: str = TOKEN, *, resource: str | None = None) -> Exchanged | Refused:
        return self.exchange.redeem(token, targets=() if resource is None else (resource,))

    def reason(self, token: str = TOKEN, *, resource: str | None = None) -> Reason:
        """The reason of a refusal, which signs nothing and is recorded once, with that reason."""
        outcome = self.redeem(token, resource=resource)
        assert isinstance(outcome, Refused)
        assert self.signer.signed == []
        assert [(r["outcome"], r["reason"]) for r in self.records] == [("refused", outcome.reason)]
        return outcome.reason

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def test_an_allowed_job_gets_a_token_for_its_agents() -> None:
    setting = Setting()

    outcome = setting.redeem()

    assert outcome == Exchanged(
        token="signed-1",
        expires_at=NOW + 900,
        expires_in=900,
        grants=(b.a_grant(namespace="payments"),),
        base_url=b.BASE_URL,
        decision_id="id-1",
    )


def test_the_token_says_who_the_job_is_and_not_what_it_may_do() -> None:
    setting = Setting()

    setting.redeem()

    (claims,) = setting.signer.signed
    assert (claims["did"], claims["jti"], claims["exp"]) == ("id-1", "id-2", NOW + 900)
    assert "agent" not in claims
    assert "payments" not in json.dumps(claims)


def test_the_record_of_an_exchange_is_exactly_this() -> None:
    job = b.a_job(environment="production", tier="production")
    setting = Setting(verified=b.a_verified_job(job))

    setting.redeem()

    assert setting.records == [
        {
            "v": 1,
            "type": "exchange",
            "at": "2026-09-21T14:13:20.000+00:00",
            "outcome": "allowed",
            "decision_id": "id-1",
            "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
            "issuer": "main",
            "project_id": 100,
            "project_path": "top/sub1/app",
            "job_id": 9001,
            "pipeline_id": 7001,
            "user_login": "dana",
            "ref": "main",
            "ref_protected": True,
            "environment": "production",
            "agent_id": 501,
            "agent": "top/sub1/agents:prod",
            "config_project_id": 50,
            "config_commit": b.COMMIT,
            "rule": {"kind": "project", "id": 100, "path": "top/sub1/app"},
        }
    ]


def test_every_agent_is_recorded_and_sorted_by_its_context() -> None:
    second = b.an_agent(b.STAGING, name="aaa", projects={b.APP: b.an_entry()})
    setting = Setting(LISTED, second)

    outcome = setting.redeem()

    assert isinstance(outcome, Exchanged)
    assert [grant.agent_id for grant in outcome.grants] == [b.STAGING, b.PROD]
    assert [record["agent_id"] for record in setting.records] == [b.STAGING, b.PROD]


def test_agents_that_only_groups_lead_to_are_found() -> None:
    agent = b.an_agent(groups={b.TOP: b.an_entry("top")})
    setting = Setting(
        agent, facts=b.some_facts(project_agents=[]), of_groups={b.TOP: [agent.agent_id]}
    )

    assert isinstance(setting.redeem(), Exchanged)


def test_the_index_is_only_a_hint() -> None:
    setting = Setting(b.an_agent(projects={101: b.an_entry()}))

    assert setting.reason() is Reason.NOT_LISTED


def test_an_agent_without_a_snapshot_grants_nothing() -> None:
    setting = Setting(facts=b.some_facts(project_agents=[b.STAGING]))

    assert setting.reason() is Reason.NOT_LISTED


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (InvalidToken("bad"), Reason.TOKEN_INVALID),
        (InvalidToken("late", expired=True), Reason.TOKEN_EXPIRED),
        (Unavailable("no keys"), Reason.JOB_UNKNOWN),
    ],
)
def test_a_token_that_is_not_verified_is_refused_before_anything_is_read(
    refusal: JobgateError, reason: Reason
) -> None:
    setting = Setting(refusal=refusal)

    assert setting.reason("another-token") is reason
    assert setting.store.reads == []


def test_a_refused_tokens_record_names_no_job() -> None:
    setting = Setting()

    setting.redeem("another-token")

    (record,) = setting.records
    assert set(record) == {
        "v", "type", "at", "outcome", "decision_id", "reason", "token_sha256", "cause"
    }  # fmt: skip


def test_a_token_that_lives_by_the_leeway_alone_is_expired() -> None:
    setting = Setting(verified=b.a_verified_job(expires_at=NOW))

    assert setting.reason() is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("runs", [True, False])
def test_a_job_whose_token_does_not_tell_its_project_is_confirmed_by_gitlab(*, runs: bool) -> None:
    lookups = FakeLookups(runs=runs)
    setting = Setting(verified=b.a_verified_job(project_is_certain=False), lookups=lookups)

    outcome = setting.redeem()

    assert isinstance(outcome, Exchanged) is runs
    if isinstance(outcome, Refused):
        assert outcome.reason is Reason.JOB_UNKNOWN
    assert lookups.asked == ["project_runs_job"]


def test_a_job_whose_token_tells_its_project_is_not_asked_about() -> None:
    lookups = FakeLookups()

    Setting(lookups=lookups).redeem()

    assert lookups.asked == []


@pytest.mark.parametrize("stops", [None, (b.a_stop(StopKind.ALL),)])
def test_gitlab_is_not_asked_about_a_job_that_is_stopped(stops: Any) -> None:
    lookups = FakeLookups(runs=True)
    setting = Setting(
        verified=b.a_verified_job(project_is_certain=False),
        facts=b.some_facts(stops=stops),
        lookups=lookups,
    )

    assert setting.reason() is Reason.STOPPED
    assert lookups.asked == []


@pytest.mark.parametrize("fork_jobs", ["allow", "deny"])
def test_a_forks_job_is_as_any_other_or_refused_as_the_deployment_says(fork_jobs: Any) -> None:
    setting = Setting(
        verified=b.a_verified_job(is_of_fork=True), settings=Settings(fork_jobs=fork_jobs)
    )

    outcome = setting.redeem()

    assert isinstance(outcome, Exchanged) is (fork_jobs == "allow")
    if isinstance(outcome, Refused):
        assert outcome.reason is Reason.FORK_REFUSED
        assert setting.store.reads == []


def test_the_slug_that_gitlab_gave_goes_into_the_token() -> None:
    job = b.a_job(environment="review/1", tier="development")
    setting = Setting(
        b.an_agent(projects={b.APP: b.an_entry(access_as=AsCIJob())}),
        verified=b.a_verified_job(job),
        lookups=FakeLookups(slug="review-1-abc123"),
        settings=Settings(legacy_slugs=True),
    )

    assert isinstance(setting.redeem(), Exchanged)
    assert setting.signer.signed[0]["job"]["environment_slug"] == "review-1-abc123"


def test_a_slug_that_gitlab_did_not_give_denies_what_would_claim_it() -> None:
    job = b.a_job(environment="review/1", tier="development")
    setting = Setting(
        b.an_agent(projects={b.APP: b.an_entry(access_as=AsCIJob())}),
        verified=b.a_verified_job(job),
        settings=Settings(legacy_slugs=True),
    )

    assert setting.reason() is Reason.JOB_UNKNOWN


def test_a_configuration_project_that_has_left_its_root_grants_nothing_outside() -> None:
    elsewhere = {b.CONFIG_PROJECT: b.a_config_place(root_id=b.OTHER_ROOT)}

    setting = Setting(lookups=FakeLookups(config_places=elsewhere))

    assert setting.reason() is Reason.OUT_OF_SCOPE


def test_a_configuration_project_that_is_nowhere_known_grants_nothing() -> None:
    assert Setting(lookups=FakeLookups(config_places={})).reason() is Reason.CHAIN_UNKNOWN


@pytest.mark.parametrize("method", ["exchange_facts", "agents_of_groups", "snapshots", "sign"])
def test_what_cannot_be_read_or_signed_denies(method: str) -> None:
    setting = Setting(failing=(method,))

    outcome = setting.redeem()

    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.JOB_UNKNOWN
    assert [record["outcome"] for record in setting.records] == ["refused"]


def test_a_deployment_without_a_base_url_gives_no_token() -> None:
    setting = Setting(deployment=b.a_deployment(base_url=None))

    assert setting.reason() is Reason.JOB_UNKNOWN


@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
def test_a_job_that_has_ended_is_refused(status: str) -> None:
    setting = Setting(facts=b.some_facts(state=b.a_state(status)))

    assert setting.reason() is Reason.JOB_FINISHED


def test_missing_stops_refuse_everything() -> None:
    setting = Setting(facts=b.some_facts(stops=None))

    assert setting.reason() is Reason.STOPPED


def test_a_stopped_job_is_refused() -> None:
    setting = Setting(facts=b.some_facts(stops=(b.a_stop(StopKind.USER, 12),)))

    assert setting.reason() is Reason.STOPPED


def test_a_stopped_agent_is_left_out_and_the_others_stay() -> None:
    second = b.an_agent(b.STAGING, name="staging", projects={b.APP: b.an_entry()})
    facts = b.some_facts(
        project_agents=[b.PROD, b.STAGING], stops=(b.a_stop(StopKind.AGENT, b.PROD),)
    )
    setting = Setting(LISTED, second, facts=facts)

    outcome = setting.redeem()

    assert isinstance(outcome, Exchanged)
    assert [grant.agent_id for grant in outcome.grants] == [b.STAGING]


def test_unknown_surroundings_deny_what_needs_them() -> None:
    setting = Setting(surroundings=UNKNOWN)

    assert setting.reason() is Reason.CHAIN_UNKNOWN


def test_unknown_surroundings_of_a_known_root_are_said_to_be_unknown() -> None:
    facts = b.some_facts(project_agents=[])

    assert Setting(facts=facts, surroundings=UNKNOWN).reason() is Reason.CHAIN_UNKNOWN


def test_a_job_that_has_ended_is_told_so_and_costs_no_further_read() -> None:
    ended = b.some_facts(state=b.a_state("success"))
    setting = Setting(facts=ended)

    outcome = setting.exchange.redeem(TOKEN)

    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.JOB_FINISHED
    assert setting.store.reads == ["exchange_facts"]


def test_an_agent_that_cannot_be_read_takes_no_other_agent_away() -> None:
    setting = Setting(LISTED, facts=b.some_facts(project_agents=[b.PROD, b.STAGING]))
    setting.store.unreadable = frozenset({b.STAGING})

    outcome = setting.exchange.redeem(TOKEN)

    assert isinstance(outcome, Exchanged)
    assert [grant.agent_id for grant in outcome.grants] == [b.PROD]


def test_an_agent_that_cannot_be_read_grants_nothing() -> None:
    setting = Setting(LISTED)
    setting.store.unreadable = frozenset({b.PROD})

    outcome = setting.exchange.redeem(TOKEN)

    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.CONFIG_UNKNOWN


def test_unknown_surroundings_of_a_stranger_are_not_listed() -> None:
    job = b.a_job(project_path="stranger/app", namespace_id=77)
    facts = b.some_facts(project_agents=[])
    setting = Setting(facts=facts, surroundings=UNKNOWN, verified=b.a_verified_job(job))

    assert setting.reason() is Reason.NOT_LISTED


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b.an_entry(environments=["production"]), Reason.NO_ENVIRONMENT),
        (b.an_entry(protected_only=True), Reason.REF_NOT_PROTECTED),
        (
            dataclasses.replace(b.an_entry(), refused=Reason.RESERVED_IDENTITY),
            Reason.RESERVED_IDENTITY,
        ),
    ],
)
def test_the_refusal_names_the_nearest_miss(entry: Any, reason: Reason) -> None:
    miss = b.an_agent(b.STAGING, name="staging", projects={b.APP: entry})
    job = b.a_job(ref_protected=False)

    setting = Setting(b.an_agent(), miss, verified=b.a_verified_job(job))

    assert setting.reason() is reason


@pytest.mark.parametrize("resource", ["top/sub1/agents:prod", f"{b.BASE_URL}/agents/501"])
def test_a_token_for_one_agent_is_bound_to_it(resource: str) -> None:
    second = b.an_agent(b.STAGING, name="staging", projects={b.APP: b.an_entry()})
    setting = Setting(LISTED, second)

    outcome = setting.redeem(resource=resource)

    assert isinstance(outcome, Exchanged)
    assert [grant.agent_id for grant in outcome.grants] == [b.PROD]
    assert setting.signer.signed[0]["agent"] == b.PROD


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "top/sub1/agents:other",
        "prod",
        "501",
        "TOP/sub1/agents:prod",
        f"{b.BASE_URL}/agents/501/",
        f"{b.BASE_URL}/agents/5010",
        "https://evil.example.test/agents/501",
        "/agents/501",
    ],
)
def test_another_agent_is_not_listed(resource: str) -> None:
    assert Setting().reason(resource=resource) is Reason.NOT_LISTED


def test_an_agent_that_exists_but_does_not_list_the_job_is_as_one_that_does_not_exist() -> None:
    hidden = b.an_agent(b.STAGING, name="staging", valid=False)
    setting = Setting(LISTED, hidden)

    assert setting.reason(resource="top/sub1/agents:staging") is Reason.NOT_LISTED


def test_a_target_that_a_stranger_guessed_is_as_one_that_does_not_exist() -> None:
    agent = b.an_agent(groups={b.TOP: b.an_entry("top")})
    job = b.a_job(project_path="stranger/app", namespace_id=77)

    for resource in ("top/sub1/agents:prod", "top/sub1/agents:nothing"):
        setting = Setting(agent, verified=b.a_verified_job(job), surroundings=UNKNOWN)
        assert setting.reason(resource=resource) is Reason.NOT_LISTED


@pytest.mark.parametrize(
    ("state", "lives"), [(None, 900), (b.a_state(), 3600), (b.a_state(source="probe"), 3600)]
)
def test_a_job_whose_end_will_be_seen_gets_a_longer_token(state: Any, lives: int) -> None:
    setting = Setting(
        facts=b.some_facts(state=state), verified=b.a_verified_job(expires_at=NOW + 7200)
    )

    outcome = setting.redeem()

    assert isinstance(outcome, Exchanged)
    assert outcome.expires_in == lives


def test_no_token_stands_in_any_record() -> None:
    settings = [
        Setting(),
        Setting(facts=b.some_facts(stops=None)),
        Setting(failing=("sign",)),
        Setting(failing=("snapshots",)),
        Setting(surroundings=UNKNOWN),
    ]

    for setting in settings:
        setting.redeem()
        setting.redeem("canary-of-a-bad-token")

    text = "".join(line for setting in settings for line in setting.lines)
    assert "canary" not in text
    assert "signed-" not in text


def test_a_token_that_is_no_text_of_any_encoding_is_refused_and_recorded() -> None:
    assert Setting().reason("\ud800") is Reason.TOKEN_INVALID


def test_an_identity_by_groups_needs_a_trusted_chain() -> None:
    agent = b.an_agent(projects={b.APP: b.an_entry(access_as=AsCIJob())})
    stale = Surroundings(place=b.a_place(), chain=b.a_chain(fetched_at=0))

    assert Setting(agent, surroundings=stale).reason() is Reason.CHAIN_UNKNOWN


# --- ID tokens that are good once ---

ONCE = b.a_deployment(b.an_issuer(single_use=True))


def test_a_token_that_is_good_once_is_redeemed_once() -> None:
    setting = Setting(deployment=ONCE)

    first, second = setting.redeem(), setting.redeem()

    assert isinstance(first, Exchanged)
    assert isinstance(second, Refused)
    assert second.reason is Reason.TOKEN_INVALID
    assert second.sentence is not None
    assert "redeemed before" in second.sentence
    assert [record["outcome"] for record in setting.records] == ["allowed", "refused"]


def test_a_token_is_kept_as_taken_until_nobody_accepts_it_any_more() -> None:
    setting = Setting(deployment=ONCE)

    setting.redeem()

    jti = b.a_verified_job().jti
    assert setting.redeemed.claimed == {("main", jti): NOW + 3600 + 30}


def test_another_issuers_tokens_stay_good_as_often_as_they_like() -> None:
    setting = Setting()

    assert all(isinstance(setting.redeem(), Exchanged) for _ in range(3))
    assert setting.redeemed.claimed == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"facts": b.some_facts(stops=None)},
        {"facts": b.some_facts(state=b.a_state("success"))},
        {"failing": ("snapshots",)},
        {"surroundings": UNKNOWN},
    ],
)
def test_a_refused_job_has_not_used_its_token(changes: dict[str, Any]) -> None:
    setting = Setting(deployment=ONCE, **changes)

    setting.redeem()

    assert setting.redeemed.claimed == {}


def test_a_token_that_cannot_be_taken_is_not_redeemed() -> None:
    setting = Setting(deployment=ONCE)
    setting.redeemed.failing = True

    outcome = setting.redeem()

    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.JOB_UNKNOWN


def test_a_token_for_which_nothing_could_be_signed_is_good_once_more() -> None:
    setting = Setting(deployment=ONCE, failing=("sign",))

    assert isinstance(setting.redeem(), Refused)
    assert setting.redeemed.claimed == {}

    setting.signer.failing = False
    assert isinstance(setting.redeem(), Exchanged)
    assert isinstance(setting.redeem(), Refused)


def test_what_would_redeem_a_token_again_and_again_is_refused_with_a_fixed_sentence() -> None:
    setting = Setting(deployment=ONCE)

    outcome = setting.exchange.grants(TOKEN)

    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.UNSUPPORTED
    assert outcome.sentence == (
        "The ID tokens of this GitLab are good once, so kubectl couldn't fetch another credential. "
        "Leave out format=exec."
    )
    assert (setting.redeemed.claimed, setting.store.reads) == ({}, [])


# --- Throttling ---


def test_beyond_its_projects_limit_a_job_is_refused_before_anything_is_read() -> None:
    setting = Setting(settings=Settings(project_rate=2))
    assert all(isinstance(setting.redeem(), Exchanged) for _ in range(2))
    reads = list(setting.store.reads)

    outcome = setting.redeem()

    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.THROTTLED
    assert setting.store.reads == reads
    assert setting.records[-1]["reason"] == "throttled"


def test_a_token_that_is_not_good_counts_for_nobody() -> None:
    setting = Setting(settings=Settings(project_rate=1))

    for _ in range(20):
        setting.redeem("another-token")

    assert isinstance(setting.redeem(), Exchanged)
