"""Webhooks: authentic or not, by a signature computed here and not by the code under test."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from typing import Any

import pytest
from jobgate.adapters.hook_secrets import hooks_in
from jobgate.adapters.secrets import SecretReader
from jobgate.adapters.webhook_http import WebhookHTTP
from jobgate.core import webhook
from jobgate.core.errors import InvalidToken
from jobgate.core.hook import HookScope
from jobgate.core.liveness import NOTHING_HEARD
from jobgate.core.webhook import HookSecrets, proven_by
from jobgate.usecases import receive_webhook
from jobgate.usecases.hook_events import HookEvents
from jobgate.usecases.receive_webhook import ReceiveWebhook

from tests.support import builders as b
from tests.support.fakes import (
    FakeClock,
    FakeHookSightings,
    FakeJobStates,
    FakePlaceMarks,
    FakeRefreshQueue,
)

KEY = b"0123456789abcdef0123456789abcdef"
SIGNING_TOKEN = "whsec_" + base64.b64encode(KEY).decode()
SIGNED = HookSecrets(secret_token=None, signing_token=SIGNING_TOKEN)
PLAIN = HookSecrets(secret_token="s3cret", signing_token=None, scope=HookScope("instance", 0))
PUSH = {
    "object_kind": "push",
    "event_name": "push",
    "ref": "refs/heads/main",
    "after": "2" * 40,
    "project_id": 50,
    "project": {"id": 50, "default_branch": "main", "path_with_namespace": "top/sub1/agents"},
    "commits": [],
}
BODY = json.dumps(PUSH).encode()


def signature(
    body: bytes = BODY, *, identifier: str = "msg-1", at: str = str(int(b.NOW)), key: bytes = KEY
) -> dict[str, str]:
    """Headers by the Standard Webhooks specification, with HMAC's two hashes written out."""
    message = identifier.encode() + b"." + at.encode() + b"." + body
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(c ^ 0x36 for c in padded) + message).digest()
    outer = hashlib.sha256(bytes(c ^ 0x5C for c in padded) + inner).digest()
    return {
        "webhook-id": identifier,
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(outer).decode(),
    }


def authentic(
    headers: dict[str, str], *hooks: HookSecrets, body: bytes = BODY, now: float = b.NOW
) -> bool:
    return proven_by(headers, body, hooks=hooks, now=now) is not None


def test_the_signature_of_this_test_is_hmac_sha256() -> None:
    message = f"msg-1.{int(b.NOW)}.".encode() + BODY

    expected = base64.b64encode(hmac.new(KEY, message, "sha256").digest()).decode()

    assert signature()["webhook-signature"] == f"v1,{expected}"


def test_a_signed_delivery_is_authentic() -> None:
    assert authentic(signature(), SIGNED)


def test_one_good_signature_among_others_is_enough() -> None:
    headers = signature()
    headers["webhook-signature"] = f"v1,AAAA v2,x {headers['webhook-signature']}"

    assert authentic(headers, SIGNED)


@pytest.mark.parametrize("seconds", [-300, 300])
def test_a_delivery_is_good_for_five_minutes(seconds: int) -> None:
    assert authentic(signature(), SIGNED, now=b.NOW + seconds)


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_a_delivery_that_is_replayed_later_is_not_authentic(seconds: int) -> None:
    assert not authentic(signature(), SIGNED, now=b.NOW + seconds)


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-id": "msg-2"},
        {"webhook-timestamp": str(int(b.NOW) + 1)},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "9" * 5000},
        {"webhook-timestamp": "-1"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v2," + signature()["webhook-signature"][3:]},
        {"webhook-signature": signature()["webhook-signature"][3:]},
        {"webhook-signature": signature(key=b"another")["webhook-signature"]},
        {"webhook-signature": signature(b"{}")["webhook-signature"]},
        {"webhook-signature": signature()["webhook-signature"].lower()},
        {"webhook-signature": " ".join(["v1,AAAA"] * 10 + [signature()["webhook-signature"]])},
        {"webhook-signature": "\udcff"},
    ],
)
def test_a_delivery_with_another_signature_is_not_authentic(changes: dict[str, str]) -> None:
    assert not authentic(signature() | changes, SIGNED)


def test_a_delivery_with_another_body_is_not_authentic() -> None:
    assert not authentic(signature(), SIGNED, body=BODY + b" ")


@pytest.mark.parametrize("token", ["whsec_", "whsec_!!!", "", "whsec_AAA"])
def test_a_signing_token_that_is_no_key_proves_nothing(token: str) -> None:
    empty = signature(key=b"")

    assert not authentic(empty, HookSecrets(secret_token=None, signing_token=token))


def test_a_secret_token_is_compared_whole() -> None:
    assert authentic({"x-gitlab-token": "s3cret"}, PLAIN)
    for given in ("", "s3cre", "s3cret ", "S3cret", "s3cret0", "\u00e9"):
        assert not authentic({"x-gitlab-token": given}, PLAIN)
    assert not authentic({}, PLAIN)


def test_a_hook_that_has_no_secret_proves_nothing() -> None:
    assert not authentic({"x-gitlab-token": ""}, HookSecrets(secret_token="", signing_token=None))
    assert not authentic({}, HookSecrets(secret_token=None, signing_token=None))
    assert not authentic({"x-gitlab-token": "s3cret"})


def test_a_secret_token_does_not_stand_in_for_the_signature_of_a_hook_that_signs() -> None:
    both = HookSecrets(secret_token="s3cret", signing_token=SIGNING_TOKEN)

    assert not authentic({"x-gitlab-token": "s3cret"}, both)


def test_a_signature_does_not_stand_in_for_the_secret_token_of_a_hook_that_has_both() -> None:
    both = HookSecrets(secret_token="s3cret", signing_token=SIGNING_TOKEN)

    assert authentic({"x-gitlab-token": "s3cret"} | signature(), both)
    assert not authentic(signature(), both)
    assert not authentic({"x-gitlab-token": "S3cret"} | signature(), both)


def test_a_strangers_body_is_not_hashed_for_each_of_many_hooks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed = []

    def digest(key: bytes, message: bytes, kind: Any) -> bytes:
        hashed.append(len(message))
        return hmac.new(key, message, kind).digest()

    monkeypatch.setattr(webhook.hmac, "digest", digest)
    hooks = [HookSecrets(secret_token=f"t{n}", signing_token=SIGNING_TOKEN) for n in range(200)]

    assert not authentic({"x-gitlab-token": "guess"} | signature(), *hooks)
    assert hashed == []
    assert authentic({"x-gitlab-token": "t7"} | signature(), *hooks)
    assert len(hashed) == 1


def test_any_of_several_hooks_may_have_sent_it() -> None:
    assert authentic({"x-gitlab-token": "s3cret"}, SIGNED, PLAIN)
    assert authentic(signature(), PLAIN, SIGNED)


def test_old_and_new_secrets_of_one_hook_count_side_by_side() -> None:
    other = b"another key of thirty-two bytes.."
    token = "whsec_" + base64.b64encode(other).decode()
    hooks = (PLAIN, HookSecrets(secret_token="new", signing_token=None), SIGNED)
    hooks += (HookSecrets(secret_token="s", signing_token=token),)

    assert authentic({"x-gitlab-token": "s3cret"}, *hooks)
    assert authentic({"x-gitlab-token": "new"}, *hooks)
    assert authentic(signature(), *hooks)
    assert authentic({"x-gitlab-token": "s"} | signature(key=other), *hooks)
    assert not authentic(signature(key=b"a third"), *hooks)
    assert not authentic({"x-gitlab-token": "s"}, *hooks)


def test_every_hooks_secret_is_compared_in_constant_time_whichever_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []

    def in_constant_time(given: bytes, expected: bytes) -> bool:
        compared.append(expected)
        return given == expected

    monkeypatch.setattr(webhook.hmac, "compare_digest", in_constant_time)
    other = HookSecrets(secret_token="other", signing_token=None)
    headers = {"x-gitlab-token": "s3cret"} | signature()

    assert authentic(headers, PLAIN, SIGNED, other)

    expected = signature()["webhook-signature"].encode()
    assert compared == [b"s3cret", expected, b"other"]


class Receiver:
    """The use case with fakes, and the route before it."""

    def __init__(self) -> None:
        self.queue = FakeRefreshQueue()
        self.jobs = FakeJobStates()
        self.logged: list[str] = []
        self.sightings = FakeHookSightings()
        self.hooks = [PLAIN]
        self.fresh: list[HookSecrets] = [PLAIN]
        self.asked: list[bool] = []
        self.projects: list[int | None] = []
        self.use_case = ReceiveWebhook(
            hooks_of=self.hooks_of,
            sightings=self.sightings,
            events=HookEvents(
                places=FakePlaceMarks(),
                jobs=self.jobs,
                queue=self.queue,
                chain_fresh=300,
                clock=FakeClock(),
            ),
            clock=FakeClock(),
        )
        self.route = WebhookHTTP(self.use_case, log=self.logged.append)

    def hooks_of(self, alias: str, project_id: int | None, *, fresh: bool) -> list[HookSecrets]:
        self.asked.append(fresh)
        self.projects.append(project_id)
        return (self.fresh if fresh else self.hooks) if alias == "main" else []

    def receive(self, payload: Any, *, alias: str = "main", **headers: str) -> str:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        given = {"x-gitlab-token": "s3cret", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.use_case.receive(alias, given, body)

    def post(
        self,
        body: str,
        *,
        alias: str = "main",
        token: str = "s3cret",
        query: dict[str, list[str]] | None = None,
    ) -> dict[str, Any]:
        event = {
            "httpMethod": "POST",
            "path": f"/webhooks/gitlab/{alias}",
            "multiValueHeaders": {"X-Gitlab-Token": [token]},
            "multiValueQueryStringParameters": query,
            "pathParameters": {"alias": alias},
            "body": body,
            "isBase64Encoded": False,
        }
        return self.route(event, None)


def test_a_push_is_queued_under_gitlabs_own_key() -> None:
    receiver = Receiver()

    # A signed delivery that somebody sends again can't be made a new one by its unsigned key.
    receiver.receive(PUSH, idempotency_key="k-1", webhook_id="w-1")
    receiver.receive(PUSH, webhook_id="w-2")
    receiver.receive(PUSH)

    assert receiver.queue.refreshes == [
        ("main", 50, "w-1"),
        ("main", 50, "w-2"),
        ("main", 50, None),
    ]


def test_no_other_header_than_gitlabs_key_makes_two_deliveries_one() -> None:
    # A UUID is that of a chain of events, a webhook's one of the webhook: neither is a push's.
    receiver = Receiver()

    receiver.receive(PUSH, x_gitlab_event_uuid="u-1", x_gitlab_webhook_uuid="h-1")

    assert receiver.queue.refreshes == [("main", 50, None)]


def test_an_issuers_hooks_are_read_from_its_own_entry_alone() -> None:
    held = {
        alias: [{"secret_token": alias, "signing_token": None, "scope": None}]
        for alias in ("main", "other")
    }

    def call(*_request: object) -> dict[str, Any]:
        return {"SecretString": json.dumps(held)}

    hooks_of = hooks_in(SecretReader(call, clock=FakeClock()), "arn")

    assert [hook.secret_token for hook in hooks_of("main", None, fresh=False)] == ["main"]
    assert hooks_of("none", None, fresh=True) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"not json", b"\xff", b"[" * 100_000])
def test_an_authentic_body_that_is_no_object_is_ignored_and_answered_well(body: bytes) -> None:
    assert Receiver().receive(body).startswith("ignored: a body that isn't")


def test_what_is_lost_on_our_side_is_answered_well_and_said() -> None:
    # GitLab doesn't send again, and disables a hook that keeps failing, for up to a day.
    receiver = Receiver()
    receiver.queue.failing = True

    answer = receiver.post(json.dumps(PUSH))

    assert answer["statusCode"] == 202
    assert receiver.logged == ["lost: the queue takes no message"]


def test_a_hooks_secret_is_good_for_its_own_issuer_alone() -> None:
    receiver = Receiver()

    with pytest.raises(InvalidToken):
        receiver.receive(PUSH, alias="other")

    assert receiver.queue.refreshes == []


def test_secrets_that_were_stored_a_moment_ago_count() -> None:
    receiver = Receiver()
    receiver.fresh = [HookSecrets(secret_token="new", signing_token=None)]

    assert receiver.post(json.dumps(PUSH), token="new")["statusCode"] == 202
    assert receiver.asked == [False, True]


def test_known_secrets_are_not_read_again() -> None:
    receiver = Receiver()

    receiver.receive(PUSH)

    assert receiver.asked == [False]


def test_a_delivery_is_noted_with_the_hook_that_sent_it() -> None:
    receiver = Receiver()

    receiver.receive(PUSH)
    with pytest.raises(InvalidToken):
        receiver.receive(PUSH, x_gitlab_token="wrong")

    assert receiver.sightings.noted == [("main", PLAIN, b.NOW)]


@pytest.mark.parametrize(
    ("body", "alias", "token", "status"),
    [
        (json.dumps(PUSH), "main", "s3cret", 202),
        (json.dumps({"object_kind": "note"}), "main", "s3cret", 202),
        (json.dumps(PUSH), "main", "wrong", 401),
        (json.dumps(PUSH), "other", "s3cret", 401),
        (json.dumps(PUSH), "Main", "s3cret", 401),
        (json.dumps(PUSH), "a" * 21, "s3cret", 401),
        (json.dumps(PUSH), "main#x", "s3cret", 401),
        ("not json", "main", "wrong", 401),
        ("not json", "main", "s3cret", 202),
    ],
)
def test_the_route_answers_well_only_what_is_authentic(
    body: str, alias: str, token: str, status: int
) -> None:
    receiver = Receiver()

    answer = receiver.post(body, alias=alias, token=token)

    assert answer["statusCode"] == status
    assert (len(receiver.queue.refreshes) == 1) is (status == 202 and "push" in body)


@pytest.mark.parametrize(
    ("given", "project_id"),
    [
        (None, None),
        (["42"], 42),
        (["999999999999999999"], 999999999999999999),
        ([], None),
        (["42", "43"], None),
        ([""], None),
        (["0"], None),
        (["042"], None),
        (["-42"], None),
        (["42 "], None),
        (["\u0664\u0662"], None),
        (["9" * 19], None),
        (["42&project=43"], None),
    ],
)
def test_a_url_names_one_project_or_none(given: list[str] | None, project_id: int | None) -> None:
    receiver = Receiver()

    answer = receiver.post(json.dumps(PUSH), query=None if given is None else {"project": given})

    assert (answer["statusCode"], receiver.projects) == (202, [project_id])


def test_a_body_above_the_cap_is_refused_before_anything_is_read_or_compared() -> None:
    receiver = Receiver()
    padded = {**PUSH, "commits": ["x" * 6 * 1024 * 1024]}

    assert receiver.post(json.dumps(padded))["statusCode"] == 400

    assert (receiver.asked, receiver.queue.refreshes) == ([], [])


def test_a_strangers_body_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(_body: bytes) -> None:
        raise AssertionError

    monkeypatch.setattr(receive_webhook.json, "loads", parsed)

    assert Receiver().post("{}", token="wrong")["statusCode"] == 401


def test_no_secret_is_answered_or_logged() -> None:
    receiver = Receiver()

    answers = [
        receiver.post(json.dumps(PUSH)),
        receiver.post("not json"),
        receiver.post(json.dumps(PUSH), token="s3cret-almost"),
    ]

    assert "s3cret" not in json.dumps(answers) + "".join(receiver.logged)


@pytest.mark.parametrize("status", ["success", "failed", "canceled", "running"])
def test_one_projects_secret_says_nothing_of_another_projects_job(status: str) -> None:
    receiver, victim = Receiver(), b.a_job()
    own = victim.project_id + 1
    receiver.hooks = [dataclasses.replace(PLAIN, scope=HookScope("project", own))]
    event = {"object_kind": "build", "build_id": victim.job_id, "build_status": status}

    for named in (own, victim.project_id):
        answer = receiver.post(json.dumps(event | {"project_id": named}))
        assert answer["statusCode"] == 202

    assert receiver.jobs.get(victim.key) == NOTHING_HEARD
    assert list(receiver.jobs.states) == [b.a_job(project_id=own).key]
