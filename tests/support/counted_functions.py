"""The five functions' use cases on one table in memory that counts, with a GitLab that counts.

Each function made here is cold: it has read nothing yet. The real adapters make the calls; only
what isn't AWS's is a stand-in (GitLab, the cluster, the check of signatures).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from jobgate.adapters.cluster import DirectClusterGateway
from jobgate.adapters.cluster_secrets import AWSClusterSecrets
from jobgate.adapters.decision_store import DecisionStore
from jobgate.adapters.deployment_reader import DeploymentReader
from jobgate.adapters.exchange_counts import DynamoDBExchangeCounter, DynamoDBRedeemedTokens
from jobgate.adapters.hook_sightings import DynamoDBHookSightings
from jobgate.adapters.job_states import DynamoDBJobStates
from jobgate.adapters.kept_hooks import StoredKeptIssuers
from jobgate.adapters.kms_signer import KMSSigner
from jobgate.adapters.made_hooks import DynamoDBMadeHooks
from jobgate.adapters.place_store import DynamoDBPlaces
from jobgate.adapters.refresh_queue import SQSRefreshQueue
from jobgate.adapters.refresh_store import DynamoDBRefreshStore
from jobgate.adapters.secrets import SecretReader
from jobgate.adapters.stored_credentials import AWSStoredCredentials
from jobgate.adapters.token_ends import DynamoDBTokenEnds
from jobgate.adapters.token_requests import ClusterTokenRequests
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken
from jobgate.core.hook import HookScope
from jobgate.core.liveness import JobState
from jobgate.core.settings import Settings
from jobgate.core.webhook import HookSecrets
from jobgate.core.webhook_event import JobSeen, Pushed
from jobgate.ports.exchange import TokenVerifier
from jobgate.ports.relay import AccessTokenVerifier
from jobgate.usecases.admission import Admission
from jobgate.usecases.exchange import Exchange, Exchanged
from jobgate.usecases.forwarding import Forwarding
from jobgate.usecases.hook_events import HookEvents
from jobgate.usecases.job_decisions import JobDecisions
from jobgate.usecases.job_hooks import JobHooks
from jobgate.usecases.job_watch import JobWatch
from jobgate.usecases.lookups import LazyLookups
from jobgate.usecases.presented_token import PresentedTokens
from jobgate.usecases.reconcile import Reconcile
from jobgate.usecases.refresh import Refresh
from jobgate.usecases.relay import Relay
from jobgate.usecases.relay_facts import RelayFactsCache
from jobgate.usecases.renewal import Renewal
from jobgate.usecases.throttle import Throttle
from jobgate.usecases.token_watch import TokenWatch

from tests.support import builders as b
from tests.support.metered_aws import MeteredAWS
from tests.support.relay_parts import Clusters, a_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.core.access_token import AccessToken
    from jobgate.core.agent import EKSCredential
    from jobgate.core.cluster_credential import BearerToken
    from jobgate.core.job import JobIdentity, VerifiedJob
    from jobgate.ports.gitlab import GitLabOfJobs

    from tests.support.fakes import FakeClock

TABLE = "jobgate"
_HOOK = HookSecrets(
    secret_token="s", signing_token=None, entry_id="e", scope=HookScope("group", b.TOP)
)


class CountedStack:
    """One deployment. `log_bytes` is what its functions have written of records."""

    def __init__(self, clock: FakeClock, gitlab: GitLabOfJobs) -> None:
        self.clock = clock
        self.gitlab = gitlab
        self.settings = Settings()
        self.bounds = Bounds()
        self.aws = MeteredAWS(TABLE, clock=clock)
        self.log_bytes = 0
        self._ids = itertools.count(1)

    def record(self, line: str) -> None:
        self.log_bytes += len(line.encode()) + 1

    def new_id(self) -> str:
        return f"00000000-0000-4000-8000-{next(self._ids):012}"

    def deployment(self, *, decides: bool = True) -> DeploymentReader:
        return DeploymentReader(
            self.aws, TABLE, bounds=self.bounds, clock=self.clock, decides=decides
        )

    def lookups(self, deployment: DeploymentReader) -> LazyLookups:
        return LazyLookups(
            deployment,
            lambda _alias: self.gitlab,
            DynamoDBPlaces(self.aws, TABLE),
            JobWatch(
                self.jobs(),
                settings=self.settings,
                bounds=self.bounds,
                clock=self.clock,
                wait=self.clock.advance,
            ),
            settings=self.settings,
            bounds=self.bounds,
            clock=self.clock,
        )

    def jobs(self) -> DynamoDBJobStates:
        return DynamoDBJobStates(self.aws, TABLE, bounds=self.bounds, clock=self.clock)

    def queue(self) -> SQSRefreshQueue:
        return SQSRefreshQueue(self.aws, "queue")


class ExchangeFunction(TokenVerifier):
    """`token_exchange`; a job's ID token is its id."""

    def __init__(self, stack: CountedStack) -> None:
        self._jobs: dict[str, VerifiedJob] = {}
        self._clock = stack.clock
        deployment = stack.deployment()
        counter = DynamoDBExchangeCounter(stack.aws, TABLE)
        self.exchange = Exchange(
            deployment=deployment,
            tokens=PresentedTokens(
                verifier=self, recorder=stack.record, clock=stack.clock, new_id=stack.new_id
            ),
            decisions=JobDecisions(
                deployment=deployment,
                throttle=Throttle(
                    deployment=deployment,
                    counter=counter,
                    settings=stack.settings,
                    clock=stack.clock,
                ),
                store=DecisionStore(stack.aws, TABLE, clock=stack.clock),
                lookups=stack.lookups(deployment),
                settings=stack.settings,
                bounds=stack.bounds,
                clock=stack.clock,
            ),
            redeemed=DynamoDBRedeemedTokens(stack.aws, TABLE),
            signer=KMSSigner(stack.aws, deployment, clock=stack.clock),
            bounds=stack.bounds,
            clock=stack.clock,
            new_id=stack.new_id,
        )

    def verify(self, subject_token: str) -> VerifiedJob:
        return self._jobs.pop(subject_token)

    def warm_up(self) -> None:
        """Read what the deployment says of itself."""
        self.exchange.deployment()

    def redeem(self, job: JobIdentity) -> tuple[int, ...]:
        """The agents that the job gets."""
        now = int(self._clock())
        verified = b.a_verified_job(job, issued_at=now, expires_at=now + 3600)
        self._jobs[str(job.job_id)] = verified
        outcome = self.exchange.redeem(str(job.job_id))
        assert isinstance(outcome, Exchanged), outcome
        return tuple(grant.agent_id for grant in outcome.grants)


class RelayFunction(AccessTokenVerifier):
    """`relay`; a job's access token is its id."""

    def __init__(self, stack: CountedStack) -> None:
        self._jobs: dict[str, JobIdentity] = {}
        self._clock = stack.clock
        self._new_id = stack.new_id
        deployment = stack.deployment()
        self.relay = Relay(
            admission=Admission(
                deployment=deployment,
                verifier=self,
                facts=RelayFactsCache(
                    DecisionStore(
                        stack.aws,
                        TABLE,
                        clock=stack.clock,
                        stops_believed=stack.bounds.relay_cache,
                    ),
                    stack.lookups(deployment),
                    bounds=stack.bounds,
                    clock=stack.clock,
                ),
                settings=stack.settings,
                bounds=stack.bounds,
                clock=stack.clock,
            ),
            forwarding=Forwarding(
                secrets=AWSClusterSecrets(stack.aws, _no_eks, clock=stack.clock),
                clusters=Clusters(),
                settings=stack.settings,
                clock=stack.clock,
            ),
            recorder=stack.record,
            clock=stack.clock,
        )

    def verify(self, access_token: str) -> AccessToken:
        if access_token not in self._jobs:
            raise InvalidToken("unknown")
        return b.an_access_token(self._jobs[access_token], expires_at=int(self._clock()) + 3600)

    def warm_up(self) -> None:
        """Read what the deployment says of itself."""
        self.relay.admission.deployment()

    def request(self, job: JobIdentity, agent_id: int) -> int:
        """One request to an agent's cluster, read to its end; its status."""
        self._jobs = {str(job.job_id): job}
        incoming = replace(
            a_request(),
            path=f"/agents/{agent_id}/api/v1/namespaces/shop/pods",
            headers=(("Authorization", f"Bearer {job.job_id}"),),
        )
        answer = self.relay.answer(
            incoming, decision_id=self._new_id(), deadline=self._clock() + 900
        )
        for _ in answer.body:
            pass
        return answer.status


class WebhookFunction:
    """`gitlab_webhook` once a delivery is authentic, of a hook of the top-level group."""

    def __init__(self, stack: CountedStack, scope: HookScope | None = None) -> None:
        self._clock = stack.clock
        self._hook = replace(_HOOK, scope=scope or _HOOK.scope)
        self._sightings = DynamoDBHookSightings(stack.aws, TABLE, log=stack.record)
        self._events = HookEvents(
            places=DynamoDBPlaces(stack.aws, TABLE),
            jobs=stack.jobs(),
            queue=stack.queue(),
            chain_fresh=stack.bounds.chain_fresh,
            clock=stack.clock,
        )

    def job(self, job: JobIdentity, status: str) -> str:
        """A Job Hook; what came of it."""
        now = self._clock()
        ended = now if status in ("success", "failed", "canceled") else None
        state = JobState(status=status, source="hook", seen_at=now, finished_at=ended)
        return self._handle(JobSeen(job.project_id, job.job_id, state))

    def push(self, project_id: int) -> str:
        """A Push Hook of a default branch; what came of it."""
        return self._handle(Pushed(project_id))

    def _handle(self, event: JobSeen | Pushed) -> str:
        self._sightings.note("main", self._hook, at=self._clock())
        return self._events.handle("main", event, self._hook.scope, deduplication_id=None)


def a_refresh(stack: CountedStack) -> Refresh:
    """`config_refresh`."""
    return Refresh(
        gitlab_of=lambda _alias: stack.gitlab,
        store=DynamoDBRefreshStore(stack.aws, TABLE),
        places=DynamoDBPlaces(stack.aws, TABLE),
        recorder=stack.record,
        settings=stack.settings,
        clock=stack.clock,
        pick=lambda _count: 0,
    )


def a_reconcile(stack: CountedStack) -> Callable[[], None]:
    """`reconcile`'s round; no cluster's token is due, and GitLab's are asked about once a day."""
    store = DynamoDBRefreshStore(stack.aws, TABLE)
    reconcile = Reconcile(projects=store, queue=stack.queue())
    clusters = DirectClusterGateway(clock=stack.clock)
    renewal = Renewal(
        agents=store,
        stored=AWSStoredCredentials(stack.aws),
        requests=ClusterTokenRequests(clusters, clock=stack.clock),
        recorder=stack.record,
        clock=stack.clock,
        pick=lambda _count: 0,
    )

    deployment = stack.deployment(decides=False)
    job_hooks = JobHooks(
        agents=store,
        made=DynamoDBMadeHooks(stack.aws, TABLE),
        recorder=stack.record,
        clock=stack.clock,
        pick=lambda _count: 0,
    )
    secrets = SecretReader(stack.aws, clock=stack.clock)
    kept_issuers = StoredKeptIssuers(deployment, secrets, hooks="hooks", tokens="job-hooks")
    tokens = TokenWatch(
        issuers=lambda: deployment().issuers,
        ask=lambda _alias: None,
        ends=DynamoDBTokenEnds(stack.aws, TABLE),
        recorder=stack.record,
        clock=stack.clock,
    )

    def run() -> None:
        reconcile.run()
        renewal.run(until=stack.clock() + 20)
        tokens.run()
        job_hooks.run(kept_issuers, until=stack.clock() + 35)

    return run


def _no_eks(credential: EKSCredential, *, refused: bool = False) -> BearerToken:
    raise AssertionError("no cluster here is of EKS")
