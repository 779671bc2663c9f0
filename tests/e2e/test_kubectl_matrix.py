"""A part of the matrix of kubectl and helm; all of it, in four versions: `make kubectl-matrix`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kubectl_matrix.compare import compare
from tests.kubectl_matrix.sides import Kubeconfigs, made_sides
from tests.kubectl_matrix.steps import STEPS

if TYPE_CHECKING:
    from local.installation import Installation
    from local.stack import Stack

pytestmark = pytest.mark.stack

_TOPICS = {"identity and rights", "apply", "logs", "not carried", "watch", "delete"}


def test_kubectl_comes_to_the_same_directly_and_through_the_relay(
    stack: Stack, installation: Installation
) -> None:
    steps = [step for step in STEPS if step.topic in _TOPICS]
    with made_sides(stack, Kubeconfigs.of(stack), stack.clients, "test") as sides:
        results = compare(sides, steps, say=print)
    assert [one.difference() for one in results if not one.is_as_expected] == []
    assert len(results) > 60
