"""`jobgate doctor`: every link from GitLab to the clusters, and what mends each fault."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from jobgate.adapters import items
from jobgate.cli import (
    agent_diagnosis,
    agent_ids,
    gitlab_calls,
    gitlab_diagnosis,
    preflight,
    stack_diagnosis,
)
from jobgate.cli.agent_facts import agent_facts
from jobgate.cli.connect import AsJSON, Connected, StackName, connect, outside_of
from jobgate.cli.deployment_facts import issuer_facts, project_facts, stack_facts
from jobgate.cli.errors import FINDINGS
from jobgate.cli.finding import Finding
from jobgate.cli.gitlab_diagnosis import ClaimsFacts
from jobgate.cli.inputs import read_file
from jobgate.cli.instance_file import json_object
from jobgate.cli.output import Output
from jobgate.cli.snapshots import config_projects
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.issuer import Issuer


def doctor(
    context: typer.Context,
    *,
    stack: StackName = "",
    claims: Annotated[
        Path | None,
        typer.Option("--claims", help="Also whether a token with this payload (JSON) is taken."),
    ] = None,
    before: Annotated[
        bool,
        typer.Option("--preflight", help="Before a deployment: the account's quotas and roles."),
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Find what is wrong between GitLab and the clusters. Exit code 1 for findings.

    With a set-up token in GITLAB_TOKEN GitLab's side of the webhooks is looked at as well, and each
    is tested by an event.
    """
    output = Output(as_json=as_json)
    if before:
        found = preflight.findings(outside_of(context).aws)
    else:
        if not stack:
            raise InvalidRequest("Give --stack, or JOBGATE_STACK; or --preflight.")
        connected = connect(context, stack, as_json=as_json)
        text = None if claims is None else read_file(claims, "--claims")
        found = list(_found(connected, text))
    _show(output, found)
    if any(finding.severity == "fault" for finding in found):
        raise typer.Exit(FINDINGS)


def _found(connected: Connected, claims: str | None) -> Iterator[Finding]:
    issuers = connected.registry.issuers()
    if claims is not None:
        yield from gitlab_diagnosis.of_claims(_claims(connected, claims, issuers.values()))
    found = list(stack_diagnosis.of_stack(stack_facts(connected)))
    yield from found
    if any(finding.code == "not_set_up" for finding in found):
        return
    for issuer in issuers.values():
        connected.output.progress(f"GitLab {issuer.alias}")
        yield from _of_issuer(connected, issuer)


def _of_issuer(connected: Connected, issuer: Issuer) -> Iterator[Finding]:
    alias = issuer.alias
    names = agent_ids.read(connected.table.get(items.agent_ids_key(alias))).names
    found = list(gitlab_diagnosis.of_issuer(issuer_facts(connected, issuer, agents=len(names))))
    yield from found
    files: dict[int, frozenset[str]] = {}
    if not any(finding.code in ("gitlab", "run_time_token") for finding in found):
        with (
            contextlib.suppress(InvalidRequest),
            gitlab_calls.run_time_api(connected, issuer) as gitlab,
        ):
            for project in config_projects(connected, alias):
                facts, named = project_facts(connected, gitlab, project)
                if facts.unknown is None:
                    files[project.project_id] = named
                yield from gitlab_diagnosis.of_project(facts)
    for of, agent_id in sorted(names.items(), key=lambda item: item[1]):
        connected.output.progress(f"agent {agent_id}")
        try:
            agent = agent_facts(connected, alias, agent_id, of, files=files.get(of[0]))
        except Unavailable as exc:
            text = f"What is stored of it can't be read: {exc}."
            fix = "restore the table, or register it again"
            yield Finding(code="unreadable", where=f"agent {agent_id}", text=text, fix=fix)
            continue
        yield from agent_diagnosis.of_agent(agent)


def _claims(connected: Connected, text: str, issuers: Any) -> ClaimsFacts:
    if text.lstrip().startswith("eyJ"):
        raise InvalidRequest("--claims: give the payload of the ID token, not the token itself.")
    value = json_object(text, "--claims")
    issued_at = value.get("iat")
    return ClaimsFacts(
        issuer=str(value["iss"]) if "iss" in value else None,
        audience=value.get("aud"),
        issued_at=float(issued_at) if isinstance(issued_at, int | float) else None,
        trusted={issuer.url: issuer.audience for issuer in issuers},
        now=connected.outside.clock(),
    )


def _show(output: Output, found: list[Finding]) -> None:
    rows = [(finding.where, finding.text, finding.fix) for finding in found]
    if rows:
        output.table(("where", "what", "what to do"), rows)
    else:
        output.say("Nothing is wrong.")
    output.result(
        [
            {
                "code": finding.code,
                "severity": finding.severity,
                "where": finding.where,
                "text": finding.text,
                "fix": finding.fix,
            }
            for finding in found
        ]
    )
