"""Which entry came nearest: one line in a closed form, for every reason a decision may have."""

from __future__ import annotations

import pytest
from jobgate.core.authorization import Denied, Rule
from jobgate.core.nearest_miss import nearest_miss
from jobgate.core.reasons import Reason

from tests.support import builders as b

PROJECT = Rule(kind="project", id=100, path="top/sub1/app")
GROUP = Rule(kind="group", id=1, path="top")
INSTANCE = Rule(kind="instance", id=None, path=None)
JOB = b.a_job(environment="review/1", ref="feature")


@pytest.mark.parametrize(
    ("reason", "rule", "line"),
    [
        (
            Reason.ENVIRONMENT_MISMATCH,
            PROJECT,
            "project top/sub1/app: environments don't match review/1",
        ),
        (
            Reason.NO_ENVIRONMENT,
            GROUP,
            "group top: environments are asked for, and the job has none",
        ),
        (
            Reason.REF_NOT_PROTECTED,
            INSTANCE,
            "instance: protected_branches_only is set, and feature isn't protected",
        ),
        (
            Reason.OUT_OF_SCOPE,
            GROUP,
            "group top: it is of another top-level group than top/sub1/agents",
        ),
        (
            Reason.CHAIN_UNKNOWN,
            GROUP,
            "group top: the groups that top/sub1/app is in aren't known",
        ),
        (Reason.RESERVED_IDENTITY, GROUP, "group top: access_as names a reserved identity"),
        (Reason.NOT_LISTED, PROJECT, "project top/sub1/app: it is beyond the limit on entries"),
        (
            Reason.NOT_LISTED,
            None,
            "no entry: top/sub1/app isn't listed, nor a group that it is in",
        ),
        (
            Reason.CHAIN_UNKNOWN,
            None,
            "no entry: the groups that top/sub1/app is in aren't known",
        ),
        (
            Reason.CONFIG_UNKNOWN,
            None,
            "no entry: the agent has had no valid config.yaml yet",
        ),
        (
            Reason.JOB_UNKNOWN,
            None,
            "no entry: the token doesn't say which project runs the job",
        ),
        (Reason.FORK_REFUSED, None, "no entry: jobs of forks aren't allowed here"),
    ],
)
def test_each_reason_has_its_line(reason: Reason, rule: Rule | None, line: str) -> None:
    assert nearest_miss(Denied(reason, rule), JOB, b.an_agent()) == line


@pytest.mark.parametrize("rule", [None, PROJECT, INSTANCE])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_one_line_that_begins_with_its_entry(
    reason: Reason, rule: Rule | None
) -> None:
    entry, _, missing = nearest_miss(Denied(reason, rule), JOB, b.an_agent()).partition(": ")

    assert entry == {None: "no entry", PROJECT: "project top/sub1/app", INSTANCE: "instance"}[rule]
    assert missing
    assert "\n" not in missing


def test_braces_in_a_name_are_shown_as_they_are() -> None:
    job = b.a_job(environment="{agent.projects}")

    line = nearest_miss(Denied(Reason.ENVIRONMENT_MISMATCH, PROJECT), job, b.an_agent())

    assert line.endswith("don't match {agent.projects}")
