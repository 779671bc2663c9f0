"""The forms of the stored items: one table, `pk` and `sk` (docs/architecture.md, "Stored items").

Pure: values to DynamoDB's attribute form and back. Every item says its form's version in `v`; one
that can't be read raises `Unavailable`, so that it's unknown and denies. Times are epoch seconds.

Here are most keys, what is known of places and jobs, and what all forms share; the rest is in
`agent_items`, `hook_items` and `operator_items`.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, TypeVar

from jobgate.core.errors import Unavailable
from jobgate.core.gitlab_token import TokenEnd
from jobgate.core.liveness import NOTHING_HEARD, JobLife
from jobgate.core.namespace import Namespace, NamespaceChain, ProjectPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


def redeemed_key(issuer: str, jti: str) -> Item:
    """Of an ID token that is good once."""
    return key(f"JTI#{issuer}#{jti}", "CLAIM")


def exchanges_key(issuer: str, project_id: int, window: int) -> Item:
    """Of the number of a project's requests to the exchange in one minute since the epoch."""
    return key(f"EXCHANGES#{issuer}#{project_id}", str(window))


def agent_ids_key(issuer: str) -> Item:
    """Of the counter of agent ids and its tombstones."""
    return key(f"AGENT_IDS#{issuer}", "LAST")


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
    return place_key(issuer, project_id) | body(
        {
            "namespace_id": place.namespace_id,
            "path": place.path,
            "root_id": place.root_id,
            "fetched_at": place.fetched_at,
        }
    )


def place_of(item: Item | None) -> ProjectPlace | None:
    """The reverse of `place_item`; None for one that was marked since it was fetched."""
    place = read(item, lambda body: ProjectPlace(**body))
    return None if place is None or _is_marked(item, place.fetched_at) else place


def chain_item(issuer: str, chain: NamespaceChain) -> Item:
    """A namespace's ancestors."""
    return chain_key(issuer, chain.members[-1].namespace_id) | body(
        {
            "kind": chain.kind,
            "members": [[member.namespace_id, member.path] for member in chain.members],
            "fetched_at": chain.fetched_at,
        }
    )


def chain_of(item: Item | None) -> NamespaceChain | None:
    """The reverse of `chain_item`; None for one that was marked since it was fetched."""

    def chain(body: Mapping[str, Any]) -> NamespaceChain:
        members = tuple(Namespace(namespace_id=i, path=path) for i, path in body["members"])
        if not members or body["kind"] not in ("group", "user"):
            raise ValueError("not a chain")
        return NamespaceChain(kind=body["kind"], members=members, fetched_at=body["fetched_at"])

    found = read(item, chain)
    return None if found is None or _is_marked(item, found.fetched_at) else found


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
    return token_end_key(issuer) | body(
        {"expires_at": end.expires_at, "good": end.good, "noted_at": end.noted_at}
    )


def token_end_of(item: Item | None) -> TokenEnd | None:
    """The reverse of `token_end_item`."""
    return read(item, lambda body: TokenEnd(**body))


# --- Form ---


def compressed_body(value: Mapping[str, Any]) -> Item:
    """A body that may be large: JSON, compressed."""
    text = json.dumps(value, separators=(",", ":"))
    return {"v": number(VERSION), "body": {"B": zlib.compress(text.encode())}}


def body(value: Mapping[str, Any]) -> Item:
    """A body: JSON, with the form's version."""
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
        held = item["body"]
        text = held["S"] if "S" in held else _decompress(held["B"])
        return of(json.loads(text))
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error) as exc:
        raise Unavailable("an item that can't be read") from exc


def read(item: Item | None, of: Callable[[dict[str, Any]], T]) -> T | None:
    """The same, and None for no item."""
    return None if item is None else read_body(item, of)


def _decompress(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    text = stream.decompress(data, _BODY_MAX)
    if stream.unconsumed_tail:
        raise Unavailable("an item that is larger than any that was written")
    if not stream.eof:
        raise Unavailable("an item whose end is missing")
    return text


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
