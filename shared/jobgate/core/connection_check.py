"""A check of one agent's connection: what an operator asks the relay, and what it asks the cluster.

Its token is signed by the deployment's own key, as access tokens are, and is of another type. Who
may sign it may publish keys, so it gives no right that its maker hasn't; and it gives next to none:
the relay asks the cluster fixed questions about rights, and hands on yes or no.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jobgate.core.access_token import VERSION, audience
from jobgate.core.agent import AsAgent, AsIdentity
from jobgate.core.errors import InvalidToken
from jobgate.core.impersonation import Identity
from jobgate.core.upstream_request import IncomingRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobgate.core.agent import AgentSnapshot, Entry

TYPE = "jobgate-check+jwt"
PATH = "/.jobgate/check"
"""Below /agents/<id>; no API server has it."""

_LIFE_SECONDS = 120
_IDENTITIES_MAX = 10
_NAMESPACES_MAX = 5
_WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_MAY_I = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_ACCOUNT = "system:serviceaccount:"

Way = Literal["impersonated", "relay", "agent"]
"""With the relay's credential as somebody else, with it as it is, or with the agent's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to the cluster: who am I (`attributes` is None), or may I?"""

    name: str
    way: Way
    identity: Identity | None = None
    attributes: Mapping[str, str] | None = None

    def request(self, agent_id: int) -> IncomingRequest:
        """The question as a request at the relay."""
        body: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1"}
        path = _WHOAMI
        if self.attributes is None:
            body |= {"kind": "SelfSubjectReview"}
        else:
            path = _MAY_I
            body = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": dict(self.attributes)},
            }
        return IncomingRequest(
            method="POST",
            path=f"/agents/{agent_id}{path}",
            headers=(("Content-Type", "application/json"), ("Accept", "application/json")),
            body=json.dumps(body).encode(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a probe. `answer` is the user's name, or yes or no; None where there is none.

    `cause` says in words why there is none.
    """

    name: str
    status: int | None
    answer: str | bool | None
    cause: str | None = None


def claims_of(
    issuer: str, agent_id: int, *, base_url: str, jti: str, now: float
) -> dict[str, object]:
    """The claims to sign; `issuer` is a GitLab instance's alias."""
    return {
        "iss": base_url,
        "aud": audience(base_url),
        "sub": "operator",
        "jti": jti,
        "iat": int(now),
        "exp": int(now) + _LIFE_SECONDS,
        "v": VERSION,
        "check": {"issuer": issuer, "agent": agent_id},
    }


def checked_agent(claims: Mapping[str, Any]) -> tuple[str, int]:
    """The issuer's alias and the agent's id of verified claims; raises InvalidToken."""
    match claims:
        case {"v": int(v), "check": {"issuer": str(issuer), "agent": int(agent_id)}} if (
            v == VERSION and claims["exp"] - claims["iat"] <= _LIFE_SECONDS
        ):
            return issuer, agent_id
    raise InvalidToken("a check's token that isn't of our form")


WHO_IS_RELAY = Probe(name="relay_account", way="relay")
WHO_IS_AGENT = Probe(name="agent_account", way="agent")


def probes_of_relay(user: str, job: Identity, snapshot: AgentSnapshot | None) -> Iterator[Probe]:
    """What else is asked with the relay's credential, whose user is `user`."""
    yield Probe(name="as_job", way="impersonated", identity=job)
    for number, identity in enumerate(_fixed(snapshot)):
        yield Probe(name=f"as_identity_{number}", way="impersonated", identity=identity)
    masters = {"verb": "impersonate", "resource": "groups", "name": "system:masters"}
    yield Probe(name="relay_may_be_masters", way="relay", attributes=masters)
    everything = {"verb": "*", "group": "*", "resource": "*"}
    yield Probe(name="relay_may_do_everything", way="relay", attributes=everything)
    if user.startswith(_ACCOUNT):
        namespace, _, name = user.removeprefix(_ACCOUNT).partition(":")
        yield Probe(name="relay_may_renew", way="relay", attributes=_token(namespace, name))


def probes_of_agent(user: str, snapshot: AgentSnapshot | None) -> Iterator[Probe]:
    """What is asked with the agent's own credential; each answer should be no.

    Where it is, and where its configuration sends jobs to: ClusterRoles such as `edit` hold the
    rights to tokens and to impersonate ServiceAccounts too.
    """
    legacy = {"verb": "impersonate", "resource": "users"}
    yield Probe(name="agent_may_impersonate", way="agent", attributes=legacy)
    constrained = legacy | {"verb": "impersonate:user-info", "group": "authentication.k8s.io"}
    yield Probe(name="agent_may_impersonate_users", way="agent", attributes=constrained)
    own, name = "kube-system", "default"
    if user.startswith(_ACCOUNT):
        own, _, name = user.removeprefix(_ACCOUNT).partition(":")
        # A pod there could run as the relay's account.
        pods = {"verb": "create", "resource": "pods", "namespace": own}
        yield Probe(name="agent_may_create_pods_beside_it", way="agent", attributes=pods)
    yield Probe(name="agent_may_create_tokens", way="agent", attributes=_token(own, name))
    for place in _namespaces(snapshot):
        token = _token(place, "default")
        yield Probe(name=f"agent_may_create_tokens:{place}", way="agent", attributes=token)
        account = {"verb": "impersonate", "resource": "serviceaccounts", "namespace": place}
        yield Probe(name=f"agent_may_impersonate:{place}", way="agent", attributes=account)


def _namespaces(snapshot: AgentSnapshot | None) -> list[str]:
    """The first of those that entries in agent mode name."""
    found = {
        entry.default_namespace: None
        for entry in _entries(snapshot)
        if entry.default_namespace is not None and isinstance(entry.access_as, AsAgent)
    }
    return list(found)[:_NAMESPACES_MAX]


def _entries(snapshot: AgentSnapshot | None) -> list[Entry]:
    if snapshot is None:
        return []
    entries = [*snapshot.projects.values(), *snapshot.groups.values()]
    entries += [] if snapshot.instance is None else [snapshot.instance]
    return [entry for entry in entries if entry.refused is None]


def _token(namespace: str, name: str) -> dict[str, str]:
    return {
        "verb": "create",
        "resource": "serviceaccounts",
        "subresource": "token",
        "namespace": namespace,
        "name": name,
    }


def _fixed(snapshot: AgentSnapshot | None) -> list[Identity]:
    """The fixed identities of a configuration, the first of them."""
    ways = {entry.access_as: None for entry in _entries(snapshot)}
    found = [way for way in ways if isinstance(way, AsIdentity)]
    return [
        Identity(username=way.username, uid=way.uid, groups=way.groups, extra=way.extra)
        for way in found[:_IDENTITIES_MAX]
    ]
