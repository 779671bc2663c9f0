"""Puts adapters, use cases and bounds together, one function of the deployment each.

Every builder imports its adapters itself, so that no function loads another's libraries. A variable
that is missing stops INIT with its name (KeyError), never with its value.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from jobgate.core.bounds import Bounds
from jobgate.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.adapters.relay_endpoint import RelayEndpoint
    from jobgate.adapters.signature_v4 import AWSCredentials
    from jobgate.core.upstream_request import IncomingRequest
    from jobgate.ports import Deployment
    from jobgate.ports.gitlab import GitLabOfJobs
    from jobgate.ports.lookups import JobStates, Lookups
    from jobgate.ports.refresh import RefreshQueue
    from jobgate.ports.relay import ClusterGateway
    from jobgate.usecases.explain import Explain
    from jobgate.usecases.hook_events import HookEvents
    from jobgate.usecases.relay import Relay

    Handler = Callable[[dict[str, Any], Any], Any]

_clock = time.time  # noqa: TID251  the one place where the clock is taken from the system
# After which reconcile begins no renewal, no webhook; it has a minute for everything.
_RENEWAL_SECONDS, _JOB_HOOKS_SECONDS = 20.0, 35.0
_REFRESH_SECONDS = 45.0  # all calls to GitLab of one refresh; the function has a minute


def token_exchange(environment: Mapping[str, str]) -> Handler:
    """The handler of `functions/token_exchange`."""
    from jobgate.adapters.exchange_counts import DynamoDBRedeemedTokens
    from jobgate.adapters.exchange_http import ExchangeHTTP
    from jobgate.adapters.kms_signer import KMSSigner
    from jobgate.adapters.log import log
    from jobgate.adapters.signed_aws import SignedAWS
    from jobgate.usecases.exchange import Exchange

    settings, bounds = Settings.from_environment(environment), Bounds.from_environment(environment)
    call = SignedAWS(environment, clock=_clock)
    explaining = explain(environment, call, settings=settings, bounds=bounds)
    deployment = explaining.deployment
    exchange = Exchange(
        deployment=deployment,
        tokens=explaining.tokens,
        decisions=explaining.decisions,
        redeemed=DynamoDBRedeemedTokens(call, environment["JOBGATE_TABLE"]),
        signer=KMSSigner(call, deployment, clock=_clock),
        bounds=bounds,
        clock=_clock,
        new_id=_new_id,
    )
    return ExchangeHTTP(exchange, explaining, deployment, clock=_clock, log=log)


def explain(
    environment: Mapping[str, str], call: AWSCall, *, settings: Settings, bounds: Bounds
) -> Explain:
    """What the exchange decides, for its own function and for `jobgate explain`."""
    from jobgate.adapters.decision_store import DecisionStore
    from jobgate.adapters.deployment_reader import DeploymentReader
    from jobgate.adapters.exchange_counts import DynamoDBExchangeCounter
    from jobgate.adapters.id_tokens import IDTokenVerifier
    from jobgate.adapters.log import write_line
    from jobgate.usecases.explain import Explain
    from jobgate.usecases.job_decisions import JobDecisions
    from jobgate.usecases.presented_token import PresentedTokens
    from jobgate.usecases.throttle import Throttle

    table = environment["JOBGATE_TABLE"]
    deployment = DeploymentReader(call, table, bounds=bounds, clock=_clock)
    counter = DynamoDBExchangeCounter(call, table)
    decisions = JobDecisions(
        deployment=deployment,
        throttle=Throttle(deployment=deployment, counter=counter, settings=settings, clock=_clock),
        store=DecisionStore(call, table, clock=_clock),
        lookups=_lookups(environment, call, deployment, settings=settings, bounds=bounds),
        settings=settings,
        bounds=bounds,
        clock=_clock,
    )
    tokens = PresentedTokens(
        verifier=IDTokenVerifier(deployment, bounds=bounds, clock=_clock),
        recorder=write_line,
        clock=_clock,
        new_id=_new_id,
    )
    return Explain(deployment=deployment, tokens=tokens, decisions=decisions)


def relay(environment: Mapping[str, str]) -> RelayEndpoint:
    """The streaming handler of `functions/relay`."""
    from jobgate.adapters.cluster import DirectClusterGateway
    from jobgate.adapters.http_connection import Timeouts
    from jobgate.adapters.log import write_line
    from jobgate.adapters.relay_endpoint import RelayEndpoint
    from jobgate.adapters.signed_aws import SignedAWS

    # An open stream stands still while AWS is asked again whether it may go on.
    call = SignedAWS(environment, clock=_clock, timeouts=Timeouts(connect=1, send=1, head=2))
    clusters = DirectClusterGateway(clock=_clock)
    use_case = relay_flow(environment, call, call.credentials, clusters)

    def close() -> None:
        call.close()
        clusters.close()

    def check(
        incoming: IncomingRequest, agent_id: int | None, *, decision_id: str
    ) -> dict[str, Any] | None:
        # No job waits for this, so its modules aren't loaded for any.
        from jobgate.adapters.decision_store import DecisionStore
        from jobgate.usecases.connection_check import ConnectionCheck

        checking = ConnectionCheck(
            verify=use_case.admission.verifier.check,
            deployment=use_case.admission.deployment,
            store=DecisionStore(call, environment["JOBGATE_TABLE"], clock=_clock),
            forwarding=use_case.forwarding,
            clock=_clock,
        )
        return checking.run(incoming, agent_id, decision_id=decision_id)

    return RelayEndpoint(use_case, check=check, log=write_line, close=close)


def relay_flow(
    environment: Mapping[str, str],
    call: AWSCall,
    credentials: Callable[[], AWSCredentials],
    clusters: ClusterGateway,
) -> Relay:
    """The relay, whatever carries its calls; `benchmarks/peers` gives it the usual libraries."""
    from jobgate.adapters.access_tokens import PublishedKeysVerifier
    from jobgate.adapters.cluster_secrets import AWSClusterSecrets
    from jobgate.adapters.decision_store import DecisionStore
    from jobgate.adapters.deployment_reader import DeploymentReader
    from jobgate.adapters.eks_tokens import EKSTokens
    from jobgate.adapters.log import write_line
    from jobgate.usecases.admission import Admission
    from jobgate.usecases.forwarding import Forwarding
    from jobgate.usecases.relay import Relay
    from jobgate.usecases.relay_facts import RelayFactsCache

    settings, bounds = Settings.from_environment(environment), Bounds.from_environment(environment)
    table = environment["JOBGATE_TABLE"]
    deployment = DeploymentReader(call, table, bounds=bounds, clock=_clock)
    admission = Admission(
        deployment=deployment,
        verifier=PublishedKeysVerifier(deployment, bounds=bounds, clock=_clock),
        facts=RelayFactsCache(
            DecisionStore(call, table, clock=_clock, stops_believed=bounds.relay_cache),
            _lookups(environment, call, deployment, settings=settings, bounds=bounds),
            bounds=bounds,
            clock=_clock,
        ),
        settings=settings,
        bounds=bounds,
        clock=_clock,
    )
    forwarding = Forwarding(
        secrets=AWSClusterSecrets(call, EKSTokens(call, credentials, clock=_clock), clock=_clock),
        clusters=clusters,
        settings=settings,
        clock=_clock,
    )
    return Relay(admission=admission, forwarding=forwarding, recorder=write_line, clock=_clock)


def gitlab_webhook(environment: Mapping[str, str]) -> Handler:
    """The handler of `functions/gitlab_webhook`."""
    from jobgate.adapters.hook_secrets import hooks_in
    from jobgate.adapters.hook_sightings import DynamoDBHookSightings
    from jobgate.adapters.log import log
    from jobgate.adapters.refresh_queue import SQSRefreshQueue
    from jobgate.adapters.secrets import SecretReader
    from jobgate.adapters.webhook_http import WebhookHTTP
    from jobgate.usecases.receive_webhook import ReceiveWebhook

    bounds = Bounds.from_environment(environment)
    call = _boto()
    queue = SQSRefreshQueue(call, environment["JOBGATE_REFRESH_QUEUE_URL"])
    secrets = SecretReader(call, clock=_clock)
    receiver = ReceiveWebhook(
        hooks_of=hooks_in(secrets, environment["JOBGATE_GITLAB_HOOKS_SECRET"]),
        sightings=DynamoDBHookSightings(call, environment["JOBGATE_TABLE"], log=log),
        events=_hook_events(environment, call, queue, bounds=bounds),
        clock=_clock,
    )
    return WebhookHTTP(receiver, log=log)


def config_refresh(environment: Mapping[str, str]) -> Handler:
    """The handler of `functions/config_refresh`."""
    from secrets import randbelow

    from jobgate.adapters.commit_statuses import GitLabCommitStatuses
    from jobgate.adapters.deployment_reader import DeploymentReader
    from jobgate.adapters.log import log, write_line
    from jobgate.adapters.place_store import DynamoDBPlaces
    from jobgate.adapters.refresh_batch import RefreshBatch
    from jobgate.adapters.refresh_queue import SQSRefreshQueue
    from jobgate.adapters.refresh_store import DynamoDBRefreshStore
    from jobgate.adapters.secrets import SecretReader
    from jobgate.usecases.refresh import Refresh

    settings, bounds = Settings.from_environment(environment), Bounds.from_environment(environment)
    table = environment["JOBGATE_TABLE"]
    call = _boto()
    deployment = DeploymentReader(call, table, bounds=bounds, clock=_clock, decides=False)
    refresh = Refresh(
        gitlab_of=_gitlab_of(environment, call, deployment, seconds=_REFRESH_SECONDS),
        store=DynamoDBRefreshStore(call, table),
        places=DynamoDBPlaces(call, table),
        recorder=write_line,
        settings=settings,
        clock=_clock,
        pick=randbelow,
        statuses=GitLabCommitStatuses(
            deployment,
            SecretReader(call, clock=_clock),
            environment["JOBGATE_GITLAB_STATUS_TOKEN_SECRET"],
            log=log,
        )
        if settings.commit_status
        else None,
    )
    queue = SQSRefreshQueue(call, environment["JOBGATE_REFRESH_QUEUE_URL"])
    events = _hook_events(environment, call, queue, bounds=bounds)
    return RefreshBatch(refresh, events, queue, log=log)


def reconcile(environment: Mapping[str, str]) -> Handler:
    """The handler of `functions/reconcile`."""
    from secrets import randbelow

    from jobgate.adapters.cluster import DirectClusterGateway
    from jobgate.adapters.deployment_reader import DeploymentReader
    from jobgate.adapters.kept_hooks import StoredKeptIssuers
    from jobgate.adapters.log import write_line
    from jobgate.adapters.made_hooks import DynamoDBMadeHooks
    from jobgate.adapters.refresh_queue import SQSRefreshQueue
    from jobgate.adapters.refresh_store import DynamoDBRefreshStore
    from jobgate.adapters.secrets import SecretReader
    from jobgate.adapters.stored_credentials import AWSStoredCredentials
    from jobgate.adapters.token_ends import DynamoDBTokenEnds, token_end_asker
    from jobgate.adapters.token_requests import ClusterTokenRequests
    from jobgate.usecases.job_hooks import JobHooks
    from jobgate.usecases.reconcile import Reconcile
    from jobgate.usecases.renewal import Renewal
    from jobgate.usecases.token_watch import TokenWatch

    call, table = _boto(), environment["JOBGATE_TABLE"]
    bounds = Bounds.from_environment(environment)
    deployment = DeploymentReader(call, table, bounds=bounds, clock=_clock, decides=False)
    secrets = SecretReader(call, clock=_clock)
    kept_issuers = StoredKeptIssuers(
        deployment,
        secrets,
        hooks=environment["JOBGATE_GITLAB_HOOKS_SECRET"],
        tokens=environment["JOBGATE_GITLAB_JOB_HOOKS_TOKEN_SECRET"],
    )
    tokens = TokenWatch(
        issuers=lambda: deployment().issuers,
        ask=token_end_asker(deployment, secrets, environment["JOBGATE_GITLAB_TOKENS_SECRET"]),
        ends=DynamoDBTokenEnds(call, table),
        recorder=write_line,
        clock=_clock,
    )
    store = DynamoDBRefreshStore(call, table)
    renewal = Renewal(
        agents=store,
        stored=AWSStoredCredentials(call),
        requests=ClusterTokenRequests(DirectClusterGateway(clock=_clock), clock=_clock),
        recorder=write_line,
        clock=_clock,
        pick=randbelow,
    )
    job_hooks = JobHooks(
        agents=store,
        made=DynamoDBMadeHooks(call, table),
        recorder=write_line,
        clock=_clock,
        pick=randbelow,
    )
    use_case = Reconcile(
        projects=store,
        queue=SQSRefreshQueue(call, environment["JOBGATE_REFRESH_QUEUE_URL"]),
    )

    def handler(_event: dict[str, Any], _context: object) -> dict[str, int]:
        began = _clock()
        try:
            return {"queued": use_case.run()}
        finally:
            # A queue that takes nothing is no reason to let the clusters' tokens end.
            renewal.run(until=began + _RENEWAL_SECONDS)
            tokens.run()
            job_hooks.run(kept_issuers, until=began + _JOB_HOOKS_SECONDS)

    return handler


def _hook_events(
    environment: Mapping[str, str], call: AWSCall, queue: RefreshQueue, *, bounds: Bounds
) -> HookEvents:
    from jobgate.adapters.place_store import DynamoDBPlaces
    from jobgate.usecases.hook_events import HookEvents

    return HookEvents(
        places=DynamoDBPlaces(call, environment["JOBGATE_TABLE"]),
        jobs=_jobs(environment, call, bounds=bounds),
        queue=queue,
        chain_fresh=bounds.chain_fresh,
        clock=_clock,
    )


def _jobs(environment: Mapping[str, str], call: AWSCall, *, bounds: Bounds) -> JobStates:
    from jobgate.adapters.job_states import DynamoDBJobStates
    from jobgate.adapters.log import write_line
    from jobgate.usecases.job_watch import RecordedEnds

    states = DynamoDBJobStates(call, environment["JOBGATE_TABLE"], bounds=bounds, clock=_clock)
    return RecordedEnds(states, write_line, _new_id)


def _lookups(
    environment: Mapping[str, str],
    call: AWSCall,
    deployment: Callable[[], Deployment],
    *,
    settings: Settings,
    bounds: Bounds,
) -> Lookups:
    from jobgate.adapters.place_store import DynamoDBPlaces
    from jobgate.usecases.job_watch import JobWatch
    from jobgate.usecases.lookups import LazyLookups

    return LazyLookups(
        deployment,
        _gitlab_of(environment, call, deployment, seconds=bounds.lazy_budget),
        DynamoDBPlaces(call, environment["JOBGATE_TABLE"]),
        JobWatch(
            _jobs(environment, call, bounds=bounds),
            settings=settings,
            bounds=bounds,
            clock=_clock,
            wait=time.sleep,
        ),
        settings=settings,
        bounds=bounds,
        clock=_clock,
    )


def _gitlab_of(
    environment: Mapping[str, str],
    call: AWSCall,
    deployment: Callable[[], Deployment],
    *,
    seconds: float,
) -> Callable[[str], GitLabOfJobs]:
    """GitLab by issuer alias, each with `seconds` for all that is asked of it in one go."""
    from jobgate.adapters.gitlab_api import GitLabAPI
    from jobgate.adapters.gitlab_memory import Blobs, Listings
    from jobgate.adapters.https import HTTPSClient
    from jobgate.adapters.secrets import SecretReader
    from jobgate.core.errors import Unavailable

    secrets = SecretReader(call, clock=_clock)
    tokens_secret = environment["JOBGATE_GITLAB_TOKENS_SECRET"]
    clients: dict[tuple[str, str | None], HTTPSClient] = {}
    memories: dict[tuple[str, str | None], tuple[Blobs, Listings]] = {}

    def gitlab_of(alias: str) -> GitLabOfJobs:
        issuer = deployment().issuers.get(alias)
        token = secrets.entry(tokens_secret, alias)
        if issuer is None or not isinstance(token, str):
            raise Unavailable(f"there is no issuer {alias}, or no token for it")
        origin = (issuer.base_url, issuer.ca)
        if origin not in clients:
            clients[origin] = HTTPSClient(f"{issuer.base_url}/api/v4", issuer.ca)
            memories[origin] = Blobs(), Listings()
        blobs, listings = memories[origin]
        return GitLabAPI(clients[origin], token, seconds=seconds, blobs=blobs, listings=listings)

    return gitlab_of


def _boto() -> AWSCall:
    import boto3

    from jobgate.adapters.boto_aws import BotoAWS

    return BotoAWS(boto3.Session())


def _new_id() -> str:
    return str(uuid.uuid4())
