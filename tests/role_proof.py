"""`make roles`: no action of a statement of a function's role is spare, and none is missing.

The whole stack runs, ministack with the deployed roles enforced and the gate before it for the
conditions. Every flow of every function runs in a fresh process: with the whole role each must
succeed, and without one action of a statement one must fail. Each resource and leading key of a
statement must have been needed by a request that was seen. Writes docs/security.md's table.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from local.installation import Installation
from local.kubernetes.progress import TerminalProgress
from local.process import ChildFailedError
from local.stack import Stack
from tests.role_flows import FLOWS
from tests.role_stage import Flow, Stage, prepared
from tests.role_table import (
    BY_LAMBDA,
    FUNCTIONS,
    PAGE,
    Row,
    rows_of,
    template_statements,
    with_rows,
)
from tests.support.iam import Statement, allows, listed
from tests.support.role_gate import Asked, RoleGate, role_gate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# What Lambda does by itself with a function's role (Lambda, "Using Lambda with Amazon SQS" and
# "Defining Lambda function permissions with an execution role"); ministack does it without asking.
_LAMBDAS_OWN = {
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
}
_PARAMETERS = {
    # Nothing but the proof works: no schedule, and a rotation that counts at once.
    "ReconcileSchedule": "rate(1 day)",
    "IssuersMaxAgeSeconds": "1",
    "LeewaySeconds": "5",
    "CommitStatus": "true",
}


class Roles:
    """The deployed roles, which can be put back as they were."""

    def __init__(self, stage: Stage, gate: RoleGate) -> None:
        self._iam = boto3.client("iam", **stage.stack.aws.client_options)
        functions = boto3.client("lambda", **stage.stack.aws.client_options)
        self._gate = gate
        self.documents: dict[str, tuple[str, str, dict[str, Any]]] = {}
        for name, function in stage.functions.items():
            described = functions.get_function_configuration(FunctionName=function.name)
            role = described["Role"].rpartition("/")[2]
            # Beside it ministack attaches some optional ones, whose conditions it takes for true.
            policy = name.replace("_", "-")
            found = self._iam.get_role_policy(RoleName=role, PolicyName=policy)
            self.documents[name] = role, policy, dict(found["PolicyDocument"])
            gate.roles[function.credentials.access_key_id] = name
            gate.statements[name] = self.statements(name)

    def statements(self, function: str) -> list[Statement]:
        """What the function's role says as it was deployed."""
        return [Statement.parse(each) for each in self.documents[function][2]["Statement"]]

    @contextmanager
    def without(self, function: str, sid: str, action: str) -> Iterator[None]:
        """While the block runs, a statement lacks an action, at ministack and at the gate."""
        document = self.documents[function][2]
        rest = [
            {
                **each,
                "Action": [a for a in listed(each["Action"]) if (each["Sid"], a) != (sid, action)],
            }
            for each in document["Statement"]
        ]
        self._put(function, {**document, "Statement": [each for each in rest if each["Action"]]})
        try:
            yield
        finally:
            self._put(function, document)

    def _put(self, function: str, document: Mapping[str, Any]) -> None:
        role, policy, _ = self.documents[function]
        self._iam.put_role_policy(
            RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document)
        )
        self._gate.statements[function] = [Statement.parse(s) for s in document["Statement"]]


def main() -> int:
    """Prove it; returns the exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="jobgate-roles-") as folder,
        Stack.start(
            Path(folder), progress=TerminalProgress(sys.stderr), parameters=_PARAMETERS
        ) as stack,
    ):
        installation = Installation.create(stack, namespace="shop", tell=lambda *_: None)
        installation.grant()
        installation.configure()
        certificate = stack.authority.issue("gate", Path(folder) / "gate")
        ca = stack.authority.certificate
        with role_gate(stack.aws.endpoint_url, certificate, ca) as gate:
            stage = prepared(stack, installation, gate.url)
            return _prove(stage, Roles(stage, gate), gate)


def _prove(stage: Stage, roles: Roles, gate: RoleGate) -> int:
    seen = _whole(stage, gate)
    problems = [
        f"missing: {each.role} {each.request} was refused by {each.refused_by}"
        for flow in seen.values()
        for each in flow
        if each.refused_by
    ]
    rows = []
    everything = [each for flow in seen.values() for each in flow]
    for function in FUNCTIONS:
        written = {each.sid: each for each in template_statements()[function]}
        for statement in roles.statements(function):
            for bare in rows_of(function, written[statement.sid]):
                row = _row(stage, roles, gate, bare, statement, seen)
                rows.append(row)
                print(
                    function, row.sid, row.action, row.fails, row.refused_by, sep=" | ", flush=True
                )
                problems += [] if row.fails else [f"spare: {function} {row.sid}: {row.action}"]
            problems += _spare_parts(function, statement, roles.statements(function), everything)
    PAGE.write_text(with_rows(PAGE.read_text(), rows))
    print("\n".join(problems) or f"{len(rows)} actions: none is spare, none is missing.")
    return bool(problems)


def _whole(stage: Stage, gate: RoleGate) -> dict[str, list[Asked]]:
    """Run every flow with the whole roles; returns what each asked."""
    seen: dict[str, list[Asked]] = {}
    for flow in FLOWS:
        before = len(gate.asked)
        flow.run(stage)
        seen[flow.name] = gate.asked[before:]
        print(f"{flow.function}: {flow.name}: {len(seen[flow.name])} requests", flush=True)
    return seen


def _row(
    stage: Stage,
    roles: Roles,
    gate: RoleGate,
    bare: Row,
    statement: Statement,
    seen: Mapping[str, Sequence[Asked]],
) -> Row:
    """The row with what fails without its action; nothing where that is spare."""
    if bare.action in _LAMBDAS_OWN:
        return replace(bare, fails=BY_LAMBDA, refused_by="-")
    lone = replace(statement, actions=(bare.action,))
    needing = [
        flow
        for flow in FLOWS
        if flow.function == bare.function
        and any(lone.matches(each.request) for each in seen[flow.name])
    ]
    for flow in needing:
        before = len(gate.asked)
        with roles.without(bare.function, bare.sid, bare.action):
            failed = _fails(flow, stage)
        by = {each.refused_by for each in gate.asked[before:] if each.refused_by}
        # A flow that fails with nothing refused fails for a reason of its own.
        if failed and by:
            return replace(bare, fails=flow.name, refused_by=", ".join(sorted(by)))
    return bare


def _fails(flow: Flow, stage: Stage) -> bool:
    try:
        flow.run(stage)
    except (AssertionError, ChildFailedError):
        return True
    return False


def _spare_parts(
    function: str,
    statement: Statement,
    role: Sequence[Statement],
    seen: Sequence[Asked],
) -> Iterator[str]:
    """Each resource and leading key that no request needed; the actions are taken out for real."""
    asked = [each.request for each in seen if each.role == function]
    for part, changed in statement.parts():
        rest = [changed if each == statement else each for each in role]
        needed = any(allows(role, request) and not allows(rest, request) for request in asked)
        judged = part in statement.actions or _LAMBDAS_OWN.issuperset(statement.actions)
        if not (needed or judged):
            yield f"spare: {function} {statement.sid}: {part}"


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(code)
