"""The flows of token_exchange and relay."""

from __future__ import annotations

import json
import time

from local.installation import ALIAS, SHOP, WEB
from local.invoke import EVENTS
from tests.role_stage import Flow, Stage

# The shortest that the stage's parameters allow: IssuersMaxAgeSeconds and twice LeewaySeconds.
_ROTATION_WAIT = "11"
_ROTATION_SECONDS = 60


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
    Flow("a job gets its kubeconfig", "token_exchange", _exchange),
    Flow("a kubeconfig is signed by the other key", "token_exchange", _rotated),
    Flow("kubectl lists pods", "relay", _request),
)
