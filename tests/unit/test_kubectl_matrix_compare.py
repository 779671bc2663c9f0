"""The matrix's own eyes: what it leaves out of account, and what it doesn't."""

from __future__ import annotations

import pytest

from tests.kubectl_matrix.compare import Compared
from tests.kubectl_matrix.plain import plain
from tests.kubectl_matrix.sides import Ran
from tests.kubectl_matrix.step import Step, refused


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("web  1/1  Running  0  5s", "web   1/1     Running   0     4m12s"),
        (
            '"uid": "0a1b2c3d-0000-4000-8000-00000000000a"',
            '"uid": "0a1b2c3d-1111-4111-8111-1111111111ff"',
        ),
        ('"resourceVersion": "12"', '"resourceVersion": "3456"'),
        ("creationTimestamp: 2026-01-01T00:00:00Z", "creationTimestamp: 2027-12-31T23:59:59Z"),
        ("LAST DEPLOYED: Wed Nov 25 14:15:34 2026", "LAST DEPLOYED: Thu Nov  5 04:01:00 2026"),
        (
            "Start Time: Wed, 25 Nov 2026 14:15:34 +0000",
            "Start Time: Fri, 01 Jan 2027 00:00:00 +0000",
        ),
        ("pod/web-6d4f8c9b7d-x2k9z deleted", "pod/web-6d4f8c9b7d-7bqtc deleted"),
        ("--- /tmp/LIVE-123/v1", "--- /tmp/LIVE-98/v1"),
        ("IP: 10.0.0.7", "IP: 10.96.3.1"),
    ],
)
def test_times_ages_and_ids_are_no_difference(one: str, other: str) -> None:
    assert plain(one, {}, unordered=False) == plain(other, {}, unordered=False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("web  1/1  Running  0  5s", "web  0/1  Running  0  5s"),
        ("web  1/1  Running  0  5s", "web  1/1  Running  1  5s"),
        ("a\nb", "b\na"),
        ("a", "a\n"),
        ("  data:", "    data:"),
        ("deployment.apps/web created", "deployment.apps/web configured"),
        ("generation: 1", "generation: 2"),
        ("replicas: 10", "replicas: 100"),
        ("Error from server (NotFound)", "Error from server (Forbidden)"),
        ("web-production", "web-staging"),
    ],
)
def test_everything_else_is_a_difference(one: str, other: str) -> None:
    assert plain(one, {}, unordered=False) != plain(other, {}, unordered=False)


def test_each_sides_own_names_are_made_one_and_the_longest_counts_first() -> None:
    own = {"mxd": "SPACE", "/home/mxd": "HOME"}
    assert plain("/home/mxd/x of mxd", own, unordered=False) == "HOME/x of SPACE"


def _compared(step: Step, direct: Ran, relay: Ran) -> Compared:
    return Compared(step, "s", direct, relay)


@pytest.mark.parametrize("relay", [Ran(1, "a", ""), Ran(0, "b", ""), Ran(0, "a", "warning")])
def test_another_code_output_or_error_is_reported(relay: Ran) -> None:
    compared = _compared(Step(command="kubectl x"), Ran(0, "a", ""), relay)
    assert not compared.is_as_expected
    assert compared.cell == "**differs**"
    assert "kubectl x" in compared.difference()


def test_a_refusal_by_design_must_happen_and_with_its_reason() -> None:
    step = refused("kubectl exec x", "unsupported")
    direct = Ran(0, "done", "")
    told = "Jobgate: Not carried. Use a job. (reason unsupported, decision d-1)"
    assert _compared(step, direct, Ran(1, "", told)).is_as_expected
    assert not _compared(step, direct, direct).is_as_expected
    assert not _compared(step, direct, Ran(1, "", "error: EOF")).is_as_expected
