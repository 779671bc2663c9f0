"""The clusters' credentials, from Secrets Manager or signed in place, kept for some minutes."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

from jobgate.adapters.aws_api import AWSError
from jobgate.core.agent import Credential
from jobgate.core.cluster_credential import cluster_secret
from jobgate.core.errors import Unavailable
from jobgate.ports.relay import ClusterSecrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.agent import ClusterCredential, EKSCredential
    from jobgate.core.cluster_credential import BearerToken, ClusterSecret
    from jobgate.ports import Clock

_FRESH_SECONDS = 300.0
_RENEWED_SECONDS = 5.0
_KEPT_MAX = 64


class EKSSigner(Protocol):
    """Makes the tokens of EKS; `refused` says that the cluster has refused the last one."""

    def __call__(self, credential: EKSCredential, *, refused: bool = False) -> BearerToken: ...


class AWSClusterSecrets(ClusterSecrets):
    """Keyed by the whole reference. `eks` makes the tokens of EKS.

    While AWS is away, the last that was read serves: the cluster itself judges it.
    """

    def __init__(
        self,
        call: AWSCall,
        eks: EKSSigner,
        *,
        clock: Clock,
    ) -> None:
        self._call = call
        self._eks = eks
        self._clock = clock
        self._read: OrderedDict[ClusterCredential, tuple[float, ClusterSecret]] = OrderedDict()
        self._renewed: OrderedDict[ClusterCredential, float] = OrderedDict()

    def fetch(self, credential: ClusterCredential) -> ClusterSecret:
        now = self._clock()
        known = self._read.get(credential)
        if known is not None and 0 <= now - known[0] < _FRESH_SECONDS:
            return known[1]
        try:
            return self._read_anew(credential)
        except Unavailable:
            if known is None:
                raise
            return known[1]

    def renewed(
        self, credential: ClusterCredential, *, refused: ClusterSecret
    ) -> ClusterSecret | None:
        now, known = self._clock(), self._read.get(credential)
        if known is not None and known[1] != refused:
            # Somebody was refused before us, and it was read since.
            return known[1]
        asked_at = self._renewed.get(credential)
        if asked_at is not None and 0 <= now - asked_at < _RENEWED_SECONDS:
            return None
        self._renewed[credential] = now
        if len(self._renewed) > _KEPT_MAX:
            self._renewed.popitem(last=False)
        secret = self._read_anew(credential, refused=True)
        return None if secret == refused else secret

    def _read_anew(self, credential: ClusterCredential, *, refused: bool = False) -> ClusterSecret:
        secret = self._secret(credential, refused=refused)
        self._read[credential] = self._clock(), secret
        self._read.move_to_end(credential)
        if len(self._read) > _KEPT_MAX:
            self._read.popitem(last=False)
        return secret

    def _secret(self, credential: ClusterCredential, *, refused: bool) -> ClusterSecret:
        if isinstance(credential, Credential):
            return secret_in(read_secret(self._call, credential), credential.kind)
        return self._eks(credential, refused=refused)


def read_secret(call: AWSCall, credential: Credential) -> Mapping[str, Any]:
    """Secrets Manager's answer about a stored credential; raises Unavailable."""
    try:
        return call("secretsmanager", "GetSecretValue", {"SecretId": credential.secret})
    except AWSError as exc:
        raise Unavailable(f"a cluster's credential can't be read: {exc.code}") from exc


def secret_in(answer: Mapping[str, Any], kind: str) -> ClusterSecret:
    """The credential in such an answer; raises Unavailable, which never quotes it."""
    try:
        value = json.loads(answer["SecretString"])
    except (KeyError, ValueError):
        # Not "from": the library's text would quote the secret.
        raise Unavailable("a cluster's credential isn't JSON") from None
    if not isinstance(value, dict):
        raise Unavailable("a cluster's credential isn't a JSON object")
    try:
        return cluster_secret(kind, value)
    except ValueError as exc:
        raise Unavailable(str(exc)) from exc
