"""What each event of `events/` gives, whichever way it reaches its function."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from local.invoke import EVENTS


@dataclass(frozen=True, slots=True)
class Expected:
    """What an event gives: `says` matches the body, or else the whole answer; `logs` the log."""

    status: int | None
    says: str
    logs: str = ""


def refused(status: int, reason: str) -> Expected:
    return Expected(status, f"reason {reason}, decision ", f'"reason":"{reason}"')


NONE_FAILED = Expected(None, r'^\{"batchItemFailures": \[\]\}$')

EXPECTED = {
    "token_exchange/token": Expected(200, r'"access_token": "eyJ', '"outcome":"allowed"'),
    "token_exchange/token_malformed": Expected(400, r'"reason": "token_invalid"'),
    "token_exchange/token_wrong_grant_type": Expected(400, "grant_type must be urn:ietf"),
    "token_exchange/kubeconfig": Expected(200, r'"current-context": "acme/agents:production"'),
    "token_exchange/kubeconfig_by_form": Expected(200, r'"name": "acme/agents:production"'),
    "token_exchange/kubeconfig_without_bearer": Expected(401, "Authorization: Bearer"),
    "token_exchange/kubeconfig_exec": Expected(200, r'"interactiveMode": "Never"'),
    "token_exchange/kubeconfig_of_another_agent": Expected(403, r'"reason": "not_listed"'),
    "token_exchange/credential": Expected(200, r'"kind": "ExecCredential"'),
    "token_exchange/credential_by_form": Expected(200, r'"kind": "ExecCredential"'),
    "token_exchange/kubeconfig_malformed_bearer": Expected(401, r'"reason": "token_invalid"'),
    "token_exchange/explain": Expected(200, "allowed  acme/agents:production"),
    "token_exchange/explain_by_form": Expected(200, r'"context": "acme/agents:production"'),
    "token_exchange/jwks": Expected(200, r'"crv": "P-256"'),
    "token_exchange/discovery": Expected(200, r'"jwks_uri": "https://127\.0\.0\.1:'),
    "token_exchange/unknown_path": Expected(404, "There is nothing here"),
    "gitlab_webhook/push": Expected(202, r"\{\}", "is to be refreshed"),
    "gitlab_webhook/push_to_another_branch": Expected(202, r"\{\}", "ignored: a push to another"),
    "gitlab_webhook/job_success": Expected(202, r"\{\}", "job 4200000090 is success"),
    "gitlab_webhook/wrong_secret": Expected(401, "invalid_token", "no known webhook sent this"),
    "gitlab_webhook/unknown_alias": Expected(401, "invalid_token", "no known webhook sent this"),
    "gitlab_webhook/not_json": Expected(202, r"\{\}", "ignored: a body that isn't JSON"),
    "gitlab_webhook/project_transfer": Expected(202, r"\{\}", "isn't known to be of this webhook"),
    "gitlab_webhook/tag": Expected(202, r"\{\}", "ignored: an event of another kind"),
    "config_refresh/refresh": NONE_FAILED,
    "config_refresh/refresh_of_an_unknown_project": NONE_FAILED,
    "config_refresh/job_end": NONE_FAILED,
    "config_refresh/unreadable_message": Expected(
        None, r'"batchItemFailures": \[\{"itemIdentifier": ', "a message of another form"
    ),
    "reconcile/schedule": Expected(None, r'^\{"queued": [1-9]'),
    "relay/pods": Expected(200, r'"kind":"Table"', '"outcome":"allowed"'),
    "relay/watch": Expected(200, '"type":"ADDED"', '"verb":"watch"'),
    "relay/pods_without_token": refused(401, "token_invalid"),
    "relay/pods_malformed_token": refused(401, "token_invalid"),
    "relay/pods_of_another_namespace": Expected(403, r'pods is forbidden: User \\"gitlab:ci_job:'),
    "relay/api_discovery": Expected(200, '"kind":"APIVersions"'),
    "relay/api_discovery_without_token": refused(403, "token_invalid"),
    "relay/root": Expected(403, r'cannot get path \\"/\\"'),
    "relay/access_review": Expected(201, '"allowed":true'),
    "relay/exec": refused(501, "unsupported"),
    "relay/client_impersonation": refused(400, "client_impersonation"),
    "relay/dot_segments": refused(400, "unsupported"),
}


def cases() -> set[str]:
    return {str(file.relative_to(EVENTS).with_suffix("")) for file in EVENTS.glob("*/*.json")}


def event_of(case: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{case}.json").read_text())
    return event


def assert_gives(case: str, answer: Any) -> None:
    """Compare a function's answer with what its event is to give."""
    expected = EXPECTED[case]
    if expected.status is None:
        text = json.dumps(answer)
    else:
        text = answer["body"]
        assert answer["statusCode"] == expected.status, text
    assert re.search(expected.says, text), text
