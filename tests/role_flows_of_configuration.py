"""The flows of config_refresh and reconcile."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import boto3

from local.installation import (
    AGENTS,
    ALIAS,
    GROUP,
    PRODUCTION_FILE,
    SHOP,
    STAGING_FILE,
    STRANGER,
    WEB,
    production_config,
    staging_config,
)
from tests.role_stage import DEEP, Flow, Stage, event_of
from tests.support.job_hooks import job_hooks_of, keep_job_hooks, note_made
from tests.support.service_account_tokens import moved

_RECEIVED_MAX = 50


# --- config_refresh ---


def _message(stage: Stage, body: dict[str, Any], **variables: str) -> str:
    """Give a message; returns the log."""
    event = event_of("config_refresh/refresh")
    event["Records"][0]["body"] = json.dumps({"v": 1, **body})
    answer, log = stage.invoke("config_refresh", event, **variables)
    assert answer == {"batchItemFailures": []}, log
    return log


def _refresh(stage: Stage) -> str:
    project = stage.installation.projects[AGENTS]
    return _message(stage, {"refresh": {"issuer": ALIAS, "project_id": project}})


def _new_head(stage: Stage) -> None:
    """Both agents' files change, in nothing that counts."""
    texts = {
        PRODUCTION_FILE: production_config(),
        STAGING_FILE: staging_config(stage.installation.namespace),
    }
    changed = {file: f"{text}# {uuid.uuid4()}\n" for file, text in texts.items()}
    stage.stack.gitlab.control.commit(AGENTS, changed)


def _configuration_changes(stage: Stage) -> None:
    project = stage.installation.projects[AGENTS]
    noted = "CONFIG_PROJECTS", f"{ALIAS}#{project}"
    before = stage.item(*noted) or {}
    places = (
        (f"PROJECT#{ALIAS}#{project}", "PLACE"),
        (f"NAMESPACE#{ALIAS}#{stage.installation.groups[GROUP]}", "CHAIN"),
    )
    for place in places:
        stage.forget(*place)
    _new_head(stage)
    _refresh(stage)
    after = stage.item(*noted) or {}
    assert after.get("last_commit") != before.get("last_commit")
    assert "last_error" not in after
    assert all(stage.item(*place) for place in places)


def _index_is_repaired(stage: Stage) -> None:
    subject = f"SUBJECT#{ALIAS}#group#{stage.installation.groups[SHOP]}", "AGENTS"
    stage.forget(*subject)
    _refresh(stage)
    assert stage.item(*subject)


def _late_job_end(stage: Stage) -> None:
    job = stage.job(DEEP)
    stage.kubeconfig(job)
    now = time.time()  # noqa: TID251  the function compares it with its own clock
    word = {"status": "success", "source": "hook", "seen_at": now, "finished_at": now}
    # Its project is two groups below the hook's, so that its chain tells whether it is reached.
    scope = {"kind": "group", "id": stage.installation.groups[SHOP]}
    named = {"issuer": ALIAS, "project_id": job.project_id, "job_id": job.id}
    log = _message(stage, {"job": {**named, "state": word, "scope": scope}})
    assert f"job {job.id} is success" in log, log


def _message_is_postponed(stage: Stage) -> None:
    queue = boto3.client("sqs", **stage.stack.aws.client_options)
    url = stage.stack.aws.outputs["RefreshQueueUrl"]
    unique = str(uuid.uuid4())
    queue.send_message(
        QueueUrl=url, MessageBody=unique, MessageGroupId=unique, MessageDeduplicationId=unique
    )
    handles: dict[str | None, str] = {}
    for _ in range(_RECEIVED_MAX):
        received = queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        for message in received.get("Messages", []):
            handles[message.get("Body")] = message["ReceiptHandle"]
        if unique in handles:
            break
    event = event_of("config_refresh/refresh")
    event["Records"][0] |= {"body": unique, "receiptHandle": handles[unique]}
    answer, log = stage.invoke("config_refresh", event)
    assert answer["batchItemFailures"]
    assert "can't be postponed" not in log


def _more_than_one_try(stage: Stage) -> None:
    _new_head(stage)
    control = stage.stack.gitlab.control
    # A try begins no further agent after 35 s, and gives one question 15 s.
    control.disturb_next("GET /", times=3, delay=13)
    try:
        log = _refresh(stage)
    finally:
        control.clear_faults()
    assert "another one goes on" in log


def _commit_status(stage: Stage) -> None:
    stage.stack.gitlab.control.clear_requests()
    _new_head(stage)
    _refresh(stage)
    assert stage.stack.gitlab.control.requests("/statuses/")


# --- reconcile ---


def _reconcile(stage: Stage) -> None:
    end = f"GITLAB_TOKEN#{ALIAS}", "RUN_TIME"
    stage.forget(*end)
    answer, _ = stage.invoke("reconcile", event_of("reconcile/schedule"))
    assert isinstance(answer, dict)
    assert answer.get("queued", 0) >= 1
    assert stage.item(*end)


def _project_hooks(stage: Stage) -> None:
    """One project is authorised, another one isn't any more."""
    entry_id = keep_job_hooks(stage.stack)
    authorised, stranger = (stage.installation.projects[path] for path in (WEB, STRANGER))
    made, spare = ((f"HOOKS_MADE#{ALIAS}", str(number)) for number in (authorised, stranger))
    stage.forget(*made)
    note_made(stage.stack, stranger, entry_id)
    _, log = stage.invoke("reconcile", event_of("reconcile/schedule"))
    assert stage.item(*made), log
    assert not stage.item(*spare), log
    assert job_hooks_of(stage.stack, authorised)


def _token_is_renewed(stage: Stage) -> None:
    """Half the life of the relay's token, and of the agent's, is long over."""
    now = int(time.time())  # noqa: TID251  the cluster lives in real time
    key = stage.stack.cluster.admin_kubeconfig.with_name("service-account.key")
    secrets = boto3.client("secretsmanager", **stage.stack.aws.client_options)
    prefix = stage.stack.aws.outputs["ClusterSecretPrefix"]
    found = secrets.list_secrets(Filters=[{"Key": "name", "Values": [prefix]}])["SecretList"]
    names = [each["Name"] for each in found]
    old = {}
    for name in names:
        token = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])["token"]
        old[name] = moved(token, key, issued_at=now - 3600, expires_at=now + 600)
        secrets.put_secret_value(SecretId=name, SecretString=json.dumps({"token": old[name]}))
    _, log = stage.invoke("reconcile", event_of("reconcile/schedule"))
    for name in names:
        new = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])["token"]
        assert new != old[name], log


FLOWS = (
    Flow("a new head is published", "config_refresh", _configuration_changes),
    Flow("a lost index is repaired", "config_refresh", _index_is_repaired),
    Flow("a queued job's end is written", "config_refresh", _late_job_end),
    Flow("a failed message is postponed", "config_refresh", _message_is_postponed),
    Flow("a large project is gone on with", "config_refresh", _more_than_one_try),
    Flow("a commit gets its status", "config_refresh", _commit_status),
    Flow("every project is queued, the token's end noted", "reconcile", _reconcile),
    Flow("authorised projects have webhooks", "reconcile", _project_hooks),
    Flow("a cluster's tokens are renewed", "reconcile", _token_is_renewed),
)
