"""How a configuration's problem is shown, by every command alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobgate.core.agent import Problem


def problem_as_json(problem: Problem) -> dict[str, Any]:
    """A problem in the form for scripts."""
    return {
        "code": problem.code,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "text": problem.text,
        "fix": problem.fix,
    }


def problem_line(problem: Problem, *, severity: str | None = None) -> str:
    """A problem in one line for people, in the form that editors know."""
    named = problem.code if severity is None else f"{severity}: {problem.code}"
    where = f"{problem.file}:{problem.line}:{problem.column}"
    return f"{where}: {named}: {problem.text}. {problem.fix}"
