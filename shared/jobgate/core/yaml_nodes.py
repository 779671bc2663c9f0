"""YAML as a tree of nodes with their places, so that every mistake can be shown where it is.

The input is hostile, and nothing is ever constructed from it but these nodes: one document, a
bounded depth, no tags. Aliases share the node that they name, so that a tree is never larger than
its file; whoever walks it bounds how often it is walked (see `node_reader`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from yaml.reader import ReaderError

from jobgate.core.problem import ProblemCode
from jobgate.core.yaml_scalars import Kind, kind_of_plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.core.problem import Problems

DEPTH_MAX = 50
_VERSION = (1, 1)
_VALID_YAML = "Make the file valid YAML, with spaces for indentation."


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A text, or what an unquoted one stands for; `place` is line and column from 1."""

    place: tuple[int, int]
    value: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list."""

    place: tuple[int, int]
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MappingNode:
    """Keys and values in the file's order, duplicates and merge keys included."""

    place: tuple[int, int]
    pairs: tuple[tuple[Node, Node], ...]


Node = ScalarNode | SequenceNode | MappingNode


def parse(data: bytes, problems: Problems) -> Node | None:
    """The root of the only document; None for an empty file, or where it can't be read at all."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        bad = data[exc.start : exc.start + 1].hex()
        problems.add(
            ProblemCode.NOT_UTF8,
            _place_after(data[: exc.start]),
            text=f"byte 0x{bad}",
            fix="Save the file as UTF-8.",
        )
        return None
    try:
        return _Composer(problems).compose(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = (1, 1) if mark is None else _place(mark)
        what = exc.problem or exc.context or "can't be read"
        problems.add(ProblemCode.YAML_SYNTAX, place, text=what, fix=_VALID_YAML)
    except ReaderError as exc:
        place = _place_after(text.encode()[: exc.position])
        fix = "Remove the control character."
        problems.add(ProblemCode.YAML_SYNTAX, place, text=exc.reason, fix=fix)
    return None


class _Composer:
    """Builds the tree from libyaml's events, without recursion."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._anchors: dict[str, Node | None] = {}  # None: the node isn't complete yet

    def compose(self, events: Iterable[Any]) -> Node | None:
        root: list[Node] = []
        open_starts: list[Any] = []
        open_items = [root]
        for event in events:
            match event:
                case yaml.ScalarEvent():
                    open_items[-1].append(self._complete(event, self._scalar(event)))
                case yaml.AliasEvent():
                    open_items[-1].append(self._alias(event))
                case yaml.CollectionStartEvent():
                    if len(open_starts) == DEPTH_MAX:
                        self._too_deep(event)
                        return None
                    if event.anchor is not None:
                        self._anchors[event.anchor] = None
                    open_starts.append(event)
                    open_items.append([])
                case yaml.CollectionEndEvent():
                    start, items = open_starts.pop(), open_items.pop()
                    open_items[-1].append(self._complete(start, _collection(start, items)))
                case yaml.DocumentStartEvent():
                    if root:
                        self._second_document(event)
                        return None
                    self._check_version(event)
        return root[0] if root else None

    def _scalar(self, event: yaml.ScalarEvent) -> ScalarNode:
        is_plain, _ = event.implicit
        kind = kind_of_plain(event.value) if is_plain else Kind.TEXT
        return ScalarNode(_place(event.start_mark), event.value, kind)

    def _complete(self, event: Any, node: Node) -> Node:
        if event.tag is not None:
            fix = "Remove the tag (!…); put the value in quotes if it shall be a text."
            self._problems.add(ProblemCode.TAG, node.place, text=event.tag, fix=fix)
            node = ScalarNode(node.place, "", Kind.UNREADABLE)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        place, name = _place(event.start_mark), str(event.anchor)
        node = self._anchors.get(name)
        if node is not None:
            return node
        if name in self._anchors:
            code, fix = ProblemCode.ALIAS_OF_ITSELF, "Write out what shall be repeated here."
        else:
            code, fix = ProblemCode.UNKNOWN_ALIAS, f"Set &{name} above, or quote the text."
        self._problems.add(code, place, text=f"*{name}", fix=fix)
        return ScalarNode(place, "", Kind.UNREADABLE)

    def _too_deep(self, event: Any) -> None:
        text = f"more than {DEPTH_MAX} levels"
        fix = f"Keep lists and mappings within {DEPTH_MAX} levels."
        self._problems.add(ProblemCode.TOO_DEEP, _place(event.start_mark), text=text, fix=fix)

    def _check_version(self, event: yaml.DocumentStartEvent) -> None:
        if event.version not in (None, _VERSION):
            fix = "Remove the line %YAML: GitLab reads version 1.1 alone."
            place = _place(event.start_mark)
            text = "%YAML {}.{}".format(*event.version)
            self._problems.add(ProblemCode.YAML_SYNTAX, place, text=text, fix=fix)

    def _second_document(self, event: Any) -> None:
        place = _place(event.start_mark)
        fix = "Keep one document: GitLab doesn't read what comes after this line."
        self._problems.add(ProblemCode.SECOND_DOCUMENT, place, text="---", fix=fix)


def _collection(start: Any, items: list[Node]) -> Node:
    place = _place(start.start_mark)
    if isinstance(start, yaml.SequenceStartEvent):
        return SequenceNode(place, tuple(items))
    return MappingNode(place, tuple(zip(items[::2], items[1::2], strict=True)))


def _place(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _place_after(data: bytes) -> tuple[int, int]:
    """The place that follows some valid UTF-8; libyaml gives no line for a character it refuses."""
    # Not splitlines(): YAML breaks lines at fewer characters.
    lines = data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    _, _, line = lines.rpartition("\n")
    return (lines.count("\n") + 1, len(line) + 1)
