"""`jobgate agent rotate`: another credential for a cluster, in the place of one that has ended.

Bound tokens are renewed by the schedule; this is for those that it couldn't renew in time, for
certificates, and for what was leaked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from jobgate.adapters import agent_items, items
from jobgate.cli import inputs, stored_secrets
from jobgate.cli.agents import Reference, find
from jobgate.cli.connect import AsJSON, Connected, IssuerAlias, StackName, connect
from jobgate.cli.errors import Refused
from jobgate.core.agent import Credential
from jobgate.core.errors import InvalidRequest


def rotate(
    context: typer.Context,
    reference: Reference,
    *,
    stack: StackName,
    credential_file: Annotated[
        Path | None, typer.Option("--credential-file", help="The relay's new credential.")
    ] = None,
    agent_credential_file: Annotated[
        Path | None,
        typer.Option("--agent-credential-file", help="The new one with the agent's own rights."),
    ] = None,
    issuer: IssuerAlias = None,
    as_json: AsJSON = False,
) -> None:
    """Store new credentials of an agent; the relay takes them up without a failed request."""
    given = {
        name: inputs.credential(inputs.read_file(path, option), option)
        for name, option, path in (
            ("relay", "--credential-file", credential_file),
            ("agent", "--agent-credential-file", agent_credential_file),
        )
        if path is not None
    }
    if not given:
        raise InvalidRequest("Give --credential-file, --agent-credential-file, or both.")
    connected = connect(context, stack, as_json=as_json)
    alias = connected.registry.issuer(issuer).alias
    agent_id, (_, agent_name) = find(connected, alias, reference)
    kinds = {name: value.kind for name, value in given.items()}
    stored = _stored(connected, alias, agent_id, kinds)
    for name, value in given.items():
        stored_secrets.write(
            connected.aws, stored[name].secret, value.value, key=connected.stack.data_key
        )
    connected.output.say(
        f"Stored for agent {agent_id} ({agent_name}): {', '.join(given)}. Relays take it within "
        "five minutes, or when the cluster refuses the former one."
    )
    connected.output.result({"id": agent_id, "issuer": alias, "rotated": list(given)})


def _stored(
    connected: Connected, alias: str, agent_id: int, kinds: Mapping[str, str]
) -> dict[str, Credential]:
    """Where the credentials are stored; Refused before any is written if one doesn't fit."""
    cluster = agent_items.cluster_of(connected.table.get(items.cluster_key(alias, agent_id)))
    if cluster is None:
        raise Refused(f"The agent {agent_id} has no connection: register it.")
    found = {"relay": cluster.relay_credential, "agent": cluster.agent_credential}
    stored: dict[str, Credential] = {}
    for name, kind in kinds.items():
        credential = found[name]
        if not isinstance(credential, Credential) or credential.kind != kind:
            registered = "none" if credential is None else f"one of kind {credential.kind}"
            raise Refused(
                f"The agent {agent_id} was registered with {registered} as its {name} credential, "
                f"not with one of kind {kind}: remove it and register it anew."
            )
        stored[name] = credential
    return stored
