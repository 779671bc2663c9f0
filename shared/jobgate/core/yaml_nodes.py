"""YAML as a tree of nodes with their places, so that every mistake can be shown where it is.

The input is hostile: documents, depth, aliases and nodes are bounded, tags and duplicate keys are
refused (YAML 1.1 as PyYAML reads it). Nothing is ever constructed from the file but texts, booleans
and lists.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import yaml

from jobgate.core.agent import PROBLEMS_MAX, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NODES_MAX = 100_000  # a file of 128 KiB has fewer; more come only from aliases
_DEPTH_MAX = 50
# Twice what a file without aliases can hold. More would be stored, and read by every decision.
_READ_MAX_BYTES = 262_144
_VALID_YAML = "Make the file valid YAML: one document, UTF-8, spaces for indentation."
_NO_TAGS = "Remove the tag (!…): values are read as they are written."
_TEXT_SHOWN = 80
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = "tag:yaml.org,2002:null"
_STRING = "tag:yaml.org,2002:str"
_BOOLEAN = "tag:yaml.org,2002:bool"


def parse(data: bytes, *, file: str) -> yaml.Node | Problem | None:
    """The root node of the only document; None for an empty file."""
    try:
        text = data.decode()
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            tag = getattr(event, "tag", None)
            if tag is not None:
                return _problem(file, "tag", event.start_mark, str(tag), _NO_TAGS)
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > _DEPTH_MAX:
                return _problem(file, "too_deep", event.start_mark, "nested too deeply")
        root: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except UnicodeDecodeError:
        return _problem(file, "not_utf8", None, "not UTF-8")
    except yaml.MarkedYAMLError as exc:
        return _problem(file, "yaml_syntax", exc.problem_mark or exc.context_mark, exc.problem)
    except yaml.YAMLError:
        return _problem(file, "yaml_syntax", None, "can't be read")
    return root


class NodeReader:
    """Reads typed values from nodes and collects every problem on the way, up to PROBLEMS_MAX.

    A value of the wrong kind is reported and read as if it were absent.
    """

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._visited = 0
        self._read_bytes = 0

    def problem(self, node: yaml.Node, code: str, text: str, fix: str) -> None:
        """Report a problem at a node."""
        if len(self.problems) == PROBLEMS_MAX:
            return
        mark = node.start_mark
        self.problems.append(
            Problem(
                code=code,
                file=self._file,
                line=mark.line + 1,
                column=mark.column + 1,
                text=text[:_TEXT_SHOWN],
                fix=fix,
            )
        )

    def is_null(self, node: yaml.Node) -> bool:
        """Whether a node is YAML's null."""
        return bool(node.tag == _NULL)

    def mapping(
        self, node: yaml.Node | None, *, what: str, names: Sequence[str] | None = None
    ) -> dict[str, yaml.Node] | None:
        """A mapping by key, empty where it's absent or null; None where it isn't one, reported.

        `names` are the keys that it may have; without, it may have any.
        """
        if node is None or self.is_null(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, "not_a_mapping", what, f"Make {what} a mapping (key: value).")
            return None
        if not self._may_visit(node):
            return None
        values: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _STRING:
                self.problem(key, "key_not_text", what, "Make every key a text.")
            elif key.value in values:
                self.problem(key, "duplicate_key", key.value, "Leave one of the two.")
            else:
                values[key.value] = value
                if names is not None and key.value not in names:
                    near = difflib.get_close_matches(key.value, names, n=1)
                    hint = f"Did you mean {near[0]}?" if near else f"Remove it from {what}."
                    self.problem(key, "unknown_key", f"{what}.{key.value}", hint)
        return values

    def sequence(self, node: yaml.Node | None, *, what: str) -> Sequence[yaml.Node]:
        """A list's nodes; none where it's absent or null."""
        if node is None or self.is_null(node):
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self.problem(node, "not_a_list", what, f"Make {what} a list (- item).")
            return ()
        if not self._may_visit(node):
            return ()
        items: Sequence[yaml.Node] = node.value
        return items

    def text(self, node: yaml.Node | None, *, what: str, may_be_empty: bool = False) -> str | None:
        """A text; None where it's absent or null."""
        if node is None or self.is_null(node):
            return None
        if not isinstance(node, yaml.ScalarNode) or node.tag != _STRING:
            self.problem(node, "not_a_text", what, f'Make {what} a text, in quotes: "…".')
            return None
        if not node.value and not may_be_empty:
            self.problem(node, "empty", what, f"Give {what} a value.")
            return None
        return self._read(node)

    def required_text(
        self, given: Mapping[str, yaml.Node], name: str, *, at: yaml.Node, what: str
    ) -> str:
        """The text under a key of the mapping `at`, where it must be; empty where it isn't."""
        node = given.get(name)
        if node is None or self.is_null(node):
            self.problem(at, f"{name}_missing", what, f"Add {name}: with a value.")
        return self.text(node, what=f"{what}.{name}") or ""

    def texts(self, node: yaml.Node | None, *, what: str) -> tuple[str, ...]:
        """A list of texts that aren't empty."""
        texts: list[str] = []
        for number, item in enumerate(self.sequence(node, what=what)):
            if self.is_null(item):
                self.problem(item, "empty", f"{what}[{number}]", "Give it a value.")
            elif text := self.text(item, what=f"{what}[{number}]"):
                texts.append(text)
        return tuple(texts)

    def boolean(self, node: yaml.Node | None, *, what: str) -> bool:
        """A boolean; false where it's absent or null."""
        if node is None or self.is_null(node):
            return False
        if not isinstance(node, yaml.ScalarNode) or node.tag != _BOOLEAN:
            self.problem(node, "not_a_boolean", what, f"Make {what} true or false.")
            return False
        return node.value.lower() in ("true", "yes", "on")

    def _read(self, node: yaml.ScalarNode) -> str | None:
        value: str = node.value
        if self._read_bytes > _READ_MAX_BYTES:
            return None
        self._read_bytes += len(value.encode(errors="surrogatepass"))
        if self._read_bytes > _READ_MAX_BYTES:
            fix = "Write shorter texts out: aliases make the file too large."
            self.problem(node, "too_much_text", f"more than {_READ_MAX_BYTES} bytes of text", fix)
            return None
        return value

    def _may_visit(self, node: yaml.CollectionNode) -> bool:
        if self._visited > _NODES_MAX:
            return False
        self._visited += 1 + len(node.value)
        if self._visited > _NODES_MAX:
            fix = "Write the entries out: aliases make the file too large."
            self.problem(node, "too_many_nodes", f"more than {_NODES_MAX} values", fix)
        return self._visited <= _NODES_MAX


def _problem(file: str, code: str, mark: Any, text: str | None, fix: str = _VALID_YAML) -> Problem:
    return Problem(
        code=code,
        file=file,
        line=1 if mark is None else mark.line + 1,
        column=1 if mark is None else mark.column + 1,
        text=(text or "can't be read")[:_TEXT_SHOWN],
        fix=fix,
    )
