"""From a request at the relay to the request at the cluster's API server, or a refusal.

The upstream request is built from nothing: what isn't on a list below doesn't travel. So no header
of the caller's can add to, replace or take away the identity that the relay sets (RFC 9110, 7.6.1:
an intermediary that first adds and then removes what `Connection` names removes its own).

Path: it travels byte for byte after `/agents/<id>`, and is refused unless each of these holds,
so that we, the API server and whatever stands between read the same thing:

1. it begins with `/` (no absolute form) and holds only RFC 3986's path characters, `%` always with
   two hexadecimal digits after it: no space, no control character, no `?`, no `#`;
2. percent-decoded, it is UTF-8 without control characters;
3. no slash is percent-encoded, since the API server decodes it into one that separates;
4. no segment is empty (a slash at the end is allowed), and none, percent-decoded, is `.` or `..`.

Query: API Gateway's REST API gives it decoded, in a list for each key. It's percent-encoded anew;
the order between different keys isn't kept and carries no meaning for the API server. A key that is
empty, or text that the front couldn't decode (U+FFFD, a lone surrogate), is refused. A watch gets
an end of its own (`core/watch.py`); nothing else is changed.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urlsplit

from jobgate.core.agent import AsAgent, AsCIJob
from jobgate.core.client_impersonation import asks_to_impersonate
from jobgate.core.impersonation import fault_of_static_identity, impersonation_headers
from jobgate.core.kubernetes_request import kubernetes_request
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import UNFAITHFUL, UNSUPPORTED_METHOD, Refusal
from jobgate.core.watch import limited_watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.core.agent import ClusterConnection
    from jobgate.core.authorization import Grant
    from jobgate.core.impersonation import Identity

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_SAFE = _WITHOUT_BODY = frozenset({"GET", "HEAD"})
# API Gateway takes 10,240 bytes of request line and headers, so a longer target was never sent so.
_TARGET_MAX_BYTES = 10_240

# The caller's headers that travel, and why. Not among them: If-None-Match and If-Modified-Since. An
# answer of 304 has no Content-Type, API Gateway adds application/json, and a client that refreshes
# its cached discovery document by that reads it in the wrong form (docs/adr/0003).
_CARRIED = {
    name.lower(): name
    for name in (
        "Accept",  # tables, protobuf, CBOR and aggregated discovery are chosen by it
        "Accept-Encoding",  # without it a large list isn't compressed; the bytes pass undecoded
        "Content-Type",  # the body's form, and the kind of a patch
        "Content-Encoding",  # the body means something else without it
        "User-Agent",  # in the cluster's audit log it names the client
        "Kubectl-Command",  # which kubectl command made the request (KEP-859)
        "Kubectl-Session",  # which requests belong to one command (KEP-859)
    )
}
# Go reads the first of two, other servers the last.
_ONCE = frozenset({"Content-Type", "Content-Encoding"})

# The API server's headers that travel back, and why. Not among them: Set-Cookie and
# Access-Control-*, since the answer of `services/*/proxy` comes from anyone; Location, since its
# path is the cluster's and not ours; Content-Length and Transfer-Encoding, which are the front's.
_CARRIED_BACK = frozenset(
    {
        "content-type",  # the body's form
        "content-encoding",  # the body is passed as it is, compressed or not
        "cache-control",  # discovery and OpenAPI documents are cached by these five
        "etag",
        "last-modified",
        "expires",
        "vary",
        "warning",  # deprecations and validation, one a line, which kubectl prints
        "retry-after",  # the API server's own back-pressure
        "allow",  # with 405
        "audit-id",  # finds the request in the cluster's audit log
        "x-kubernetes-pf-flowschema-uid",  # priority and fairness, for whoever debugs a 429
        "x-kubernetes-pf-prioritylevel-uid",
        "x-content-type-options",  # says that an error's text isn't HTML
    }
)

_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_ROUTE = re.compile(r"/agents/([1-9][0-9]{0,18})(/.*)?", re.DOTALL)
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN_TEXT = re.compile(r"[\x21-\x7e]+")
_FIELD_TEXT = re.compile(r"[\x20-\x7e\t]*")
_UNDECODABLE = re.compile("[\ufffd\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingRequest:
    """A request at the relay.

    `path` is percent-encoded, with `/agents/<id>` and without a stage; `query` is decoded, with the
    order kept within a key; `headers` are as they came, repeated names as repeated pairs.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    folded: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)
    """The headers with their names in lower case."""

    def __post_init__(self) -> None:
        folded = tuple([(name.lower(), value) for name, value in self.headers])
        object.__setattr__(self, "folded", folded)

    def values(self, name: str) -> list[str]:
        """A header's values; `name` in lower case."""
        return [value for key, value in self.folded if key == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRequest:
    """The request to the API server: all that is sent, in this order.

    `target` is path and query, percent-encoded. `long_running` means that the answer may take as
    long as it likes, `proxied` that it isn't the API server's own.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    long_running: bool
    proxied: bool


def bearer(incoming: IncomingRequest) -> str | None:
    """The one bearer token (RFC 6750, 2.1), None where there is none or more than one."""
    given = incoming.values("authorization")
    if len(given) != 1:
        return None
    scheme, _, token = given[0].strip().partition(" ")
    # What else a token may hold, its verification knows.
    return token.lstrip(" ") if scheme.lower() == "bearer" and token.isascii() else None


def changes_nothing(method: str) -> bool:
    """Whether a request of this method is safe (RFC 9110, 9.2.1)."""
    return method in _SAFE


@functools.lru_cache(maxsize=16)  # the parts of one flow ask one after another
def agent_route(path: str) -> tuple[int | None, str]:
    """The agent's id in a request's path, and the cluster's own path behind it.

    The id is None where the path isn't of the relay's form.
    """
    match = _ROUTE.fullmatch(path)
    if match is None:
        return None, "/"
    return int(match[1]), match[2] or "/"


def upstream_request(  # noqa: PLR0913  each of them makes a part of the request
    incoming: IncomingRequest,
    grant: Grant,
    *,
    identity: Identity | None,
    cluster: ClusterConnection,
    bearer: str | None,
    decision_id: str,
    seconds: float,
    allowed_identities: frozenset[str] = frozenset(),
) -> UpstreamRequest | Refusal:
    """Build the request to the cluster, as `identity` or, where that is None, as the agent.

    `seconds` is how long a watch may last at most.
    `bearer` is the token of the credential that `grant` calls for, None with a client certificate.
    In agent mode `identity` is the one that the client asked for (`client_identity`), which the
    cluster's connection must allow. An identity that a file or a client chose has no reserved name
    but `allowed_identities`. Raises ValueError where an identity or a credential can't be put into
    a header unchanged.
    """
    as_agent = isinstance(grant.access_as, AsAgent)
    by_client = as_agent and cluster.allow_client_impersonation
    if refusal := request_refusal(incoming, may_impersonate=by_client and identity is not None):
        return refusal
    if (identity is None) != as_agent and not by_client:
        raise ValueError("only a grant of agent mode goes without an identity")
    if (
        identity is not None
        and not isinstance(grant.access_as, AsCIJob)
        and fault_of_static_identity(identity, allowed=allowed_identities)
    ):
        return Refusal(reason=Reason.RESERVED_IDENTITY, rule=grant.rule)
    _, path = agent_route(incoming.path)
    server = urlsplit(cluster.server)
    parsed = kubernetes_request(incoming.method, path, incoming.query)
    query = _encoded(
        limited_watch(incoming.query, seconds=seconds) if parsed.verb == "watch" else incoming.query
    )
    return UpstreamRequest(
        method=incoming.method,
        target=f"{server.path}{path}?{query}" if query else f"{server.path}{path}",
        headers=(
            ("Host", server.netloc),
            *_carried(incoming),
            *_authorization(bearer),
            # The cluster's audit log then carries the same id as our own record.
            ("Audit-ID", decision_id),
            *(() if identity is None else impersonation_headers(identity)),
            *_length(incoming),
        ),
        body=incoming.body,
        long_running=parsed.is_long_running,
        proxied=parsed.is_proxied,
    )


def request_refusal(incoming: IncomingRequest, *, may_impersonate: bool) -> Refusal | None:
    """Why a request isn't carried, whoever sends it, or None."""
    if not may_impersonate and asks_to_impersonate(incoming):
        return Refusal(reason=Reason.CLIENT_IMPERSONATION)
    if incoming.method not in _METHODS:
        return UNSUPPORTED_METHOD
    _, path = agent_route(incoming.path)
    if not _is_faithful(incoming, path):
        return UNFAITHFUL
    parsed = kubernetes_request(incoming.method, path, incoming.query)
    if parsed.needs_upgrade or _asks_for_upgrade(incoming):
        return Refusal(reason=Reason.UNSUPPORTED)
    return None


def downstream_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The headers of the API server's answer that travel back, in their order."""
    return tuple(
        (name, value)
        for name, value in headers
        if name.lower() in _CARRIED_BACK and not _CONTROL.search(value)
    )


def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in query)


def _is_faithful(incoming: IncomingRequest, path: str) -> bool:
    """Whether the request means the same to us, the API server and whatever stands between."""
    if not _is_plain_path(path):
        return False
    if incoming.body and incoming.method in _WITHOUT_BODY:
        return False
    carried = _carried(incoming)
    once = [name for name, _ in carried if name in _ONCE]
    if len(once) > len(set(once)):
        return False
    if not _FIELD_TEXT.fullmatch("".join([value for _, value in carried])):
        return False
    texts = [text for pair in incoming.query for text in pair]
    if any(map(_UNDECODABLE.search, texts)) or not all(key for key, _ in incoming.query):
        return False
    return len(path) + sum(len(quote(text, safe="")) + 1 for text in texts) <= _TARGET_MAX_BYTES


def _is_plain_path(path: str) -> bool:
    if not _PATH.fullmatch(path) or _ENCODED_SLASH.search(path):
        return False
    decoded = path
    if "%" in path:
        try:
            decoded = unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return False
        if _CONTROL.search(decoded):
            return False
    segments = decoded.removeprefix("/").split("/")
    # Only the last segment may be empty: a slash at the end, or the root.
    return not ("" in segments[:-1] or "." in segments or ".." in segments)


def _asks_for_upgrade(incoming: IncomingRequest) -> bool:
    tokens = ",".join(incoming.values("connection")).lower().split(",")
    return bool(incoming.values("upgrade")) or "upgrade" in (token.strip() for token in tokens)


def _carried(incoming: IncomingRequest) -> list[tuple[str, str]]:
    return [
        (_CARRIED[name], value.strip(" \t")) for name, value in incoming.folded if name in _CARRIED
    ]


def _authorization(bearer: str | None) -> tuple[tuple[str, str], ...]:
    if bearer is None:
        return ()
    if not _TOKEN_TEXT.fullmatch(bearer):
        raise ValueError("a cluster's token can't be put into a header")
    return (("Authorization", f"Bearer {bearer}"),)


def _length(incoming: IncomingRequest) -> tuple[tuple[str, str], ...]:
    if incoming.method in _WITHOUT_BODY:
        return ()
    return (("Content-Length", str(len(incoming.body))),)
