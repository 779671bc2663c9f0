"""`jobgate agent`: names in configuration projects, each with a connection to one cluster."""

import re
from typing import Annotated

import typer

from jobgate.adapters import agent_items, items
from jobgate.cli import agent_ids, gitlab_calls, registration
from jobgate.cli.agent_ids import AgentIds
from jobgate.cli.agent_register import register
from jobgate.cli.connect import AsJSON, Connected, IssuerAlias, StackName, connect
from jobgate.cli.problems import problem_as_json, problem_line
from jobgate.cli.records import removal_record, write_record
from jobgate.cli.snapshots import read_snapshots
from jobgate.cli.times import shown
from jobgate.core.agent import AgentSnapshot, ClusterConnection
from jobgate.core.errors import InvalidRequest

commands = typer.Typer(help="Agents: each connects one cluster.", no_args_is_help=True)

Reference = Annotated[
    str, typer.Argument(metavar="ID|PROJECT:NAME", help="Its id, or its context's name.")
]


commands.command("register")(register)


@commands.command("list")
def list_agents(
    context: typer.Context, stack: StackName, issuer: IssuerAlias = None, as_json: AsJSON = False
) -> None:
    """List the agents, of one GitLab instance or of all."""
    connected = connect(context, stack, as_json=as_json)
    aliases = sorted(connected.registry.issuers()) if issuer is None else [issuer]
    rows = [row for alias in aliases for row in _rows(connected, alias)]
    connected.output.table(
        ("issuer", "id", "context", "state", "problems"),
        [(r["issuer"], r["id"], r["context"], r["state"], r["problems"]) for r in rows],
    )
    connected.output.result(rows)


@commands.command("show")
def show(
    context: typer.Context,
    reference: Reference,
    stack: StackName,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Show an agent's connection, without its secrets, and what its configuration came to."""
    connected = connect(context, stack, as_json=as_json)
    alias = connected.registry.issuer(issuer).alias
    agent_id, (project_id, name) = find(connected, alias, reference)
    cluster = agent_items.cluster_of(connected.table.get(items.cluster_key(alias, agent_id)))
    snapshot = read_snapshots(connected, alias, [agent_id]).get(agent_id)
    listed = registration.config_project(connected.table, alias, project_id)
    is_complete = listed is not None and agent_id in listed.agents
    fields = {
        "issuer": alias,
        "id": agent_id,
        "context": _context(project_id, name, snapshot),
        "state": _state(snapshot, is_complete=is_complete),
        "connection": None if cluster is None else _connection_fields(cluster),
        "snapshot": None if snapshot is None else _snapshot_fields(snapshot),
    }
    _print(connected, fields, snapshot)
    connected.output.result(fields)


@commands.command("remove")
def remove(
    context: typer.Context,
    reference: Reference,
    stack: StackName,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Remove an agent, its connection, its credentials and what its configuration granted."""
    connected = connect(context, stack, as_json=as_json)
    alias = connected.registry.issuer(issuer).alias
    agent_id, of = find(connected, alias, reference)
    # First: a table that is restored holds the agent again, and by this it's known not to be.
    write_record(connected, removal_record(connected, alias, agent_id, of), is_done=False)
    registration.remove(
        connected.aws, connected.stack, connected.table, issuer=alias, agent_id=agent_id, of=of
    )
    connected.output.say(f"Removed agent {agent_id} ({of[1]}); its id is never given again.")
    connected.output.result({"id": agent_id, "issuer": alias, "removed": True})


def find(connected: Connected, alias: str, reference: str) -> tuple[int, tuple[int, str]]:
    """An agent's id, and its project's id and its name; raises InvalidRequest where there is none.

    A context's name is resolved by GitLab, so that a path which now names another project doesn't
    find an agent of the former.
    """
    ids = agent_ids.read(connected.table.get(items.agent_ids_key(alias)))
    if re.fullmatch(r"[0-9]{1,19}", reference):
        return int(reference), _name_of(ids, int(reference))
    path, colon, name = reference.rpartition(":")
    if not colon or not path:
        raise InvalidRequest("Name the agent by its id or as PROJECT:NAME.")
    issuer = connected.registry.issuer(alias)
    project_id = gitlab_calls.read_project(connected, issuer, path).project_id
    agent_id = ids.names.get((project_id, name))
    if agent_id is None:
        raise InvalidRequest(f"{path} has no agent {name!r}: see `jobgate agent list`.")
    return agent_id, (project_id, name)


def _name_of(ids: AgentIds, agent_id: int) -> tuple[int, str]:
    name = ids.name_of(agent_id)
    if name is not None:
        return name
    if ids.is_tombstone(agent_id):
        raise InvalidRequest(f"The agent {agent_id} was removed.")
    raise InvalidRequest(f"There is no agent {agent_id}: see `jobgate agent list`.")


def _rows(connected: Connected, alias: str) -> list[dict[str, str | int | None]]:
    names = agent_ids.read(connected.table.get(items.agent_ids_key(alias))).names
    snapshots = read_snapshots(connected, alias, names.values())
    projects = {
        project_id: registration.config_project(connected.table, alias, project_id)
        for project_id in {project_id for project_id, _ in names}
    }
    rows: list[dict[str, str | int | None]] = []
    for (project_id, name), agent_id in sorted(names.items(), key=lambda item: item[1]):
        snapshot, listed = snapshots.get(agent_id), projects[project_id]
        is_complete = listed is not None and agent_id in listed.agents
        rows.append(
            {
                "issuer": alias,
                "id": agent_id,
                "context": _context(project_id, name, snapshot),
                "state": _state(snapshot, is_complete=is_complete),
                "problems": None if snapshot is None else len(snapshot.problems),
            }
        )
    return rows


def _context(project_id: int, name: str, snapshot: AgentSnapshot | None) -> str:
    """The path is known from a refresh on; until then the project's id stands for it."""
    return f"project {project_id}:{name}" if snapshot is None else snapshot.context


def _state(snapshot: AgentSnapshot | None, *, is_complete: bool) -> str:
    if not is_complete:
        return "unfinished"
    if snapshot is None:
        return "not refreshed yet"
    return "active" if snapshot.valid else "never valid"


def _connection_fields(cluster: ClusterConnection) -> dict[str, str | bool | None]:
    own = cluster.agent_credential
    return {
        "server": cluster.server,
        "private_ca": cluster.ca is not None,
        "tls_server_name": cluster.tls_server_name,
        "relay_credential": cluster.relay_credential.kind,
        "agent_credential": None if own is None else own.kind,
        "client_impersonation": cluster.allow_client_impersonation,
    }


def _snapshot_fields(snapshot: AgentSnapshot) -> dict[str, object]:
    return {
        "commit": snapshot.commit,
        "version": snapshot.version,
        "valid": snapshot.valid,
        "valid_since": None if snapshot.valid_since is None else shown(snapshot.valid_since),
        "projects": len(snapshot.projects),
        "groups": len(snapshot.groups),
        "instance": snapshot.instance is not None,
        "problems": [problem_as_json(problem) for problem in snapshot.problems],
    }


def _print(connected: Connected, fields: dict[str, object], snapshot: AgentSnapshot | None) -> None:
    rows: list[tuple[str, object]] = [(k, fields[k]) for k in ("issuer", "id", "context", "state")]
    for part in ("connection", "snapshot"):
        inner = fields[part]
        if isinstance(inner, dict):
            rows += [(name, value) for name, value in inner.items() if name != "problems"]
    connected.output.table(("", ""), rows)
    for problem in snapshot.problems if snapshot else ():
        connected.output.say(problem_line(problem))
