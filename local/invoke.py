"""`make invoke`: an event of `events/` through a built function, against the stack of `make local`.

An event holds made-up values only. Those that the running stack has true ones for are replaced,
also within an encoded body: tokens of a job that runs, an agent's and its project's id, and the
signature of a webhook. Everything else of an event stays as it is.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import ssl
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3
from botocore.exceptions import BotoCoreError

from local.aws.build import build
from local.aws.target import target_of
from local.emulator import InterfaceEmulator
from local.gateway.environment import Runtime
from local.gateway.functions import Function, read_functions
from local.gateway.runtime_folder import prepare_runtime
from local.gitlab.control import Control
from local.gitlab.control_connection import ControlError
from local.gitlab.hook_headers import signature
from local.installation import AGENTS, ALIAS, AUDIENCE, WEB
from local.kubernetes.cache import cache_root
from local.process import ChildFailedError
from local.sam_template import translate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.stack import Stack

ROOT = Path(__file__).parents[1]
EVENTS = ROOT / "events"

_ENDPOINTS = ROOT / ".local" / "endpoints.json"
_ID_TOKEN = "ID-TOKEN-OF-A-JOB"  # noqa: S105  the made-up value
_ACCESS_TOKEN = "ACCESS-TOKEN-OF-A-JOB"  # noqa: S105  the made-up value
_AGENT_ID = "1000000001"
_CONFIG_PROJECT_ID = "4200000042"
_SIGNATURE = "v1,U0lHTkFUVVJFLU9GLUEtSE9PSy1PRi1USEUtU1RBQ0s="
_FETCH_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a running stack is. `ca` is the certificate authority of all its parts."""

    gateway: str
    gitlab: Control
    ca: Path
    aws: Mapping[str, str]
    stack_name: str
    programs: tuple[Path, ...]  # what a job's image has: kubectl, helm

    @classmethod
    def of(cls, stack: Stack) -> Surroundings:
        """Those of a stack that this process started."""
        return cls(
            stack.gateway.url,
            stack.gitlab.control,
            stack.authority.certificate,
            stack.aws.environment,
            stack.aws.stack_name,
            (stack.clients.kubectl, stack.clients.helm),
        )

    @classmethod
    def read(cls, endpoints: Path) -> Surroundings:
        """Those that `make local` wrote down; raises FileNotFoundError where it doesn't run."""
        found = json.loads(endpoints.read_text())
        ca = Path(found["ca"])
        token = Path(found["gitlab_control_token_file"]).read_text().strip()
        gitlab = Control(found["gitlab"], token=token, ca=ca)
        programs = (Path(found["kubectl"]), Path(found["helm"]))
        aws, name = found["aws_environment"], found["stack_name"]
        return cls(found["gateway"], gitlab, ca, aws, name, programs)

    @property
    def client_options(self) -> dict[str, Any]:
        """What boto3's clients need."""
        return {
            "endpoint_url": self.aws["AWS_ENDPOINT_URL"],
            "region_name": self.aws["AWS_REGION"],
            "aws_access_key_id": self.aws["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.aws["AWS_SECRET_ACCESS_KEY"],
            "verify": str(self.ca),
        }

    def functions(self, build_folder: Path) -> dict[str, Function]:
        """The deployed functions with the code in `build_folder`, by the name of their folder."""
        found = read_functions(
            self.client_options,
            self.stack_name,
            build_folder=build_folder,
            translated_template=translate(ROOT / "template.yaml", {}),
        )
        return {_folder_name(function.logical_id): function for function in found}

    def runtime(self, python: Path) -> Runtime:
        """What stands for AWS's image around `python`."""
        environ = os.environ  # noqa: TID251  the user's cache folder
        folder = prepare_runtime(cache_root(environ) / "runtimes", python)
        return Runtime(folder, self.aws["AWS_ENDPOINT_URL"], self.ca)


def filled(event: str, surroundings: Surroundings) -> bytes:
    """An event with the true values of a running stack for the made-up ones."""
    parsed = json.loads(event)
    text = _decoded(parsed)
    values: dict[str, str] = {}
    if any(value in text for value in (_ID_TOKEN, _ACCESS_TOKEN, _AGENT_ID)):
        values |= _job_values(surroundings)
    if _CONFIG_PROJECT_ID in text:
        job = surroundings.gitlab.create_job(AGENTS)
        values[_CONFIG_PROJECT_ID] = str(job.project_id)
    parsed = _replaced(parsed, values)
    if _SIGNATURE in text:
        _sign(parsed, _hook(surroundings))
    return json.dumps(parsed).encode()


def _job_values(surroundings: Surroundings) -> dict[str, str]:
    """A running job's tokens, and the agent that it may use."""
    job = surroundings.gitlab.create_job(WEB, audience=AUDIENCE)
    request = urllib.request.Request(  # noqa: S310  the gateway's own https URL
        f"{surroundings.gateway}/kubeconfig", data=urlencode({"token": job.id_token}).encode()
    )
    trust = ssl.create_default_context(cafile=surroundings.ca)
    with urllib.request.urlopen(request, timeout=_FETCH_SECONDS, context=trust) as answer:  # noqa: S310  the same
        config = json.load(answer)
    return {
        _ID_TOKEN: job.id_token,
        _ACCESS_TOKEN: config["users"][0]["user"]["token"],
        _AGENT_ID: config["clusters"][0]["cluster"]["server"].rpartition("/")[2],
    }


def _hook(surroundings: Surroundings) -> Mapping[str, str]:
    secrets = boto3.client("secretsmanager", **surroundings.client_options)
    cloudformation = boto3.client("cloudformation", **surroundings.client_options)
    (stack,) = cloudformation.describe_stacks(StackName=surroundings.stack_name)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    stored = secrets.get_secret_value(SecretId=outputs["GitLabHooksArn"])
    hook: Mapping[str, str] = json.loads(stored["SecretString"])[ALIAS][0]
    return hook


def _sign(event: dict[str, Any], hook: Mapping[str, str]) -> None:
    """Make a webhook's event one that the hook sends now."""
    body, now = _body(event), int(time.time())  # noqa: TID251  the function compares it with its own clock
    delivery = event["headers"]["webhook-id"]
    signed = {
        "X-Gitlab-Token": hook["secret_token"],
        "webhook-timestamp": str(now),
        "webhook-signature": signature(
            hook["signing_token"], body.encode(), delivery=delivery, timestamp=now
        ),
    }
    event["headers"] |= signed
    event["multiValueHeaders"] |= {name: [value] for name, value in signed.items()}


def _decoded(event: Mapping[str, Any]) -> str:
    return json.dumps(event) + _body(event)


def _body(event: Mapping[str, Any]) -> str:
    """The body of a proxy event, if it is one."""
    body = event.get("body") or ""
    return base64.b64decode(body).decode() if event.get("isBase64Encoded") else str(body)


def _replaced(event: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    body = _with(_body(event), values)
    replaced: dict[str, Any] = json.loads(_with(json.dumps(event), values))
    if event.get("isBase64Encoded"):
        replaced["body"] = base64.b64encode(body.encode()).decode()
    return replaced


def _with(text: str, values: Mapping[str, str]) -> str:
    for made_up, true in values.items():
        text = text.replace(made_up, true)
    return text


def _folder_name(logical_id: str) -> str:
    """`token_exchange` for `TokenExchangeFunction`."""
    words = logical_id.removesuffix("Function")
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in words).removeprefix("_")


def main(arguments: Sequence[str]) -> int:
    """Invoke a function; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make invoke", description=__doc__)
    parser.add_argument("function", help="a folder of functions/, such as token_exchange")
    parser.add_argument("event", type=Path, help="a file, such as events/token_exchange/jwks.json")
    options = parser.parse_args(arguments)
    try:
        surroundings = Surroundings.read(_ENDPOINTS)
    except FileNotFoundError:
        print("Nothing to invoke against: run `make local` in another terminal.", file=sys.stderr)
        return 2
    try:
        with contextlib.closing(surroundings.gitlab):
            return _invoke(surroundings, options.function, options.event.read_text())
    except (BotoCoreError, ChildFailedError, ControlError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _invoke(surroundings: Surroundings, name: str, event: str) -> int:
    log = ROOT / ".local" / "invoke" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    target = target_of(ROOT / ".venv-ministack/bin/python")
    built = build(target, log.parent / "sam-build.log", say=_say)
    try:
        functions = surroundings.functions(built.folder)
        if name not in functions:
            print(f"There is no function {name}: {', '.join(functions)}", file=sys.stderr)
            return 2
        runtime = surroundings.runtime(target.interpreter)
        emulator = InterfaceEmulator.start(functions[name], runtime, log)
        try:
            answer = emulator.invoke(filled(event, surroundings))
        finally:
            emulator.stop()
    finally:
        built.release()
    print(_own_lines(log.read_text()), file=sys.stderr)
    print(json.dumps(_shown(answer), indent=2, ensure_ascii=False))
    return 0


def _own_lines(log: str) -> str:
    """What the function wrote, with Lambda's START, END and REPORT; not what the emulator did."""
    return "\n".join(line for line in log.splitlines() if " (rapid) " not in line)


def _shown(answer: Any) -> Any:
    """An answer for a person's eyes: a body that is JSON as such."""
    if not isinstance(answer, dict) or not isinstance(answer.get("body"), str):
        return answer
    try:
        return answer | {"body": json.loads(answer["body"])}
    except ValueError:
        return answer


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
