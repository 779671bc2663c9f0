"""Reads an agent's `config.yaml`, as strictly as GitLab does inside `ci_access`.

Source: GitLab, "Using GitLab CI/CD with a Kubernetes cluster" (keyword `ci_access`). Unknown keys
inside of `ci_access` are mistakes, those beside it belong to other features of GitLab's agent. All
mistakes are found in one reading, each with its place in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobgate.core.agent import AsAgent, AsCIJob, AsIdentity
from jobgate.core.node_reader import NodeReader, is_null
from jobgate.core.problem import ProblemCode, Problems
from jobgate.core.yaml_nodes import SequenceNode, parse

if TYPE_CHECKING:
    from jobgate.core.agent import AccessAs, Problem
    from jobgate.core.yaml_nodes import Node

FILE_MAX_BYTES = 131_072  # GitLab's agent.configuration.max_configuration_file_size
_FULL_PATH = "Give the full path, such as top/app: ids aren't read here."
_ENTRY_KEYS = (
    "default_namespace",
    "access_as",
    "environments",
    "protected_branches_only",
    "resource_management",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenEntry:
    """An entry as it's written; `path` is the full path as in the file, empty for the instance."""

    path: str
    line: int
    column: int
    access_as: AccessAs = field(default_factory=AsAgent)
    default_namespace: str | None = None
    environments: tuple[str, ...] = ()
    protected_branches_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfiguration:
    """What a valid file says under `ci_access`, in the file's order."""

    projects: tuple[WrittenEntry, ...] = ()
    groups: tuple[WrittenEntry, ...] = ()
    instance: WrittenEntry | None = None


@dataclass(frozen=True, slots=True)
class InvalidConfiguration:
    """A file that can't be used, with at least one problem."""

    problems: tuple[Problem, ...]


def read_configuration(
    data: bytes | None, *, file: str
) -> AgentConfiguration | InvalidConfiguration:
    """Read a file's content; None is a file that isn't there, and like an empty one valid."""
    if data is None:
        return AgentConfiguration()
    problems = Problems(file)
    if len(data) > FILE_MAX_BYTES:
        text = f"more than {FILE_MAX_BYTES} bytes"
        fix = "Make the file smaller: authorize groups instead of their projects."
        problems.add(ProblemCode.FILE_TOO_LARGE, (1, 1), text=text, fix=fix)
        return InvalidConfiguration(problems.in_order())
    configuration = _configuration(NodeReader(problems), parse(data, problems))
    found = problems.in_order()
    return InvalidConfiguration(found) if found else configuration


def _configuration(reader: NodeReader, root: Node | None) -> AgentConfiguration:
    top = reader.mapping(root, what="the file", names=("ci_access",), others=True) or {}
    names = ("projects", "groups", "instance")
    access = reader.mapping(top.get("ci_access"), what="ci_access", names=names) or {}
    instance = access.get("instance")
    return AgentConfiguration(
        projects=_entries(reader, access.get("projects"), "ci_access.projects"),
        groups=_entries(reader, access.get("groups"), "ci_access.groups"),
        instance=None
        if instance is None or is_null(instance)
        else _entry(reader, instance, "ci_access.instance", needs_id=False),
    )


def _entries(reader: NodeReader, node: Node | None, what: str) -> tuple[WrittenEntry, ...]:
    return tuple(
        _entry(reader, item, f"{what}[{number}]", needs_id=True)
        for number, item in enumerate(reader.sequence(node, what=what))
    )


def _entry(reader: NodeReader, node: Node, what: str, *, needs_id: bool) -> WrittenEntry:
    names = ("id", *_ENTRY_KEYS) if needs_id else _ENTRY_KEYS
    given = reader.mapping(node, what=what, names=names)
    line, column = ((given or {}).get("id") or node).place
    if given is None:
        return WrittenEntry(path="", line=line, column=column)
    resources = f"{what}.resource_management"
    managed = reader.mapping(given.get("resource_management"), what=resources, names=("enabled",))
    reader.boolean((managed or {}).get("enabled"), what=f"{resources}.enabled")
    return WrittenEntry(
        path=reader.required_text(given, "id", at=node, what=what, fix=_FULL_PATH)
        if needs_id
        else "",
        line=line,
        column=column,
        access_as=_access_as(reader, given.get("access_as"), f"{what}.access_as"),
        default_namespace=reader.text(
            given.get("default_namespace"), what=f"{what}.default_namespace", may_be_empty=True
        )
        or None,
        environments=reader.texts(given.get("environments"), what=f"{what}.environments"),
        protected_branches_only=reader.boolean(
            given.get("protected_branches_only"), what=f"{what}.protected_branches_only"
        ),
    )


def _access_as(reader: NodeReader, node: Node | None, what: str) -> AccessAs:
    if node is None or is_null(node):
        return AsAgent()
    given = reader.mapping(node, what=what, names=("agent", "ci_job", "impersonate"))
    if given is None:
        return AsAgent()
    set_kinds = [kind for kind, value in given.items() if not is_null(value)]
    if len(set_kinds) != 1:
        fix = "Give exactly one of agent: {}, ci_job: {} and impersonate: {…}."
        text = f"{what}: {', '.join(set_kinds) or 'none'}"
        reader.problem(node, ProblemCode.ACCESS_AS_NOT_ONE, text, fix)
        return AsAgent()
    kind = set_kinds[0]
    if kind == "impersonate":
        return _identity(reader, given[kind], f"{what}.impersonate")
    reader.mapping(given[kind], what=f"{what}.{kind}", names=())
    return AsCIJob() if kind == "ci_job" else AsAgent()


def _identity(reader: NodeReader, node: Node, what: str) -> AsIdentity:
    given = reader.mapping(node, what=what, names=("username", "uid", "groups", "extra"))
    if given is None:
        return AsIdentity(username="")
    uid = reader.text(given.get("uid"), what=f"{what}.uid", may_be_empty=True)
    return AsIdentity(
        username=reader.required_text(given, "username", at=node, what=what),
        uid=uid or None,
        groups=reader.texts(given.get("groups"), what=f"{what}.groups"),
        extra=tuple(
            _extra(reader, item, f"{what}.extra[{number}]")
            for number, item in enumerate(reader.sequence(given.get("extra"), what=f"{what}.extra"))
        ),
    )


def _extra(reader: NodeReader, node: Node, what: str) -> tuple[str, tuple[str, ...]]:
    given = reader.mapping(node, what=what, names=("key", "val"))
    if given is None:
        return "", ()
    val = given.get("val")
    if is_null(val) or (isinstance(val, SequenceNode) and not val.items):
        fix = "Add val: with at least one value."
        reader.problem(node, ProblemCode.VAL_MISSING, f"{what} without val", fix)
    values = reader.texts(val, what=f"{what}.val")
    return reader.required_text(given, "key", at=node, what=what), values
