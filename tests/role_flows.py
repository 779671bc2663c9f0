"""Every flow of every function, each by an event in a fresh process of the built function.

A flow asserts what it is there for in the table, in GitLab or in the cluster, not only its answer:
what can't be read or kept is often done without.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3

from local.emulator import InterfaceEmulator
from local.installation import (
    AGENTS,
    ALIAS,
    AUDIENCE,
    GROUP,
    PRODUCTION_FILE,
    SHOP,
    STAGING_FILE,
    STRANGER,
    WEB,
    production_config,
    staging_config,
)
from local.invoke import EVENTS, Surroundings, filled
from tests.support.job_hooks import job_hooks_of, keep_job_hooks, note_made

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.gateway.environment import Runtime
    from local.gateway.functions import Function
    from local.gitlab.control_connection import Job
    from local.installation import Installation
    from local.stack import Stack

# The shortest that the stage's parameters allow: IssuersMaxAgeSeconds and twice LeewaySeconds.
_ROTATION_WAIT = "11"
_ROTATION_SECONDS = 60
_RECEIVED_MAX = 50
_DEEP_GROUP, _DEEP = f"{SHOP}/deep", f"{SHOP}/deep/api"


@dataclass(frozen=True, slots=True)
class Stage:
    """The running stack, its functions by the name of their folder, and a gate before AWS."""

    stack: Stack
    installation: Installation
    surroundings: Surroundings
    functions: dict[str, Function]
    runtime: Runtime
    ids: dict[str, int] = field(default_factory=dict)

    def invoke(self, name: str, event: dict[str, Any] | bytes, **variables: str) -> tuple[Any, str]:
        """A function's answer and its log, in a process that has read nothing before."""
        function = self.functions[name]
        environment = {**function.environment, **variables}
        log = self.stack.folder / "flows" / f"{name}-{uuid.uuid4()}.log"
        emulator = InterfaceEmulator.start(
            replace(function, environment=environment), self.runtime, log
        )
        try:
            payload = event if isinstance(event, bytes) else json.dumps(event).encode()
            return emulator.invoke(payload), log.read_text()
        finally:
            emulator.stop()

    def item(self, pk: str, sk: str) -> dict[str, Any] | None:
        """An item of the table, by whoever may read it."""
        found = self._table().get_item(
            TableName=self.stack.aws.outputs["TableName"], Key=_key(pk, sk), ConsistentRead=True
        )
        return found.get("Item")

    def forget(self, pk: str, sk: str) -> None:
        """Delete an item."""
        self._table().delete_item(TableName=self.stack.aws.outputs["TableName"], Key=_key(pk, sk))

    def _table(self) -> Any:
        return boto3.client("dynamodb", **self.stack.aws.client_options)

    def job(self, project: str = WEB) -> Job:
        """A running job."""
        return self.stack.gitlab.control.create_job(project, audience=AUDIENCE)

    def kubeconfig(self, job: Job) -> dict[str, Any]:
        """What the deployed exchange gives a job."""
        request = urllib.request.Request(
            f"{self.surroundings.gateway}/kubeconfig", urlencode({"token": job.id_token}).encode()
        )
        trust = ssl.create_default_context(cafile=self.surroundings.ca)
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            config: dict[str, Any] = json.load(answer)
        return config


@dataclass(frozen=True, slots=True)
class Flow:
    """Something that a function is there for; `run` raises AssertionError where it isn't done."""

    name: str
    function: str
    run: Callable[[Stage], None]


def prepared(stack: Stack, installation: Installation, endpoint: str) -> Stage:
    """A stage on a running stack, whose queue nobody else takes from."""
    surroundings = Surroundings.of(stack)
    functions = surroundings.functions(stack.aws.build_folder)
    lambdas = boto3.client("lambda", **stack.aws.client_options)
    for mapping in lambdas.list_event_source_mappings()["EventSourceMappings"]:
        lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    control = stack.gitlab.control
    deep = int(control.create_group(_DEEP_GROUP)["id"])
    project = int(control.create_project(_DEEP)["id"])
    folder = stack.folder / "operator"
    status = folder / "status-token"
    status.write_text(control.create_token(["api"], group=GROUP, role="developer"))
    installation.jobgate(
        *("issuer", "add", ALIAS, "--url", stack.gitlab.url, "--audience", AUDIENCE),
        *("--token-file", str(folder / "gitlab-token"), "--status-token-file", str(status)),
        *("--ca", str(stack.authority.certificate), "--single-use"),
    )
    runtime = replace(surroundings.runtime(stack.aws.python), endpoint=endpoint)
    ids = {_DEEP_GROUP: deep, _DEEP: project}
    return Stage(stack, installation, surroundings, functions, runtime, ids)


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _event(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


# --- gitlab_webhook ---


def _delivered(stage: Stage, payload: dict[str, Any]) -> str:
    """Deliver an event of the group's webhook; returns the log."""
    event = _event("gitlab_webhook/push")
    unique = str(uuid.uuid4())
    for name in ("webhook-id", "Idempotency-Key"):
        event["headers"][name] = unique
        event["multiValueHeaders"][name] = [unique]
    event |= {"body": json.dumps(payload), "isBase64Encoded": False}
    answer, log = stage.invoke("gitlab_webhook", filled(json.dumps(event), stage.surroundings))
    assert isinstance(answer, dict)
    assert answer.get("statusCode") == 202, answer
    return log


def _push(stage: Stage) -> None:
    control = stage.installation.projects[AGENTS]
    log = _delivered(stage, {"object_kind": "push", "project_id": control})
    assert f"project {control} is to be refreshed" in log


def _push_of_no_configuration(stage: Stage) -> None:
    project = stage.installation.projects[WEB]
    log = _delivered(stage, {"object_kind": "push", "project_id": project})
    assert f"project {project} configures no agent" in log


def _sighting(stage: Stage) -> None:
    seen = f"HOOKS#{ALIAS}", f"group#{stage.installation.groups[GROUP]}"
    stage.forget(*seen)
    _push(stage)
    assert stage.item(*seen)


def _job_ends(stage: Stage) -> None:
    job = stage.job()
    stage.kubeconfig(job)
    ended = {"object_kind": "build", "build_id": job.id, "build_status": "success"}
    _delivered(stage, ended | {"project_id": job.project_id})
    item = stage.item(f"JOB#{ALIAS}#{job.project_id}#{job.id}", "STATE")
    assert item
    assert "finished_at" in json.dumps(item)


def _project_moves(stage: Stage) -> None:
    project = stage.installation.projects[WEB]
    place = f"PROJECT#{ALIAS}#{project}", "PLACE"
    stage.forget(*place)
    stage.kubeconfig(stage.job())
    _delivered(stage, {"event_name": "project_transfer", "project_id": project})
    assert "marked_at" in (stage.item(*place) or {})


def _group_moves(stage: Stage) -> None:
    group = stage.installation.groups[SHOP]
    chain = f"NAMESPACE#{ALIAS}#{group}", "CHAIN"
    stage.forget(*chain)
    stage.kubeconfig(stage.job())
    _delivered(stage, {"event_name": "group_rename", "group_id": group})
    assert "marked_at" in (stage.item(*chain) or {})


# --- config_refresh ---


def _message(stage: Stage, body: dict[str, Any], **variables: str) -> str:
    """Give a message; returns the log."""
    event = _event("config_refresh/refresh")
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
    job = stage.job(_DEEP)
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
    event = _event("config_refresh/refresh")
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
    answer, _ = stage.invoke("reconcile", _event("reconcile/schedule"))
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
    _, log = stage.invoke("reconcile", _event("reconcile/schedule"))
    assert stage.item(*made), log
    assert not stage.item(*spare), log
    assert job_hooks_of(stage.stack, authorised)


# --- token_exchange and relay ---


def _places(stage: Stage) -> tuple[tuple[str, str], ...]:
    return (
        (f"PROJECT#{ALIAS}#{stage.installation.projects[WEB]}", "PLACE"),
        (f"NAMESPACE#{ALIAS}#{stage.installation.groups[SHOP]}", "CHAIN"),
    )


def _exchange(stage: Stage) -> None:
    """Of a job of which nothing was heard, from a place that nobody knows, counted at once."""
    job = stage.job()
    places = _places(stage)
    state = f"JOB#{ALIAS}#{job.project_id}#{job.id}", "STATE"
    for kept in (*places, state):
        stage.forget(*kept)
    text = (EVENTS / "token_exchange/kubeconfig.json").read_text()
    event = text.replace("ID-TOKEN-OF-A-JOB", job.id_token).encode()
    answer, log = stage.invoke(
        "token_exchange", event, JOBGATE_PROJECT_RATE="10", JOBGATE_JOB_END="probe"
    )
    assert isinstance(answer, dict)
    assert answer.get("statusCode") == 200, log
    assert all(stage.item(*kept) for kept in (*places, state))


def _rotated(stage: Stage) -> None:
    """With the other slot's key."""
    jobgate = stage.installation.jobgate
    keys = json.loads(jobgate("keys", "list", "--json"))
    if all(key["slot"] == "A" for key in keys):
        jobgate("keys", "rotate", "--wait", _ROTATION_WAIT)
    for _ in range(_ROTATION_SECONDS):
        keys = json.loads(jobgate("keys", "list", "--json"))
        if any(key["slot"] == "B" and key["state"] == "signs" for key in keys):
            break
        time.sleep(1)
    else:
        raise TimeoutError("the rotated key doesn't sign")
    _exchange(stage)


def _request(stage: Stage) -> None:
    """Of a job of which nothing was heard, from a place that nobody knows."""
    job = stage.job()
    config = stage.kubeconfig(job)
    places = _places(stage)
    state = f"JOB#{ALIAS}#{job.project_id}#{job.id}", "STATE"
    for kept in (*places, state):
        stage.forget(*kept)
    text = (EVENTS / "relay/pods.json").read_text()
    agent = config["clusters"][0]["cluster"]["server"].rpartition("/")[2]
    token = config["users"][0]["user"]["token"]
    event = text.replace("ACCESS-TOKEN-OF-A-JOB", token).replace("1000000001", agent).encode()
    answer, log = stage.invoke("relay", event, JOBGATE_JOB_END="probe")
    assert isinstance(answer, dict)
    assert answer.get("statusCode") == 200, log
    assert all(stage.item(*kept) for kept in (*places, state))


FLOWS = (
    Flow("a push queues a refresh", "gitlab_webhook", _push),
    Flow("a push without configuration is dropped", "gitlab_webhook", _push_of_no_configuration),
    Flow("a webhook's delivery is noted", "gitlab_webhook", _sighting),
    Flow("a job's end is written", "gitlab_webhook", _job_ends),
    Flow("a moved project's place is marked", "gitlab_webhook", _project_moves),
    Flow("a renamed group's chain is marked", "gitlab_webhook", _group_moves),
    Flow("a new head is published", "config_refresh", _configuration_changes),
    Flow("a lost index is repaired", "config_refresh", _index_is_repaired),
    Flow("a queued job's end is written", "config_refresh", _late_job_end),
    Flow("a failed message is postponed", "config_refresh", _message_is_postponed),
    Flow("a large project is gone on with", "config_refresh", _more_than_one_try),
    Flow("a commit gets its status", "config_refresh", _commit_status),
    Flow("every project is queued, the token's end noted", "reconcile", _reconcile),
    Flow("authorised projects have webhooks", "reconcile", _project_hooks),
    Flow("a job gets its kubeconfig", "token_exchange", _exchange),
    Flow("a kubeconfig is signed by the other key", "token_exchange", _rotated),
    Flow("kubectl lists pods", "relay", _request),
)
