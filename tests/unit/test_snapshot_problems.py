"""What a compiled configuration says of its entries, word for word, and what it keeps of them."""

from __future__ import annotations

import dataclasses

import pytest
from jobgate.core.agent import AsCIJob, AsIdentity, Problem
from jobgate.core.agent_configuration import AgentConfiguration, read_configuration
from jobgate.core.impersonation import fault_of_static_identity, identity_of
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings
from jobgate.core.snapshot import Targets, compile_snapshot

from tests.support import builders as b

FILE = ".gitlab/agents/prod/config.yaml"
TEXT = b"""\
ci_access:
  projects:
    - id: top/gone
    - id: top/app
      access_as: {impersonate: {username: "system:masters"}}
    - id: ext/app
    - id: TOP/app
    - id: top/late
  instance: {}
"""
TARGETS = Targets(
    projects={
        "top/gone": None,
        "top/app": b.a_target(100, "top/app"),
        "ext/app": b.a_target(300, "ext/app", root_id=9),
        "top/late": b.a_target(400, "Top/late"),
    },
    groups={},
)


def test_each_problem_says_what_is_wrong_where_and_how_it_is_mended() -> None:
    read = read_configuration(TEXT, file=FILE)
    assert isinstance(read, AgentConfiguration)

    snapshot = compile_snapshot(
        read, TARGETS, b.a_snapshot_head(), settings=Settings(entry_limit=4)
    )

    said = [
        ("not_found", 3, 11, "top/gone", "Correct the path, or remove it."),
        (
            "reserved_identity",
            4,
            11,
            "'system:masters' is reserved",
            "Name another user or group.",
        ),
        (
            "out_of_scope",
            6,
            11,
            "ext/app",
            "Only projects and groups of the same top-level group can be authorized.",
        ),
        ("duplicate", 7, 11, "TOP/app", "Leave one; the last one counts."),
        (
            "beyond_limit",
            8,
            11,
            "top/late",
            "Keep to 4 entries, or authorize a group instead.",
        ),
        (
            "instance_not_enabled",
            9,
            13,
            "ci_access.instance",
            "Name projects or groups: this deployment doesn't grant to the whole instance.",
        ),
    ]
    assert snapshot.problems == tuple(
        Problem(code=code, file=FILE, line=line, column=column, text=text, fix=fix)
        for code, line, column, text, fix in said
    )
    late = snapshot.projects[400]
    assert (late.path, late.refused) == ("Top/late", Reason.NOT_LISTED)


def test_a_job_identity_without_a_chain_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"^a job's identity needs its namespace chain$"):
        identity_of(b.a_job(), b.a_grant(access_as=AsCIJob()), issuer=b.an_issuer(), chain=None)


def test_an_identity_of_an_unknown_kind_is_an_error() -> None:
    unknown = dataclasses.replace(b.a_grant(), access_as="agent")  # type: ignore[arg-type] - what types forbid

    with pytest.raises(AssertionError, match="agent"):
        identity_of(b.a_job(), unknown, issuer=b.an_issuer(), chain=b.a_chain())


@pytest.mark.parametrize(
    ("identity", "fault"),
    [
        (AsIdentity("deployer", groups=("System:masters",)), "'System:masters' is reserved"),
        (AsIdentity("deployer", uid=""), "'' is empty"),
        (AsIdentity(" deployer"), "' deployer' has white space around it"),
        (AsIdentity("de\x00ployer"), "'de\\x00ployer' has control characters"),
    ],
)
def test_an_identitys_fault_names_the_value_and_what_is_wrong(
    identity: AsIdentity, fault: str
) -> None:
    assert fault_of_static_identity(identity) == fault
