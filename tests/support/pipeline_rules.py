"""Which jobs of a configuration a pipeline has: GitLab's `rules`, as far as the examples use them.

https://docs.gitlab.com/ci/jobs/job_rules/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from local.pipeline import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

When = Literal["on_success", "manual"]

_COMPARISON = re.compile(r'\s*\$([A-Z_]+)\s*(==|!=)\s*(?:"([^"]*)"|\$([A-Z_]+))\s*')
_KNOWN = {"if", "when", "allow_failure"}


def when(found: Mapping[str, Any], variables: Mapping[str, str]) -> When | None:
    """How a pipeline with these variables starts a job, or None where it hasn't the job."""
    for rule in found.get("rules", [{}]):
        if unknown := rule.keys() - _KNOWN:
            raise PipelineError(f"rules {sorted(unknown)}")
        if "if" not in rule or holds(rule["if"], variables):
            return _way(rule.get("when", found.get("when", "on_success")))
    return None


def holds(condition: str, variables: Mapping[str, str]) -> bool:
    """Whether a condition holds: comparisons with `==` or `!=`, joined by `&&`."""
    return all(_compared(part, variables) for part in condition.split("&&"))


def _compared(text: str, variables: Mapping[str, str]) -> bool:
    found = _COMPARISON.fullmatch(text)
    if found is None:
        raise PipelineError(f"if: {text}")
    left = variables.get(found[1])
    right = found[3] if found[4] is None else variables.get(found[4])
    return (left == right) == (found[2] == "==")


def _way(given: str) -> When | None:
    match given:
        case "on_success" | "manual":
            return given
        case "never":
            return None
        case _:
            raise PipelineError(f"when: {given}")
