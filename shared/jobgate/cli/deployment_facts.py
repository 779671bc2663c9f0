"""Gathers what doctor judges of the stack, its GitLab instances and their projects."""

from __future__ import annotations

import contextlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.https import HTTPSClient
from jobgate.cli import gitlab_calls, gitlab_tokens
from jobgate.cli.gitlab_diagnosis import HookFacts, IssuerFacts, ProjectFacts
from jobgate.cli.gitlab_setup import check_stored_tokens
from jobgate.cli.gitlab_status import hook_health
from jobgate.cli.set_up_api import VARIABLE, SetUpAPI
from jobgate.cli.signing_keys import read_public_key
from jobgate.cli.snapshots import read_snapshots
from jobgate.cli.stack_diagnosis import StackFacts
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.keys import signing_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.adapters.https import Answer
    from jobgate.cli.connect import Connected
    from jobgate.cli.gitlab_status import HookHealth
    from jobgate.core.issuer import Issuer
    from jobgate.core.keys import PublicKey
    from jobgate.ports.gitlab import GitLab
    from jobgate.ports.refresh import ConfigProjectItem

_SECONDS = 20.0
_MAX_BYTES = 1_000_000


def stack_facts(connected: Connected) -> StackFacts:
    """Of the deployment itself."""
    settings = connected.registry.settings()
    base_url, ca = (None, None) if settings is None else (settings.base_url, settings.ca)
    keys = connected.registry.public_keys()
    signing = _signing(keys, connected.outside.clock())
    front, error = (None, None) if base_url is None else _front(base_url, ca)
    served: list[dict[str, Any]] = []
    if front is not None:
        served = front.json().get("keys", [])
    return StackFacts(
        base_url=base_url,
        expected_url=connected.stack.base_url,
        front_error=error,
        served=frozenset(str(key.get("kid")) for key in served),
        published={} if signing is None else {signing.kid: signing.slot},
        slots={} if signing is None else {signing.slot: _state(connected, signing.slot)},
        own_keys={} if signing is None else _own(connected, signing.slot),
        dead_letters=_dead_letters(connected),
        schedule=_schedule(connected),
        clock_skew=None if front is None else _skew(connected, front),
        issuers=len(connected.registry.issuers()),
    )


def _signing(keys: tuple[PublicKey, ...], now: float) -> PublicKey | None:
    try:
        return signing_key(keys, now=now)
    except Unavailable:
        return None


def _front(base_url: str, ca: str | None) -> tuple[Answer | None, str | None]:
    """Our key set by the public URL, or why it can't be had."""
    try:
        with contextlib.closing(HTTPSClient(base_url, ca)) as client:
            answer = client.get("/.well-known/jwks.json", seconds=_SECONDS, max_bytes=_MAX_BYTES)
        if answer.status != 200:
            return None, f"status {answer.status}"
        answer.json()
    except (Unavailable, OSError, ValueError) as exc:
        return None, str(exc)
    return answer, None


def _skew(connected: Connected, answer: Answer) -> float | None:
    """How far this machine's clock is ahead of the other's `Date`, in seconds."""
    given = answer.headers.get("date")
    if given is None:
        return None
    try:
        theirs = parsedate_to_datetime(given).timestamp()
    except ValueError:
        return None
    return connected.outside.clock() - theirs


def _state(connected: Connected, slot: str) -> str:
    try:
        found = connected.aws("kms", "DescribeKey", {"KeyId": slot})
    except AWSError as exc:
        return f"not to be asked about ({exc.code})"
    return str(found["KeyMetadata"]["KeyState"])


def _own(connected: Connected, slot: str) -> dict[str, str]:
    try:
        return {slot: read_public_key(connected.aws, slot, not_before=0).kid}
    except (AWSError, Unavailable):
        return {}  # Its state says why.


def _dead_letters(connected: Connected) -> int:
    request = {
        "QueueUrl": connected.stack.refresh_dead_letter_queue_url,
        "AttributeNames": ["ApproximateNumberOfMessages"],
    }
    attributes = connected.aws("sqs", "GetQueueAttributes", request).get("Attributes", {})
    return int(attributes.get("ApproximateNumberOfMessages", 0))


def _schedule(connected: Connected) -> str | None:
    """The state of the stack's schedule, None where the stack shows none."""
    request = {"StackName": connected.stack.name}
    found = connected.aws("cloudformation", "DescribeStackResources", request)
    for resource in found.get("StackResources", ()):
        if resource["ResourceType"] == "AWS::Scheduler::Schedule":
            name = resource["PhysicalResourceId"].rpartition("/")[2].rpartition("|")[2]
            try:
                asked = connected.aws("scheduler", "GetSchedule", {"Name": name})
            except AWSError as exc:
                return f"not there ({exc.code})"
            return str(asked.get("State", "ENABLED"))
    return None


# --- GitLab ---


def issuer_facts(connected: Connected, issuer: Issuer, *, agents: int) -> IssuerFacts:
    """Of one GitLab instance; with a set-up token in the environment also of its webhooks."""
    now, alias = connected.outside.clock(), issuer.alias
    stops = connected.registry.stops(alias)
    error, calls_itself, skew = None, None, None
    faults: list[str] = []
    notes: list[str] = []
    try:
        answer = gitlab_calls.discovery(issuer)
        calls_itself, skew = answer.json().get("issuer"), _skew(connected, answer)
        for token in check_stored_tokens(connected, issuer):
            if token.missing:
                faults += gitlab_tokens.sentences(token)
            elif token.ends_soon:
                notes += gitlab_tokens.sentences(token)
    except (Unavailable, InvalidRequest) as exc:
        error = str(exc)
    return IssuerFacts(
        alias=alias,
        url=issuer.url,
        error=error,
        calls_itself=calls_itself,
        clock_skew=None if skew is None else -skew,
        token_faults=faults,
        token_notes=notes,
        hooks=[] if error else list(_hooks(connected, issuer)),
        stops_missing=stops is None,
        stops=[
            f"{stop.kind} {stop.value} by {stop.by}: {stop.why}"
            for stop in stops or ()
            if stop.until is None or stop.until > now
        ],
        single_use=issuer.single_use,
        agents=agents,
    )


def _hooks(connected: Connected, issuer: Issuer) -> Iterable[HookFacts]:
    token = connected.outside.environment.get(VARIABLE)
    api = SetUpAPI(issuer, token) if token else None
    base_url = connected.registry.known_base_url()
    for hook in hook_health(connected, issuer.alias):
        url = f"{base_url}/webhooks/gitlab/{issuer.alias}"
        yield HookFacts(
            place=f"{hook.kind} {hook.id or ''}".strip(),
            seen=hook.seen_at is not None,
            in_gitlab=None if api is None else _in_gitlab(api, hook, url),
        )


def _in_gitlab(api: SetUpAPI, hook: HookHealth, url: str) -> str:
    """What GitLab has of a webhook; one that looks good is tested by an event."""
    root = "/hooks" if hook.kind == "instance" else f"/{hook.kind}s/{hook.id}/hooks"
    route = url.rpartition("/webhooks/")[2]
    mine = [h for h in api.pages(root) if str(h.get("url", "")).endswith(f"/webhooks/{route}")]
    if not mine:
        return "gone"
    if all(each["url"] != url for each in mine):
        return "other_url"
    found = next(each for each in mine if each["url"] == url)
    if found.get("alert_status", "executable") != "executable":
        return "disabled"
    tested = f"{root}/{found['id']}" + ("" if hook.kind == "instance" else "/test/push_events")
    status, said = api.ask("POST", tested)
    return "refused" if status == 422 and "401" in str(said) else "ok"


# --- Configuration projects ---


def project_facts(
    connected: Connected, gitlab: GitLab, project: ConfigProjectItem
) -> tuple[ProjectFacts, frozenset[str]]:
    """Of one configuration project, and the names of the agents that have a file at its head."""
    snapshots = read_snapshots(connected, project.issuer, project.agents).values()
    path = next((snapshot.config_project.path for snapshot in snapshots), None)
    head, unknown, at_path = None, None, None
    files: frozenset[str] = frozenset()
    try:
        found = gitlab.project(project.project_id)
        if found is None or found.default_branch is None:
            unknown = "The run-time token sees no such project, or no branch of it."
        else:
            head = gitlab.head(project.project_id, found.default_branch)
            entries = {} if head is None else gitlab.agent_files(project.project_id, head)
            files = frozenset(p.split("/")[2] for p in entries if p.endswith("/config.yaml"))
        other = None if path is None else gitlab.project(path)
        at_path = None if other is None else other.project_id
    except Unavailable as exc:
        unknown = f"GitLab can't be asked: {exc}."
    facts = ProjectFacts(
        issuer=project.issuer,
        project_id=project.project_id,
        path=path,
        id_at_path=at_path,
        unknown=None if at_path not in (None, project.project_id) else unknown,
        head=head,
        commit=project.last_commit,
        last_error=project.last_error,
    )
    return facts, files
