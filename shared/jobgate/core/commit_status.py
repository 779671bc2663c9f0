"""What GitLab shows beside a commit about the configurations that were read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobgate.core.agent import Problem

STATUS_NAME = "jobgate"
_DESCRIPTION_MAX = 255  # GitLab's


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitStatus:
    """A commit's status; `file` and `line` are where to look first, None where all is well."""

    state: Literal["success", "failed"]
    description: str
    file: str | None = None
    line: int | None = None


def commit_status(problems: Sequence[Problem]) -> CommitStatus:
    """The status of a commit with these problems: it names the first and counts the others."""
    if not problems:
        return CommitStatus(state="success", description="Every agent's configuration counts.")
    first, others = problems[0], len(problems) - 1
    more = f" (and {others} more: jobgate agent show)" if others else ""
    text = f"{first.file}:{first.line}: {first.code}: {first.text}"
    room = _DESCRIPTION_MAX - len(more)
    return CommitStatus(
        state="failed",
        description=(text if len(text) <= room else f"{text[: room - 1]}…") + more,
        file=first.file,
        line=first.line,
    )
