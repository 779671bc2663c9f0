from __future__ import annotations

import json
import traceback
from dataclasses import replace
from typing import Any

import pytest
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.hook_secrets import hooks_in
from jobgate.adapters.secrets import SecretReader
from jobgate.core.errors import Unavailable
from jobgate.core.hook import HookScope
from jobgate.core.webhook import HookSecrets, proven_by

from tests.support.fakes import FakeClock


class SecretsManager:
    def __init__(self, answer: dict[str, Any] | AWSError) -> None:
        self.answer = answer
        self.calls = 0

    def __call__(self, service: str, operation: str, request: Any) -> dict[str, Any]:
        assert (service, operation) == ("secretsmanager", "GetSecretValue")
        self.calls += 1
        if isinstance(self.answer, AWSError):
            raise self.answer
        return self.answer


def test_a_secret_is_kept_for_a_minute_and_then_read_again() -> None:
    manager, clock = SecretsManager({"SecretString": '{"main": "old"}'}), FakeClock()
    reader = SecretReader(manager, clock=clock)
    assert reader.json("arn") == {"main": "old"}
    manager.answer = {"SecretString": '{"main": "new"}'}

    clock.advance(60)
    assert (reader.json("arn"), manager.calls) == ({"main": "old"}, 1)
    clock.advance(1)

    assert (reader.json("arn"), manager.calls) == ({"main": "new"}, 2)


def test_a_secret_that_was_read_before_the_clock_was_set_back_is_read_again() -> None:
    manager, clock = SecretsManager({"SecretString": '{"main": "old"}'}), FakeClock()
    reader = SecretReader(manager, clock=clock)
    reader.json("arn")
    manager.answer = {"SecretString": '{"main": "new"}'}

    clock.advance(-3600)

    assert reader.json("arn") == {"main": "new"}


def test_an_entry_that_was_added_meanwhile_is_found_and_a_known_one_is_kept() -> None:
    manager, clock = SecretsManager({"SecretString": '{"main": "old"}'}), FakeClock()
    reader = SecretReader(manager, clock=clock)
    assert reader.entry("arn", "main") == "old"
    manager.answer = {"SecretString": '{"main": "new", "other": "added"}'}

    clock.advance(2)
    assert (reader.entry("arn", "main"), manager.calls) == ("old", 1)

    assert (reader.entry("arn", "other"), manager.calls) == ("added", 2)


def test_an_entry_that_is_not_there_is_looked_for_once_a_second() -> None:
    manager, clock = SecretsManager({"SecretString": "{}"}), FakeClock()
    reader = SecretReader(manager, clock=clock)

    assert [reader.entry("arn", "other") for _ in range(5)] == [None] * 5
    assert manager.calls == 1
    clock.advance(1.5)

    assert [reader.entry("arn", "other") for _ in range(5)] == [None] * 5
    assert manager.calls == 2


@pytest.mark.parametrize(
    "answer",
    [
        {"SecretString": "canary"},
        {"SecretString": '"canary"'},
        {"SecretString": '["canary"]'},
        {"SecretString": '{"canary": '},
        {"SecretBinary": b"canary"},
        {},
        AWSError("ResourceNotFoundException"),
        AWSError("AccessDeniedException"),
    ],
    ids=range(8),
)
def test_a_secret_that_cannot_be_used_is_unavailable_and_never_quoted(answer: Any) -> None:
    reader = SecretReader(SecretsManager(answer), clock=FakeClock())

    with pytest.raises(Unavailable) as refused:
        reader.json("arn")

    assert "canary" not in "".join(traceback.format_exception(refused.value))


def test_hooks_are_those_of_one_issuer() -> None:
    scoped = '{"id": "e", "signing_token": "whsec_x", "scope": {"kind": "group", "id": 7}}'
    text = f'{{"main": [{{"secret_token": "s"}}, {scoped}], "other": []}}'
    hooks_of = hooks_in(
        SecretReader(SecretsManager({"SecretString": text}), clock=FakeClock()), "arn"
    )

    assert list(hooks_of("main", None, fresh=False)) == [
        HookSecrets(secret_token="s", signing_token=None),
        HookSecrets(
            secret_token=None,
            signing_token="whsec_x",
            entry_id="e",
            scope=HookScope("group", 7),
        ),
    ]
    assert list(hooks_of("other", None, fresh=False)) == []
    assert list(hooks_of("nobody", None, fresh=False)) == []


SHARED = {
    "id": "e",
    "secret_token": "s3cret",
    "signing_token": "whsec_a2V5",
    "scope": {"kind": "projects", "id": 0},
}


def test_what_projects_share_proves_the_webhook_of_the_named_project_alone() -> None:
    manager = SecretsManager({"SecretString": json.dumps({"main": [SHARED]})})
    hooks_of = hooks_in(SecretReader(manager, clock=FakeClock()), "arn")

    assert list(hooks_of("main", None, fresh=False)) == []
    ((app,), (api,)) = (list(hooks_of("main", i, fresh=False)) for i in (101, 102))
    assert (app.scope, api.scope) == (HookScope("project", 101), HookScope("project", 102))
    for hook in (app, api):
        assert hook.entry_id == "e"
        assert hook.secret_token != "s3cret"
        assert hook.signing_token != "whsec_a2V5"
    sent = {"x-gitlab-token": str(app.secret_token)}
    unsigned = [replace(hook, signing_token=None) for hook in (app, api)]
    assert [proven_by(sent, b"{}", hooks=[hook], now=0) for hook in unsigned] == [unsigned[0], None]
    shared = {"x-gitlab-token": "s3cret"}
    assert proven_by(shared, b"{}", hooks=unsigned, now=0) is None


def test_fresh_hooks_are_read_again_but_not_for_every_stranger() -> None:
    manager, clock = SecretsManager({"SecretString": '{"main": []}'}), FakeClock()
    hooks_of = hooks_in(SecretReader(manager, clock=clock), "arn")
    hooks_of("main", None, fresh=False)
    clock.advance(2)

    for _ in range(10):
        hooks_of("main", None, fresh=True)

    assert manager.calls == 2
