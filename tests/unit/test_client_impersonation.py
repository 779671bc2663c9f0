from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import agent_items
from jobgate.core.agent import AsAgent
from jobgate.core.client_impersonation import client_identity
from jobgate.core.errors import Unavailable
from jobgate.core.impersonation import Identity
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import UNFAITHFUL, Refusal
from jobgate.core.settings import Settings
from jobgate.core.upstream_request import upstream_request

from tests.support.relay_parts import (
    AS_AGENT,
    AS_CI_JOB,
    AS_IDENTITY,
    NOW,
    RelayParts,
    a_cluster,
    a_grant,
    a_request,
    a_snapshot,
    some_facts,
)

if TYPE_CHECKING:
    from jobgate.core.agent import AccessAs, ClusterConnection

BEARER = ("Authorization", "Bearer good")
ALLOWED = a_cluster(allow_client_impersonation=True)
USER = ("Impersonate-User", "dana")


def asked(*headers: tuple[str, str]) -> Identity | Refusal | None:
    return client_identity(a_request(headers=(BEARER, *headers)), ALLOWED)


def test_a_client_may_name_user_uid_groups_and_extras() -> None:
    identity = asked(
        USER,
        ("impersonate-uid", "u-7"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Group", "a, b"),
        ("Impersonate-Extra-Team%2fname", "x"),
        ("Impersonate-Extra-scopes", "one"),
        ("Impersonate-Extra-team%2Fname", "y"),
    )

    assert identity == Identity(
        username="dana",
        uid="u-7",
        groups=("ops", "a, b"),
        extra=(("team/name", ("x", "y")), ("scopes", ("one",))),
    )


def test_who_does_not_ask_is_not_impersonated() -> None:
    assert asked() is None
    assert asked(("X-Impersonate-User", "dana")) is None


@pytest.mark.parametrize("headers", [(USER,), (("impersonate_user", "dana"),)])
def test_an_agent_that_was_not_registered_for_it_refuses(
    headers: tuple[tuple[str, str], ...],
) -> None:
    refused = client_identity(a_request(headers=(BEARER, *headers)), a_cluster())

    assert refused == Refusal(reason=Reason.CLIENT_IMPERSONATION)


@pytest.mark.parametrize(
    "headers",
    [
        (("Impersonate-Group", "ops"),),
        (USER, USER),
        (USER, ("Impersonate-User", "root")),
        (USER, ("Impersonate-Uid", "1"), ("Impersonate-Uid", "2")),
        (USER, ("Impersonate-Whatever", "x")),
        (USER, ("Impersonate_Group", "system:masters")),
        (USER, (" Impersonate-Group", "system:masters")),
        (USER, ("Impersonate-Extra-", "x")),
        (USER, ("Impersonate-Extra-a%zz", "x")),
        (USER, ("Impersonate-Extra-%c3%bc", "x")),
        (USER, ("Impersonate-Extra-a%0a", "x")),
        (USER, ("Impersonate-Extra-%20a", "x")),
        (("Impersonate-User", ""),),
        (("Impersonate-User", " dana"),),
        (("Impersonate-User", "dana\t"),),
        (("Impersonate-User", "dana\r\nImpersonate-Group: system:masters"),),
        (("Impersonate-User", "d\u00fcna"),),
        (USER, ("Impersonate-Group", "")),
    ],
)
def test_what_could_not_be_written_again_as_it_came_is_refused(
    headers: tuple[tuple[str, str], ...],
) -> None:
    assert asked(*headers) == UNFAITHFUL


# --- Stored ---


@pytest.mark.parametrize("cluster", [ALLOWED, a_cluster()])
def test_what_an_agent_allows_is_read_as_it_was_written(cluster: ClusterConnection) -> None:
    assert agent_items.cluster_of(agent_items.cluster_item(cluster)) == cluster


@pytest.mark.parametrize("value", [{"S": "true"}, {"N": "1"}, {"BOOL": "yes"}, {}])
def test_an_option_that_cannot_be_read_makes_the_connection_unknown(value: dict[str, Any]) -> None:
    item = agent_items.cluster_item(ALLOWED)
    item["options"] = {"M": {"client_impersonation": value}}

    with pytest.raises(Unavailable):
        agent_items.cluster_of(item)


# --- Through the relay ---


def _parts(access_as: AccessAs = AS_AGENT, **cluster: Any) -> RelayParts:
    parts = RelayParts()
    parts.store.facts = some_facts(snapshot=a_snapshot(access_as), cluster=a_cluster(**cluster))
    return parts


def _status(parts: RelayParts, *headers: tuple[str, str]) -> int:
    request = a_request(headers=(BEARER, *headers))
    response = parts.relay().answer(request, decision_id="d-1", deadline=NOW + 900)
    b"".join(response.body)
    return response.status


def test_the_clients_identity_travels_one_line_a_value_with_the_agents_own_credential() -> None:
    parts = _parts(allow_client_impersonation=True)

    assert _status(parts, ("impersonate-USER", "dana"), ("Impersonate-Group", "ops")) == 200
    (sent,) = parts.clusters.sent
    assert ("Authorization", "Bearer agent-token") in sent.headers
    assert [line for line in sent.headers if line[0].lower().startswith("imp")] == [
        ("Impersonate-User", "dana"),
        ("Impersonate-Group", "ops"),
    ]
    assert '"identity":{"user":"dana","groups":["ops"]}' in parts.lines[0]


def test_an_agent_that_allows_it_serves_those_who_do_not_ask_as_itself() -> None:
    parts = _parts(allow_client_impersonation=True)

    assert _status(parts) == 200
    assert not any(name.startswith("Impersonate") for name, _ in parts.clusters.sent[0].headers)


@pytest.mark.parametrize("access_as", [AS_CI_JOB, AS_IDENTITY])
def test_every_other_mode_refuses_whatever_the_agent_allows(access_as: AccessAs) -> None:
    parts = _parts(access_as, allow_client_impersonation=True)

    assert _status(parts, USER) == 400
    assert '"reason":"client_impersonation"' in parts.lines[0]
    assert parts.clusters.sent == []


@pytest.mark.parametrize(
    "header",
    [
        ("Impersonate-User", "system:admin"),
        ("Impersonate-User", "gitlab:ci_job:1"),
        ("Impersonate-User", "GitLab@other:ci_job:1"),
        ("Impersonate-Group", "system:masters"),
    ],
)
def test_a_client_chooses_no_reserved_name_unless_the_deployment_allows_it(
    header: tuple[str, str],
) -> None:
    headers = (header,) if header[0] == "Impersonate-User" else (USER, header)
    parts = _parts(allow_client_impersonation=True)
    assert _status(parts, *headers) == 403
    assert '"reason":"reserved_identity"' in parts.lines[0]
    assert parts.clusters.sent == []

    parts.settings = Settings(allowed_identities=frozenset({header[1]}))

    assert _status(parts, *headers) == 200


def test_headers_that_were_not_read_into_an_identity_are_never_dropped_silently() -> None:
    built = upstream_request(
        a_request(headers=(BEARER, USER)),
        replace(a_grant(AsAgent())),
        identity=None,
        cluster=ALLOWED,
        bearer="agent-token",
        decision_id="d-1",
        seconds=600,
    )

    assert built == Refusal(reason=Reason.CLIENT_IMPERSONATION)
