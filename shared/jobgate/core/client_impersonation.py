"""As whom a client asks to be seen: `kubectl --as`, in agent mode and where the operator allows it.

Source: Kubernetes, "User impersonation" (authentication reference), for the headers; client-go and
k8s.io/apiserver (`unescapeExtraKey`) for how an extra's key is written in a header's name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from jobgate.core.impersonation import Identity
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import UNFAITHFUL, Refusal

if TYPE_CHECKING:
    from jobgate.core.agent import ClusterConnection
    from jobgate.core.upstream_request import IncomingRequest

_IMPERSONATION = "impersonate"
_EXTRA = "impersonate-extra-"
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
# What is the same to everybody between the client and the API server: ASCII, not trimmed.
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def asks_to_impersonate(incoming: IncomingRequest) -> bool:
    """Whether a request has a header that the most lenient reader takes for impersonation."""
    return bool(_asked(incoming))


def client_identity(
    incoming: IncomingRequest, cluster: ClusterConnection
) -> Identity | Refusal | None:
    """The identity that a request in agent mode asks for; None where it asks for none.

    Only Kubernetes' own spellings count, and only values that can be written again as they came:
    the headers to the cluster are built from this identity, and from nothing that came in.
    """
    asked = _asked(incoming)
    if not asked:
        return None
    if not cluster.allow_client_impersonation:
        return Refusal(reason=Reason.CLIENT_IMPERSONATION)
    users, uids, groups = (incoming.values(f"impersonate-{n}") for n in ("user", "uid", "group"))
    extra = _extra(incoming)
    values = (*users, *uids, *groups, *(value for values in extra.values() for value in values))
    is_whole = len(values) == len(asked) and len(users) == 1 and len(uids) <= 1
    if not is_whole or not all(_PLAIN.fullmatch(value) for value in values):
        return UNFAITHFUL
    return Identity(
        username=users[0],
        uid=uids[0] if uids else None,
        groups=tuple(groups),
        extra=tuple((key, tuple(values)) for key, values in extra.items()),
    )


def _asked(incoming: IncomingRequest) -> list[str]:
    names = (name for name, _ in incoming.folded)
    return [n for n in names if n.strip().startswith(_IMPERSONATION)]


def _extra(incoming: IncomingRequest) -> dict[str, list[str]]:
    """The extras whose keys can be read, in their order."""
    extra: dict[str, list[str]] = {}
    for name, value in incoming.folded:
        if name.startswith(_EXTRA) and (key := _key(name.removeprefix(_EXTRA))):
            extra.setdefault(key, []).append(value)
    return extra


def _key(escaped: str) -> str | None:
    if _BAD_ESCAPE.search(escaped):
        return None
    key = unquote_to_bytes(escaped).decode("latin-1").lower()
    return key if _PLAIN.fullmatch(key) else None
