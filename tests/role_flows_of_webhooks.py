"""The flows of gitlab_webhook, each by an event in a fresh process of the built function."""

from __future__ import annotations

import json
import uuid
from typing import Any

from local.installation import AGENTS, ALIAS, GROUP, SHOP, WEB
from local.invoke import filled
from tests.role_stage import Flow, Stage, event_of

# --- gitlab_webhook ---


def _delivered(stage: Stage, payload: dict[str, Any]) -> str:
    """Deliver an event of the group's webhook; returns the log."""
    event = event_of("gitlab_webhook/push")
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


FLOWS = (
    Flow("a push queues a refresh", "gitlab_webhook", _push),
    Flow("a push without configuration is dropped", "gitlab_webhook", _push_of_no_configuration),
    Flow("a webhook's delivery is noted", "gitlab_webhook", _sighting),
    Flow("a job's end is written", "gitlab_webhook", _job_ends),
    Flow("a moved project's place is marked", "gitlab_webhook", _project_moves),
    Flow("a renamed group's chain is marked", "gitlab_webhook", _group_moves),
)
