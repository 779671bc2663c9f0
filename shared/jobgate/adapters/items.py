"""The forms of the stored items: one table, `pk` and `sk` (docs/architecture.md, "Stored items").

Pure: values to DynamoDB's attribute form and back. Every item says its form's version in `v`; one
that can't be read raises `Unavailable`, so that it's unknown and denies. Times are epoch seconds.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import TYPE_CHECKING, Any, TypeVar

from jobgate.core.errors import Unavailable
from jobgate.core.gitlab_token import TokenEnd
from jobgate.core.hook import HookMade, HookSeen, HookWrite
from jobgate.core.issuer import Issuer
from jobgate.core.keys import PublicKey
from jobgate.core.liveness import NOTHING_HEARD, JobLife, Stop, StopKind
from jobgate.core.namespace import Namespace, NamespaceChain, ProjectPlace
from jobgate.core.public_settings import PublicSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jobgate.core.job import JobKey
    from jobgate.core.liveness import JobState

Item = dict[str, Any]
"""An item in DynamoDB's attribute form: {"pk": {"S": "…"}, …}."""

T = TypeVar("T")

VERSION = 1
# An item holds 400 KB; a configuration of 1,000 entries unpacks to far less than this.
_BODY_MAX = 16 * 1024 * 1024
_STAMP = "agent_"
_WORD = {"status", "source", "hook_at", "probe_at", "finished_at"}


def key(pk: str, sk: str) -> Item:
    """A primary key."""
    return {"pk": {"S": pk}, "sk": {"S": sk}}


# --- Keys ---


def snapshot_key(issuer: str, agent_id: int) -> Item:
    """Of an agent's snapshot."""
    return key(f"AGENT#{issuer}#{agent_id}", "SNAPSHOT")


def list_key(issuer: str, agent_id: int) -> Item:
    """Of the subjects that may lead to an agent."""
    return key(f"AGENT#{issuer}#{agent_id}", "INDEXED")


def cluster_key(issuer: str, agent_id: int) -> Item:
    """Of an agent's cluster connection."""
    return key(f"CLUSTER#{issuer}#{agent_id}", "CONNECTION")


def subject_key(issuer: str, kind: str, subject_id: int) -> Item:
    """Of the agents that may concern a project, a group or the instance (id 0)."""
    return key(f"SUBJECT#{issuer}#{kind}#{subject_id}", "AGENTS")


def place_key(issuer: str, project_id: int) -> Item:
    """Of a project's current namespace."""
    return key(f"PROJECT#{issuer}#{project_id}", "PLACE")


def chain_key(issuer: str, namespace_id: int) -> Item:
    """Of a namespace's ancestors."""
    return key(f"NAMESPACE#{issuer}#{namespace_id}", "CHAIN")


def config_project_key(issuer: str, project_id: int) -> Item:
    """Of a configuration project."""
    return key("CONFIG_PROJECTS", f"{issuer}#{project_id}")


def job_key(job: JobKey) -> Item:
    """Of a job's state."""
    return key(f"JOB#{job.issuer}#{job.project_id}#{job.job_id}", "STATE")


def token_end_key(issuer: str) -> Item:
    """Of what GitLab last said of an issuer's run-time token."""
    return key(f"GITLAB_TOKEN#{issuer}", "RUN_TIME")


def hook_seen_key(issuer: str, kind: str, scope_id: int) -> Item:
    """Of the last delivery of a webhook: its scope is a project, a group or the instance (id 0)."""
    return key(f"HOOKS#{issuer}", f"{kind}#{scope_id}")


def hook_made_key(issuer: str, project_id: int) -> Item:
    """Of the webhook that an authorised project was given for its jobs' ends."""
    return key(f"HOOKS_MADE#{issuer}", str(project_id))


def stops_key(issuer: str) -> Item:
    """Of an issuer's active stops."""
    return key(f"STOPS#{issuer}", "ACTIVE")


def redeemed_key(issuer: str, jti: str) -> Item:
    """Of an ID token that is good once."""
    return key(f"JTI#{issuer}#{jti}", "CLAIM")


def exchanges_key(issuer: str, project_id: int, window: int) -> Item:
    """Of the number of a project's requests to the exchange in one minute since the epoch."""
    return key(f"EXCHANGES#{issuer}#{project_id}", str(window))


def agent_ids_key(issuer: str) -> Item:
    """Of the counter of agent ids and its tombstones."""
    return key(f"AGENT_IDS#{issuer}", "LAST")


SETTINGS_KEY = key("SETTINGS", "PUBLIC")
FORMER_URLS_KEY = key("SETTINGS", "FORMER_URLS")
"""Of the base URLs that the deployment once had: a set in `urls`."""


# --- Index ---


def stamp(agent_id: int) -> str:
    """The attribute of a subject's item that holds the version which last added this agent."""
    return f"{_STAMP}{agent_id}"


def agents_of(item: Item | None) -> frozenset[int]:
    """The agents in a subject's item."""
    return frozenset(stamps_of(item))


def stamps_of(item: Item | None) -> Mapping[int, int]:
    """The agents in a subject's item, each with the version that last added it."""
    try:
        return {
            int(name.removeprefix(_STAMP)): int(value["N"])
            for name, value in (item or {}).items()
            if name.startswith(_STAMP)
        }
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a subject's item that can't be read") from exc


# --- Whole values ---


def place_item(issuer: str, project_id: int, place: ProjectPlace) -> Item:
    """A project's current namespace."""
    return place_key(issuer, project_id) | _body(
        {
            "namespace_id": place.namespace_id,
            "path": place.path,
            "root_id": place.root_id,
            "fetched_at": place.fetched_at,
        }
    )


def place_of(item: Item | None) -> ProjectPlace | None:
    """The reverse of `place_item`; None for one that was marked since it was fetched."""
    place = _read(item, lambda body: ProjectPlace(**body))
    return None if place is None or _is_marked(item, place.fetched_at) else place


def chain_item(issuer: str, chain: NamespaceChain) -> Item:
    """A namespace's ancestors."""
    return chain_key(issuer, chain.members[-1].namespace_id) | _body(
        {
            "kind": chain.kind,
            "members": [[member.namespace_id, member.path] for member in chain.members],
            "fetched_at": chain.fetched_at,
        }
    )


def chain_of(item: Item | None) -> NamespaceChain | None:
    """The reverse of `chain_item`; None for one that was marked since it was fetched."""

    def read(body: Mapping[str, Any]) -> NamespaceChain:
        members = tuple(Namespace(namespace_id=i, path=path) for i, path in body["members"])
        if not members or body["kind"] not in ("group", "user"):
            raise ValueError("not a chain")
        return NamespaceChain(kind=body["kind"], members=members, fetched_at=body["fetched_at"])

    chain = _read(item, read)
    return None if chain is None or _is_marked(item, chain.fetched_at) else chain


def job_word(word: JobState) -> Item:
    """The attributes of a job's item that a word about it sets."""
    attributes = {
        "v": number(VERSION),
        "status": {"S": word.status},
        "source": {"S": word.source},
        f"{word.source}_at": number(word.seen_at),
    }
    if word.finished_at is not None:
        attributes["finished_at"] = number(word.finished_at)
    return attributes


def job_question(now: float) -> Item:
    """The attributes of a job's item that a question about it sets."""
    return {"v": number(VERSION), "asked_at": number(now)}


def job_life_of(item: Item | None, *, now: float) -> JobLife:
    """A job's item; DynamoDB deletes expired items late, so they're absent here.

    One that was only asked about has no status yet, and none of what comes with it.
    """
    if item is None:
        return NOTHING_HEARD
    check_version(item)
    try:
        if float(item["expires_at"]["N"]) <= now:
            return NOTHING_HEARD
        asked = {name: _optional(item, name) for name in ("asked_at", "asked_since")}
        if not item.keys() & _WORD:
            return JobLife(asked_at=float(item["asked_at"]["N"]), asked_since=asked["asked_since"])
        last = f"{item['source']['S']}_at"
        heard = {name: _optional(item, name) for name in ("hook_at", "probe_at")}
        heard[last] = float(item[last]["N"])
        return JobLife(
            status=item["status"]["S"],
            finished_at=_optional(item, "finished_at"),
            **heard,
            **asked,
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a job's state that can't be read") from exc


def token_end_item(issuer: str, end: TokenEnd) -> Item:
    """What GitLab last said of a run-time token; never the token."""
    return token_end_key(issuer) | _body(
        {"expires_at": end.expires_at, "good": end.good, "noted_at": end.noted_at}
    )


def token_end_of(item: Item | None) -> TokenEnd | None:
    """The reverse of `token_end_item`."""
    return _read(item, lambda body: TokenEnd(**body))


def hook_seen_item(issuer: str, kind: str, scope_id: int, seen: HookSeen) -> Item:
    """The last noted delivery of a webhook."""
    return hook_seen_key(issuer, kind, scope_id) | {
        "v": number(VERSION),
        "entry_id": {"S": seen.entry_id},
        "seen_at": number(seen.at),
    }


def hook_seen_of(item: Item | None) -> HookSeen | None:
    """The reverse of `hook_seen_item`."""
    if item is None:
        return None
    check_version(item)
    try:
        return HookSeen(entry_id=item["entry_id"]["S"], at=float(item["seen_at"]["N"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a webhook's last delivery that can't be read") from exc


def hook_made_item(issuer: str, project_id: int, made: HookMade) -> Item:
    """The webhook of an authorised project."""
    writes = [{"S": f"{write.at!r} {write.entry_id}"} for write in sorted(made.unfinished)]
    address = {} if made.address is None else {"address": {"S": made.address}}
    return hook_made_key(issuer, project_id) | {
        "v": number(VERSION),
        "entry_id": {"S": made.entry_id or ""},
        "made_at": number(made.at),
        "unfinished": {"L": writes},
        "archived": {"BOOL": made.archived},
        "revision": number(made.revision),
        **address,
    }


def hook_made_of(item: Item) -> tuple[int, HookMade]:
    """The reverse of `hook_made_item`: the project's id, and its webhook."""
    check_version(item)
    try:
        writes = [write["S"].partition(" ") for write in item.get("unfinished", {"L": ()})["L"]]
        made = HookMade(
            entry_id=item["entry_id"]["S"] or None,
            at=float(item["made_at"]["N"]),
            address=item["address"]["S"] if "address" in item else None,
            unfinished=frozenset(HookWrite(float(at), entry_id) for at, _, entry_id in writes),
            archived=item.get("archived", {"BOOL": False})["BOOL"],
            revision=int(item.get("revision", {"N": 0})["N"]),
        )
        return int(item["sk"]["S"]), made
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a project's webhook that can't be read") from exc


def stops_item(issuer: str, stops: Iterable[Stop]) -> Item:
    """An issuer's active stops."""
    return stops_key(issuer) | _body(
        {
            "stops": [
                {
                    "kind": stop.kind,
                    "value": stop.value,
                    "until": stop.until,
                    "by": stop.by,
                    "why": stop.why,
                    "at": stop.at,
                }
                for stop in stops
            ]
        }
    )


def stops_of(item: Item | None) -> tuple[Stop, ...] | None:
    """The reverse of `stops_item`; None where the item is missing, which denies."""
    return _read(
        item,
        lambda body: tuple(Stop(**{**s, "kind": StopKind(s["kind"])}) for s in body["stops"]),
    )


def issuer_item(issuer: Issuer) -> Item:
    """A GitLab instance."""
    return key("ISSUERS", issuer.alias) | _body(
        {
            "url": issuer.url,
            "base_url": issuer.base_url,
            "audience": issuer.audience,
            "ca": issuer.ca,
            "is_default": issuer.is_default,
            "single_use": issuer.single_use,
        }
    )


def issuer_of(item: Item) -> Issuer:
    """The reverse of `issuer_item`."""
    alias = item["sk"]["S"]
    return read_body(item, lambda body: Issuer(alias=alias, **body))


def public_key_item(public_key: PublicKey) -> Item:
    """A public signing key."""
    return key("KEYS", public_key.kid) | _body(
        {
            "slot": public_key.slot,
            "jwk": dict(public_key.jwk),
            "not_before": public_key.not_before,
            "retire_after": public_key.retire_after,
        }
    )


def public_key_of(item: Item) -> PublicKey:
    """The reverse of `public_key_item`."""
    kid = item["sk"]["S"]
    return read_body(item, lambda body: PublicKey(kid=kid, **body))


def settings_item(settings: PublicSettings) -> Item:
    """The deployment's public settings."""
    return SETTINGS_KEY | _body(dataclasses.asdict(settings))


def settings_of(item: Item | None) -> PublicSettings | None:
    """The reverse of `settings_item`; None before the first set-up."""
    return _read(item, lambda body: PublicSettings(**body))


# --- Form ---


def compressed_body(value: Mapping[str, Any]) -> Item:
    """A body that may be large: JSON, compressed."""
    text = json.dumps(value, separators=(",", ":"))
    return {"v": number(VERSION), "body": {"B": zlib.compress(text.encode())}}


def _body(value: Mapping[str, Any]) -> Item:
    return {"v": number(VERSION), "body": {"S": json.dumps(value, separators=(",", ":"))}}


def number(value: float) -> Item:
    """A number's attribute."""
    return {"N": repr(value)}


def check_version(item: Item) -> None:
    """Raises Unavailable for a form that isn't known, which denies."""
    form = item.get("v", {}).get("N")
    if form != str(VERSION):
        raise Unavailable(f"an item of form {form} at {item['pk']['S']}")


def read_body(item: Item, of: Callable[[dict[str, Any]], T]) -> T:
    """Read an item's body; raises Unavailable for a form that isn't known, which denies."""
    check_version(item)
    try:
        body = item["body"]
        text = body["S"] if "S" in body else _decompress(body["B"])
        return of(json.loads(text))
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error) as exc:
        raise Unavailable("an item that can't be read") from exc


def _decompress(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    text = stream.decompress(data, _BODY_MAX)
    if stream.unconsumed_tail:
        raise Unavailable("an item that is larger than any that was written")
    if not stream.eof:
        raise Unavailable("an item whose end is missing")
    return text


def _read(item: Item | None, of: Callable[[dict[str, Any]], T]) -> T | None:
    return None if item is None else read_body(item, of)


def _is_marked(item: Item | None, fetched_at: float) -> bool:
    """Whether an event has said since that things aren't there any more (`marked_at`)."""
    if item is None or "marked_at" not in item:
        return False
    try:
        return float(item["marked_at"]["N"]) >= fetched_at
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a mark that can't be read") from exc


def _optional(item: Item, name: str) -> float | None:
    return float(item[name]["N"]) if name in item else None
