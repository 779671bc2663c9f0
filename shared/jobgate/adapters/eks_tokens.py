"""Tokens for EKS, signed in place: nothing is stored, and no call is made for one's own identity.

A token is a presigned request for STS's GetCallerIdentity that names the cluster in a signed
header. The cluster sends it, and believes the answer (sigs.k8s.io/aws-iam-authenticator, "API
Authorization from Outside a Cluster"). It's taken for 15 minutes after its date, whatever the URL
says.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections import OrderedDict
from typing import TYPE_CHECKING

from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.signature_v4 import AWSCredentials, presigned_url
from jobgate.core.cluster_credential import BearerToken
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.agent import EKSCredential
    from jobgate.ports import Clock

_PREFIX = "k8s-aws-v1."
_QUERY = (("Action", "GetCallerIdentity"), ("Version", "2011-06-15"))
_URL_SECONDS = 60
_SESSION_NAME = "jobgate-relay"  # in CloudTrail of the cluster's account
# A session lasts an hour; a token signed with its last minutes would end with it.
_SESSION_LEFT_SECONDS = 900.0
_SESSIONS_MAX = 64


class EKSTokens:
    """Signs with `own` credentials or those of a role that they may assume (`call`: STS)."""

    def __init__(self, call: AWSCall, own: Callable[[], AWSCredentials], *, clock: Clock) -> None:
        self._call = call
        self._own = own
        self._clock = clock
        self._sessions: OrderedDict[str, tuple[float, AWSCredentials]] = OrderedDict()

    def __call__(self, credential: EKSCredential, *, refused: bool = False) -> BearerToken:
        """A fresh token; raises Unavailable where the role can't be assumed.

        `refused`: the cluster has refused the last one. The session may have been revoked then, or
        its role made anew under the same name, so it isn't used again.
        """
        role = credential.role_arn
        if refused and role is not None:
            self._sessions.pop(role, None)
        url = presigned_url(
            _QUERY,
            (("Host", _sts_host(credential.region)), ("x-k8s-aws-id", credential.cluster)),
            credentials=self._own() if role is None else self._session(role),
            region=credential.region,
            service="sts",
            at=self._clock(),
            seconds=_URL_SECONDS,
        )
        return BearerToken(_PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("="))

    def _session(self, role_arn: str) -> AWSCredentials:
        known = self._sessions.get(role_arn)
        if known is not None and self._clock() < known[0] - _SESSION_LEFT_SECONDS:
            return known[1]
        known = self._sessions[role_arn] = self._assumed(role_arn)
        self._sessions.move_to_end(role_arn)
        if len(self._sessions) > _SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return known[1]

    def _assumed(self, role_arn: str) -> tuple[float, AWSCredentials]:
        request = {"RoleArn": role_arn, "RoleSessionName": _SESSION_NAME}
        try:
            given = self._call("sts", "AssumeRole", request)["Credentials"]
            ends_at = dt.datetime.fromisoformat(given["Expiration"]).timestamp()
            return ends_at, AWSCredentials(
                given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
            )
        except AWSError as exc:
            raise Unavailable(f"a cluster's role can't be assumed: {exc.code}") from exc
        except (KeyError, TypeError, ValueError):
            # Not "from": the library's text may quote what was given.
            raise Unavailable("a cluster's role was given in a form that can't be read") from None


def _sts_host(region: str) -> str:
    """The region's own STS, which the cluster asks too."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"sts.{region}.{suffix}"
