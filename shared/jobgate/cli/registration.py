"""Registering and removing an agent: the order of the writes is what keeps it safe.

Access needs all of a snapshot, a connection and a credential, and a snapshot is published only for
an agent that its configuration project lists. So registering writes, in this order:

1. the id, together with the reservation of the name (one UpdateItem, `agent_ids.reserve`);
2. the connection, only if there is none: a second run for another server is refused before any
   credential is made or stored, so a credential never ends up beside a server that it isn't for;
3. the credentials, under names that follow from the id;
4. the agent in its own project's subject index (implicit access), since the index must be a
   superset of the snapshots;
5. the agent in its configuration project: from here on a refresh may publish;
6. the refresh message. If only this is lost, `reconcile` does the same within minutes.

A run that breaks before 5 leaves nothing that grants access, and the same command again takes up
the reserved id and completes. Of a registered agent it renews the credentials, and replaces what
else the connection says, as long as the server is the same. Removing goes the other way round:
first what grants, last the name, so that a broken removal is completed by running it again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.adapters import agent_items, items, operator_items
from jobgate.cli import agent_ids, stored_secrets
from jobgate.cli.errors import Refused
from jobgate.cli.inputs import CredentialFile
from jobgate.core.agent import ClusterConnection, Credential, EKSCredential
from jobgate.core.errors import Conflict
from jobgate.ports.refresh import ConfigProjectItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.cli.stack import Stack
    from jobgate.cli.table import Table
    from jobgate.core.agent import AgentSnapshot, ClusterCredential
    from jobgate.ports.gitlab import GitLabProject


Given = CredentialFile | EKSCredential


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAgent:
    """An agent to register; `wanted_id` takes over one of GitLab's."""

    issuer: str
    project: GitLabProject
    name: str
    server: str
    ca: str | None
    allow_client_impersonation: bool = False
    tls_server_name: str | None = None
    wanted_id: int | None = None


def reserve(table: Table, agent: NewAgent) -> int:
    """Step 1; the agent's id. Raises Refused where it is connected to another server."""
    settings = operator_items.settings_of(table.get(operator_items.SETTINGS_KEY))
    agent_id = agent_ids.reserve(
        table,
        agent.issuer,
        project_id=agent.project.project_id,
        name=agent.name,
        wanted=agent.wanted_id,
        above=None if settings is None else settings.ids_above,
    )
    _same_server(_stored(table, agent.issuer, agent_id), agent, agent_id)
    return agent_id


def register(
    aws: AWSCall,
    stack: Stack,
    table: Table,
    agent: NewAgent,
    agent_id: int,
    *,
    credentials: tuple[Given, Given | None],
) -> None:
    """Steps 2 to 5; the caller sends the message. The credentials are the relay's and its own."""
    connection = _connection(stack, agent, agent_id, credentials)
    before = _write_connection(table, connection, agent)
    prefix = _secret_prefix(stack, agent.issuer, agent_id)
    for name, given in zip(("relay", "agent"), credentials, strict=True):
        if isinstance(given, CredentialFile):
            stored_secrets.write(aws, f"{prefix}/{name}", given.value, key=stack.data_key)
    if before != connection:
        table.put(agent_items.cluster_item(connection))
    if before.agent_credential is not None and credentials[1] is None:
        stored_secrets.delete(aws, f"{prefix}/agent")
    _add_to_own_index(table, agent.issuer, agent.project.project_id, agent_id)
    _list_in_project(table, agent, agent_id)


def remove(
    aws: AWSCall, stack: Stack, table: Table, *, issuer: str, agent_id: int, of: tuple[int, str]
) -> None:
    """Remove an agent with everything that belongs to it; `of` is its project's id and its name."""
    project_id, name = of
    _take_out_of_project(table, issuer, project_id, agent_id)
    table.delete(items.cluster_key(issuer, agent_id))
    snapshot = agent_items.snapshot_of(table.get(items.snapshot_key(issuer, agent_id)))
    listed = agent_items.listed_of(table.get(items.list_key(issuer, agent_id)))
    for kind, subject_id in {*_subjects(project_id, snapshot), *((s.kind, s.id) for s in listed)}:
        _take_out_of_index(table, items.subject_key(issuer, kind, subject_id), agent_id)
    table.delete(items.snapshot_key(issuer, agent_id))
    table.delete(items.list_key(issuer, agent_id))
    prefix = _secret_prefix(stack, issuer, agent_id)
    stored_secrets.delete(aws, f"{prefix}/relay")
    stored_secrets.delete(aws, f"{prefix}/agent")
    agent_ids.release(table, issuer, project_id=project_id, name=name)


def config_project(table: Table, issuer: str, project_id: int) -> ConfigProjectItem | None:
    """A configuration project as stored."""
    return agent_items.config_project_of(table.get(items.config_project_key(issuer, project_id)))


def _secret_prefix(stack: Stack, issuer: str, agent_id: int) -> str:
    return f"{stack.cluster_secret_prefix}{issuer}/{agent_id}"


def _connection(
    stack: Stack, agent: NewAgent, agent_id: int, credentials: tuple[Given, Given | None]
) -> ClusterConnection:
    prefix = _secret_prefix(stack, agent.issuer, agent_id)
    relay, own = credentials
    return ClusterConnection(
        issuer=agent.issuer,
        agent_id=agent_id,
        agent_name=agent.name,
        config_project_id=agent.project.project_id,
        server=agent.server,
        ca=agent.ca,
        relay_credential=_reference(relay, f"{prefix}/relay"),
        agent_credential=None if own is None else _reference(own, f"{prefix}/agent"),
        allow_client_impersonation=agent.allow_client_impersonation,
        tls_server_name=agent.tls_server_name,
    )


def _reference(given: Given, secret: str) -> ClusterCredential:
    if isinstance(given, EKSCredential):
        return given
    return Credential(kind=given.kind, secret=secret)


def _write_connection(
    table: Table, connection: ClusterConnection, agent: NewAgent
) -> ClusterConnection:
    """The connection as it's stored now: the given one where there was none."""
    if table.put_new(agent_items.cluster_item(connection)):
        return connection
    stored = _stored(table, connection.issuer, connection.agent_id)
    _same_server(stored, agent, connection.agent_id)
    return stored or connection


def _stored(table: Table, issuer: str, agent_id: int) -> ClusterConnection | None:
    return agent_items.cluster_of(table.get(items.cluster_key(issuer, agent_id)))


def _same_server(stored: ClusterConnection | None, agent: NewAgent, agent_id: int) -> None:
    if stored is not None and stored.server != agent.server:
        raise Refused(
            f"The agent {agent.project.path}:{agent.name} is connected to {stored.server}: give "
            f"that as --server, or first run `jobgate agent remove {agent_id}`."
        )


def _add_to_own_index(table: Table, issuer: str, project_id: int, agent_id: int) -> None:
    """With version 0, which is older than any refresh's."""
    table.update(
        items.subject_key(issuer, "project", project_id),
        "SET #agent = if_not_exists(#agent, :none)",
        names={"#agent": items.stamp(agent_id)},
        values={":none": {"N": "0"}},
    )


def _list_in_project(table: Table, agent: NewAgent, agent_id: int) -> None:
    project = agent.project
    empty = ConfigProjectItem(issuer=agent.issuer, project_id=project.project_id, agents={})
    root_path = project.path.split("/", 1)[0].lower()
    table.put_new(agent_items.config_project_item(empty) | {"root_path": {"S": root_path}})
    table.update(
        items.config_project_key(agent.issuer, project.project_id),
        "SET #agents.#id = :name",
        names={"#agents": "agents", "#id": str(agent_id)},
        values={":name": {"S": agent.name}},
    )


def _take_out_of_project(table: Table, issuer: str, project_id: int, agent_id: int) -> None:
    key = items.config_project_key(issuer, project_id)
    # A registration that broke off early has no configuration project yet.
    with contextlib.suppress(Conflict):
        table.update(
            key,
            "REMOVE #agents.#id",
            names={"#agents": "agents", "#id": str(agent_id)},
            condition="attribute_exists(#agents)",
        )
    table.delete_where_empty(key, "agents")


def _take_out_of_index(table: Table, key: items.Item, agent_id: int) -> None:
    with contextlib.suppress(Conflict):
        table.update(
            key,
            "REMOVE #agent",
            names={"#agent": items.stamp(agent_id)},
            condition="attribute_exists(#agent)",
        )


def _subjects(project_id: int, snapshot: AgentSnapshot | None) -> Iterator[tuple[str, int]]:
    """Everybody whom the agent may concern."""
    yield "project", project_id
    if snapshot is not None:
        yield from (("project", i) for i in snapshot.projects if i != project_id)
        yield from (("group", i) for i in snapshot.groups)
        yield "instance", 0
