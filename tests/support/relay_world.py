"""What the deployed relay finds: stored items, a secret, keys, and access tokens of its jobs."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jobgate.adapters import agent_items, items, operator_items
from jobgate.core.access_token import AccessToken, claims_of
from jobgate.core.agent import ClusterConnection, Credential
from jobgate.core.keys import PublicKey
from jobgate.core.liveness import JobState
from jobgate.core.public_settings import PublicSettings

from tests.support.relay_parts import (
    AGENT,
    ISSUER,
    a_chain,
    a_cluster,
    a_job,
    a_place,
    a_snapshot,
)

if TYPE_CHECKING:
    from jobgate.core.job import JobIdentity

BASE_URL = "https://jobgate.test/live"
TABLE = "table"
SECRET = "jobgate/cluster/relay"
RELAY_TOKEN = "relay-credential"
_CONFIG_PROJECT = a_snapshot().config_project.project_id


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A deployment with one agent at `server`, and one running job, all as of `now`."""

    server: str
    ca: str
    now: float
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )

    @property
    def cluster(self) -> ClusterConnection:
        """The agent's connection."""
        credential = Credential(kind="token", secret=SECRET)
        return a_cluster(
            server=self.server, ca=self.ca, relay_credential=credential, agent_credential=None
        )

    @property
    def secrets(self) -> dict[str, str]:
        """What Secrets Manager holds."""
        return {SECRET: json.dumps({"token": RELAY_TOKEN})}

    def stored(self) -> list[items.Item]:
        """The table."""
        state = JobState(status="running", source="hook", seen_at=self.now)
        return [
            operator_items.settings_item(PublicSettings(base_url=BASE_URL)),
            operator_items.issuer_item(ISSUER),
            operator_items.public_key_item(self.public_key()),
            agent_items.snapshot_item(a_snapshot()),
            agent_items.cluster_item(self.cluster),
            items.place_item("main", a_job().project_id, replace(a_place(), fetched_at=self.now)),
            items.place_item("main", _CONFIG_PROJECT, replace(a_place(), fetched_at=self.now)),
            items.chain_item("main", replace(a_chain(), fetched_at=self.now)),
            self.job_item(state),
            operator_items.stops_item("main", ()),
        ]

    def job_item(self, word: JobState) -> items.Item:
        """The job's item after one word about it."""
        until = {"expires_at": items.number(int(self.now) + 86_400)}
        return items.job_key(a_job().key) | items.job_word(word) | until

    def public_key(self, **changes: Any) -> PublicKey:
        """The key that signs the tokens."""
        jwk = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        own = {"kid": "k1", "alg": "ES256", "use": "sig"}
        key = PublicKey(
            kid="k1", slot="a", jwk={**jwk, **own}, not_before=self.now - 60, retire_after=None
        )
        return replace(key, **changes)

    def token(self, job: JobIdentity | None = None, **changes: Any) -> str:
        """An access token of a job."""
        token = AccessToken(
            job=job or a_job(), decision_id="d0", jti="j0", expires_at=int(self.now) + 3600
        )
        claims = claims_of(replace(token, **changes), base_url=BASE_URL, now=self.now)
        return jwt.encode(
            claims, self.key, algorithm="ES256", headers={"kid": "k1", "typ": "at+jwt"}
        )

    def environment(self, endpoint: str) -> dict[str, str]:
        """What Lambda gives the relay; `endpoint` is where AWS's APIs are."""
        return {
            "JOBGATE_TABLE": TABLE,
            "JOBGATE_GITLAB_TOKENS_SECRET": "tokens",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": endpoint,
        }

    def event(self, path: str, *, token: str | None = None, **changes: Any) -> dict[str, Any]:
        """A GET of the cluster's `path` as API Gateway hands it on."""
        headers = {
            "Authorization": f"Bearer {token or self.token()}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "kubectl/v1.36.4 (linux/amd64) kubernetes/0000000",
            "Host": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
            "X-Forwarded-For": "203.0.113.10",
        }
        event: dict[str, Any] = {
            "resource": "/agents/{agent_id}/{proxy+}",
            "httpMethod": "GET",
            "path": f"/agents/{AGENT}{path}",
            "headers": headers,
            "multiValueHeaders": {name: [value] for name, value in headers.items()},
            "queryStringParameters": None,
            "multiValueQueryStringParameters": None,
            "pathParameters": {"agent_id": str(AGENT), "proxy": path.lstrip("/")},
            "stageVariables": None,
            "requestContext": {"httpMethod": "GET", "stage": "live", "requestId": "r"},
            "body": None,
            "isBase64Encoded": False,
        }
        return event | changes


def basic(value: bytes) -> str:
    """Base64, as a REST API gives a binary body."""
    return base64.b64encode(value).decode()
