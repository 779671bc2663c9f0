"""Every flow of the exchange, good and bad, with canaries for its secrets: no trace shows one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from jobgate.adapters.exchange_http import ExchangeHTTP
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.settings import Settings

from tests.support import builders as b
from tests.support.exchanges import an_exchange, explain_of
from tests.support.fakes import (
    FakeClock,
    FakeExchangeCounter,
    FakeExchangeStore,
    FakeRedeemedTokens,
    FakeTokenSigner,
    FakeTokenVerifier,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.errors import JobgateError

ID_TOKEN = "eyJ-canary-head.eyJ-canary-payload.canary-id-signature"
ACCESS_TOKEN = "canary-access-token"
FORM = "application/x-www-form-urlencoded"
GRANT = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
}
GOOD = b.an_agent(projects={b.APP: b.an_entry()})
ONCE = b.a_deployment(b.an_issuer(single_use=True))


class CanarySigner(FakeTokenSigner):
    def sign(self, claims: Mapping[str, object]) -> str:
        super().sign(claims)
        return ACCESS_TOKEN


class BrokenSigner(FakeTokenSigner):
    def sign(self, claims: Mapping[str, object]) -> str:
        raise RuntimeError(f"a mistake that quotes {ID_TOKEN}")


FAULTS: dict[str, dict[str, Any]] = {
    "allowed": {},
    "not listed": {"agents": [b.an_agent()]},
    "finished": {"facts": b.some_facts(state=b.a_state("success"))},
    "stopped": {"facts": b.some_facts(stops=None)},
    "invalid": {"refusal": InvalidToken("why")},
    "expired": {"refusal": InvalidToken("late", expired=True)},
    "no keys": {"refusal": Unavailable("no keys")},
    "no table": {"failing": ["exchange_facts"]},
    "no snapshots": {"failing": ["snapshots"]},
    "no KMS": {"signer": FakeTokenSigner(failing=True)},
    "a mistake of ours": {"signer": BrokenSigner()},
    "throttled": {"settings": Settings(project_rate=1)},
    "no counter": {
        "settings": Settings(project_rate=1), "counter": FakeExchangeCounter(failing=True),
    },
    "good once": {"deployment": ONCE},
    "nothing to take it with": {"deployment": ONCE, "redeemed": FakeRedeemedTokens(failing=True)},
    "before the set-up": {"deployment": b.a_deployment(base_url=None)},
}  # fmt: skip

REQUESTS: dict[str, dict[str, Any]] = {
    "token": {"path": "/token", "body": urlencode({**GRANT, "subject_token": ID_TOKEN})},
    "token for another": {
        "path": "/token",
        "body": urlencode({**GRANT, "subject_token": ID_TOKEN, "resource": "https://elsewhere"}),
    },
    "token twice": {
        "path": "/token",
        "body": urlencode({**GRANT, "subject_token": ID_TOKEN}) + f"&subject_token={ID_TOKEN}",
    },
    "token of another kind": {"path": "/token", "body": urlencode({"subject_token": ID_TOKEN})},
    "token as JSON": {"path": "/token", "body": json.dumps({"subject_token": ID_TOKEN})},
    "kubeconfig": {"path": "/kubeconfig", "body": urlencode({"token": ID_TOKEN})},
    "kubeconfig, exec": {
        "path": "/kubeconfig",
        "body": urlencode({"token": ID_TOKEN, "format": "exec"}),
    },
    "kubeconfig, of no form": {
        "path": "/kubeconfig",
        "body": urlencode({"token": ID_TOKEN, "format": ID_TOKEN}),
    },
    "credential": {"path": "/credential", "body": urlencode({"token": ID_TOKEN})},
    "explanation": {"path": "/explain", "body": urlencode({"token": ID_TOKEN})},
    "in the wrong place": {"path": f"/{ID_TOKEN}", "body": ID_TOKEN},
    "bearer": {"path": "/kubeconfig", "authorization": f"Bearer {ID_TOKEN}"},
    "bearer and more": {"path": "/kubeconfig", "authorization": f"Bearer {ID_TOKEN} x"},
    "both ways": {
        "path": "/kubeconfig",
        "body": urlencode({"token": ID_TOKEN}),
        "authorization": f"Bearer {ID_TOKEN}",
    },
}  # fmt: skip


def handler(traces: list[str], fault: Mapping[str, Any]) -> ExchangeHTTP:
    refusal: JobgateError | None = fault.get("refusal")
    deployment = fault.get("deployment") or b.a_deployment()
    clock = FakeClock()
    exchange = an_exchange(
        deployment=lambda: deployment,
        verifier=FakeTokenVerifier(
            {} if refusal else {ID_TOKEN: b.a_verified_job()}, refusal=refusal
        ),
        store=FakeExchangeStore(
            fault.get("facts") or b.some_facts(),
            fault.get("agents") or [GOOD],
            failing=fault.get("failing", ()),
        ),
        signer=fault.get("signer") or CanarySigner(),
        counter=fault.get("counter"),
        redeemed=fault.get("redeemed"),
        settings=fault.get("settings"),
        recorder=traces.append,
        clock=clock,
    )
    return ExchangeHTTP(
        exchange, explain_of(exchange), lambda: deployment, clock=clock, log=traces.append
    )


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_flow_shows_a_canary(
    fault: str, request_name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    traces: list[str] = []
    given = REQUESTS[request_name]
    headers = {"Content-Type": [FORM]}
    if "authorization" in given:
        headers["Authorization"] = [given["authorization"]]
    answering = handler(traces, FAULTS[fault])

    for method in ("POST", "GET"):
        for _ in range(2):
            answer = answering(
                {
                    "httpMethod": method,
                    "path": given["path"],
                    "multiValueHeaders": headers,
                    "multiValueQueryStringParameters": None,
                    "pathParameters": None,
                    "body": given.get("body"),
                    "isBase64Encoded": False,
                    "requestContext": {"requestId": "request-1"},
                },
                None,
            )
            body = answer["body"]
            if answer["statusCode"] == 200:
                # Where it's meant to be, and nowhere else.
                assert body.count(ACCESS_TOKEN) <= 1
                body = body.replace(ACCESS_TOKEN, "")
            traces += [body, json.dumps(answer["headers"])]

    printed = capfd.readouterr()
    shown = "\n".join([*traces, printed.out, printed.err])
    assert "canary" not in shown
    assert "Traceback" not in shown


def test_the_flows_are_good_and_bad() -> None:
    statuses = set()
    for fault in FAULTS.values():
        answer = handler([], fault)(
            {
                "httpMethod": "POST",
                "path": "/kubeconfig",
                "multiValueHeaders": {"Content-Type": [FORM]},
                "multiValueQueryStringParameters": None,
                "pathParameters": None,
                "body": urlencode({"token": ID_TOKEN}),
                "isBase64Encoded": False,
            },
            None,
        )
        statuses.add(answer["statusCode"])

    assert statuses == {200, 401, 403, 500, 503}
