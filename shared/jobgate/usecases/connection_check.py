"""Connection check: an operator's question whether one agent's way to its cluster works.

verify -> the stored connection -> fixed questions to the cluster, with each of the agent's
credentials, by the same code that carries a job's requests. The relay answers it, since it alone
has the way, the credentials and the network.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core import connection_check
from jobgate.core.agent import AsAgent, AsCIJob
from jobgate.core.authorization import Grant, Rule
from jobgate.core.connection_check import WHO_IS_AGENT, WHO_IS_RELAY, Outcome
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.impersonation import identity_of
from jobgate.core.job import JobIdentity
from jobgate.core.namespace import Namespace, NamespaceChain
from jobgate.core.relay_refusal import Refusal
from jobgate.core.upstream_request import bearer
from jobgate.usecases.admission import Admitted
from jobgate.usecases.forwarding import Passage
from jobgate.usecases.ongoing_right import OngoingRight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobgate.core.agent import ClusterConnection
    from jobgate.core.connection_check import Probe
    from jobgate.core.impersonation import Identity
    from jobgate.core.upstream_request import IncomingRequest
    from jobgate.ports import Clock, Deployment
    from jobgate.ports.relay import RelayFacts, RelayStore
    from jobgate.usecases.forwarding import Forwarding

_SECONDS = 20.0
_ANSWER_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionCheck:
    """The check and what it needs; `verify` gives a token's issuer and agent."""

    verify: Callable[[str], tuple[str, int]]
    deployment: Callable[[], Deployment]
    store: RelayStore
    forwarding: Forwarding
    clock: Clock

    def run(
        self, incoming: IncomingRequest, agent_id: int | None, *, decision_id: str
    ) -> dict[str, Any] | None:
        """The outcomes as JSON, None where the token isn't good for this; raises Unavailable."""
        given = bearer(incoming)
        if given is None:
            return None
        try:
            alias, of = self.verify(given)
        except InvalidToken:
            return None
        issuer = self.deployment().issuers.get(alias)
        if issuer is None or of != agent_id:
            return None
        job = _made_up_job(alias)
        facts = self.store.relay_facts(job, of)
        answer = {"v": 1, "issuer": alias, "agent": of, "decision_id": decision_id}
        if facts.cluster is None:
            return answer | {"registered": False, "probes": []}
        chain = NamespaceChain(
            kind="group",
            members=(Namespace(namespace_id=1, path="check"),),
            fetched_at=self.clock(),
        )
        grant = _grant(facts.cluster)
        identity = identity_of(job, grant, issuer=issuer, chain=chain)
        assert identity is not None  # noqa: S101  a job's grant has one
        outcomes = list(self._outcomes(facts, facts.cluster, identity, decision_id))
        return answer | {"registered": True, "probes": [dataclasses.asdict(o) for o in outcomes]}

    def _outcomes(
        self, facts: RelayFacts, cluster: ClusterConnection, job: Identity, decision_id: str
    ) -> Iterable[Outcome]:
        """The rest is asked of a credential that the cluster knows."""
        who = self._outcome(WHO_IS_RELAY, cluster, decision_id)
        yield who
        if isinstance(who.answer, str):
            for probe in connection_check.probes_of_relay(who.answer, job, facts.snapshot):
                yield self._outcome(probe, cluster, decision_id)
        if cluster.agent_credential is None:
            return
        who = self._outcome(WHO_IS_AGENT, cluster, decision_id)
        yield who
        if isinstance(who.answer, str):
            for probe in connection_check.probes_of_agent(who.answer, facts.snapshot):
                yield self._outcome(probe, cluster, decision_id)

    def _outcome(self, probe: Probe, cluster: ClusterConnection, decision_id: str) -> Outcome:
        now = self.clock()
        right = OngoingRight(
            withdrawal=lambda: None,
            allowed_at=now,
            deadline=now + _SECONDS,
            believed_seconds=0,
            clock=self.clock,
        )
        passage = Passage(
            decision_id=decision_id, began_at=now, right=right, ends_at=right.deadline, times={}
        )
        sent = self.forwarding.send(
            probe.request(cluster.agent_id), _admitted(probe, cluster), passage
        )
        if isinstance(sent, Refusal):
            cause = sent.cause or sent.reason.value
            return Outcome(name=probe.name, status=None, answer=None, cause=cause)
        try:
            body = b"".join(_bounded(sent.chunks()))
        except Unavailable as exc:
            return Outcome(name=probe.name, status=sent.status, answer=None, cause=str(exc))
        finally:
            sent.close()
        return _read(probe, sent.status, body)


def _read(probe: Probe, status: int, body: bytes) -> Outcome:
    try:
        value = json.loads(body)
        if status != 201:
            message = str(value["message"])
            return Outcome(name=probe.name, status=status, answer=None, cause=message)
        found = value["status"]
        answer: str | bool = (
            str(found["userInfo"]["username"])
            if probe.attributes is None
            else found["allowed"] is True
        )
    except (ValueError, KeyError, TypeError):
        cause = f"what answers isn't a Kubernetes API server (status {status})"
        return Outcome(name=probe.name, status=status, answer=None, cause=cause)
    return Outcome(name=probe.name, status=status, answer=answer)


def _bounded(chunks: Iterable[bytes]) -> Iterable[bytes]:
    left = _ANSWER_MAX_BYTES
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise Unavailable("the cluster's answer is too long")
        yield chunk


def _admitted(probe: Probe, cluster: ClusterConnection) -> Admitted:
    """By the way of agent mode, with either credential, or of a job."""
    grant = _grant(cluster)
    if probe.way == "relay":
        cluster = dataclasses.replace(cluster, agent_credential=cluster.relay_credential)
    if probe.way != "impersonated":
        grant = dataclasses.replace(grant, access_as=AsAgent())
    return Admitted(grant=grant, identity=probe.identity, cluster=cluster)


def _grant(cluster: ClusterConnection) -> Grant:
    return Grant(
        agent_id=cluster.agent_id,
        agent_name=cluster.agent_name,
        context=cluster.agent_name,
        config_project_id=cluster.config_project_id,
        config_commit="",
        rule=Rule(kind="implicit", id=None, path=None),
        access_as=AsCIJob(),
        namespace=None,
    )


def _made_up_job(alias: str) -> JobIdentity:
    """A job that GitLab never has, as its ids start at 1; with all that a job can have."""
    return JobIdentity(
        issuer=alias,
        job_id=0,
        project_id=0,
        project_path="check/check",
        namespace_id=0,
        pipeline_id=0,
        pipeline_source="check",
        user_id=None,
        user_login="check",
        runner_id=None,
        ref="check",
        ref_protected=False,
        environment="check",
        tier="other",
        environment_slug="check",
    )
