"""Reads typed values from YAML nodes, and reports every value that is of another kind.

Aliases and merge keys may repeat a small file into a large one: how much is visited and read is
bounded.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from jobgate.core.problem import ProblemCode
from jobgate.core.yaml_nodes import DEPTH_MAX, MappingNode, ScalarNode, SequenceNode
from jobgate.core.yaml_scalars import TRUE_WORDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobgate.core.problem import Problems
    from jobgate.core.yaml_nodes import Node

    Pairs = dict[str, tuple[ScalarNode, Node]]

NODES_MAX = 100_000  # a file of 128 KiB has fewer that matter; more come only from aliases
# Twice what a file without aliases can hold. More would be stored, and read by every decision.
READ_MAX_BYTES = 262_144
_NAME_MAX = 40  # of a key that may be a mistyped one


def is_null(node: Node | None) -> bool:
    """Whether a value is absent or YAML's null, which GitLab reads alike."""
    return node is None or (isinstance(node, ScalarNode) and node.kind is Kind.NULL)


class NodeReader:
    """A value of the wrong kind is reported and read as if it were absent."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._visited = 0
        self._read_bytes = 0

    def problem(self, node: Node, code: ProblemCode, text: str, fix: str) -> None:
        """Report a problem at a node."""
        self._problems.add(code, node.place, text=text, fix=fix)

    def mapping(
        self, node: Node | None, *, what: str, names: Sequence[str], others: bool = False
    ) -> dict[str, Node] | None:
        """A mapping by key, empty where it's absent or null; None where it isn't one.

        `names` are the keys that it may have. With `others` it may have any, except one that is
        likely a mistyped name.
        """
        if node is None or is_null(node):
            return {}
        if _has_no_value(node):
            return None
        if not isinstance(node, MappingNode):
            fix = f"Make {what} a mapping (key: value)."
            self.problem(node, ProblemCode.NOT_A_MAPPING, _shown(what, node), fix)
            return None
        pairs = self._pairs(node, what, depth=0)
        if pairs is None:
            return None
        for name, (key, _) in pairs.items():
            if name not in names and not self._problems.are_full:
                near = _near(name, names, beside=pairs)
                if near or not others:
                    fix = f"Did you mean {near}?" if near else f"Remove it from {what}."
                    self.problem(key, ProblemCode.UNKNOWN_KEY, f"{what}: {name}", fix)
        return {name: value for name, (_, value) in pairs.items()}

    def sequence(self, node: Node | None, *, what: str) -> Sequence[Node]:
        """A list's nodes; none where it's absent or null."""
        if node is None or _has_no_value(node):
            return ()
        if not isinstance(node, SequenceNode):
            fix = f"Make {what} a list (- item)."
            self.problem(node, ProblemCode.NOT_A_LIST, _shown(what, node), fix)
            return ()
        return node.items if self._may_visit(node, len(node.items)) else ()

    def text(
        self, node: Node | None, *, what: str, may_be_empty: bool = False, fix: str | None = None
    ) -> str | None:
        """A text; None where it's absent or null. `fix` mends one of another kind."""
        if node is None or _has_no_value(node):
            return None
        if not isinstance(node, ScalarNode) or node.kind not in (Kind.TEXT, Kind.MERGE):
            quoted = f'"{node.value}"' if isinstance(node, ScalarNode) else '"…"'
            fix = fix or f"Make it a text, in quotes: {quoted}."
            self.problem(node, ProblemCode.NOT_A_TEXT, _shown(what, node), fix)
            return None
        if not node.value and not may_be_empty:
            self.problem(node, ProblemCode.EMPTY, what, f"Give {what} a value.")
            return None
        return self._read(node)

    def required_text(
        self,
        given: Mapping[str, Node],
        name: str,
        *,
        at: Node,
        what: str,
        fix: str | None = None,
    ) -> str:
        """The text under a key of the mapping `at`, where it must be; empty where it isn't."""
        node = given.get(name)
        if is_null(node):
            code = ProblemCode(f"{name}_missing")
            self.problem(at, code, f"{what} without {name}", f"Add {name}: with a value.")
        return self.text(node, what=f"{what}.{name}", fix=fix) or ""

    def texts(self, node: Node | None, *, what: str) -> tuple[str, ...]:
        """A list of texts that aren't empty."""
        texts: list[str] = []
        for number, item in enumerate(self.sequence(node, what=what)):
            if is_null(item):
                fix = "Give it a value, or remove it."
                self.problem(item, ProblemCode.EMPTY, f"{what}[{number}]", fix)
            elif text := self.text(item, what=f"{what}[{number}]"):
                texts.append(text)
        return tuple(texts)

    def boolean(self, node: Node | None, *, what: str) -> bool:
        """A boolean; false where it's absent or null."""
        if node is None or _has_no_value(node):
            return False
        if not isinstance(node, ScalarNode) or node.kind is not Kind.BOOLEAN:
            fix = f"Make {what} true or false, without quotes."
            self.problem(node, ProblemCode.NOT_A_BOOLEAN, _shown(what, node), fix)
            return False
        return node.value in TRUE_WORDS

    def _pairs(self, node: MappingNode, what: str, *, depth: int) -> Pairs | None:
        """A mapping's own pairs and, where it has none of its own, those that `<<` merges."""
        if not self._may_visit(node, len(node.pairs)):
            return None
        own: Pairs = {}
        merged: Pairs = {}
        merge: Node | None = None
        for key, value in node.pairs:
            if not isinstance(key, ScalarNode) or key.kind not in (Kind.TEXT, Kind.MERGE):
                if not (isinstance(key, ScalarNode) and key.kind is Kind.UNREADABLE):
                    fix = "Make every key a text, in quotes if need be."
                    self.problem(key, ProblemCode.KEY_NOT_TEXT, _shown(what, key), fix)
            elif key.value in own or (key.kind is Kind.MERGE and merge is not None):
                fix = "Leave one of the two."
                self.problem(key, ProblemCode.DUPLICATE_KEY, f"{what}: {key.value}", fix)
            elif key.kind is Kind.TEXT:
                own[key.value] = (key, value)
            else:
                merge = value
                merged = self._merged(value, what, depth=depth + 1)
                self._check_order(key, own.keys() & merged.keys(), what)
        return merged | own

    def _merged(self, node: Node, what: str, *, depth: int) -> Pairs:
        """What `<<` brings: a mapping's pairs, or those of several, where an earlier one wins."""
        if depth > DEPTH_MAX:
            fix = f"Keep merge keys within {DEPTH_MAX} levels."
            self.problem(node, ProblemCode.TOO_DEEP, f"{what}: <<", fix)
            return {}
        sources: Iterable[Node] = (node,)
        if isinstance(node, SequenceNode):
            sources = node.items if self._may_visit(node, len(node.items)) else ()
        merged: Pairs = {}
        for source in sources:
            if isinstance(source, MappingNode):
                merged = (self._pairs(source, what, depth=depth) or {}) | merged
            elif not (isinstance(source, ScalarNode) and source.kind is Kind.UNREADABLE):
                fix = "Give << an alias of a mapping (<<: *name), or a list of such."
                self.problem(source, ProblemCode.MERGE_NOT_MAPPING, _shown("<<", source), fix)
        return merged

    def _check_order(self, key: ScalarNode, overridden: Iterable[str], what: str) -> None:
        """GitLab's reader lets a later `<<` win over keys above it, YAML 1.1 never: refuse it."""
        for name in sorted(overridden)[:1]:
            fix = f"Put << above {name}, which then wins over what is merged."
            self.problem(key, ProblemCode.MERGE_NOT_FIRST, f"{what}: << after {name}", fix)

    def _read(self, node: ScalarNode) -> str | None:
        if self._read_bytes > READ_MAX_BYTES:
            return None
        self._read_bytes += len(node.value.encode(errors="surrogatepass"))
        if self._read_bytes > READ_MAX_BYTES:
            text = f"more than {READ_MAX_BYTES} bytes of text"
            fix = "Write shorter texts out: aliases make the file too large."
            self.problem(node, ProblemCode.TOO_MUCH_TEXT, text, fix)
            return None
        return node.value

    def _may_visit(self, node: Node, children: int) -> bool:
        if self._visited > NODES_MAX:
            return False
        self._visited += 1 + children
        if self._visited > NODES_MAX:
            fix = "Write fewer entries: with aliases and merge keys the file is too large."
            self.problem(node, ProblemCode.TOO_MANY_NODES, f"more than {NODES_MAX} values", fix)
        return self._visited <= NODES_MAX


def _has_no_value(node: Node) -> bool:
    """Null as if it were absent, and what was reported where it was parsed."""
    return isinstance(node, ScalarNode) and node.kind in (Kind.NULL, Kind.UNREADABLE)


def _near(name: str, names: Sequence[str], *, beside: Iterable[str]) -> str | None:
    """The name that was probably meant, if it isn't there as well."""
    if len(name) > _NAME_MAX:
        return None
    missing = {n.replace("_", ""): n for n in names if n not in beside}
    folded = name.lower().replace("_", "").replace("-", "")
    found = difflib.get_close_matches(folded, missing, n=1, cutoff=0.8)
    return missing[found[0]] if found else None


def _shown(what: str, node: Node) -> str:
    match node:
        case ScalarNode():
            return f"{what}: {node.value}"
        case SequenceNode():
            return f"{what}: a list"
        case MappingNode():
            return f"{what}: a mapping"
