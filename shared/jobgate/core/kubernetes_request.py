"""What a request to the Kubernetes API asks for, read as the API server reads it.

Source: k8s.io/apiserver, pkg/endpoints/request, `RequestInfoFactory.NewRequestInfo` (1.36). The
API server judges the percent-decoded path, so this does too.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_API_PREFIXES = ("api", "apis")
_VERB_PREFIXES = ("proxy", "watch")
_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
# What the API server exempts from its request timeout (k8s.io/kubernetes, cmd/kube-apiserver,
# BasicLongRunningRequestCheck).
_LONG_VERBS = frozenset({"watch", "proxy"})
_LONG_SUBRESOURCES = frozenset({"attach", "exec", "proxy", "log", "portforward"})
# They need a connection that changes its protocol.
_UPGRADED_SUBRESOURCES = frozenset({"attach", "exec", "portforward"})
# A selector's term: backslash escapes what would end it (k8s.io/apimachinery, pkg/fields).
_TERM = re.compile(r"((?:[^\\,=!]|\\[\\,=])*)(==|!=|=)((?:[^\\,=]|\\[\\,=])*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesRequest:
    """A request's attributes; empty where it has none. `group` is empty for the core group too.

    `is_resource` is false for paths such as `/version`; `verb` is then the method in lower case.
    """

    verb: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def is_long_running(self) -> bool:
        """It may take as long as it likes: a watch, a log, a proxied request."""
        return self.verb in _LONG_VERBS or self.subresource in _LONG_SUBRESOURCES

    @property
    def is_proxied(self) -> bool:
        """The API server passes it on to a pod, service or node, whose answer it is."""
        return "proxy" in (self.verb, self.subresource)

    @property
    def needs_upgrade(self) -> bool:
        """It's of no use without an upgraded connection: exec, attach, port-forward, and so cp."""
        return self.subresource in _UPGRADED_SUBRESOURCES


def kubernetes_request(
    method: str, path: str, query: Iterable[tuple[str, str]]
) -> KubernetesRequest:
    """Read a request. `path` is percent-encoded and the cluster's own; `query` is decoded.

    Never raises: what can't be understood has fewer attributes, as at the API server.
    """
    return _read(method, path, tuple(query))


@functools.lru_cache(maxsize=16)  # the parts of one flow ask one after another
def _read(method: str, path: str, query: tuple[tuple[str, str], ...]) -> KubernetesRequest:
    decoded = unquote(path, errors="replace").strip("/")
    parts = decoded.split("/") if decoded else []
    plain = KubernetesRequest(verb=method.lower())
    if len(parts) < 3 or parts[0] not in _API_PREFIXES:
        return plain
    prefix, *parts = parts
    group = ""
    if prefix == "apis":
        if len(parts) < 3:
            return plain
        group, *parts = parts
    version, *parts = parts
    verb = _VERBS.get(method.upper(), "")
    if parts[0] in _VERB_PREFIXES:
        verb, *parts = parts
    namespace, parts = _without_namespace(parts)
    resource, name, subresource = _resource_parts(parts, verb)
    if not name:
        verb, name = _verb_on_collection(verb, query)
    return KubernetesRequest(
        verb=verb,
        is_resource=True,
        group=group,
        version=version,
        namespace=namespace,
        resource=resource,
        name=name,
        subresource=subresource,
    )


def _without_namespace(parts: list[str]) -> tuple[str, list[str]]:
    if len(parts) < 2 or parts[0] != "namespaces":
        return "", parts
    is_of_namespace = len(parts) == 2 or parts[2] in _NAMESPACE_SUBRESOURCES
    return parts[1], parts if is_of_namespace else parts[2:]


def _resource_parts(parts: Sequence[str], verb: str) -> tuple[str, str, str]:
    resource, name, subresource = (*parts[:3], "", "", "")[:3]
    # Behind the old `proxy` prefix the rest is a path of the backend.
    return resource, name, "" if verb == "proxy" else subresource


def _verb_on_collection(verb: str, query: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The verb of a request without a name, and the name that its field selector gives."""
    if verb == "delete":
        return "deletecollection", ""
    if verb != "get":
        return verb, ""
    watch = next((value for key, value in query if key == "watch"), "false")
    selector = next((value for key, value in query if key == "fieldSelector"), "")
    verb = "list" if watch.lower() in ("false", "0") else "watch"
    return verb, _selected_name(selector)


def _selected_name(selector: str) -> str:
    """The one name that a field selector allows, as RequiresExactMatch finds it."""
    name = ""
    position = 0
    while position < len(selector):
        term = _TERM.match(selector, position)
        if term is None or selector[term.end() : term.end() + 1] not in ("", ","):
            return ""
        key, operator, value = term.groups()
        if key == "metadata.name" and operator != "!=" and not name:
            name = re.sub(r"\\(.)", r"\1", value)
        position = term.end() + 1
    return "" if name in (".", "..") or re.search("[/%]", name) else name
