"""What an exchange takes: warm, with its parts; cold, from a process's start to its answer.

    .venv/bin/python -m benchmarks.exchange [--rounds N] [--no-gate]

The table and KMS are a ministack's on this machine, GitLab's keys an HTTPS server's; every variant
meets the same. Each round starts every variant once, one after the other, so that a busy machine
slows all of them: ratios are what to compare. Fails where a cold start as deployed takes more than
0.6 of the same handler on boto3's resource and Powertools with validation.
"""

from __future__ import annotations

import argparse
import compileall
import dataclasses
import importlib.metadata
import json
import py_compile
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3
import pytest
from jobgate import wiring
from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.cli.signing_keys import read_public_key
from jobgate.core.public_settings import PublicSettings

from local.aws.emulator import start_emulator
from local.certificates import CertificateAuthority
from tests.support import builders as b
from tests.support.https_server import https_server
from tests.support.id_tokens import SigningKey, gitlab_claims
from tests.support.stores import TABLE, create_table, job_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jobgate.adapters.aws_api import AWSCall

_ROOT = Path(__file__).parents[1]
_GATE = 0.6
_WARM = 300
# Each: AWS's caller, the front, and whether the libraries are compiled. See exchange_child.
_VARIANTS = {
    "as deployed": ("signed", "own", True),
    "boto3 clients": ("client", "own", True),
    "boto3 resource": ("resource", "own", True),
    "Powertools with validation": ("signed", "powertools", True),
    "boto3 resource, Powertools with validation": ("resource", "powertools", True),
    "as deployed, no bytecode": ("signed", "own", False),
    "boto3 resource, Powertools, no bytecode": ("resource", "powertools", False),
}
_BASE, _PEER = "as deployed", "boto3 resource, Powertools with validation"
# What the layer ships, and pydantic, which Powertools' validation needs.
_SHIPPED = ("aws-lambda-powertools", "boto3", "PyJWT", "cryptography", "pydantic")


@dataclass(frozen=True)
class _Deployment:
    environment: Mapping[str, str]
    event: Path


def main() -> None:
    """Measure, print, and exit with 1 where the gate isn't held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-gate", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for deployment in _deployed(folder):
            _report_warm(deployment)
            cold = _cold(deployment, folder, options.rounds)
            ratio = _report_cold(cold)
    if ratio > _GATE and not options.no_gate:
        sys.exit(f"cold start: {ratio:.2f} of the peer, more than {_GATE}")


def _deployed(folder: Path) -> Iterator[_Deployment]:
    authority = CertificateAuthority.create(folder / "ca")
    interpreter = _ROOT / ".venv-ministack/bin/python"
    emulator = start_emulator(interpreter, folder / "aws", authority=authority)
    server = authority.issue("gitlab", folder / "ca")
    try:
        with https_server(server, authority.certificate) as gitlab:
            key = SigningKey.generate("key-1")
            document = {"issuer": gitlab.url, "jwks_uri": f"{gitlab.url}/keys"}
            gitlab.answer("/.well-known/openid-configuration", document)
            gitlab.answer("/keys", {"keys": [key.jwk]})
            now = int(time.time())  # noqa: TID251  the handler takes the system's clock
            with pytest.MonkeyPatch.context() as patched:
                for name, value in emulator.environment.items():
                    patched.setenv(name, value)
                _store(BotoAWS(boto3.Session()), gitlab.url, gitlab.ca, now)
            token = key.sign(gitlab_claims(iss=gitlab.url, iat=now, nbf=now - 5, exp=now + 36_000))
            event = folder / "event.json"
            event.write_text(json.dumps(_event(token)))
            names = {"JOBGATE_TABLE": TABLE, "JOBGATE_GITLAB_TOKENS_SECRET": "none"}
            # What is stored is of the start of this run, and each variant asks again and again.
            limits = {"JOBGATE_PROJECT_RATE": "1000000", "JOBGATE_CHAIN_FRESH": "36000"}
            believed = {"JOBGATE_CHAIN_MAX_AGE": "36000", "JOBGATE_HOOK_SILENCE": "36000"}
            yield _Deployment({**emulator.environment, **names, **limits, **believed}, event)
    finally:
        emulator.child.stop()


def _store(call: AWSCall, url: str, ca: str, now: int) -> None:
    """A job's own project's agent, and two that its groups lead to."""
    create_table(call)
    made = call("kms", "CreateKey", {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"})
    slot = made["KeyMetadata"]["Arn"]
    agents = [
        b.an_agent(501, name="prod", projects={b.APP: b.an_entry()}),
        b.an_agent(502, name="staging", groups={b.TOP: b.an_entry("top")}),
        b.an_agent(503, name="review", groups={b.SUB1: b.an_entry("top/sub1")}),
    ]
    subjects = {("project", b.APP): 501, ("group", b.TOP): 502, ("group", b.SUB1): 503}
    root = {"root_path": {"S": "top"}}
    config_project = agent_items.config_project_item(b.a_config_project_item(root_path="top"))
    table = call("dynamodb", "DescribeTable", {"TableName": TABLE})["Table"]
    stored = [
        operator_items.settings_item(
            PublicSettings(base_url=b.BASE_URL, table_id=table["TableId"])
        ),
        operator_items.issuer_item(b.an_issuer(url=url, ca=ca)),
        operator_items.public_key_item(read_public_key(call, slot, not_before=now - 60)),
        operator_items.stops_item("main", ()),
        config_project | root,
        items.place_item("main", b.APP, b.a_place(fetched_at=now)),
        items.place_item("main", b.CONFIG_PROJECT, b.a_config_place(fetched_at=now)),
        items.chain_item("main", b.a_chain(fetched_at=now)),
        job_item(b.a_job().key, b.a_state(seen_at=now), expires_at=now + 36_000),
        *(agent_items.snapshot_item(agent) for agent in agents),
        *(
            items.subject_key("main", kind, i) | {items.stamp(agent_id): {"N": "1"}}
            for (kind, i), agent_id in subjects.items()
        ),
    ]
    for item in stored:
        call("dynamodb", "PutItem", {"TableName": TABLE, "Item": item})


def _event(token: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(
        (_ROOT / "events/token_exchange/kubeconfig_by_form.json").read_text()
    )
    return event | {"body": urlencode({"token": token}), "isBase64Encoded": False}


# --- Warm ---


def _report_warm(deployment: _Deployment) -> None:
    handler: Any = wiring.token_exchange(deployment.environment)
    event = json.loads(deployment.event.read_text())
    parts: dict[str, list[float]] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                parts.setdefault(name, []).append((time.perf_counter() - start) * 1000)

        return call

    exchange = handler._exchange  # noqa: SLF001  to look inside
    names = {
        "verify": (exchange.tokens.verifier, "verify"),
        "read 1: the job's facts": (exchange.decisions.store, "exchange_facts"),
        "read 2: groups' agents": (exchange.decisions.store, "agents_of_groups"),
        "read 3: snapshots": (exchange.decisions.store, "snapshots"),
        "sign (KMS)": (exchange.signer, "sign"),
    }
    for name, (part, method) in names.items():
        setattr(part, method, timed(name, getattr(part, method)))
    quiet = dataclasses.replace(exchange.tokens, recorder=lambda _line: None)
    handler._exchange = dataclasses.replace(exchange, tokens=quiet)  # noqa: SLF001  the same
    whole = timed("whole", handler)
    for _ in range(_WARM + 20):
        answer = whole(event, None)
        if answer["statusCode"] != 200:
            raise RuntimeError(answer["body"])
    print(f"warm exchange, {_WARM} times, three agents (ms)")
    print(f"{'':40}{'median':>9}{'p99':>9}")
    known = 0.0
    for name in (*names, "whole"):
        taken = sorted(parts[name][-_WARM:])
        known += 0 if name == "whole" else statistics.median(taken)
        print(f"{name:40}{statistics.median(taken):9.2f}{taken[int(_WARM * 0.99)]:9.2f}")
    rest = statistics.median(parts["whole"][-_WARM:]) - known
    print(f"{'all the rest (parse, decide, answer)':40}{rest:9.2f}\n")


# --- Cold ---


def _cold(deployment: _Deployment, folder: Path, rounds: int) -> dict[str, list[float]]:
    plain, compiled = folder / "plain", folder / "compiled"
    _ship(plain)
    shutil.copytree(plain, compiled)
    # As shared/Makefile does for the layer.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(compiled, quiet=2, invalidation_mode=unchecked)
    taken: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    for number in range(rounds + 1):
        for name, (aws, front, has_bytecode) in _VARIANTS.items():
            libraries = compiled if has_bytecode else plain
            milliseconds = _started(deployment, libraries, aws, front)
            if number:  # the first one fills the machine's caches
                taken[name].append(milliseconds)
    return taken


def _started(deployment: _Deployment, libraries: Path, aws: str, front: str) -> float:
    command = [sys.executable, "-S", "-B", "-P", "-m", "benchmarks.exchange_child"]
    environment = {**deployment.environment, "PYTHONPATH": str(libraries)}
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, aws, front, str(deployment.event)],
        env=environment,
        stdout=subprocess.PIPE,
        cwd=libraries,
        text=True,
    ) as child:
        lines = iter(child.stdout or ())
        # The records come first; the status is a line of its own.
        answered = next((line for line in lines if line.strip().isdigit()), "nothing")
        took = (time.perf_counter() - start) * 1000
    if answered.strip() != "200":
        raise RuntimeError(f"{aws}, {front}: {answered}")
    return took


def _ship(target: Path) -> None:
    """The package and its libraries without bytecode, as a layer has them."""
    without = shutil.ignore_patterns("__pycache__", "cli")
    shutil.copytree(_ROOT / "shared/jobgate", target / "jobgate", ignore=without)
    (target / "benchmarks").mkdir()
    shutil.copy(_ROOT / "benchmarks/exchange_child.py", target / "benchmarks")
    for name in _with_requirements(set(_SHIPPED)):
        for file in importlib.metadata.files(name) or ():
            if file.suffix != ".pyc" and ".." not in file.parts:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), target / file)


def _with_requirements(names: set[str]) -> set[str]:
    """The distributions and all that they need and that is installed."""
    found: set[str] = set()
    while names:
        name = names.pop()
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        plain = {_name(text) for text in needed if "extra ==" not in text}
        names |= plain - found
    return found


def _name(requirement: str) -> str:
    head = requirement
    for mark in " ;<>=!~[(":
        head = head.split(mark, 1)[0]
    return head


def _report_cold(taken: dict[str, list[float]]) -> float:
    base = statistics.median(taken[_BASE])
    print(f"cold start, process start to answer, {len(taken[_BASE])} rounds")
    print(f"{'':46}{'median ms':>10}{'x deployed':>12}")
    for name, values in taken.items():
        median = statistics.median(values)
        ratios = [v / mine for v, mine in zip(values, taken[_BASE], strict=True)]
        print(f"{name:46}{median:10.0f}{statistics.median(ratios):12.2f}")
    pairs = zip(taken[_BASE], taken[_PEER], strict=True)
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    print(f"\nas deployed is {ratio:.2f} of {_PEER} (gate {_GATE}); {base:.0f} ms")
    return ratio


if __name__ == "__main__":
    main()
