"""Findings in SARIF 2.1.0 (OASIS), which GitLab, GitHub and editors read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jobgate.core.risk import RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobgate.core.risk import Finding

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """One run with its results; files are relative to where the command ran."""
    codes = list(dict.fromkeys(finding.problem.code for finding in findings))
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "jobgate",
                        "rules": [_rule(code) for code in codes],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, codes) for finding in findings],
            }
        ],
    }


def _rule(code: str) -> dict[str, Any]:
    titles = {rule.code: rule.title for rule in RULES}
    text = titles.get(code, code.replace("_", " ").capitalize())
    return {"id": code, "shortDescription": {"text": f"{text}."}}


def _result(finding: Finding, codes: Sequence[str]) -> dict[str, Any]:
    problem = finding.problem
    return {
        "ruleId": problem.code,
        "ruleIndex": codes.index(problem.code),
        "level": finding.severity,
        "message": {"text": f"{problem.text}. {problem.fix}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(os.fsencode(problem.file))},
                    "region": {"startLine": problem.line, "startColumn": problem.column},
                }
            }
        ],
    }
