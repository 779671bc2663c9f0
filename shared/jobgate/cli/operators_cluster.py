"""The cluster as the operator reaches it: a context of the operator's own kubeconfig."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobgate.cli.errors import Refused
from jobgate.core.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.cli.cluster_rules import Form

_SECONDS = 20
_FIELD_MANAGER = "jobgate"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_PLURALS = {
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
}
# Kubernetes, "Feature gates": ConstrainedImpersonation is on from here.
_CONSTRAINED_SINCE = (1, 36)
_GATE = re.compile(
    r'^kubernetes_feature_enabled\{[^}]*name="ConstrainedImpersonation"[^}]*\} (\d)', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class OperatorsCluster:
    """Requests with the operator's rights; errors are sentences without any token."""

    context: str
    server: str
    ca: str | None  # PEM
    tls_server_name: str | None
    _api: Any

    @classmethod
    def read(cls, context: str | None, kubeconfig: Path | None) -> OperatorsCluster:
        """Read a context (None: the current one) of the kubeconfig, as kubectl finds it.

        Raises InvalidRequest.
        """
        # Imported here, since every other command does without.
        from kubernetes import client, config  # noqa: PLC0415  see above

        settings = client.Configuration()
        file = None if kubeconfig is None else str(kubeconfig)
        try:
            contexts, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
            found = context or current["name"]
            if found not in {each["name"] for each in contexts}:
                raise InvalidRequest(f"The kubeconfig has no context {found!r}.")
            config.load_kube_config(  # type: ignore[no-untyped-call]
                file, context=found, client_configuration=settings, persist_config=False
            )
        except config.ConfigException as exc:
            raise InvalidRequest(f"The kubeconfig can't be used: {exc}") from exc
        if not settings.host.startswith("https://"):
            raise InvalidRequest(f"The cluster of {found!r} isn't reached by https.")
        if not settings.verify_ssl:
            raise InvalidRequest(
                f"The context {found!r} doesn't verify its cluster's certificate "
                "(insecure-skip-tls-verify): name its CA in the kubeconfig instead."
            )
        authority = settings.ssl_ca_cert
        return cls(
            context=found,
            server=settings.host,
            ca=None if authority is None else Path(authority).read_text(),
            tls_server_name=settings.tls_server_name,
            _api=client.ApiClient(settings),
        )

    def impersonation(self) -> Form:
        """The form of impersonation that the cluster has."""
        try:
            gate = _GATE.search(self._text("GET", "/metrics"))
        except Refused:
            gate = None  # The version tells what is the default.
        if gate is not None:
            return "constrained" if gate[1] == "1" else "legacy"
        version = json.loads(self._text("GET", "/version"))
        # A provider's minor may read "30+".
        minor = re.match(r"[0-9]+", version["minor"])
        numbers = (int(version["major"]), 0 if minor is None else int(minor[0]))
        return "constrained" if numbers >= _CONSTRAINED_SINCE else "legacy"

    def apply(self, manifests: Iterable[dict[str, Any]]) -> None:
        """Make the objects so, or take them over, by server-side apply."""
        for manifest in manifests:
            self._text(
                "PATCH",
                f"{_path(manifest)}?fieldManager={_FIELD_MANAGER}&force=true",
                body=json.dumps(manifest),
                content_type=_APPLY,
            )

    def delete(self, manifests: Iterable[dict[str, Any]]) -> list[str]:
        """Delete the objects; the paths of those that were there."""
        paths = [_path(manifest) for manifest in manifests]
        return [path for path in paths if self._text("DELETE", path)]

    def create_token(self, namespace: str, account: str, *, seconds: int) -> str:
        """A token of a ServiceAccount's that expires; the cluster may shorten its life."""
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer = json.loads(self._text("POST", path, body=json.dumps(asked)))
        return str(answer["status"]["token"])

    def _text(
        self,
        method: str,
        path: str,
        *,
        body: str | None = None,
        content_type: str = "application/json",
    ) -> str:
        from urllib3.exceptions import HTTPError  # noqa: PLC0415  the client's own library

        headers = {"Accept": "application/json, text/plain", "Content-Type": content_type}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        try:
            answer = self._api.rest_client.pool_manager.request(
                method,
                self.server + path,
                body=body,
                headers=headers,
                timeout=_SECONDS,
                retries=False,
            )
        except HTTPError as exc:
            raise Unavailable(
                f"The cluster of context {self.context!r} can't be reached at {self.server}: "
                f"{type(exc).__name__}."
            ) from exc
        text: str = answer.data.decode(errors="replace")
        if method == "DELETE" and answer.status == 404:
            return ""
        if answer.status >= 400:
            raise _error(self.context, answer.status, text)
        return text


def _path(manifest: dict[str, Any]) -> str:
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    namespace = metadata.get("namespace")
    within = "" if namespace is None else f"/namespaces/{namespace}"
    return f"{root}{within}/{_PLURALS[manifest['kind']]}/{metadata['name']}"


def _error(context: str, status: int, text: str) -> Exception:
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        message = f"status {status}"
    sentence = f"The cluster of context {context!r} says: {message}"
    if status in (401, 403):
        return Refused(sentence)
    return Unavailable(sentence) if status >= 500 or status == 429 else InvalidRequest(sentence)
