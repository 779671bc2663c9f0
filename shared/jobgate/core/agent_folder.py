"""What is in an agent's folder of the configuration project, by the kind of each path.

Only a regular file `config.yaml` configures an agent. What else may be taken for one is a problem
and never silently ignored: nobody follows links or reads other names, GitLab's agent included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from jobgate.core.problem import ProblemCode, Problems, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobgate.core.agent import Problem

AGENTS_FOLDER = ".gitlab/agents"
# GitLab, "Agent naming": an RFC 1123 label.
_AGENT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_NAMES_SHOWN = 5


class FileKind(Enum):
    """What git holds at a path."""

    FILE = "a file"
    FOLDER = "a folder"
    LINK = "a symbolic link"
    SUBMODULE = "a submodule"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """What git holds at a path, with its object's id: the same id is the same content."""

    kind: FileKind
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFolder:
    """What an agent's folder holds.

    `refused` says why what is there can't be a configuration: the last good one stays. `unread` are
    the files that nobody reads; they change nothing.
    """

    has_file: bool
    refused: tuple[Problem, ...] = ()
    unread: tuple[Problem, ...] = ()


def config_file(name: str) -> str:
    """The path of an agent's configuration."""
    return f"{AGENTS_FOLDER}/{name}/config.yaml"


def agent_folder(name: str, tree: Mapping[str, FileKind]) -> AgentFolder:
    """An agent's folder in the tree below AGENTS_FOLDER, which has every path in it."""
    folder = f"{AGENTS_FOLDER}/{name}"
    file = config_file(name)
    unread = tuple(
        problem
        for path in sorted(tree)
        if path.startswith(f"{folder}/") and path != file
        for problem in _unread(path, tree)
    )
    for path, wanted in ((folder, FileKind.FOLDER), (file, FileKind.FILE)):
        kind = tree.get(path, wanted)
        if kind is not wanted:
            return AgentFolder(has_file=False, refused=_not(wanted, kind, path), unread=unread)
    return AgentFolder(has_file=file in tree, unread=unread)


def folders_of_nobody(tree: Iterable[str], names: Iterable[str]) -> str | None:
    """A sentence that names the folders of no registered agent, None where there are none."""
    prefix = f"{AGENTS_FOLDER}/"
    paths = (path.removeprefix(prefix) for path in tree if path.startswith(prefix))
    found = sorted({path.split("/", 1)[0] for path in paths if "/" in path}.difference(names))
    if not found:
        return None
    shown = [
        printable(name if _AGENT_NAME.fullmatch(name) else f"{name} (can't be an agent's name)")
        for name in found[:_NAMES_SHOWN]
    ]
    more = [f"{len(found) - _NAMES_SHOWN} more"] if len(found) > _NAMES_SHOWN else []
    return f"folders of no registered agent: {', '.join([*shown, *more])}"


def _not(wanted: FileKind, kind: FileKind, path: str) -> tuple[Problem, ...]:
    fix = f"Make it {wanted.value}: nothing is followed."
    return _problem(ProblemCode.NOT_A_FILE, path, kind.value, fix)


def _unread(path: str, tree: Mapping[str, FileKind]) -> tuple[Problem, ...]:
    """The problem of a file beside the configuration, if it has one."""
    folder, _, name = path.rpartition("/")
    if folder.count("/") != AGENTS_FOLDER.count("/") + 1:
        return ()
    match name.casefold():
        case "config.yml" | "config.yaml":
            has_right_one = f"{folder}/config.yaml" in tree
            fix = "Remove it." if has_right_one else "Rename it to config.yaml."
            return _problem(ProblemCode.OTHER_NAME, path, name, f"{fix} Only that name is read.")
        case "jobgate.yaml" | "jobgate.yml":
            fix = "Remove it: this version reads config.yaml alone."
            return _problem(ProblemCode.JOBGATE_YAML, path, name, fix)
    return ()


def _problem(code: ProblemCode, path: str, text: str, fix: str) -> tuple[Problem, ...]:
    problems = Problems(path)
    problems.add(code, (1, 1), text=text, fix=fix)
    return problems.in_order()
